//! `/tmp/perf-PID.map`: names of code that no file has (linux: `tools/perf/Documentation/jit-interface.txt`).

use nix::unistd::geteuid;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// How our names begin.
const OURS: &str = "sledge_";

/// Writes them, in place of those that were written before. Lines of others stay.
///
/// The directory is everybody's: the file must be this user's, and no link.
pub(crate) fn write(names: &[(Range<u64>, String)]) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let mut file = options.open(&path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != geteuid().as_raw() || meta.nlink() != 1 {
        let why = format!("{} is somebody else's; remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut kept = String::new();
    for line in text.lines().filter(|line| !is_ours(line)) {
        let _ = writeln!(kept, "{line}");
    }
    for (code, name) in names {
        let _ = writeln!(kept, "{:x} {:x} {name}", code.start, code.end - code.start);
    }
    file.rewind()?;
    file.write_all(kept.as_bytes())?;
    file.set_len(kept.len() as u64)?;
    Ok(path)
}

fn is_ours(line: &str) -> bool {
    line.splitn(3, ' ').nth(2).is_some_and(|name| name.starts_with(OURS))
}
