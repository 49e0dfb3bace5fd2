//! Where the agent finds us: a private directory with the agent's file and a socket.

use crate::error::ControlError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr,
    accept4, bind, getsockopt, listen, recv, sendmsg, shutdown, socket, sockopt::PeerCredentials,
};
use sledge_wire::message::{MESSAGE_WORDS, Words};
use std::fs::{self, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The name under which the agent knows its own file.
const AGENT_NAME: &str = "libsledge-agent.so";

/// A private directory, removed in the end.
#[derive(Debug)]
pub(crate) struct Session {
    directory: TempDir,
    listener: OwnedFd,
}

impl Session {
    /// Makes the directory, writes the agent, opens the socket.
    pub(crate) fn create(agent: &[u8]) -> Result<Self, ControlError> {
        let directory = private_directory().map_err(ControlError::Session)?;
        write_agent(&directory.path().join(AGENT_NAME), agent).map_err(ControlError::Session)?;
        let failed = |error: Errno| ControlError::Session(error.into());
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(failed)?;
        let address = UnixAddr::new(&directory.path().join("socket")).map_err(failed)?;
        bind(listener.as_raw_fd(), &address).map_err(failed)?;
        listen(&listener, Backlog::new(128).map_err(failed)?).map_err(failed)?;
        Ok(Self { directory, listener })
    }

    pub(crate) fn agent_path(&self) -> PathBuf {
        self.directory.path().join(AGENT_NAME)
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// No more agents are waited for: whoever is in [`Session::accept`] returns.
    pub(crate) fn stop(&self) {
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }

    /// Waits for an agent; `None` when none came in time.
    pub(crate) fn accept(&self, at_most: Duration) -> Option<Connection> {
        let milliseconds = u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX);
        if !readable(self.listener.as_fd(), milliseconds) {
            return None;
        }
        let raw = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?;
        Connection::new(own(raw))
    }
}

/// Takes ownership of a descriptor that a system call just made.
fn own(raw: i32) -> OwnedFd {
    // SAFETY: `accept4` returned it to us alone.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn readable(descriptor: BorrowedFd<'_>, milliseconds: u16) -> bool {
    let mut waited = [PollFd::new(descriptor, PollFlags::POLLIN)];
    matches!(poll(&mut waited, PollTimeout::from(milliseconds)), Ok(1..))
}

fn private_directory() -> std::io::Result<TempDir> {
    let candidates = ["XDG_RUNTIME_DIR", "TMPDIR"].map(std::env::var_os);
    let candidates = candidates.into_iter().flatten().map(PathBuf::from);
    let mut last = None;
    for parent in candidates.chain(["/tmp", "/dev/shm", "/var/tmp"].map(PathBuf::from)) {
        // `sun_path` holds 107 bytes.
        if parent.as_os_str().len() > 70 || is_noexec(&parent) {
            continue;
        }
        match tempfile::Builder::new().prefix("sledge-").tempdir_in(&parent) {
            Ok(directory) => return Ok(directory),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
}

fn is_noexec(directory: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    statvfs(directory).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

fn write_agent(path: &Path, agent: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(agent)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o500))
}

/// A connection from one agent.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    pid: i32,
}

impl Connection {
    fn new(socket: OwnedFd) -> Option<Self> {
        let peer = getsockopt(&socket, PeerCredentials).ok()?;
        Some(Self { socket, pid: peer.pid() })
    }

    /// The process at the other end, as the kernel says.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// The next message; `None` when the agent is gone or silent for too long.
    pub(crate) fn receive(&self) -> Option<Words> {
        const PATIENCE_MILLISECONDS: u16 = 10_000;
        if !readable(self.socket.as_fd(), PATIENCE_MILLISECONDS) {
            return None;
        }
        let mut bytes = [0; MESSAGE_WORDS * 8];
        let read = recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).ok()?;
        if read != bytes.len() {
            return None;
        }
        let mut words = [0; MESSAGE_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        Some(words)
    }

    /// Sends a message, with descriptors.
    pub(crate) fn send(&self, words: &Words, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let parts = [IoSlice::new(&bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &parts, rights, flags, None).map(drop)
    }
}
