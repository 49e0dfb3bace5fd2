//! The tracer of this process.

use crate::client::Client;
use crate::core::{Core, Dispatch, Registered, Retired};
use crate::error::Error;
use crate::exits;
use crate::filters;
use crate::ops::Ops;
use crate::process::{self, Locked, Wait};
use sledge_engine::ops::{Changes, Flags, LeftOut, OpsError, OpsId, OpsSpec, Pattern};
use sledge_filter::{Pattern as Glob, Syntax};
use std::sync::Arc;

/// The tracer of the running process. There is one; this is a handle to it.
#[derive(Clone, Copy, Debug)]
pub struct Tracer(());

/// A registered ops. When it is dropped, the ops is unregistered.
#[derive(Debug)]
pub struct Registration {
    id: OpsId,
    client: Option<Arc<Client>>,
}

/// A function that is not traced although somebody may want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraced {
    /// Its readable name.
    pub name: String,
    /// The object it is in.
    pub module: String,
    /// Why.
    pub reason: String,
}

impl Tracer {
    /// The tracer of this process. The first call reads the loaded objects and installs handlers
    /// for `SIGTRAP` and `SIGILL`, which pass on what is the program's.
    ///
    /// # Errors
    /// When the program's file cannot be read, or handlers cannot be installed.
    pub fn current() -> Result<Self, Error> {
        Locked::new().map(|_| Self(()))
    }

    /// Registers an ops. Running threads call its callback from now on; none was stopped.
    ///
    /// # Errors
    /// When it breaks a rule ([`Error::Ops`]), or the process cannot be patched. Nothing changed.
    pub fn register(&self, ops: Ops) -> Result<Registration, Error> {
        let (filter, notrace) = (patterns(&ops.filter)?, patterns(&ops.notrace)?);
        let mut spec = OpsSpec {
            flags: ops.flags,
            filter,
            notrace,
            threads: ops.threads.as_ref().map(|threads| threads.iter().copied().collect()),
            enabled: false,
        };
        let guarded = ops.flags.contains(Flags::RECURSION);
        let client = Arc::new(Client::new(ops.action, guarded, ops.closure));
        let id = {
            let mut locked = Locked::new()?;
            let core = locked.core();
            core.refresh()?;
            spec.notrace.extend(core.own_callbacks(&client));
            let filter = core.take_filter(ops.threads)?;
            let (id, _) = match core.registry.register(spec) {
                Ok(registered) => registered,
                Err(error) => {
                    core.drop_filter(filter)?;
                    return Err(error.into());
                }
            };
            if let Some(bit) = core.registry.exit_bit(id) {
                exits::install(bit, Arc::as_ptr(&client));
            }
            core.ops.insert(id, Registered { client: Arc::clone(&client), filter });
            id
        };
        let registration = Registration { id, client: Some(client) };
        if ops.enabled {
            registration.set_enabled(true)?;
        }
        Ok(registration)
    }

    /// Switches all tracing off and on again (the kernel's `ftrace_enabled`).
    ///
    /// # Errors
    /// When a permanent ops is enabled, or the process cannot be patched.
    pub fn switch(&self, on: bool) -> Result<(), Error> {
        change(|core| core.registry.switch(on))
    }

    /// Chooses how calls come to callbacks: [`Dispatch::List`] is there to be measured against.
    ///
    /// # Errors
    /// When there is no memory for a trampoline.
    pub fn set_dispatch(&self, dispatch: Dispatch) -> Result<(), Error> {
        Locked::new()?.core().set_dispatch(dispatch)?;
        process::reap(Wait::No)
    }

    /// How many sets of ops may have trampolines of their own (4096). Sets that come later share
    /// the list function.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn limit_sets(&self, most: usize) -> Result<(), Error> {
        Locked::new()?.core().set_budget(most);
        Ok(())
    }

    /// Looks for objects that were loaded or unloaded since the last time. Not needed where the
    /// loader tells of them ([`follows_loader`](Self::follows_loader)).
    ///
    /// # Errors
    /// When the process' mappings cannot be read, or it cannot be patched.
    pub fn refresh(&self) -> Result<(), Error> {
        Locked::new()?.core().refresh()?;
        process::reap(Wait::No)
    }

    /// Whether the dynamic loader tells of objects that come and go. Then filters hold for what is
    /// opened by `dlopen` before any of its code runs. Else such objects are taken in at the next
    /// change of something.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn follows_loader(&self) -> Result<bool, Error> {
        Ok(Locked::new()?.core().watching == Some(true))
    }

    /// The address at which a function that was traced at some time runs without what is attached
    /// to it.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn original(&self, function: *const std::ffi::c_void) -> Result<Option<u64>, Error> {
        Ok(Locked::new()?.core().body(function.addr() as u64))
    }

    /// Calls so far of which ops that see exits were told nothing: there was no memory to note them,
    /// or more functions than can be told apart jumped from one to the next.
    #[must_use]
    pub fn missed_calls(&self) -> u64 {
        exits::missed()
    }

    /// Functions that cannot be traced, and why.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn untraced(&self) -> Result<Vec<Untraced>, Error> {
        Ok(Locked::new()?.core().untraced())
    }
}

