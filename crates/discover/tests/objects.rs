//! Kinds of objects, and what is found in them whether they have symbols or not.

#![allow(clippy::print_stdout, reason = "says what it skips or did")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Fixture, check_invariants, function, open, rung, site};
use sledge_discover::{DiscoverError, Kind, Object, Rung, open_header};

#[test]
fn ordinary_programs_are_traceable() {
    for optimise in ["-O0", "-O2", "-O3"] {
        for protect in ["-fcf-protection=none", "-fcf-protection=full"] {
            let fixture = Fixture::build("program.c", &[optimise, protect]);
            let object = fixture.object();
            for name in ["main", "sum", "copy", "nothing", "empty", "through"] {
                assert!(site(&object, name).rung <= Rung::Prologue, "{name} {optimise} {protect}");
            }
            assert_eq!(object.summary().percent(), 100.0, "{optimise} {protect}");
        }
    }
}

#[test]
fn aliases_are_one_function() {
    let object = Fixture::build("program.c", &["-O1"]).object();
    assert_eq!(function(&object, "sum").names, ["sum", "total_of"]);
    assert_eq!(function(&object, "total_of").address, function(&object, "sum").address);
}

#[test]
fn stripped_programs_have_the_same_sites() {
    for optimise in ["-O0", "-O2"] {
        let fixture = Fixture::build("program.c", &[optimise]);
        let full = fixture.object();
        let stripped = open(&fixture.stripped());
        check_invariants(&stripped);
        assert!(stripped.functions.iter().all(|function| function.names.is_empty()));
        let sites = |object: &Object| -> BTreeSet<(u64, Vec<u8>)> {
            let sites =
                object.functions.iter().filter_map(|function| function.verdict.as_ref().ok());
            sites.map(|site| (site.address, site.displaced.clone())).collect()
        };
        assert_eq!(sites(&full), sites(&stripped), "{optimise}");
    }
}

#[test]
fn separate_debug_files_give_names() {
    let fixture = Fixture::build("program.c", &["-O2", "-Wl,--build-id=sha1"]);
    let debug = fixture.with("objcopy", &["--only-keep-debug"]);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    let stripped = fixture.path.with_file_name("stripped");
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--strip-all", &link]).args([&fixture.path, &stripped]);
    assert!(objcopy.status().unwrap().success());
    let named = open(&stripped);
    check_invariants(&named);
    assert_eq!(site(&named, "scaled"), site(&fixture.object(), "scaled"));

    let mut other = std::fs::read(&debug).unwrap();
    let build_id = named.build_id.as_slice();
    let at = other.windows(20).position(|bytes| bytes == build_id).unwrap();
    other[at] ^= 1;
    std::fs::write(&debug, other).unwrap();
    assert!(open(&stripped).function_named("scaled").is_none(), "of another build");
}

#[test]
fn section_headers_are_not_needed() {
    let fixture = Fixture::build("program.c", &["-O2", "-rdynamic"]);
    let full = fixture.object();
    let mut bytes = std::fs::read(&fixture.path).unwrap();
    bytes[0x28..0x30].fill(0); // e_shoff
    bytes[0x3a..0x40].fill(0); // e_shentsize, e_shnum, e_shstrndx
    let bare = Object::parse(&fixture.path, &bytes).unwrap();
    for name in ["main", "sum", "copy"] {
        assert_eq!(site(&bare, name), site(&full, name), "{name}");
        assert_eq!(bare.export(name), full.export(name));
    }
    assert_eq!(bare.imports, full.imports);
    assert_eq!(bare.build_id, full.build_id);
}

#[test]
fn kinds_are_told_apart() {
    let kind = |flags: &[&str]| Fixture::build("program.c", flags).object().kind;
    assert_eq!(kind(&[]), Kind::PieExecutable);
    assert_eq!(kind(&["-no-pie"]), Kind::Executable);
    assert_eq!(kind(&["-shared", "-fPIC"]), Kind::SharedLibrary);
}

#[test]
fn static_programs_are_read() {
    for (flags, kind) in [(["-static"], Kind::Executable), (["-static-pie"], Kind::StaticPie)] {
        let fixture = match Fixture::try_build("program.c", &flags) {
            Ok(fixture) => fixture,
            Err(said) => {
                println!("skipped: this compiler cannot link {flags:?}: {said}");
                continue;
            }
        };
        let object = fixture.object();
        assert_eq!((object.kind, object.interpreter.as_deref()), (kind, None));
        assert!(!object.irelative.is_empty(), "the C library's string functions");
        assert!(object.functions.len() > 500);
        let stripped = open(&fixture.stripped());
        check_invariants(&stripped);
        assert!(stripped.functions.len() > 500);
    }
}

