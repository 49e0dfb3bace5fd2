//! Panics caught through traced frames, in the main thread and in others; drop order.
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Mutex;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Noisy(&'static str);

impl Drop for Noisy {
    fn drop(&mut self) {
        LOG.lock().unwrap().push(format!("drop {}", self.0));
    }
}

#[no_mangle]
#[inline(never)]
pub fn thrower(depth: u32) -> u32 {
    let _guard = Noisy("thrower");
    if std::hint::black_box(depth) == 0 {
        panic_any(depth + 40);
    }
    depth
}

#[no_mangle]
#[inline(never)]
pub fn middle(depth: u32) -> u32 {
    let _first = Noisy("first");
    let _second = Noisy("second");
    std::hint::black_box(if depth == 0 { thrower(0) } else { middle(depth - 1) }) + 1
}

#[no_mangle]
#[inline(never)]
pub fn catcher(depth: u32) -> u32 {
    match catch_unwind(|| middle(depth)) {
        Ok(value) => value,
        Err(cause) => *cause.downcast::<u32>().unwrap(),
    }
}

#[no_mangle]
#[inline(never)]
pub fn rethrower() -> u32 {
    let cause = catch_unwind(|| middle(2)).unwrap_err();
    let again = catch_unwind(AssertUnwindSafe(move || resume_unwind(cause))).unwrap_err();
    *again.downcast::<u32>().unwrap()
}

/// Panics and catches while a panic unwinds through it.
struct Nested;

impl Drop for Nested {
    fn drop(&mut self) {
        assert_eq!(catcher(1), 40);
    }
}

fn nested() -> bool {
    catch_unwind(|| {
        let _nested = Nested;
        middle(1)
    })
    .is_err()
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(catcher(3), 40);
    let log = std::mem::take(&mut *LOG.lock().unwrap());
    println!("{}", log.join(", "));
    assert_eq!(rethrower(), 40);
    assert!(nested());
    let threads: Vec<_> =
        (0..4).map(|_| std::thread::spawn(|| (0..100).map(|n| catcher(n % 5)).sum::<u32>())).collect();
    for thread in threads {
        println!("{}", thread.join().unwrap());
    }
    let failed = std::thread::spawn(|| middle(4)).join().unwrap_err();
    println!("thread died of {}", failed.downcast::<u32>().unwrap());
}
