//! Every rung of the ladder and every reason to refuse.

mod common;

use common::{Fixture, function, open, refusal, rung, site};
use sledge_discover::{EntryOnly, Object, Refusal, Returns, Rung};

fn ladder() -> Object {
    let object = Fixture::build("ladder.S", &[]).object();
    assert!(object.summary().traceable > 8);
    object
}

#[test]
fn one_long_instruction_is_single() {
    let object = ladder();
    let found = site(&object, "single");
    assert_eq!((found.rung, found.boundaries), (Rung::Single, 0));
    assert_eq!(found.displaced, [0xb8, 1, 0, 0, 0]);
    assert_eq!(found.address, function(&object, "single").address);
}

#[test]
fn the_patch_is_behind_the_landing_pad() {
    let object = ladder();
    let landing = function(&object, "landing");
    assert_eq!(site(&object, "landing").address, landing.address + 4);
    assert_eq!(rung(&object, "landing"), Rung::Single);
}

#[test]
fn prologues_move_whole() {
    let object = ladder();
    let found = site(&object, "prologue");
    assert_eq!((found.rung, found.boundaries), (Rung::Prologue, 0b10010));
    assert_eq!(found.displaced, [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10]);
}

#[test]
fn filler_makes_up_the_rest() {
    let object = ladder();
    let found = site(&object, "filled");
    assert_eq!((found.rung, found.boundaries), (Rung::Prologue, 0b100));
    assert_eq!(found.displaced, [0x31, 0xc0, 0xc3]);
}

#[test]
fn a_branch_behind_two_bytes_leaves_room_to_hop() {
    let object = ladder();
    let found = site(&object, "hops");
    assert_eq!(found.rung, Rung::Hop);
    assert_eq!(found.displaced, [0x31, 0xc0]);
    assert!(found.hop.is_some());
}

#[test]
fn branches_to_the_first_byte_are_no_obstacle() {
    assert_eq!(rung(&ladder(), "repeats"), Rung::Prologue);
}

#[test]
fn a_call_may_be_the_last_instruction_of_the_patch() {
    let object = ladder();
    assert_eq!(rung(&object, "calls_late"), Rung::Prologue);
    assert_eq!(site(&object, "calls_late").displaced.len(), 9);
}

#[test]
fn refusals_have_their_reason() {
    let object = ladder();
    let expected = [
        ("branched_into", Refusal::BranchIntoPatch),
        ("calls_early", Refusal::UnmovableInstruction),
        ("loops", Refusal::UnmovableInstruction),
        ("undecodable", Refusal::Undecodable),
        ("called_with_frame", Refusal::NotACall),
        ("signal_frame", Refusal::NotACall),
        ("switches_stack", Refusal::NotACall),
        ("outermost", Refusal::NotACall),
        ("outer", Refusal::Overlaps),
        ("restartable", Refusal::RestartableSequence),
        ("short", Refusal::TooShort),
        ("falls", Refusal::TooShort),
        ("_start", Refusal::RuntimeGlue),
        ("frame_dummy", Refusal::RuntimeGlue),
    ];
    for (name, reason) in expected {
        assert_eq!(refusal(&object, name), reason, "{name}");
    }
}

#[test]
fn functions_without_a_size_end_where_the_next_begins() {
    let object = ladder();
    assert_eq!(rung(&object, "after_short"), Rung::Single);
    assert_eq!(rung(&object, "unsized"), Rung::Single);
    let (unsized_, main) = (function(&object, "unsized"), function(&object, "main"));
    assert_eq!(unsized_.address + unsized_.size, main.address);
}

#[test]
fn resolvers_are_not_traced() {
    let fixture = Fixture::build("ifunc.c", &[]);
    let object = fixture.object();
    assert_eq!(refusal(&object, "chosen"), Refusal::IfuncResolver);
    let resolver = function(&object, "chosen").address;
    let stripped = open(&fixture.stripped());
    let unnamed = stripped.function_at(resolver).unwrap();
    assert_eq!(unnamed.verdict, Err(Refusal::IfuncResolver));
    assert!(object.irelative.iter().any(|&(_, target)| target == resolver));
    assert!(site(&object, "plain").displaced.len() >= 5);
}

