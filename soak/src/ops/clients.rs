//! Clients that come and go, and notice when they are called wrongly.

use super::functions::{self, COUNT, DIRECT, KEY, PLACES, REPLACEABLE};
use crate::workers::{Random, Tally, complain};
use nix::libc;
use sledge::{Call, Error, Ops, Registers, Registration, Results, Scratch, Tracer};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};

/// Callbacks that should not have been called, or not there, or no more.
pub(crate) static WRONG: AtomicU64 = AtomicU64::new(0);
/// Clients that ended while a thread slept in their callback.
pub(crate) static ENDED_OVER_SLEEPER: AtomicU64 = AtomicU64::new(0);
/// The thread that thread filters name.
pub(crate) static CHOSEN_THREAD: AtomicI32 = AtomicI32::new(0);

thread_local!(static CHANGER: Cell<u64> = const { Cell::new(0) });

/// A client's life, as its callback sees it.
#[derive(Debug)]
struct Life {
    /// Still there, as a value that freed memory does not have.
    live: AtomicU64,
    /// Functions that it may see: bits by number.
    may_see: [AtomicU64; 2],
    changer: u64,
    /// Calls that the thread which changes this client made, and the callback saw.
    own: AtomicU64,
    /// And the ends of them, if it sees those.
    own_ends: AtomicU64,
    hits: AtomicU64,
    asleep: AtomicU64,
    registers: bool,
    chosen_thread: bool,
}

const LIVE: u64 = 0x11fe_11fe_11fe_11fe;

impl Life {
    fn new(changer: u64, registers: bool, chosen_thread: bool) -> Arc<Self> {
        Arc::new(Self {
            live: AtomicU64::new(LIVE),
            may_see: [const { AtomicU64::new(0) }; 2],
            changer,
            own: AtomicU64::new(0),
            own_ends: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            asleep: AtomicU64::new(0),
            registers,
            chosen_thread,
        })
    }

    fn allow(&self, numbers: &[usize]) {
        for number in numbers {
            self.may_see[number / 64].fetch_or(1 << (number % 64), SeqCst);
        }
    }

    /// What each callback does.
    fn hit(&self, function: u64) {
        let live = self.live.load(SeqCst) == LIVE;
        let sees = functions::number(function)
            .is_some_and(|number| self.may_see[number / 64].load(SeqCst) >> (number % 64) & 1 != 0);
        let is_own = CHANGER.get() == self.changer;
        self.own.fetch_add(u64::from(is_own), SeqCst);
        let hits = self.hits.fetch_add(1, SeqCst);
        if !is_own && (hits % 5000 == 40 || hits % 200_000 == 150_000) {
            self.asleep.fetch_add(1, SeqCst);
            // SAFETY: sleeps.
            unsafe { libc::usleep(if hits % 5000 == 40 { 300 } else { 20_000 }) };
            self.asleep.fetch_sub(1, SeqCst);
        }
        let thread = !self.chosen_thread
            || is_own
            // SAFETY: asks for a number.
            || unsafe { libc::gettid() } == CHOSEN_THREAD.load(SeqCst);
        let lives = live && self.live.load(SeqCst) == LIVE;
        if !(lives && sees && thread) {
            WRONG.fetch_add(1, SeqCst);
            complain(&format!("a callback: live {live} {lives}, sees {sees}, thread {thread}"));
        }
    }

    /// What each callback does at the end of a call, with what it left at its begin.
    fn end(&self, function: u64, left: u64) {
        let live = self.live.load(SeqCst) == LIVE;
        self.own_ends.fetch_add(u64::from(CHANGER.get() == self.changer), SeqCst);
        if !live || left != function ^ KEY {
            WRONG.fetch_add(1, SeqCst);
            complain(&format!("an exit: live {live}, {left:#x} left for {function:#x}"));
        }
    }

    fn both(self: &Arc<Self>) -> Ops {
        let (begin, end) = (Arc::clone(self), Arc::clone(self));
        Ops::call(
            move |call| {
                begin.hit(call.function());
                Some(call.function() ^ KEY)
            },
            move |call, left: u64| end.end(call.function(), left),
        )
    }

    fn raw_both(self: &Arc<Self>) -> Ops {
        let data = Arc::as_ptr(self).cast_mut().cast();
        // SAFETY: as for `raw`.
        unsafe { Ops::raw_call(raw_enter, raw_leave, data) }
    }