impl Registration {
    /// Adds patterns to the filter; see [`Ops::filter`].
    ///
    /// # Errors
    /// When a pattern is wrong or a rule is broken: nothing changed. When the process cannot be
    /// patched.
    pub fn add_filter(&self, patterns: &[&str]) -> Result<(), Error> {
        let patterns = self::patterns(patterns)?;
        change(|core| core.registry.set_filter(self.id, patterns, false))
    }

    /// Replaces the filter; an empty one means every function.
    ///
    /// # Errors
    /// As [`add_filter`](Self::add_filter).
    pub fn set_filter(&self, patterns: &[&str]) -> Result<(), Error> {
        let patterns = self::patterns(patterns)?;
        change(|core| core.registry.set_filter(self.id, patterns, true))
    }

    /// Adds patterns to what is not wanted.
    ///
    /// # Errors
    /// As [`add_filter`](Self::add_filter).
    pub fn add_notrace(&self, patterns: &[&str]) -> Result<(), Error> {
        let patterns = self::patterns(patterns)?;
        change(|core| core.registry.set_notrace(self.id, patterns, false))
    }

    /// Replaces what is not wanted.
    ///
    /// # Errors
    /// As [`add_filter`](Self::add_filter).
    pub fn set_notrace(&self, patterns: &[&str]) -> Result<(), Error> {
        let mut patterns = self::patterns(patterns)?;
        change(|core| {
            let own = self.client.as_ref().map(|client| core.own_callbacks(client));
            patterns.extend(own.into_iter().flatten());
            core.registry.set_notrace(self.id, patterns, true)
        })
    }

    /// Begins or pauses.
    ///
    /// # Errors
    /// As [`add_filter`](Self::add_filter).
    pub fn set_enabled(&self, enabled: bool) -> Result<(), Error> {
        change(|core| core.registry.set_enabled(self.id, enabled))
    }

    /// Wants only calls in these threads; in all, if none are named. No site changes.
    ///
    /// # Errors
    /// When all thread filters are in use.
    pub fn set_threads(&self, threads: Option<&[i32]>) -> Result<(), Error> {
        {
            let mut locked = Locked::new()?;
            let core = locked.core();
            let before = core.ops.get(&self.id).and_then(|ops| ops.filter);
            let filter = core.take_filter(threads.map(<[i32]>::to_vec))?;
            if let Some(ops) = core.ops.get_mut(&self.id) {
                ops.filter = filter;
            }
            let threads = threads.map(|threads| threads.iter().copied().collect());
            let changes = core.registry.set_threads(self.id, threads)?;
            core.apply(changes)?;
            core.drop_filter(before)?;
        }
        process::reap(Wait::No)
    }

    /// How many functions it has.
    #[must_use]
    pub fn wanted(&self) -> usize {
        Locked::new().map_or(0, |mut locked| locked.core().registry.wanted(self.id))
    }

    /// The patterns that match nothing yet.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let Ok(mut locked) = Locked::new() else { return Vec::new() };
        let pending = locked.core().registry.pending(self.id);
        pending.into_iter().map(|pattern| pattern.text().to_owned()).collect()
    }

    /// The functions that it asked for and does not get.
    #[must_use]
    pub fn left_out(&self) -> Vec<Untraced> {
        Locked::new().map_or_else(|_| Vec::new(), |mut locked| locked.core().left_out(self.id))
    }

    /// How often its callback panicked; after the first time it is not called any more.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.client.as_ref().map_or(0, |client| client.panics())
    }

    /// Ends it. When this returns, the callback is not running, never runs again, and is dropped;
    /// its trampoline's memory is free. Threads that are in the callback are waited for.
    ///
    /// Called from inside a callback, it cannot wait: the callback is not called any more, and is
    /// dropped later.
    ///
    /// # Errors
    /// When the process cannot be patched; the callback is not called any more all the same.
    pub fn unregister(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(client) = self.client.take() else { return Ok(()) };
        client.stop();
        let retired = {
            let mut locked = Locked::new()?;
            let core = locked.core();
            if let Some(bit) = core.registry.exit_bit(self.id) {
                exits::install(bit, std::ptr::null());
            }
            let changes = core.registry.unregister(self.id)?;
            let applied = core.apply(changes);
            let registered = core.ops.remove(&self.id);
            if let Err(error) = applied {
                // Trampolines that name it may be left: it stays for ever.
                std::mem::forget(client);
                return Err(error);
            }
            core.retired.garbage.push(Box::new(client));
            core.drop_filter(registered.and_then(|ops| ops.filter))?;
            process::take_retired(core)?
        };
        process::free(retired, Wait::Yes)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The callback is stopped whatever else fails; `unregister` says what that was.
        let _ = self.end();
    }
}

