//! The text formats: `t_show`, `print_rec`, `tracing_read_dyn_info` of Linux 6.12.

use super::*;
use expect_test::{Expect, expect};
use std::fmt;

struct Names;

impl Symbols for Names {
    fn trampoline(&self, set: SetId) -> Option<String> {
        (set.get() < 100).then(|| format!("0x{:x}", 0x1000 * set.get()))
    }

    fn callback(&self, ops: OpsId) -> String {
        format!("callback_{}", ops.get())
    }

    fn callee(&self, _: SetId, ops: OpsId) -> String {
        if ops.get() == 2 { "assist".to_owned() } else { self.callback(ops) }
    }

    fn list_function(&self) -> String {
        "list_function".to_owned()
    }

    fn direct(&self, ops: OpsId) -> String {
        format!("direct_{}", ops.get())
    }
}

fn check(write: impl FnOnce(&mut String) -> fmt::Result, expected: &Expect) {
    let mut text = String::new();
    write(&mut text).unwrap();
    expected.assert_eq(&text);
}

fn example() -> Registry {
    let mut registry = program();
    let bare = FunctionInfo { site: None, ..function("bare", 0) };
    let functions = vec![bare, function("k", 3), function("l", 4)];
    let info = ObjectInfo { module: "libk.so.1".into(), program: false, functions };
    registry.add_object(ObjectKey(1), info).unwrap();
    registry.register(spec(NONE, &["f", "g"])).unwrap();
    registry.register(spec(Flags::SAVE_REGS | Flags::RECURSION, &["g", "l"])).unwrap();
    registry.register(spec(Flags::DIRECT, &["k", "l"])).unwrap();
    registry.register(spec(Flags::IPMODIFY | Flags::SAVE_REGS, &["h"])).unwrap();
    registry
}

#[test]
fn available_functions_are_those_with_a_site() {
    let registry = example();
    let expected = expect![[r#"
        f
        g
        h
        k [libk.so.1]
        l [libk.so.1]
    "#]];
    check(|out| registry.available_filter_functions(out), &expected);
    check(|out| registry.totals(out), &expect![["5 pages:2 groups: 2\n"]]);
}

#[test]
fn enabled_functions_show_what_they_run() {
    let registry = example();
    let expected = expect![[r#"
        f (1)           	tramp: 0x1000 (callback_1) ->callback_1
        g (2) R         	tramp: 0x2000 (callback_1) ->callback_1	tramp: 0x2000 (callback_2) ->assist
        h (1) R I     M 	tramp: 0x6000 (callback_4) ->callback_4
        k [libk.so.1] (1)     D   M 
        	direct-->direct_3
        l [libk.so.1] (2) R   D   M 	tramp: 0x5000 (callback_2) ->assist	tramp: 0x5000 (callback_3) ->callback_3
        	direct-->direct_3
    "#]];
    check(|out| registry.enabled_functions(&Names, out), &expected);
}

#[test]
fn touched_functions_remember() {
    let mut registry = example();
    for id in [1, 2, 3] {
        registry.unregister(OpsId(id)).unwrap();
    }
    registry.switch(false).unwrap();
    check(|out| registry.enabled_functions(&Names, out), &expect![[""]]);
    let expected = expect![[r#"
        f (0)           
        g (0)           
        h (1) R I     M 
        k [libk.so.1] (0)         M 
        l [libk.so.1] (0)         M 
    "#]];
    check(|out| registry.touched_functions(&Names, out), &expected);
}

/// Beyond the budget of sets a site runs the list function.
#[test]
fn sets_without_a_trampoline_name_the_list_function() {
    let mut registry = program();
    for _ in 0..150 {
        let (ops, _) = registry.register(spec(Flags::DYNAMIC, &["f"])).unwrap();
        registry.unregister(ops).unwrap();
    }
    registry.register(spec(NONE, &["f"])).unwrap();
    let expected = expect![["f (1)            ->list_function\n"]];
    check(|out| registry.enabled_functions(&Names, out), &expected);
}
