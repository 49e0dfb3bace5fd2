//! What goes wrong stays on our side, and is told on request.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local!(static LAST: RefCell<Option<CString>> = const { RefCell::new(None) });

/// Does something that may fail, and may even panic: then the answer is `otherwise`.
pub(crate) fn attempt<T>(otherwise: T, act: impl FnOnce() -> Result<T, String>) -> T {
    let outcome = catch_unwind(AssertUnwindSafe(act));
    let outcome = outcome.unwrap_or_else(|_| Err("a defect of sledge: it panicked".into()));
    outcome.unwrap_or_else(|why| {
        // In a thread that ends, it may be gone.
        let _ = LAST.try_with(|last| last.replace(CString::new(why.replace('\0', " ")).ok()));
        otherwise
    })
}

pub(crate) fn failed(error: tracer::Error) -> String {
    error.to_string()
}

/// The last failure of this thread.
pub(crate) fn last() -> *const c_char {
    let text = LAST.try_with(|last| last.borrow().as_ref().map(|last| last.as_ptr()));
    text.ok().flatten().unwrap_or(c"".as_ptr())
}

/// Patterns, a line each; none for null.
///
/// # Safety
/// `text` is null or a string.
pub(crate) unsafe fn patterns(text: *const c_char) -> Result<Vec<String>, String> {
    if text.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().map_err(|_| "a pattern is not UTF-8".to_owned())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}
