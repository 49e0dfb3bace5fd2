//! Hashes, sets, switches. Sources: Linux 6.12, `kernel/trace/ftrace.c`.

use super::*;
use std::collections::BTreeSet;

/// `ftrace_ops_test`, `hash_contains_ip`: an empty filter hash means every function.
#[test]
fn an_empty_filter_means_everything() {
    let mut registry = program();
    let (all, changes) = registry.register(OpsSpec::default()).unwrap();
    assert_eq!(armed(&registry), [(0, vec![1]), (1, vec![1]), (2, vec![1])]);
    assert_eq!((changes.arm.len(), changes.new_sets.len()), (3, 1));
    let changes = registry.set_filter(all, patterns(&["g"]), false).unwrap();
    assert_eq!(sites(&changes.disarm), [0, 2]);
    let changes = registry.set_filter(all, Vec::new(), false).unwrap();
    assert!(changes.is_empty(), "nothing was added");
    let changes = registry.set_filter(all, Vec::new(), true).unwrap();
    assert_eq!(changes.arm.len(), 2);
}

/// `hash_contains_ip`: what is in notrace is not called, whatever the filter says.
#[test]
fn notrace_wins() {
    let mut registry = program();
    let notrace = patterns(&["f"]);
    let (ops, _) = registry.register(OpsSpec { notrace, ..spec(NONE, &["f", "g"]) }).unwrap();
    assert_eq!(armed(&registry), [(1, vec![1])]);
    registry.set_notrace(ops, patterns(&["g"]), false).unwrap();
    assert_eq!(armed(&registry), []);
    registry.set_notrace(ops, patterns(&["g"]), true).unwrap();
    assert_eq!(armed(&registry), [(0, vec![1])]);
}

/// `ftrace_set_filter(…, reset)`, `ftrace_regex_open` with `O_TRUNC`: replace, or else add.
#[test]
fn filters_are_added_to_or_replaced() {
    let mut registry = program();
    let (ops, _) = registry.register(spec(NONE, &["f"])).unwrap();
    let changes = registry.set_filter(ops, patterns(&["g"]), false).unwrap();
    assert_eq!((changes.arm.len(), changes.disarm.len(), changes.new_sets.len()), (1, 0, 0));
    let changes = registry.set_filter(ops, patterns(&["h"]), true).unwrap();
    assert_eq!((changes.arm.len(), sites(&changes.disarm)), (1, vec![0, 1]));
    assert!(changes.dead_sets.is_empty(), "the set goes on at another site");
}

/// `ftrace_hash_empty` and `FTRACE_HASH_FL_MOD`: a filter for what is not loaded matches nothing, not
/// everything. `ftrace_module_enable`, `process_cached_mods`: it applies when that is loaded.
#[test]
fn patterns_wait_for_their_objects() {
    let mut registry = program();
    let (ops, changes) = registry.register(spec(NONE, &["later"])).unwrap();
    assert!(changes.is_empty());
    assert_eq!(registry.pending(ops)[0].text(), "later");
    let changes = registry.add_object(ObjectKey(7), library("later", 9)).unwrap();
    assert_eq!(changes.arm.len(), 1);
    assert!(registry.pending(ops).is_empty());
    let changes = registry.remove_object(ObjectKey(7)).unwrap();
    assert_eq!(sites(&changes.disarm), [9]);
    assert_eq!(registry.pending(ops).len(), 1);
    registry.add_object(ObjectKey(8), library("later", 9)).unwrap();
    assert_eq!(armed(&registry), [(9, vec![1])]);
}

/// Exact patterns see every alias of a function, and the module if it is given; matchers see both.
#[test]
fn patterns_match_any_name() {
    let mut registry = program();
    let names = vec!["memcpy".to_owned(), "memmove".to_owned()];
    let info = FunctionInfo { names, ..function("", 5) };
    let functions = vec![function("f", 4), info];
    let libc = ObjectInfo { module: "libc".into(), program: false, functions };
    registry.add_object(ObjectKey(1), libc).unwrap();
    let (ops, _) = registry.register(spec(NONE, &["memmove", "f"])).unwrap();
    assert_eq!(armed(&registry), [(0, vec![1]), (4, vec![1]), (5, vec![1])]);
    registry.set_filter(ops, vec![Pattern::exact_in("f", "libc")], true).unwrap();
    assert_eq!(armed(&registry), [(4, vec![1])]);
    let short =
        |names: &[&str], module: &str| module == "libc" && names.iter().any(|name| name.len() > 1);
    registry.set_filter(ops, vec![Pattern::matching("??*", short)], true).unwrap();
    assert_eq!(armed(&registry), [(5, vec![1])]);
}