#[test]
fn imports_and_exports_are_found() {
    let program = Fixture::build("program.c", &[]).object();
    let header = open_header(&program.path);
    assert!(matches!(header, Err(DiscoverError::NotFound(_))), "the fixture is gone");
    let malloc = program.imports.iter().find(|import| import.name == "malloc").unwrap();
    assert!(program.segments.iter().any(|segment| {
        segment.write
            && (segment.address..segment.address + segment.memory_size).contains(&malloc.got)
    }));
    assert!(program.imports.iter().all(|import| !import.name.contains('@')));

    let library = Fixture::build("program.c", &["-shared", "-fPIC"]).object();
    let sum = library.export("sum").unwrap();
    assert_eq!((sum.address, sum.is_ifunc), (function(&library, "sum").address, false));
    assert_eq!(library.export("scaled"), None, "not exported");
    let ifunc = Fixture::build("ifunc.c", &["-shared", "-fPIC"]).object();
    assert!(ifunc.export("chosen").unwrap().is_ifunc);
}

#[test]
fn functions_are_found_by_address() {
    let object = Fixture::build("program.c", &["-O0"]).object();
    let sum = function(&object, "sum");
    for address in [sum.address, sum.address + 1, sum.address + sum.size - 1] {
        assert_eq!(object.function_at(address).unwrap().address, sum.address);
    }
    assert_ne!(object.function_at(sum.address + sum.size).map(|f| f.address), Some(sum.address));
    assert!(object.function_at(0).is_none());
    assert!(object.function_named("no such").is_none());
    assert_eq!(rung(&object, "main"), Rung::Prologue);
}

#[test]
fn the_header_alone_tells_the_kind() {
    let fixture = Fixture::build("program.c", &["-Wl,--build-id=sha1"]);
    let header = open_header(&fixture.path).unwrap();
    assert_eq!(header.kind, Kind::PieExecutable);
    assert!(header.interpreter.as_deref().is_some_and(|path| path.contains("ld-linux")));
    assert_eq!(header.build_id.len(), 20);
    assert!(header.needed.iter().any(|name| name == "libc.so.6"));
    assert!(
        header.segments.iter().any(|segment| segment.execute && segment.address <= header.entry)
    );
}

/// Opens a file of the given contents, which is none.
fn error_of(contents: &[u8]) -> DiscoverError {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), contents).unwrap();
    let quick = open_header(file.path()).unwrap_err();
    let whole = Object::open(file.path()).unwrap_err();
    assert_eq!(quick.to_string(), whole.to_string());
    assert!(quick.to_string().contains(file.path().to_str().unwrap()));
    quick
}

#[test]
fn errors_say_what_is_wrong_with_the_path() {
    let missing = open_header(Path::new("/no/such/file")).unwrap_err();
    assert_eq!(missing.to_string(), "/no/such/file does not exist");
    let directory = open_header(Path::new("/")).unwrap_err();
    assert_eq!(directory.to_string(), "/ is a directory");
    let device = open_header(Path::new("/dev/null")).unwrap_err();
    assert_eq!(device.to_string(), "/dev/null is not a regular file");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::File::open(file.path()).is_ok() {
        println!("skipped: root may read everything");
        return;
    }
    assert!(matches!(open_header(file.path()), Err(DiscoverError::PermissionDenied(_))));
}

#[test]
fn errors_say_what_is_wrong_with_the_bytes() {
    let fixture = Fixture::build("program.c", &[]);
    let good = std::fs::read(&fixture.path).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        error_of(&bytes)
    };
    assert!(matches!(error_of(b""), DiscoverError::Empty(_)));
    assert!(matches!(error_of(b"hello"), DiscoverError::NotElf(_)));
    let script = error_of(b"#! /bin/sh -e\nexit\n");
    assert!(script.to_string().ends_with("is a script for /bin/sh -e"), "{script}");
    assert!(matches!(error_of(&good[..40]), DiscoverError::Truncated { .. }));
    assert!(matches!(error_of(&good[..100]), DiscoverError::Truncated { .. }));
    let cut = error_of(&good[..good.len() / 4]).to_string();
    assert!(cut.ends_with("is truncated: a segment ends beyond the file"), "{cut}");
    assert!(matches!(changed(4, 1), DiscoverError::Elf32(_)));
    let arm = changed(18, 183).to_string();
    assert!(arm.ends_with("is for AArch64; only x86-64 is supported"), "{arm}");
    assert!(changed(16, 1).to_string().contains("an object file that is not linked"));
    assert!(changed(16, 4).to_string().contains("a core dump"));
    assert!(matches!(changed(5, 2), DiscoverError::OtherArchitecture { .. }));
}
