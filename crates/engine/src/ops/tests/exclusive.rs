//! `IPMODIFY` and `DIRECT`. Sources: Linux 6.12, `kernel/trace/ftrace.c`.

use super::*;

fn taken(by: OpsId) -> OpsError {
    OpsError::Taken { function: "f".to_owned(), by }
}

/// `__ftrace_hash_update_ipmodify`: one `IPMODIFY` ops for a function. `prepare_direct_functions_for_ipmodify`:
/// none beside a `DIRECT` one. `register_ftrace_direct`: one `DIRECT` ops for a function.
#[test]
fn a_function_has_one_exclusive_ops() {
    for first in [Flags::IPMODIFY, Flags::DIRECT] {
        for second in [Flags::IPMODIFY, Flags::DIRECT] {
            let mut registry = program();
            registry.register(spec(NONE, &["f"])).unwrap();
            let (holder, _) = registry.register(spec(first, &["f"])).unwrap();
            let before = format!("{registry:?}");
            let error = registry.register(spec(second, &["g", "f"])).unwrap_err();
            assert_eq!((&error, error.errno()), (&taken(holder), 16));
            assert_eq!(format!("{registry:?}"), before);
            let (other, _) = registry.register(spec(second, &["g"])).unwrap();
            let before = format!("{registry:?}");
            assert_eq!(registry.set_filter(other, patterns(&["f"]), false), Err(error));
            assert_eq!(format!("{registry:?}"), before);
            assert_eq!(armed(&registry), [(0, vec![1, 2]), (1, vec![3])]);
            registry.unregister(holder).unwrap();
            registry.set_filter(other, patterns(&["f"]), false).unwrap();
            assert_eq!(armed(&registry), [(0, vec![1, 3]), (1, vec![3])]);
        }
    }
}

/// A paused ops has no function for itself (the kernel's ops that is not `ENABLED`).
#[test]
fn a_paused_ops_gives_way() {
    let mut registry = program();
    let (first, _) = registry.register(spec(Flags::IPMODIFY, &["f"])).unwrap();
    registry.set_enabled(first, false).unwrap();
    let (second, _) = registry.register(spec(Flags::IPMODIFY, &["f"])).unwrap();
    assert_eq!(registry.set_enabled(first, true), Err(taken(second)));
    registry.set_filter(first, patterns(&["f", "g"]), true).unwrap();
    registry.set_enabled(second, false).unwrap();
    registry.set_enabled(first, true).unwrap();
    assert_eq!(armed(&registry), [(0, vec![1]), (1, vec![1])]);
}

/// Switching tracing off ends no claim: the kernel's record keeps its `IPMODIFY` flag.
#[test]
fn claims_last_while_tracing_is_off() {
    let mut registry = program();
    let (first, _) = registry.register(spec(Flags::IPMODIFY, &["f"])).unwrap();
    registry.switch(false).unwrap();
    assert_eq!(registry.register(spec(Flags::DIRECT, &["f"])).unwrap_err(), taken(first));
}

/// `__ftrace_hash_update_ipmodify`: not everything. `ftrace_set_hash`: no notrace for `IPMODIFY`.
/// `register_ftrace_direct`: neither with `IPMODIFY` nor with a callback for exits.
#[test]
fn exclusive_ops_say_what_they_mean() {
    let mut registry = program();
    let error = |registry: &mut Registry, flags| registry.register(spec(flags, &[])).unwrap_err();
    for flags in [Flags::IPMODIFY, Flags::DIRECT] {
        assert_eq!(error(&mut registry, flags), OpsError::Everything);
        let (ops, _) = registry.register(spec(flags, &["f"])).unwrap();
        assert_eq!(registry.set_filter(ops, vec![], true), Err(OpsError::Everything));
        assert_eq!(armed(&registry).len(), 1);
        registry.unregister(ops).unwrap();
        let (ops, _) = registry.register(OpsSpec { enabled: false, ..spec(flags, &[]) }).unwrap();
        assert_eq!(registry.set_enabled(ops, true), Err(OpsError::Everything));
        registry.unregister(ops).unwrap();
    }
    for more in [Flags::IPMODIFY, Flags::ENTRY_EXIT] {
        assert_eq!(error(&mut registry, Flags::DIRECT | more), OpsError::DirectAndMore);
    }
    let with_notrace = OpsSpec { notrace: patterns(&["f"]), ..spec(Flags::IPMODIFY, &["g"]) };
    assert_eq!(registry.register(with_notrace).unwrap_err(), OpsError::NotraceAndIpmodify);
    let (ops, _) = registry.register(spec(Flags::IPMODIFY, &["g"])).unwrap();
    assert_eq!(registry.set_notrace(ops, vec![], true), Err(OpsError::NotraceAndIpmodify));
}

/// Loading an object cannot fail: the eldest ops gets the function, the other is told. As in
/// `__ftrace_hash_update_ipmodify`, what was in the filter before is not asked for again.
#[test]
fn the_eldest_gets_what_is_loaded() {
    let mut registry = program();
    let (first, _) = registry.register(spec(Flags::IPMODIFY, &["new"])).unwrap();
    let (second, _) = registry.register(spec(Flags::DIRECT, &["new", "f"])).unwrap();
    let changes = registry.add_object(ObjectKey(1), library("new", 5)).unwrap();
    assert_eq!(changes.refused, [(second, SiteIndex(5))]);
    assert_eq!(armed(&registry), [(0, vec![2]), (5, vec![1])]);
    assert_eq!(registry.left_out(second), [("new", "lib", LeftOut::Taken)]);
    registry.set_filter(second, patterns(&["g"]), false).unwrap();
    registry.unregister(first).unwrap();
    assert_eq!(armed(&registry), [(0, vec![2]), (1, vec![2])]);
    registry.set_enabled(second, false).unwrap();
    registry.set_enabled(second, true).unwrap();
    assert_eq!(armed(&registry), [(0, vec![2]), (1, vec![2]), (5, vec![2])]);
    assert!(registry.left_out(second).is_empty());
}

/// `modify_ftrace_direct`: sites that jump right to the trampoline go to the new one, and none is
/// without in between; a shared set's trampoline changes.
#[test]
fn a_direct_trampoline_is_exchanged() {
    let mut registry = program();
    let (direct, changes) = registry.register(spec(Flags::DIRECT, &["f", "g"])).unwrap();
    let old = changes.new_sets[0];
    registry.register(spec(NONE, &["g"])).unwrap();
    let both = registry.set_at(SiteIndex(1)).unwrap();
    let changes = registry.set_callback(direct).unwrap();
    let new = registry.set_at(SiteIndex(0)).unwrap();
    let expected = Changes {
        new_sets: vec![new],
        retarget: vec![both],
        repoint: vec![(SiteIndex(0), old, new)],
        dead_sets: vec![old],
        ..Changes::default()
    };
    assert_eq!(changes, expected);
    assert_ne!(new, old);
    let (third, changes) = registry.register(spec(NONE, &["f"])).unwrap();
    let with_third = registry.set_at(SiteIndex(0)).unwrap();
    assert_eq!(changes.repoint, [(SiteIndex(0), new, with_third)]);
    let changes = registry.unregister(third).unwrap();
    assert_eq!(changes.new_sets.len(), 1, "the set before is not found again");
}
