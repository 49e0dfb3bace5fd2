//! The agent's rules, checked on the shared object that was built: what it needs from the program
//! it is loaded into is nothing.

use crate::metadata::Workspace;
use anyhow::{Context, Result};
use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader, Sym};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const FILE_NAME: &str = "libsledge_agent.so";
const MOST_BYTES: usize = 64 * 1024;
const MOST_TLS_BYTES: u64 = 64;
/// Names that the agent may define for others to see.
const EXPORTS: [&str; 0] = [];

type Elf<'a> = ElfFile64<'a, Endianness>;

/// Checks the given file, or the one built last.
pub(crate) fn run(file: Option<PathBuf>) -> Result<Vec<String>> {
    let file = match file {
        Some(file) => file,
        None => newest(&Workspace::read()?.target)?,
    };
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    println!("agent-check: {}, {} bytes", file.display(), bytes.len());
    check(&bytes)
}

fn check(bytes: &[u8]) -> Result<Vec<String>> {
    let elf = Elf::parse(bytes)?;
    let mut findings = Vec::new();
    if bytes.len() > MOST_BYTES {
        findings.push(format!("{} bytes, more than {MOST_BYTES}", bytes.len()));
    }
    findings.extend(dynamic_entries(&elf)?);
    findings.extend(dynamic_symbols(&elf)?);
    findings.extend(segments(&elf)?);
    Ok(findings)
}

fn dynamic_entries(elf: &Elf<'_>) -> Result<Vec<String>> {
    let endian = elf.endian();
    let headers = elf.elf_header().program_headers(endian, elf.data())?;
    let mut findings = Vec::new();
    for header in headers {
        for entry in header.dynamic(endian, elf.data())?.unwrap_or_default() {
            let flags = entry.d_val(endian);
            match entry.d_tag(endian) {
                elf::DT_NEEDED => findings.push("needs another library (DT_NEEDED)".into()),
                elf::DT_TEXTREL => findings.push("relocates its code (DT_TEXTREL)".into()),
                elf::DT_FLAGS if flags & elf::DF_TEXTREL.0 != 0 => {
                    findings.push("relocates its code (DF_TEXTREL)".into());
                }
                _ => {}
            }
        }
    }
    Ok(findings)
}

fn dynamic_symbols(elf: &Elf<'_>) -> Result<Vec<String>> {
    let endian = elf.endian();
    let table = elf.elf_dynamic_symbol_table();
    let mut findings = Vec::new();
    // The first symbol stands for none.
    for symbol in table.symbols().iter().skip(1) {
        let name = String::from_utf8_lossy(symbol.name(endian, table.strings())?);
        if symbol.is_undefined(endian) {
            findings.push(format!("undefined symbol {name}"));
        } else if !EXPORTS.contains(&&*name) {
            findings.push(format!("exports {name}, which is not in the list of agent-check"));
        }
    }
    Ok(findings)
}

fn segments(elf: &Elf<'_>) -> Result<Vec<String>> {
    let endian = elf.endian();
    let mut findings = Vec::new();
    for header in elf.elf_header().program_headers(endian, elf.data())? {
        let (kind, size) = (header.p_type(endian), header.p_memsz(endian));
        let flags = header.p_flags(endian);
        if kind == elf::PT_TLS && size > MOST_TLS_BYTES {
            findings
                .push(format!("{size} bytes of thread-local storage, more than {MOST_TLS_BYTES}"));
        }
        if kind == elf::PT_INTERP {
            findings.push("asks for a dynamic loader (PT_INTERP)".into());
        }
        if kind == elf::PT_LOAD && flags.0 & elf::PF_W.0 != 0 && flags.0 & elf::PF_X.0 != 0 {
            findings.push("has a segment that is writable and executable".into());
        }
    }
    Ok(findings)
}

/// The agent that a build of the CLI left last.
fn newest(target: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    search(target, 0, &mut found);
    let newest = found.into_iter().max().map(|(_, path)| path);
    newest.with_context(|| format!("no {FILE_NAME} below {}: build the CLI", target.display()))
}

/// `[TRIPLE/]PROFILE/build/sledge-cli-HASH/out/agent/TRIPLE/release/FILE_NAME`.
fn search(directory: &Path, depth: usize, found: &mut Vec<(SystemTime, PathBuf)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let in_build = directory.file_name().is_some_and(|parent| parent == "build");
        if name == FILE_NAME && !directory.ends_with("deps") {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            found.extend(changed.ok().map(|changed| (changed, path)));
        } else if path.is_dir() && depth < 9 && (!in_build || name.starts_with("sledge-cli-")) {
            search(&path, depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const CLEAN: &str = "__attribute__((visibility(\"hidden\"))) int f(void) { return 1; }";

    fn findings(source: &str, flags: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().expect("directory");
        let (code, result) = (directory.path().join("a.c"), directory.path().join("a.so"));
        fs::write(&code, source).expect("source");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-nostdlib", "-fPIC", "-O1", "-o"]).arg(&result).arg(&code);
        assert!(compiler.args(flags).status().expect("cc").success());
        check(&fs::read(result).expect("object")).expect("ELF")
    }

    #[test]
    fn an_object_that_needs_nothing_passes() {
        assert_eq!(findings(CLEAN, &[]), Vec::<String>::new());
    }

    #[test]
    fn whatever_reaches_outside_is_found() {
        let exports = "exports f, which is not in the list of agent-check";
        assert_eq!(findings("int f(void) { return 1; }", &[]), [exports]);
        let undefined = "extern int g(void); static int f(void) { return g(); }
            __attribute__((visibility(\"hidden\"))) int (*h)(void) = f;";
        assert_eq!(findings(undefined, &[]), ["undefined symbol g"]);
        assert_eq!(findings(CLEAN, &["-lc"]).len(), 0, "not needed, so not named");
        let needed = findings(CLEAN, &["-Wl,--no-as-needed", "-lc"]);
        assert_eq!(needed, ["needs another library (DT_NEEDED)"]);
    }

    #[test]
    fn size_of_file_and_of_thread_local_storage_is_limited() {
        let tls = "static __thread char a[65]; __attribute__((visibility(\"hidden\")))
            char *f(int i) { return a + i; }";
        let found = findings(tls, &["-ftls-model=initial-exec"]);
        assert_eq!(found, ["65 bytes of thread-local storage, more than 64"]);
        let big = "__attribute__((visibility(\"hidden\"))) char big[65536] = {1};";
        let found = findings(big, &[]);
        assert!(found.len() == 1 && found[0].ends_with("more than 65536"), "{found:?}");
    }

    #[test]
    fn the_newest_build_is_found() {
        let target = tempfile::tempdir().expect("directory");
        let built = |hash: &str| {
            let out = target.path().join(format!("release/build/sledge-cli-{hash}/out/agent"));
            fs::create_dir_all(&out).expect("directory");
            out.join(FILE_NAME)
        };
        assert!(newest(target.path()).is_err());
        let (old, new) = (built("0"), built("1"));
        fs::write(&new, "").expect("file");
        let file = fs::File::create(&old).expect("file");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("time");
        assert_eq!(newest(target.path()).expect("found"), new);
    }
}
