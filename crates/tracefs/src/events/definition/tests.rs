//! What is wrong is said as the kernel says it, at the same place.

use super::*;
use crate::functions::Function;

fn functions() -> Functions {
    let function = |(at, name): (u64, &str)| Function {
        name: name.into(),
        module: None,
        address: 0x1000 + 0x100 * at,
        size: 0x80,
    };
    let names = ["vfs_read", "vfs_write", "twice", "twice"];
    Functions::new((0..).zip(names).map(function).collect())
}

/// The place is marked by `^`.
fn refused(marked: &str, error: &str) {
    let at = marked.rfind('^').unwrap();
    let line = format!("{}{}", &marked[..at], &marked[at + 1..]);
    let trouble = Definition::parse(&line, &functions()).expect_err(&line);
    assert_eq!((trouble.error, trouble.at), (error, at), "{line}");
}

#[test]
fn wrong_definitions() {
    let long = "x".repeat(65);
    refused("p^100 vfs_read", "Maxactive is only for function exit");
    refused("r^1a111 vfs_read", "Invalid maxactive number");
    refused("r^100000 vfs_read", "Maxactive is too big");
    for place in ["non_exist_func", "hoge-fuga", "hoge+1000-1000", "vfs_read+0x1000", "0x1"] {
        refused(&format!("p ^{place}"), NO_PLACE);
    }
    refused("p ^twice", "The symbol is not unique");
    refused("r ^vfs_read+10", "Retprobe address must be an function entry");
    refused("p ^vfs_read+10%return", "Retprobe address must be an function entry");
    refused("p vfs_read^%hoge", "Invalid probed address suffix");
    refused("p:^/bar vfs_read", "Group name is not specified");
    refused(&format!("p:^{long}/bar vfs_read"), "Group name is too long");
    refused("p:^foo.1/bar vfs_read", "Group name must follow the same rules as C identifiers");
    refused("p:^ vfs_read", "Event name is not specified");
    refused(&format!("p:foo/^{long} vfs_read"), "Event name is too long");
    refused("p:foo/^bar.1 vfs_read", "Event name must follow the same rules as C identifiers");
}

#[test]
fn wrong_arguments() {
    let cases = [
        ("^$retval", "$retval is not available on probe"),
        ("^$stack10000", "Invalid stack number"),
        ("^$arg10000", "Invalid argument number"),
        ("^$none_var", "Invalid $-variable specified"),
        ("^%none_reg", "Invalid register name"),
        ("^@12345678abcde", "Invalid memory address"),
        ("^@+10", "File offset is not available with kprobe"),
        ("^@vfs_read*10", "Invalid memory address"),
        ("arg1=\\^x", "Invalid immediate value"),
        ("arg1=\\\"abcd^", "String is not closed with '\"'"),
        ("^+0@0)", "Dereference needs a brace"),
        ("^+0ab1(@0)", "Invalid dereference offset"),
        ("+0(+0(@0^)", "Dereference brace is not closed"),
        ("+0(^$comm)", "$comm can not be dereferenced"),
        ("^&1", "Invalid fetch argument"),
        ("+0(@11):u8[10^", "Array is not closed"),
        ("+0(@11):u8[10]^a", "Array has wrong suffix"),
        ("+0(@11):u8[^10a]", "Invalid array size"),
        ("+0(@11):u8[^256]", "Array number is too big"),
        ("@11:^unknown_type", "Unknown type is specified"),
        ("$stack0:^string", "String accepts only memory argument"),
        ("@11:^b10@a/16", "Invalid bitfield"),
        ("^arg123456789012345678901234567890=@11", "Argument name is too long"),
        ("^=@11", "Argument name is not specified"),
        ("^var.1=@11", "Argument name must follow the same rules as C identifiers"),
        ("var1=@11 ^var1=@12", "This argument name is already used"),
        ("arg1=^", "No argument expression"),
        ("^$arg*", "BTF is not available or not supported"),
    ];
    for (argument, error) in cases {
        refused(&format!("p vfs_read {argument}"), error);
    }
    let deep = "+1234567(".repeat(7) + "@1234)))))))";
    refused(&format!("p vfs_read ^{deep}"), "Argument expression is too long");
    refused("f vfs_read ^%ax", "Invalid $-variable specified");
    refused("f ^vfs_read+20 $arg1", NO_PLACE);
    let nested = format!("{}@0{}", "+0(".repeat(12), ")".repeat(12));
    refused(&format!("p vfs_read +0(^{nested})"), "Dereference is too much nested");
}

#[test]
fn lines_are_listed_as_the_kernel_lists_them() {
    let cases = [
        ("p vfs_read", "p:kprobes/p_vfs_read_0 vfs_read"),
        ("r10:mine vfs_read $retval", "r10:kprobes/mine vfs_read arg1=$retval"),
        ("p:g/e vfs_read%return", "r:g/e vfs_read"),
        ("f:e vfs_read%return", "f:fprobes/e vfs_read%return"),
        (
            "p:e vfs_read a=+0(+8(%di)):string $stack0:s32 $comm",
            "p:kprobes/e vfs_read a=+0(+8(%di)):string arg2=$stack0:s32 arg3=$comm",
        ),
    ];
    for (line, listed) in cases {
        assert_eq!(Definition::parse(line, &functions()).unwrap().line(), listed);
    }
    let next = Definition::parse("p vfs_read+0x100", &functions()).unwrap();
    assert_eq!((next.function, next.offset), (FunctionId(1), 0));
}
