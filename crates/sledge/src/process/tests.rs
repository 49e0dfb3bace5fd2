use super::Locked;
use crate::code::read_text;
use crate::{Error, Ops, Tracer};
use nix::libc;
use nix::unistd::getppid;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The beginning of a function of the C library, as it is in memory now.
fn bytes() -> [u8; 5] {
    let mut bytes = [0; 5];
    read_text((libc::getppid as *const ()).addr() as u64, &mut bytes);
    bytes
}

#[test]
fn a_defect_disarms_everything_and_the_program_goes_on() {
    let (original, parent) = (bytes(), getppid());
    let tracer = Tracer::current().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&count);
    let ops = Ops::entry(move |_| _ = own.fetch_add(1, Relaxed)).filter("getppid@libc");
    let ops = tracer.register(ops).unwrap();
    assert_eq!((getppid(), count.load(Relaxed)), (parent, 1));
    assert_ne!(bytes(), original);
    let defect = catch_unwind(|| {
        let _locked = Locked::new().unwrap();
        panic!("a defect, for this test");
    });
    assert!(defect.is_err());
    assert_eq!(bytes(), original);
    assert_eq!((getppid(), count.load(Relaxed)), (parent, 1));
    assert!(matches!(tracer.refresh(), Err(Error::Defect)));
    assert!(matches!(tracer.enabled_functions(), Err(Error::Defect)));
    assert!(matches!(ops.unregister(), Err(Error::Defect)));
    assert_eq!(getppid(), parent);
}
