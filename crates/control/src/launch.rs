//! Starts the program that is to be recorded.

use crate::error::ControlError;
use crate::session::Session;
use crate::statics;
use sledge_discover::{Kind, open_header};
use sledge_wire::message::SOCKET_VARIABLE;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Scripts may name scripts as their interpreters; the kernel follows so many.
const MAX_INTERPRETERS: usize = 4;

/// How a program gets at its libraries, and so the agent at the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linkage {
    /// A loader brings them in.
    Dynamic,
    /// It has them in itself.
    Static,
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    linkage: Linkage,
}

/// Finds a program as a shell would, and says why it cannot be traced, if so.
pub(crate) fn find(program: &OsStr) -> Result<PathBuf, ControlError> {
    let path = resolve(program)?;
    check(&path, MAX_INTERPRETERS)?;
    Ok(path)
}

fn resolve(program: &OsStr) -> Result<PathBuf, ControlError> {
    let named = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return Ok(named.to_owned());
    }
    let search = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let found = env::split_paths(&search).map(|directory| directory.join(named));
    let found = found.into_iter().find(|path| path.is_file() && is_executable(path));
    found.ok_or_else(|| ControlError::NoProgram(named.to_owned()))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}

fn check(path: &Path, interpreters: usize) -> Result<Linkage, ControlError> {
    let file = match fs::metadata(path) {
        Ok(file) => file,
        Err(_) if fs::symlink_metadata(path).is_err() => {
            return Err(ControlError::NoProgram(path.to_owned()));
        }
        Err(source) => return Err(ControlError::Start { program: path.to_owned(), source }),
    };
    let mode = file.permissions().mode();
    if file.is_file() && mode & 0o111 == 0 {
        return Err(ControlError::NotExecutable(path.to_owned()));
    }
    if let Some(which) = gains_privilege(&file) {
        return Err(ControlError::SetId(path.to_owned(), which));
    }
    if let Some(interpreter) = script_interpreter(path)
        && interpreters > 0
    {
        return check(&interpreter, interpreters - 1);
    }
    let header = open_header(path)?;
    let is_program = matches!(header.kind, Kind::Executable | Kind::StaticPie);
    let is_static = is_program && header.interpreter.is_none();
    Ok(if is_static { Linkage::Static } else { Linkage::Dynamic })
}

/// Whether running the file changes who one is: the loader then ignores `LD_PRELOAD`.
fn gains_privilege(file: &fs::Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let mode = file.permissions().mode();
    if !file.is_file() {
        None
    } else if mode & 0o4000 != 0 && file.uid() != nix::unistd::getuid().as_raw() {
        Some("uid")
    } else if mode & 0o2000 != 0 && file.gid() != nix::unistd::getgid().as_raw() {
        Some("gid")
    } else {
        None
    }
}

/// What `#!` names, if the file is a script.
fn script_interpreter(path: &Path) -> Option<PathBuf> {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let mut head = Vec::new();
    fs::File::open(path).ok()?.take(4096).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let name = line.trim_ascii_start().split(u8::is_ascii_whitespace).next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// Starts it, everything as it would be without us: with the agent preloaded, or for a static
/// program stopped before its first instruction.
pub(crate) fn start(
    path: &Path,
    words: &[OsString],
    session: &Session,
) -> Result<Launched, ControlError> {
    let linkage = check(path, MAX_INTERPRETERS)?;
    let mut command = Command::new(path);
    if let Some((name, arguments)) = words.split_first() {
        command.arg0(name).args(arguments);
    }
    match linkage {
        Linkage::Dynamic => {
            command.env("LD_PRELOAD", preload(session)).env(SOCKET_VARIABLE, session.socket_path());
        }
        // SAFETY: makes one system call and touches no memory.
        Linkage::Static => unsafe {
            command.pre_exec(statics::ask_to_be_traced);
        },
    }
    let failed = |source| ControlError::Start { program: path.to_owned(), source };
    let child = command.spawn().map_err(failed)?;
    Ok(Launched { pid: child.id().cast_signed(), linkage })
}

/// The agent, before what the user preloads.
fn preload(session: &Session) -> OsString {
    let mut preload = session.agent_path().into_os_string();
    if let Some(users) = env::var_os("LD_PRELOAD").filter(|users| !users.is_empty()) {
        preload.push(":");
        preload.push(users);
    }
    preload
}

impl Launched {
    /// Brings the agent in where no loader does. To be called by the thread that started the
    /// program, while another one answers agents.
    pub(crate) fn enter(&self, session: &Session, agent: &[u8]) -> Result<(), ControlError> {
        match self.linkage {
            Linkage::Dynamic => Ok(()),
            Linkage::Static => {
                statics::enter(self.pid, agent, &session.socket_path(), &session.agent_path())
            }
        }
    }
}
