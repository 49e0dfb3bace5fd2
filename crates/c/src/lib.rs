//! The library for C and C++: `include/sledge.h`, function by function, which says what they do.
#![allow(clippy::missing_safety_doc, reason = "the header says what callers must keep to")]
#![allow(missing_docs, reason = "the header documents them")]

mod outcome;

use nix::libc;
use outcome::{attempt, failed, patterns};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use tracer::{EnterFunction, LeaveFunction, Ops, RawCallback, Registration, Tracer, Untraced};

const SAVE_REGS: c_uint = 1;
const SAVE_REGS_IF_SUPPORTED: c_uint = 2;
const RECURSION: c_uint = 4;
const PERMANENT: c_uint = 8;
const DISABLED: c_uint = 16;

fn with_flags(ops: Ops, flags: c_uint) -> Result<Ops, String> {
    type Apply = fn(Ops) -> Ops;
    const ALL: [(c_uint, Apply); 5] = [
        (SAVE_REGS, Ops::save_regs),
        (SAVE_REGS_IF_SUPPORTED, Ops::save_regs_if_supported),
        (RECURSION, Ops::guarded),
        (PERMANENT, Ops::permanent),
        (DISABLED, Ops::disabled),
    ];
    let known = ALL.iter().fold(0, |all, (flag, _)| all | flag);
    if flags & !known != 0 {
        return Err(format!("unknown flags {:#x}", flags & !known));
    }
    let asked = ALL.iter().filter(|(flag, _)| flags & flag != 0);
    Ok(asked.fold(ops, |ops, (_, apply)| apply(ops)))
}

