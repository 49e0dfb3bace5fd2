//! Fixtures: small programs built with the system's C compiler.
#![allow(dead_code, reason = "not every test uses every helper")]

use std::path::{Path, PathBuf};
use std::process::Command;

use sledge_discover::{Function, Object, Refusal, Rung, Site};

/// A built fixture; its directory goes when it is dropped.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Fixture {
    /// Builds a file of `tests/fixtures`.
    pub(crate) fn build(source: &str, flags: &[&str]) -> Self {
        Self::try_build(source, flags)
            .unwrap_or_else(|said| panic!("cc {source} {flags:?}: {said}"))
    }

    /// As `build`, for what a compiler may not be able to do.
    pub(crate) fn try_build(source: &str, flags: &[&str]) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fixture");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(source);
        let mut compiler = Command::new("cc");
        let output = compiler.arg(source).arg("-o").arg(&path).args(flags).output().unwrap();
        if output.status.success() {
            Ok(Self { directory, path })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The same file after a run of binutils, whose last arguments are input and output.
    pub(crate) fn with(&self, tool: &str, flags: &[&str]) -> PathBuf {
        let output = self.directory.path().join(tool.replace(' ', "-") + &flags.concat());
        let status = Command::new(tool).args(flags).arg(&self.path).arg(&output).status().unwrap();
        assert!(status.success(), "{tool} {flags:?}");
        output
    }

    pub(crate) fn stripped(&self) -> PathBuf {
        self.with("objcopy", &["--strip-all"])
    }

    /// Reads it, and checks what must hold of any object.
    pub(crate) fn object(&self) -> Object {
        let object = open(&self.path);
        check_invariants(&object);
        object
    }
}

pub(crate) fn open(path: &Path) -> Object {
    Object::open(path).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn function<'o>(object: &'o Object, name: &str) -> &'o Function {
    object.function_named(name).unwrap_or_else(|| panic!("no function {name}"))
}

pub(crate) fn site<'o>(object: &'o Object, name: &str) -> &'o Site {
    function(object, name).verdict.as_ref().unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
}

pub(crate) fn refusal(object: &Object, name: &str) -> Refusal {
    match &function(object, name).verdict {
        Ok(site) => panic!("{name} has a site: {site:?}"),
        Err(refusal) => *refusal,
    }
}

pub(crate) fn rung(object: &Object, name: &str) -> Rung {
    site(object, name).rung
}

/// What must hold of any object: see the assertions.
pub(crate) fn check_invariants(object: &Object) {
    let file = std::fs::read(&object.path).unwrap();
    let mut patches = Vec::new();
    for function in &object.functions {
        let Ok(site) = &function.verdict else { continue };
        let context = format!("{function:#x?}");
        let original = bytes_at(object, &file, site.address, site.displaced.len());
        assert_eq!(site.displaced, original, "displaced bytes are the file's: {context}");
        assert!(site.displaced.len() <= sledge_discover::MAX_DISPLACED, "{context}");
        assert!(site.boundaries & !0b11110 == 0, "{context}");
        assert!((1..5).all(|bit| site.boundaries & 1 << bit == 0 || bit < site.displaced.len()));
        let jump = if site.rung == Rung::Hop { 2 } else { 5 };
        patches.push((site.address, site.address + jump));
        patches.extend(site.hop.map(|hop| (hop, hop + 5)));
        assert_eq!(site.hop.is_some(), site.rung == Rung::Hop, "{context}");
        if let Some(hop) = site.hop {
            let distance = hop.wrapping_sub(site.address + 2) as i64;
            assert!((-128..128).contains(&distance), "{context}");
            assert!(site.boundaries & 0b10 == 0, "{context}");
        }
        let next = object.functions.partition_point(|other| other.address <= site.address);
        let next = object.functions.get(next).map_or(u64::MAX, |other| other.address);
        assert!(next >= site.address + jump.max(site.displaced.len() as u64), "{context}");
    }
    patches.sort_unstable();
    for pair in patches.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "patches overlap: {pair:#x?}");
    }
    for function in object.functions.iter().filter(|function| function.verdict.is_ok()) {
        check_filler(object, &file, function);
    }
    let summary = object.summary();
    let set_aside: usize = summary.set_aside.values().sum();
    assert_eq!(summary.functions + set_aside, object.functions.len());
    let refused: usize = summary.refusals.values().sum();
    assert_eq!(summary.traceable + refused, summary.functions, "nothing is skipped in silence");
    assert!(object.functions.windows(2).all(|pair| pair[0].address < pair[1].address));
}

/// What a patch takes beyond the function's instructions must be filler by its looks, and of no
/// other function.
fn check_filler(object: &Object, file: &[u8], function: &Function) {
    const FILLER: [u8; 11] = [0x66, 0x90, 0x0f, 0x1f, 0x00, 0x40, 0x44, 0x80, 0x84, 0x2e, 0xcc];
    let site = function.verdict.as_ref().unwrap();
    let jump = if site.rung == Rung::Hop { 2 } else { 5 };
    let taken = site.address + site.displaced.len() as u64..site.address + jump;
    let hop = site.hop.into_iter().flat_map(|hop| hop..hop + 5);
    for address in taken.chain(hop) {
        let byte = bytes_at(object, file, address, 1)[0];
        assert!(FILLER.contains(&byte), "{byte:x} {function:#x?}");
        let owner = object.function_at(address);
        assert!(owner.is_none_or(|owner| owner.address == function.address), "{function:#x?}");
    }
}

pub(crate) fn bytes_at(object: &Object, file: &[u8], address: u64, length: usize) -> Vec<u8> {
    let holds = |address: u64| {
        let inside = |start: u64, size: u64| (start..start + size).contains(&address);
        object.segments.iter().find(|segment| inside(segment.address, segment.file_size))
    };
    let segment = holds(address).expect("a segment");
    let offset = (address - segment.address + segment.file_offset) as usize;
    file[offset..offset + length].to_vec()
}
