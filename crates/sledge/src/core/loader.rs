//! Discover, again and again: the dynamic loader calls a function of its own, made for debuggers, when
//! objects come and go. It is patched like any other, for ourselves.
//!
//! The function is called twice for each change, in the thread that makes it, under the loader's lock:
//! before, and when the list of objects is consistent again. A new object is mapped then, but none of
//! its code has run. (`struct r_debug` of `link.h`; glibc: `elf/dl-open.c`, `elf/dl-close.c`.)

use super::Core;
use super::apply::first;
use crate::error::Error;
use crate::process;
use crate::sites::{Called, Spot};
use sledge_engine::dispatch::{Callback, Preserve, Target, entry_trampoline};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

const NOTIFIER: &str = "_dl_debug_state";
const DEBUG: &str = "_r_debug";
/// Offset of `r_state`.
const STATE: u64 = 24;

/// What the loader is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing any more.
    Consistent,
    Adding,
    Deleting,
}

/// Where it says so; 0 if that is not known.
static PLACE: AtomicU64 = AtomicU64::new(0);

/// What the loader is about to do, or has done.
pub(crate) fn state() -> State {
    let place = PLACE.load(Ordering::Relaxed);
    if place == 0 {
        return State::Consistent;
    }
    let word = std::ptr::with_exposed_provenance::<AtomicI32>(place as usize);
    // SAFETY: the loader's own variable, which is there for as long as the process is; its lock is
    // held.
    match unsafe { (*word).load(Ordering::Relaxed) } {
        1 => State::Adding,
        2 => State::Deleting,
        _ => State::Consistent,
    }
}

impl Core {
    /// Has the loader tell when objects come and go. Where that is not possible, objects are looked
    /// for at each change.
    pub(super) fn watch_loader(&mut self) -> Result<(), Error> {
        let Some(spot) = self.notifier() else {
            self.watching = Some(false);
            return Ok(());
        };
        self.ready()?;
        let (text, spot) = spot;
        let places = self.placer.place(&text, &[spot], &first, self.nothing);
        let places = places.map_err(Error::system("mapping code"))?;
        let Some(Ok((place, live))) = places.into_iter().next() else {
            self.watching = Some(false);
            return Ok(());
        };
        let callback = Callback {
            target: Target::Function(process::on_loader as *const () as u64),
            ops: 0,
            save_regs: false,
            preserve: Preserve::default(),
            guard: None,
            threads: None,
        };
        let trampoline = self.put(|place| entry_trampoline(place, &[callback], 0))?;
        self.barrier().map_err(Error::system("membarrier"))?;
        place.call(&Called::only(trampoline.start));
        let ids = self.patcher.add(vec![live])?;
        let refused = self.patcher.arm(&ids)?;
        self.watching = Some(refused.is_empty());
        Ok(())
    }

    /// The loader's function, if there is one.
    fn notifier(&self) -> Option<(std::ops::Range<u64>, Spot)> {
        let named = |names: &[String]| names.iter().any(|name| name == NOTIFIER);
        self.objects.values().find_map(|loaded| {
            let debug = loaded.object.export(DEBUG)?;
            let functions = &loaded.object.functions;
            let at = functions.iter().position(|function| named(&function.names))?;
            let place = debug.address.wrapping_add(loaded.bias) + STATE;
            PLACE.store(place, Ordering::Relaxed);
            Some((loaded.text.clone(), Spot::new(loaded, at)?))
        })
    }
}