/// The table "which code a site runs": one ops, its own set; more ops, theirs; shared by sites. A site
/// that goes from some to others is re-pointed.
#[test]
fn sets_follow_the_ops() {
    let mut registry = program();
    let (first, changes) = registry.register(spec(Flags::DYNAMIC, &["f", "g"])).unwrap();
    let own = changes.new_sets[0];
    let (second, changes) = registry.register(spec(Flags::DYNAMIC, &["f", "g", "h"])).unwrap();
    let [both, alone] = [0, 2].map(|site| registry.set_at(SiteIndex(site)).unwrap());
    assert_eq!(registry.set(both).unwrap().ops, [first, second]);
    assert_eq!(changes.repoint, [(SiteIndex(0), own, both), (SiteIndex(1), own, both)]);
    assert_eq!(changes.arm, [(SiteIndex(2), alone)]);
    assert_eq!((changes.new_sets, changes.dead_sets), (vec![both, alone], vec![own]));
    let changes = registry.unregister(first).unwrap();
    let back = [(SiteIndex(0), both, alone), (SiteIndex(1), both, alone)];
    assert_eq!((&changes.repoint[..], &changes.dead_sets[..]), (&back[..], &[both][..]));
    assert!(changes.arm.is_empty() && changes.disarm.is_empty() && changes.new_sets.is_empty());
    assert_eq!(registry.unregister(first), Err(OpsError::UnknownOps(first)));
}

/// `ftrace_shutdown`: the trampoline of a static ops is kept, that of a `DYNAMIC` one is freed.
#[test]
fn static_ops_keep_their_trampoline() {
    for (flags, kept) in [(NONE, true), (Flags::DYNAMIC, false)] {
        let mut registry = program();
        let (ops, changes) = registry.register(spec(flags, &["f"])).unwrap();
        let set = changes.new_sets[0];
        let changes = registry.set_enabled(ops, false).unwrap();
        assert_eq!(sites(&changes.disarm), [0]);
        assert_eq!(changes.dead_sets.is_empty(), kept);
        let changes = registry.set_enabled(ops, true).unwrap();
        assert_eq!(changes.new_sets.is_empty(), kept);
        let now = registry.set_at(SiteIndex(0)).unwrap();
        assert_eq!(now == set, kept);
        registry.set_enabled(ops, false).unwrap();
        let changes = registry.unregister(ops).unwrap();
        assert_eq!(changes.dead_sets == [set], kept);
        assert_eq!(registry.sets().count(), 0);
    }
}

/// `ftrace_update_pid_func`, `ftrace_update_trampoline`: threads and callbacks change trampolines only.
#[test]
fn threads_and_callbacks_touch_no_site() {
    let mut registry = program();
    let (ops, _) = registry.register(spec(NONE, &["f", "g"])).unwrap();
    registry.register(spec(NONE, &["g", "h"])).unwrap();
    let [own, both] = [0, 1].map(|site| registry.set_at(SiteIndex(site)).unwrap());
    let mut with_both = vec![own, both];
    with_both.sort();
    let only_retarget = Changes { retarget: with_both, ..Changes::default() };
    let threads = Some(BTreeSet::from([12, 13]));
    assert_eq!(registry.set_threads(ops, threads.clone()).unwrap(), only_retarget);
    assert_eq!(registry.threads(ops), threads.as_ref());
    assert!(registry.set_threads(ops, threads).unwrap().is_empty(), "nothing changed");
    assert_eq!(registry.set_callback(ops).unwrap(), only_retarget);
}

/// `ftrace_startup_sysctl`, `ftrace_shutdown_sysctl`: switched off, nothing is armed, and everything
/// can be changed.
#[test]
fn tracing_can_be_switched_off() {
    let mut registry = program();
    let (ops, _) = registry.register(spec(NONE, &["f"])).unwrap();
    assert_eq!(sites(&registry.switch(false).unwrap().disarm), [0]);
    assert!(registry.switch(false).unwrap().is_empty());
    assert!(registry.set_filter(ops, patterns(&["g", "h"]), true).unwrap().is_empty());
    assert!(registry.register(spec(NONE, &["h"])).unwrap().1.is_empty());
    registry.add_object(ObjectKey(1), library("h", 3)).unwrap();
    assert_eq!(armed(&registry), []);
    let changes = registry.switch(true).unwrap();
    assert_eq!((changes.arm.len(), changes.repoint.len()), (3, 0));
    assert_eq!(armed(&registry), [(1, vec![1]), (2, vec![1, 2]), (3, vec![1, 2])]);
    assert_eq!(changes.new_sets.len(), 1, "sets on the way are not named");
}