    fn entry(self: &Arc<Self>) -> Ops {
        let life = Arc::clone(self);
        let ops = Ops::entry(move |call: &mut Call<'_>| {
            if life.registers {
                let whole = call.argument(0).zip(call.argument(1));
                let whole = whole.is_some_and(|(first, second)| first ^ second == KEY);
                WRONG.fetch_add(u64::from(!whole), SeqCst);
            }
            life.hit(call.function());
        });
        if self.registers { ops.save_regs() } else { ops }
    }

    fn leaf(self: &Arc<Self>) -> Ops {
        let data = Arc::as_ptr(self).cast_mut().cast();
        // SAFETY: as for `raw`.
        unsafe { Ops::raw(leaf, data) }
    }

    fn raw(self: &Arc<Self>) -> Ops {
        let data = Arc::as_ptr(self).cast_mut().cast();
        // SAFETY: for any call; the life is kept until after the ops is unregistered.
        unsafe { Ops::raw(raw, data) }
    }
}

unsafe extern "C" fn raw(function: u64, _: u64, life: *mut c_void, _: *mut Registers) {
    // SAFETY: the data of `Life::raw`.
    unsafe { (*life.cast::<Life>()).hit(function) };
}

/// Sees to it that it is alive, and nothing else: a thunk may call it itself.
unsafe extern "C" fn leaf(_: u64, _: u64, life: *mut c_void, _: *mut Registers) {
    // SAFETY: the data of `Life::leaf`.
    let life = unsafe { &*life.cast::<Life>() };
    if life.live.load(SeqCst) != LIVE {
        WRONG.fetch_add(1, SeqCst);
    }
    life.own.fetch_add(u64::from(CHANGER.get() == life.changer), SeqCst);
}

unsafe extern "C" fn raw_enter(
    function: u64,
    _: u64,
    life: *mut c_void,
    _: *mut Registers,
    scratch: *mut Scratch,
) -> bool {
    // SAFETY: the data of `Life::raw_both`; the scratch is this call's.
    unsafe {
        (*life.cast::<Life>()).hit(function);
        (*scratch)[0] = function ^ KEY;
    }
    true
}

unsafe extern "C" fn raw_leave(
    function: u64,
    _: u64,
    life: *mut c_void,
    _: *mut Results,
    scratch: *mut Scratch,
) {
    // SAFETY: as in `raw_enter`.
    unsafe { (*life.cast::<Life>()).end(function, (*scratch)[0]) };
}

/// Registers, tries and unregisters clients of all kinds, one after the other.
pub(crate) struct Changer<'a> {
    pub(crate) tracer: Tracer,
    pub(crate) tally: &'a Tally,
    pub(crate) random: Random,
    /// From 1 on; each has functions of its own for what is exclusive.
    pub(crate) number: u64,
    pub(crate) stop: &'a AtomicBool,
}

