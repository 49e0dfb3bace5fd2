//! A client of the hub of a process.
//!
//! [`Client::open`] connects to the hub that a process has, or starts one, which enters the process. A
//! client that sends [`Request::Select`] hears of the calls of the functions that it asked for, and of
//! nothing else, whoever is there beside it. The hub leaves the process with its last client.

use crate::attached::Entry;
use crate::error::HubError;
use crate::protocol::{Event, Frames, Request, VERSION};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use sledge_discover::maps;
use sledge_inject::{InjectError, is_ours};
use sledge_wire::attach::TOKEN;
use sledge_wire::segment::{Full, MAGIC};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden command that runs a hub: its first client is on its standard input.
pub const HUB_COMMAND: &str = "hub-of";
/// How long entering a process may take before a client gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a hub.
#[derive(Debug)]
pub struct Client {
    pid: i32,
    socket: UnixStream,
    frames: Frames,
}

/// The address of the hub that a process has. Only who may look into the process can know it.
pub(crate) fn address(pid: i32) -> Option<SocketAddr> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let segments = maps::parse(&text).into_iter();
    let segments = segments.filter(|mapping| mapping.shared && is_ours(&mapping.path));
    let token = |at: u64| {
        (word(at)? == MAGIC).then_some(())?;
        Some([word(at + TOKEN as u64)?, word(at + TOKEN as u64 + 8)?])
    };
    let tokens = segments.filter_map(|mapping| token(mapping.start));
    let mut addresses = tokens.filter(|token| *token != [0; 2]).filter_map(address_of);
    // A hub that was killed leaves a segment behind.
    addresses.find(|address| UnixStream::connect_addr(address).is_ok())
}

/// The address that belongs to a random token.
pub(crate) fn address_of(token: [u64; 2]) -> Option<SocketAddr> {
    let name = format!("sledge-{:016x}{:016x}", token[0], token[1]);
    SocketAddr::from_abstract_name(name).ok()
}

/// Whether the other end of a socket may be spoken with: it is run by the same user, or by root.
pub(crate) fn is_trusted(socket: &UnixStream) -> bool {
    getsockopt(socket, PeerCredentials).is_ok_and(|peer| {
        let uid = Uid::from_raw(peer.uid());
        uid.is_root() || uid == Uid::effective()
    })
}

impl Client {
    /// Connects to the hub of a process, if it has one.
    ///
    /// # Errors
    /// When it has none, or that does not speak with us.
    pub fn connect(pid: i32, name: &str) -> Result<Self, HubError> {
        let address = address(pid).ok_or(HubError::NotTraced(pid))?;
        let failed = |source| HubError::Connection { pid, source };
        let socket = UnixStream::connect_addr(&address).map_err(failed)?;
        Self::greet(pid, socket, name)
    }

    /// Connects to the hub of a process; starts one if there is none.
    ///
    /// # Errors
    /// When the process cannot be entered.
    pub fn open(pid: i32, entry: &Entry, name: &str) -> Result<Self, HubError> {
        match Self::connect(pid, name) {
            Err(HubError::NotTraced(_)) => {}
            other => return other,
        }
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Err(InjectError::Gone(pid).into());
        }
        let socket = start(pid, entry)?;
        let mut client = Self::greet(pid, socket, name)?;
        match client.first()? {
            Some(event) => {
                client.frames.push_front(&event.to_frame());
                Ok(client)
            }
            // Another hub was faster.
            None => Self::connect(pid, name),
        }
    }

    fn greet(pid: i32, socket: UnixStream, name: &str) -> Result<Self, HubError> {
        let failed = |source| HubError::Connection { pid, source };
        if !is_trusted(&socket) {
            let why = "it is run by another user";
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, why)));
        }
        let mut client = Self { pid, socket, frames: Frames::default() };
        client.send(&Request::Greeting { version: VERSION, name: name.to_owned() })?;
        Ok(client)
    }

    /// The first event, once the process was entered; `None` where the hub has gone without a word.
    fn first(&mut self) -> Result<Option<Event>, HubError> {
        match self.next(PATIENCE) {
            Ok(Some(Event::Refused(text))) => Err(HubError::Refused(text)),
            Ok(Some(event)) => Ok(Some(event)),
            Ok(None) => Err(HubError::Silent(self.pid)),
            Err(HubError::Connection { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// To wait for: it is readable when there is something to hear.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Asks something.
    ///
    /// # Errors
    /// When the hub is gone.
    pub fn send(&mut self, request: &Request) -> Result<(), HubError> {
        let failed = |source| HubError::Connection { pid: self.pid, source };
        self.socket.write_all(&request.to_frame()).map_err(failed)
    }

    /// The next event; `None` when none came in time.
    ///
    /// # Errors
    /// When the hub is gone, or speaks nonsense.
    pub fn next(&mut self, at_most: Duration) -> Result<Option<Event>, HubError> {
        let pid = self.pid;
        let failed = |source| HubError::Connection { pid, source };
        let nonsense = || failed(io::ErrorKind::InvalidData.into());
        let begin = Instant::now();
        loop {
            if let Some((kind, body)) = self.frames.next().map_err(|()| nonsense())? {
                return Event::read(kind, body).map(Some).ok_or_else(nonsense);
            }
            let left = at_most.saturating_sub(begin.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waited = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut waited, timeout), Ok(1..)) {
                return Ok(None);
            }
            let mut bytes = vec![0; 256 << 10];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.frames.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Asks for words, and waits for them.
    ///
    /// # Errors
    /// When the hub refuses, or is gone.
    pub fn ask(&mut self, request: &Request) -> Result<String, HubError> {
        self.send(request)?;
        let mut answer = String::new();
        loop {
            match self.next(PATIENCE)? {
                Some(Event::More(text)) => answer.push_str(&text),
                Some(Event::Answer(text)) => return Ok(answer + &text),
                Some(Event::Refused(text)) => return Err(HubError::Refused(text)),
                Some(_) => {}
                None => return Err(HubError::Silent(self.pid)),
            }
        }
    }
}

/// Starts a hub, connected to us.
fn start(pid: i32, entry: &Entry) -> Result<UnixStream, HubError> {
    let failed = |source| HubError::Connection { pid, source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let full = match entry.full {
        Full::Wait => "wait",
        Full::Drop => "drop",
    };
    let mut hub = Command::new("/proc/self/exe");
    hub.arg(HUB_COMMAND).arg(pid.to_string()).arg(entry.ring_bytes.to_string()).arg(full);
    // Ctrl-C is for its clients: it leaves the process when they do.
    hub.process_group(0).stdin(Stdio::from(OwnedFd::from(theirs)));
    hub.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    hub.spawn().map_err(failed)?;
    Ok(ours)
}
