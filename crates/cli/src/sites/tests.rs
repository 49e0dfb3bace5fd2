use sledge_discover::{EntryOnly, Function, Object, Refusal, Returns, Rung, Site};

use super::*;

/// This test program, with three functions of our own making instead of its own.
fn object() -> Object {
    let mut object = Object::open(&env::current_exe().unwrap()).unwrap();
    object.path = "/bin/app".into();
    let site = |address, rung, returns| Site {
        address,
        rung,
        displaced: vec![0x55, 0x48, 0x89, 0xe5, 0x41, 0x57],
        boundaries: 0b10010,
        returns,
        hop: None,
    };
    let function = |address, names: &[&str], verdict| Function {
        address,
        size: 16,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        verdict,
    };
    let entry_only = Returns::EntryOnly(EntryOnly::ReturnsTwice);
    object.functions = vec![
        function(
            0x10,
            &["_ZN3foo3barEii", "alias"],
            Ok(site(0x14, Rung::Prologue, Returns::Hooked)),
        ),
        function(0x20, &["vfork"], Ok(site(0x20, Rung::Single, entry_only))),
        function(0x30, &[], Err(Refusal::TooShort)),
    ];
    object
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_table_counts_by_rung_and_reason() {
    let text = text(|out| table::write(out, &object()));
    let first = "/bin/app: 3 functions, 2 traceable (66.6 %)\n\ntraceable by\n";
    assert!(text.starts_with(first), "{text}");
    for row in [
        "  single                        1  one instruction that is as long as the jump\n",
        "  returns-twice                 1  setjmp, vfork and the like\n",
        "  too-short                     1  it is shorter than a jump, and no filler follows it\n",
    ] {
        assert!(text.contains(row), "{row:?} not in:\n{text}");
    }
}

#[test]
fn a_site_is_explained() {
    let object = object();
    let functions = functions_named(&object, "foo::bar").unwrap();
    let display = Display { object: &object, demangle: Demangle::Simple };
    let expected = "\
foo::bar
  address     0x10..0x20 (16 bytes)
  names       _ZN3foo3barEii, alias
  traceable   yes, by prologue: a jump in place of its first instructions, which run elsewhere
  patched     at 0x14
  displaced   6 bytes: 55 48 89 e5 41 57
  boundaries  instructions begin inside the patch at +1, +4
  returns     hooked
";
    assert_eq!(text(|out| explain::write(out, &functions, &display)), expected);
}

#[test]
fn a_hop_is_explained() {
    let mut object = object();
    let site = object.functions[0].verdict.as_mut().unwrap();
    (site.rung, site.hop) = (Rung::Hop, Some(0x40));
    let display = Display { object: &object, demangle: Demangle::No };
    let functions = functions_named(&object, "alias").unwrap();
    let text = text(|out| explain::write(out, &functions, &display));
    assert!(text.contains("  patched     at 0x14, by way of 0x40\n"), "{text}");
}

#[test]
fn a_refusal_is_explained() {
    let object = object();
    let functions = functions_named(&object, "0x38").unwrap();
    let display = Display { object: &object, demangle: Demangle::Simple };
    let expected = "\
app+0x30
  address     0x30..0x40 (16 bytes)
  traceable   no: too-short
  because     it is shorter than a jump, and no filler follows it
";
    assert_eq!(text(|out| explain::write(out, &functions, &display)), expected);
}

#[test]
fn json_has_a_summary_and_every_function() {
    let object = object();
    let display = Display { object: &object, demangle: Demangle::Simple };
    let text = text(|out| json::whole(out, &object, &display));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let summary = &json["summary"];
    assert_eq!((&summary["functions"], &summary["traceable"]), (&3.into(), &2.into()));
    assert_eq!(summary["by_rung"], serde_json::json!({"single": 1, "prologue": 1}));
    assert_eq!(summary["by_reason"], serde_json::json!({"too-short": 1}));
    let expected = serde_json::json!({"name": "foo::bar", "names": ["_ZN3foo3barEii", "alias"],
        "address": "0x10", "size": 16, "rung": "prologue", "returns": "hooked", "site": "0x14",
        "displaced": "554889e54157", "boundaries": [1, 4]});
    assert_eq!(json["functions"][0], expected);
    assert_eq!(json["functions"][1]["returns"], "returns-twice");
    assert_eq!(json["functions"][2]["reason"], "too-short");
    assert_eq!(json["functions"][2]["name"], "app+0x30");
}

#[test]
fn a_name_that_is_not_there_is_an_error() {
    let object = object();
    let error = functions_named(&object, "vfrok").unwrap_err();
    assert_eq!(error.to_string(), "no function of /bin/app is named 'vfrok'");
    assert!(functions_named(&object, "0x999").is_err());
    assert_eq!(functions_named(&object, "alias").unwrap().len(), 1);
}