#[test]
fn code_that_the_file_lacks_is_refused() {
    let fixture = Fixture::build("program.c", &["-g"]);
    let debug = fixture.with("objcopy", &["--only-keep-debug"]);
    let object = open(&debug);
    assert_eq!(refusal(&object, "main"), Refusal::NoBytes);
    assert_eq!(object.summary().traceable, 0);
}

#[test]
fn xray_sleds_are_the_best_rung() {
    for flags in [&["-no-pie"][..], &[]] {
        let object = Fixture::build("xray.S", flags).object();
        for name in ["relative", "absolute"] {
            let found = site(&object, name);
            assert_eq!((found.rung, found.boundaries), (Rung::Xray, 0), "{name}");
            assert_eq!(found.displaced.len(), 11);
            assert_eq!(found.displaced[..2], [0xeb, 0x09]);
        }
        let absolute = function(&object, "absolute").address;
        assert_eq!(site(&object, "absolute").address, absolute + 4);
        assert_eq!(rung(&object, "main"), Rung::Prologue);
    }
}

#[test]
fn nops_that_gcc_left_are_sleds() {
    let landing = "-fcf-protection=full";
    for (flags, skipped) in [(vec![], 0), (vec![landing], 4), (vec![landing, "-no-pie"], 4)] {
        let flags = [&flags[..], &["-O2", "-fpatchable-function-entry=5"]].concat();
        let object = Fixture::build("program.c", &flags).object();
        for name in ["sum", "copy", "main", "scaled", "nothing"] {
            let found = site(&object, name);
            assert_eq!((found.rung, found.boundaries), (Rung::Sled, 0b11110), "{name} {flags:?}");
            assert_eq!(found.displaced, [0x90; 5]);
            assert_eq!(found.address, function(&object, name).address + skipped);
        }
    }
}

#[test]
fn nops_before_the_function_do_not_count() {
    for (entry, expected) in [
        ("-fpatchable-function-entry=12,5", Rung::Sled),
        ("-fpatchable-function-entry=7,4", Rung::Prologue),
        ("-fpatchable-function-entry=5,5", Rung::Single),
    ] {
        let object = Fixture::build("program.c", &["-O2", entry]).object();
        // `through` begins with a mov of five bytes or more at -O2.
        let found = rung(&object, "through");
        if expected == Rung::Single {
            assert_ne!(found, Rung::Sled, "{entry}");
        } else {
            assert_eq!(found, expected, "{entry}");
        }
    }
}

#[test]
fn recorded_fentry_nops_are_sleds() {
    let flags =
        ["-O2", "-no-pie", "-fno-pic", "-pg", "-mfentry", "-mnop-mcount", "-mrecord-mcount"];
    let object = Fixture::build("program.c", &flags).object();
    for name in ["sum", "copy", "main"] {
        let found = site(&object, name);
        assert_eq!((found.rung, found.boundaries), (Rung::Sled, 0), "{name}");
        assert_eq!(found.displaced.len(), 5);
    }
}

#[test]
fn what_functions_do_with_their_return_address() {
    use EntryOnly::{MovesReturnAddress, ReadsReturnAddress, ReturnsTwice};
    let object = Fixture::build("returns.S", &["-nostartfiles", "-Wl,-e,main"]).object();
    for (name, expected) in [
        ("saves_context", Returns::EntryOnly(ReturnsTwice)),
        ("passes_on", Returns::EntryOnly(ReturnsTwice)),
        ("pops_and_jumps", Returns::EntryOnly(ReturnsTwice)),
        ("vfork", Returns::EntryOnly(ReturnsTwice)),
        ("pops_and_pushes", Returns::EntryOnly(ReadsReturnAddress)),
        ("reads_at_depth", Returns::EntryOnly(ReadsReturnAddress)),
        ("reads_through_frame", Returns::EntryOnly(ReadsReturnAddress)),
        ("reads_behind_return", Returns::EntryOnly(ReadsReturnAddress)),
        ("dlsym", Returns::EntryOnly(ReadsReturnAddress)),
        ("removes_argument", Returns::EntryOnly(MovesReturnAddress)),
        ("returns_from_above", Returns::EntryOnly(MovesReturnAddress)),
        ("reads_others", Returns::Hooked),
        ("finds_itself", Returns::Hooked),
        ("main", Returns::Hooked),
    ] {
        assert_eq!(site(&object, name).returns, expected, "{name}");
    }
}