impl Changer<'_> {
    /// Until it is told to stop; how many clients there were.
    pub(crate) fn run(&mut self) -> Result<u64, Error> {
        CHANGER.set(self.number);
        let mut clients = 0;
        while !self.stop.load(SeqCst) {
            match self.random.below(14) {
                0 => self.replaced()?,
                1 => self.direct()?,
                kind => self.callback(kind)?,
            }
            clients += 1;
        }
        Ok(clients)
    }

    /// Functions that only this one may replace or lead elsewhere.
    fn exclusive(&mut self, shape: usize) -> usize {
        let half = PLACES / 2;
        shape + (self.number as usize % 2) * half + self.random.below(half)
    }

    fn call(&mut self, number: usize) -> u64 {
        let argument = self.random.argument();
        let result = functions::call(number, argument);
        functions::note(number, 1);
        self.tally.add(1, 0);
        result.wrapping_sub(argument)
    }

    fn replaced(&mut self) -> Result<(), Error> {
        let number = self.exclusive(REPLACEABLE);
        // SAFETY: a function of the same type.
        let ops = unsafe { Ops::replace(functions::replacement as *const c_void) };
        let ops = self.tracer.register(ops.filter(functions::name(number)))?;
        let replaced = self.call(number) == functions::REPLACED;
        ops.unregister()?;
        let given_back = self.call(number) == functions::plain(number, 0);
        self.tally.check(replaced, "a replacement");
        self.tally.check(given_back, "a function after its replacement");
        Ok(())
    }

    fn direct(&mut self) -> Result<(), Error> {
        let number = self.exclusive(DIRECT);
        // SAFETY: code that keeps all registers, and stays.
        let ops = unsafe { Ops::direct(functions::direct().0) };
        let ops = self.tracer.register(ops.filter(functions::name(number)))?;
        let before = functions::direct_calls();
        let right = self.call(number) == functions::plain(number, 0);
        self.tally.check(right && functions::direct_calls() > before, "a direct call");
        ops.unregister()?;
        let right = self.call(number) == functions::plain(number, 0);
        self.tally.check(right, "a function after a direct one");
        Ok(())
    }

    fn callback(&mut self, kind: usize) -> Result<(), Error> {
        let life = Life::new(self.number, kind == 2, kind == 3);
        let chosen = self.some_functions();
        life.allow(&chosen);
        let mut ops = match kind {
            ..6 => life.entry(),
            6..8 => life.raw(),
            8..10 => life.leaf(),
            10..12 => life.both(),
            _ => life.raw_both(),
        };
        for &number in &chosen {
            ops = ops.filter(functions::name(number));
        }
        if life.chosen_thread {
            // SAFETY: asks for a number.
            ops = ops.threads([CHOSEN_THREAD.load(SeqCst), unsafe { libc::gettid() }]);
        }
        let ops = self.tracer.register(if kind == 4 { ops.disabled() } else { ops })?;
        if kind == 4 {
            self.sees(&life, chosen[0], false);
            ops.set_enabled(true)?;
        }
        self.sees(&life, chosen[0], true);
        if kind >= 10 {
            let (begun, ended) = (life.own.load(SeqCst), life.own_ends.load(SeqCst));
            self.tally.check(begun == ended, &format!("{begun} calls begun, {ended} ended"));
        }
        match self.random.below(6) {
            0 => self.change(&life, &ops, chosen[0])?,
            1 => std::thread::sleep(std::time::Duration::from_micros(1500)),
            _ => {}
        }
        let asleep = life.asleep.load(SeqCst) > 0;
        ops.unregister()?;
        ENDED_OVER_SLEEPER.fetch_add(u64::from(asleep), SeqCst);
        // Whoever is in the callback now, or comes later, sees this.
        life.live.store(0xdead, SeqCst);
        self.sees(&life, chosen[0], false);
        // The closure is gone; a raw client's data may go.
        let asleep = life.asleep.load(SeqCst);
        self.tally.check(asleep == 0, "asleep in what has ended");
        let dropped = Arc::strong_count(&life) == 1;
        self.tally.check(dropped, "a closure was kept");
        Ok(())
    }

    fn some_functions(&mut self) -> Vec<usize> {
        let many = [1, 1, 3, 8, COUNT][self.random.below(5)];
        let first = self.random.below(COUNT);
        let mut chosen: Vec<usize> = (0..many).map(|at| (first + at * 11) % COUNT).collect();
        chosen.dedup();
        chosen
    }

    /// Whether the callback sees each of this thread's own calls, or none.
    fn sees(&mut self, life: &Life, number: usize, all: bool) {
        let before = life.own.load(SeqCst);
        (0..10).for_each(|_| _ = self.call(number));
        let seen = life.own.load(SeqCst) - before;
        let right = seen == if all { 10 } else { 0 };
        self.tally.check(right, &format!("{} of 10 calls seen, all: {all}", seen));
    }

    /// To another function and back, or paused.
    fn change(&mut self, life: &Life, ops: &Registration, number: usize) -> Result<(), Error> {
        if self.random.below(3) == 0 {
            ops.set_enabled(false)?;
            self.sees(life, number, false);
            return ops.set_enabled(true);
        }
        let other = (number + 1 + self.random.below(COUNT - 1)) % COUNT;
        life.allow(&[other]);
        ops.set_filter(&[functions::name(other).as_str()])?;
        self.sees(life, number, false);
        self.sees(life, other, true);
        ops.set_filter(&[functions::name(number).as_str()])?;
        self.sees(life, number, true);
        Ok(())
    }
}
