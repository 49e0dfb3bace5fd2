//! Functions of this program and of two libraries that come and go.

use nix::libc;
use std::ffi::CString;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// This program, and the libraries.
pub(crate) const OBJECTS: usize = 3;
const EACH: usize = 4;
pub(crate) const COUNT: usize = OBJECTS * EACH;
/// The high bits of all arguments.
pub(crate) const MARK: u64 = 0x5ed6;

/// Where each function is; nought if its object is not loaded.
static ADDRESSES: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];
static CALLED: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

macro_rules! own {
    ($($name:ident $number:literal),*) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(value: u64) -> u64 {
            black_box(value).wrapping_mul(3) + $number
        })*
        const OWN: [extern "C" fn(u64) -> u64; EACH] = [$($name),*];
    };
}

own!(prop_a0 0, prop_a1 1, prop_a2 2, prop_a3 3);

pub(crate) fn name(number: usize) -> String {
    format!("prop_{}{}", ['a', 'x', 'y'][object(number)], number % EACH)
}

pub(crate) fn object(number: usize) -> usize {
    number / EACH
}

/// Where they begin, by number.
pub(crate) fn addresses() -> &'static [AtomicU64; COUNT] {
    &ADDRESSES
}

/// Which function begins there.
pub(crate) fn number(address: u64) -> Option<usize> {
    ADDRESSES.iter().position(|known| known.load(SeqCst) == address)
}

pub(crate) fn is_loaded(number: usize) -> bool {
    ADDRESSES[number].load(SeqCst) != 0
}

pub(crate) fn called() -> [u64; COUNT] {
    CALLED.each_ref().map(|count| count.load(SeqCst))
}

/// Calls a function, if it is there; whether the result is right. Counted only if asked to.
pub(crate) fn call(number: usize, value: u64, counted: bool) -> bool {
    let address = ADDRESSES[number].load(SeqCst);
    if address == 0 {
        return true;
    }
    let value = value >> 16 | MARK << 48;
    // SAFETY: a function of this type; its object is not closed while others call.
    let function: extern "C" fn(u64) -> u64 = unsafe { std::mem::transmute(address as usize) };
    CALLED[number].fetch_add(u64::from(counted), SeqCst);
    function(value) == value.wrapping_mul(3) + number as u64
}

/// Two libraries, each open or not.
#[derive(Debug)]
pub(crate) struct Libraries {
    _directory: tempfile::TempDir,
    paths: Vec<PathBuf>,
    handles: [usize; OBJECTS],
}

impl Libraries {
    /// Compiles them; `None` without a compiler.
    pub(crate) fn build() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        for (place, own) in ADDRESSES.iter().zip(OWN) {
            place.store(own as *const () as u64, SeqCst);
        }
        let mut paths = vec![PathBuf::new()];
        for object in 1..OBJECTS {
            let functions = (object * EACH..(object + 1) * EACH).map(|number| {
                format!(
                    "unsigned long {}(unsigned long v) {{ return v * 3 + {number}; }}\n",
                    name(number)
                )
            });
            let source = directory.path().join(format!("object{object}.c"));
            let library = source.with_extension("so");
            std::fs::write(&source, functions.collect::<String>()).expect("a file");
            let status = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-o"])
                .args([&library, &source])
                .status();
            assert!(status.ok()?.success(), "cc failed");
            paths.push(library);
        }
        Some(Self { _directory: directory, paths, handles: [1, 0, 0] })
    }

    pub(crate) fn loaded(&self) -> [bool; OBJECTS] {
        self.handles.map(|handle| handle != 0)
    }

    /// Opens a library, or closes it. The tracer is not told: it must see that itself.
    pub(crate) fn open_or_close(&mut self, object: usize) {
        let numbers = object * EACH..(object + 1) * EACH;
        if self.handles[object] != 0 {
            numbers.for_each(|number| ADDRESSES[number].store(0, SeqCst));
            // SAFETY: a handle of `dlopen`, whose functions nobody calls any more.
            let closed =
                unsafe { libc::dlclose(std::mem::take(&mut self.handles[object]) as *mut _) };
            assert_eq!(closed, 0);
            return;
        }
        let text = |text: &str| CString::new(text).expect("no zeros");
        let path = text(self.paths[object].to_str().expect("a path in UTF-8"));
        // SAFETY: a library without constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null());
        self.handles[object] = handle as usize;
        for number in numbers {
            // SAFETY: the handle, and a name.
            let address = unsafe { libc::dlsym(handle, text(&name(number)).as_ptr()) };
            assert!(!address.is_null());
            ADDRESSES[number].store(address as u64, SeqCst);
        }
    }
}