/// An operation on the registry, brought into the process.
fn change(decide: impl FnOnce(&mut Core) -> Result<Changes, OpsError>) -> Result<(), Error> {
    {
        let mut locked = Locked::new()?;
        let core = locked.core();
        core.refresh()?;
        core.ready()?;
        let changes = decide(core)?;
        core.apply(changes)?;
    }
    process::reap(Wait::No)
}

fn patterns<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Pattern>, Error> {
    texts.iter().map(|text| pattern(text.as_ref())).collect()
}

fn pattern(text: &str) -> Result<Pattern, Error> {
    let glob = Glob::new(text, Syntax::Glob)?;
    if text.contains(['*', '?', '[', ']', '{', '}', '\\', '@']) {
        return Ok(Pattern::matching(text, move |names, module| glob.matches(names, module)));
    }
    Ok(Pattern::exact(text))
}

impl Core {
    /// A thread filter for an ops, if it asks for one.
    fn take_filter(&mut self, threads: Option<Vec<i32>>) -> Result<Option<u8>, Error> {
        let Some(mut threads) = threads else { return Ok(None) };
        let taken = |number: &u8| self.ops.values().any(|ops| ops.filter == Some(*number));
        let number = (0..filters::MOST as u8).find(|number| !taken(number));
        let number = number.ok_or(Error::TooManyThreadFilters)?;
        threads.sort_unstable();
        self.replace_filter(number, Some(threads.into()))?;
        Ok(Some(number))
    }

    fn drop_filter(&mut self, number: Option<u8>) -> Result<(), Error> {
        number.map_or(Ok(()), |number| self.replace_filter(number, None))
    }

    fn replace_filter(&mut self, number: u8, threads: Option<Box<[i32]>>) -> Result<(), Error> {
        let old = filters::set(number, threads).map_err(Error::system("writing thread filters"))?;
        let garbage = old.map(|old| old as Box<dyn std::any::Any + Send>).into_iter().collect();
        self.retired.extend(Retired { trampolines: Vec::new(), garbage });
        Ok(())
    }

    /// The callbacks of a client, as what it does not want: a function that is called for each call
    /// of itself never ends.
    fn own_callbacks(&self, client: &Client) -> Vec<Pattern> {
        let own = |address: u64| {
            let loaded = self.objects.values().find(|it| it.text.contains(&address))?;
            let mut functions = 0..loaded.object.functions.len();
            let at = functions.find(|&at| loaded.address(at) == address)?;
            let name = loaded.object.functions[at].names.first()?.clone();
            let module = loaded.module.clone();
            let text = format!("{name}@{module}");
            Some(Pattern::matching(&text, move |names, of| of == module && names.contains(&&*name)))
        };
        client.callbacks().into_iter().filter_map(own).collect()
    }

    fn left_out(&self, id: OpsId) -> Vec<Untraced> {
        let left_out = self.registry.left_out(id).into_iter();
        let reason = |why| match why {
            LeftOut::NoSite => "it cannot be traced",
            LeftOut::NoRegisters => "its registers cannot be saved",
            LeftOut::NoExit => "its return cannot be seen",
            LeftOut::Taken => "another ops has it for itself",
        };
        left_out
            .map(|(name, module, why)| Untraced {
                name: name.into(),
                module: module.into(),
                reason: reason(why).into(),
            })
            .collect()
    }

    fn untraced(&self) -> Vec<Untraced> {
        let mut all = Vec::new();
        for loaded in self.objects.values() {
            for (at, function) in loaded.object.functions.iter().enumerate() {
                let site = sledge_engine::ops::SiteIndex(loaded.first_site + at as u32);
                let reason = match (&function.verdict, loaded.denied[at]) {
                    (Err(refusal), _) => refusal.to_string(),
                    (_, Some(denied)) => denied.to_string(),
                    _ => match self.refused.get(&site) {
                        Some(error) => error.to_string(),
                        None => continue,
                    },
                };
                let name = function.names.first();
                let name = name.map(|name| sledge_discover::names::demangle(name).into_owned());
                let name = name.unwrap_or_else(|| format!("{:#x}", function.address));
                all.push(Untraced { name, module: loaded.module.clone(), reason });
            }
        }
        all
    }
}
