use sledge::{Ops, Tracer};
use std::time::Instant;
#[inline(never)]
fn work(v: u64) -> u64 {
    std::hint::black_box(v) + 1
}
unsafe extern "C" fn empty(_: u64, _: u64, _: *mut std::ffi::c_void, _: *mut sledge::Registers) {}
fn time(what: &str) {
    let t = Instant::now();
    let mut s = 0;
    for i in 0..20_000_000u64 {
        s = work(s ^ i);
    }
    std::hint::black_box(s);
    println!("{what}: {:.2} ns", t.elapsed().as_nanos() as f64 / 2e7);
}
fn main() {
    let t = Instant::now();
    let tracer = Tracer::current().unwrap();
    println!("current: {:?}", t.elapsed());
    for _ in 0..3 {
        let t = Instant::now();
        let r = tracer.register(Ops::entry(|_| ()).filter("*quick::work")).unwrap();
        let a = t.elapsed();
        let t = Instant::now();
        drop(r);
        println!("register {a:?} unregister {:?}", t.elapsed());
    }
    for _ in 0..3 {
        let t = Instant::now();
        let r = tracer.register(Ops::entry(|_| ()).filter("quick::work")).unwrap();
        let a = t.elapsed();
        let t = Instant::now();
        drop(r);
        println!("exact: register {a:?} unregister {:?}", t.elapsed());
    }
    time("plain");
    let r = tracer
        .register(unsafe { Ops::raw(empty, std::ptr::null_mut()) }.filter("quick::work"))
        .unwrap();
    println!("{}", r.wanted());
    time("raw");
    drop(r);
    let r = tracer.register(Ops::entry(|_| ()).filter("quick::work")).unwrap();
    time("closure");
    drop(r);
    time("plain");
}