/// `is_permanent_ops_registered`, `__register_ftrace_function`: `PERMANENT` and switching off.
#[test]
fn permanent_ops_keep_tracing_on() {
    let mut registry = program();
    let (ops, _) = registry.register(spec(Flags::PERMANENT, &["f"])).unwrap();
    assert_eq!(registry.switch(false), Err(OpsError::Permanent(ops)));
    assert_eq!(armed(&registry), [(0, vec![1])]);
    registry.set_enabled(ops, false).unwrap();
    registry.switch(false).unwrap();
    assert_eq!(registry.set_enabled(ops, true), Err(OpsError::SwitchedOff));
    assert_eq!(
        registry.register(spec(Flags::PERMANENT, &["g"])).unwrap_err(),
        OpsError::SwitchedOff
    );
    assert_eq!(OpsError::SwitchedOff.errno(), 16);
}

/// `ftrace_ops_test`: `SAVE_REGS` ops are not called without full registers; with
/// `SAVE_REGS_IF_SUPPORTED` they take what there is.
#[test]
fn full_registers_where_they_can_be_had() {
    let mut registry = program();
    let poor = FunctionInfo { regs_supported: false, ..function("poor", 3) };
    let bare = FunctionInfo { site: None, ..function("bare", 0) };
    let functions = vec![poor, bare];
    let info = ObjectInfo { module: "lib".into(), program: false, functions };
    registry.add_object(ObjectKey(1), info).unwrap();
    let names = ["f", "poor", "bare"];
    let (strict, _) = registry.register(spec(Flags::SAVE_REGS, &names)).unwrap();
    assert_eq!(armed(&registry), [(0, vec![1])]);
    let left_out = [("poor", "lib", LeftOut::NoRegisters), ("bare", "lib", LeftOut::NoSite)];
    assert_eq!(registry.left_out(strict), left_out);
    registry.unregister(strict).unwrap();
    let flags = Flags::SAVE_REGS | Flags::SAVE_REGS_IF_SUPPORTED;
    registry.register(spec(flags, &names)).unwrap();
    let registers = [0, 3].map(|site| {
        let set = registry.set_at(SiteIndex(site)).unwrap();
        registry.set(set).unwrap().registers
    });
    assert_eq!(registers, [true, false]);
}

/// `register_ftrace_graph`, `fgraph_lru_*`: a limited number, and the bit released last is used last.
#[test]
fn many_ops_see_exits() {
    let mut registry = program();
    let spec = |enabled| OpsSpec { enabled, ..spec(Flags::ENTRY_EXIT, &["f"]) };
    let most = u64::from(Registry::MOST_EXITS);
    let ops: Vec<_> = (0..most).map(|_| registry.register(spec(true)).unwrap().0).collect();
    let bits: BTreeSet<_> = ops.iter().map(|&ops| registry.exit_bit(ops).unwrap()).collect();
    assert_eq!(bits, (0..Registry::MOST_EXITS).collect());
    assert_eq!(registry.register(spec(false)).unwrap_err(), OpsError::TooManyExits);
    assert_eq!(armed(&registry), [(0, (1..=most).collect())]);
    for used in [40, 3] {
        registry.unregister(ops[used]).unwrap();
    }
    let bits = [(); 2].map(|()| {
        let (ops, _) = registry.register(spec(false)).unwrap();
        registry.exit_bit(ops).unwrap()
    });
    assert_eq!(bits, [40, 3]);
}

/// Objects and sites are known once.
#[test]
fn objects_and_sites_are_unique() {
    let mut registry = program();
    let key = ObjectKey(0);
    assert_eq!(registry.add_object(key, library("x", 9)), Err(OpsError::KnownObject(key)));
    let taken = OpsError::KnownSite(SiteIndex(2));
    assert_eq!(registry.add_object(ObjectKey(1), library("x", 2)), Err(taken));
    let twice =
        ObjectInfo { functions: vec![function("x", 9), function("y", 9)], ..library("", 0) };
    let taken = OpsError::KnownSite(SiteIndex(9));
    assert_eq!(registry.add_object(ObjectKey(1), twice), Err(taken));
    let unknown = ObjectKey(1);
    assert_eq!(registry.remove_object(unknown), Err(OpsError::UnknownObject(unknown)));
}