/// Registers an ops with a filter.
///
/// # Safety
/// `filter` is null or a string.
unsafe fn register(ops: Ops, flags: c_uint, filter: *const c_char) -> *mut Registration {
    attempt(null_mut(), || {
        // SAFETY: the caller's.
        let filter = unsafe { patterns(filter) }?;
        let ops = filter.into_iter().fold(with_flags(ops, flags)?, Ops::filter);
        let tracer = Tracer::current().map_err(failed)?;
        Ok(Box::into_raw(Box::new(tracer.register(ops).map_err(failed)?)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_open() -> c_int {
    attempt(-1, || Tracer::current().map(|_| 0).map_err(failed))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_register(
    callback: Option<RawCallback>,
    data: *mut c_void,
    flags: c_uint,
    filter: *const c_char,
) -> *mut Registration {
    let Some(callback) = callback else { return no_function() };
    // SAFETY: the header asks for it.
    unsafe { register(Ops::raw(callback, data), flags, filter) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_register_call(
    enter: Option<EnterFunction>,
    leave: Option<LeaveFunction>,
    data: *mut c_void,
    flags: c_uint,
    filter: *const c_char,
) -> *mut Registration {
    let (Some(enter), Some(leave)) = (enter, leave) else { return no_function() };
    // SAFETY: the header asks for it.
    unsafe { register(Ops::raw_call(enter, leave, data), flags, filter) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_replace(
    replacement: *const c_void,
    filter: *const c_char,
) -> *mut Registration {
    if replacement.is_null() {
        return no_function();
    }
    // SAFETY: the header asks for it.
    unsafe { register(Ops::replace(replacement), 0, filter) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_direct(
    code: *const c_void,
    filter: *const c_char,
) -> *mut Registration {
    if code.is_null() {
        return no_function();
    }
    // SAFETY: the header asks for it.
    unsafe { register(Ops::direct(code), 0, filter) }
}

fn no_function() -> *mut Registration {
    attempt(null_mut(), || Err("no function was given".into()))
}

/// Does something with an ops.
///
/// # Safety
/// `ops` is null, or was registered and not unregistered yet.
unsafe fn with(
    ops: *const Registration,
    act: impl FnOnce(&Registration) -> Result<(), String>,
) -> c_int {
    attempt(-1, || {
        // SAFETY: the caller's.
        let ops = unsafe { ops.as_ref() }.ok_or("no ops was given")?;
        act(ops).map(|()| 0)
    })
}

/// Gives patterns to an ops.
///
/// # Safety
/// As for [`with`] and [`patterns`].
unsafe fn with_patterns(
    ops: *const Registration,
    texts: *const c_char,
    set: fn(&Registration, &[&str]) -> Result<(), tracer::Error>,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        with(ops, |ops| {
            let texts = patterns(texts)?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            set(ops, &texts).map_err(failed)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_set_filter(
    ops: *mut Registration,
    texts: *const c_char,
    reset: bool,
) -> c_int {
    // SAFETY: the header asks for it.
    unsafe {
        let set = if reset { Registration::set_filter } else { Registration::add_filter };
        with_patterns(ops, texts, set)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_set_notrace(
    ops: *mut Registration,
    texts: *const c_char,
    reset: bool,
) -> c_int {
    // SAFETY: the header asks for it.
    unsafe {
        let set = if reset { Registration::set_notrace } else { Registration::add_notrace };
        with_patterns(ops, texts, set)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_set_enabled(ops: *mut Registration, enabled: bool) -> c_int {
    // SAFETY: the header asks for it.
    unsafe { with(ops, |ops| ops.set_enabled(enabled).map_err(failed)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_set_threads(
    ops: *mut Registration,
    threads: *const c_int,
    count: usize,
) -> c_int {
    // SAFETY: the header asks for it: null, or so many numbers.
    unsafe {
        let threads = (!threads.is_null()).then(|| std::slice::from_raw_parts(threads, count));
        with(ops, |ops| ops.set_threads(threads).map_err(failed))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_wanted(ops: *const Registration) -> usize {
    // SAFETY: the header asks for it.
    attempt(0, || Ok(unsafe { ops.as_ref() }.ok_or("no ops was given")?.wanted()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_unregister(ops: *mut Registration) -> c_int {
    attempt(-1, || {
        if ops.is_null() {
            return Err("no ops was given".into());
        }
        // SAFETY: the header asks for it: of `register`, and not given here before.
        let ops = unsafe { Box::from_raw(ops) };
        ops.unregister().map(|()| 0).map_err(failed)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_refresh() -> c_int {
    attempt(-1, || Tracer::current().and_then(|it| it.refresh()).map(|()| 0).map_err(failed))
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_switch(on: bool) -> c_int {
    attempt(-1, || Tracer::current().and_then(|it| it.switch(on)).map(|()| 0).map_err(failed))
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_tell_debuggers() -> c_int {
    let told = || Tracer::current().and_then(|it| it.tell_debuggers());
    attempt(-1, || told().map(|()| 0).map_err(failed))
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_original(function: *const c_void) -> *mut c_void {
    attempt(null_mut(), || {
        let body = Tracer::current().and_then(|tracer| tracer.original(function));
        let body = body.map_err(failed)?.ok_or("this function was never traced")?;
        Ok(std::ptr::with_exposed_provenance_mut(body as usize))
    })
}

fn text(read: impl FnOnce(Tracer) -> Result<String, tracer::Error>) -> *mut c_char {
    attempt(null_mut(), || {
        let text = Tracer::current().and_then(read).map_err(failed)?;
        Ok(CString::new(text).map_err(|error| error.to_string())?.into_raw())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_available_filter_functions() -> *mut c_char {
    text(|tracer| tracer.available_filter_functions())
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_enabled_functions() -> *mut c_char {
    text(|tracer| tracer.enabled_functions())
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_touched_functions() -> *mut c_char {
    text(|tracer| tracer.touched_functions())
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_totals() -> *mut c_char {
    text(|tracer| tracer.totals())
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_write_perf_map() -> *mut c_char {
    text(|tracer| Ok(tracer.write_perf_map()?.display().to_string()))
}

/// A line for each of something about an ops.
///
/// # Safety
/// `ops` is null, or was registered and not unregistered yet.
unsafe fn lines(
    ops: *const Registration,
    read: impl FnOnce(&Registration) -> Vec<String>,
) -> *mut c_char {
    attempt(null_mut(), || {
        // SAFETY: the caller's.
        let ops = unsafe { ops.as_ref() }.ok_or("no ops was given")?;
        let text: String = read(ops).into_iter().map(|line| line + "\n").collect();
        Ok(CString::new(text).map_err(|error| error.to_string())?.into_raw())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_pending(ops: *const Registration) -> *mut c_char {
    // SAFETY: the header asks for it.
    unsafe { lines(ops, Registration::pending) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_left_out(ops: *const Registration) -> *mut c_char {
    let line = |one: Untraced| format!("{} [{}]: {}", one.name, one.module, one.reason);
    // SAFETY: the header asks for it.
    unsafe { lines(ops, |ops| ops.left_out().into_iter().map(line).collect()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sledge_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the header asks for it: of one of the functions above.
        drop(unsafe { CString::from_raw(text) });
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn sledge_error() -> *const c_char {
    outcome::last()
}

// The header's structures are these.
const _: () = {
    assert!(size_of::<tracer::Registers>() == 18 * 8);
    assert!(size_of::<tracer::Results>() == 9 * 8);
    assert!(size_of::<c_int>() == size_of::<libc::pid_t>());
};
