//! Launches, mounts, and serves until the directory is unmounted or we are told to end.

use crate::error::MountError;
use crate::filesystem::Mounted;
use crate::process::Process;
use crate::served::{Served, locked};
use crate::waiting::WaitingReads;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use sledge_control::{Stream, StreamOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the drain sleeps at most when the rings are empty.
const NAP: Duration = Duration::from_millis(1);

/// What is mounted, and where.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The directory.
    pub directory: PathBuf,
    /// The program.
    pub stream: StreamOptions,
}

/// Launches a program, mounts its tree and serves it until the directory is unmounted, or until we
/// are interrupted. Returns the program's exit status if it has ended by then.
///
/// # Errors
/// When the program cannot be traced, or the directory cannot be mounted.
pub fn mount(
    options: MountOptions,
    ready: impl FnOnce(i32, &[String]),
) -> Result<Option<i32>, MountError> {
    if !options.directory.is_dir() {
        return Err(MountError::Directory(options.directory));
    }
    // The program must not start with signals blocked.
    let mut signals = None;
    let stream = Stream::launch(options.stream, || signals = Some(Signals::block()));
    let (stream, signals) = (stream?, signals.unwrap_or_else(Signals::block)?);
    let pid = stream.pid();
    let (process, tree, troubles) = Process::new(stream);
    let served = Arc::new(Mutex::new(Served { tree, process }));
    let waiting = Arc::new(Mutex::new(WaitingReads::default()));
    let mounted = Mounted::new(Arc::clone(&served), Arc::clone(&waiting));
    let directory = options.directory.canonicalize().unwrap_or(options.directory);
    let failed = |source| MountError::Mount { directory: directory.clone(), source };
    let attached = Attached::new(mounted, &directory).map_err(failed)?;
    ready(pid, &troubles);
    let status = serve(&attached.session, &served, &waiting, &signals);
    attached.end();
    Ok(status)
}

/// What is mounted; unmounted when it is dropped.
#[derive(Debug)]
struct Attached {
    session: BackgroundSession,
    /// The directory, where we mounted it ourselves.
    own: Option<PathBuf>,
}

impl Attached {
    /// Mounts as root does, so that the type says what it is; else asks `fusermount3` to.
    fn new(mounted: Mounted, directory: &Path) -> io::Result<Self> {
        let config = Config::default();
        match mount_directly(directory) {
            Ok(device) => {
                let session = Session::from_fd(mounted, device, SessionACL::Owner, config)?;
                let own = Some(directory.to_owned());
                Ok(Self { session: session.spawn()?, own })
            }
            Err(Errno::EPERM) => {
                let mut config = config;
                let named = [MountOption::FSName("tracefs".into())];
                config.mount_options =
                    named.into_iter().chain([MountOption::Subtype("tracefs".into())]).collect();
                let session = Session::new(mounted, directory, &config)?;
                Ok(Self { session: session.spawn()?, own: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn end(self) {
        // Unmounted already, if that is why we are here.
        let _ = match self.own {
            Some(directory) => {
                let _ = umount2(&directory, MntFlags::MNT_DETACH);
                self.session.join()
            }
            None => self.session.umount_and_join(),
        };
    }
}

/// Opens the device and mounts it.
fn mount_directly(directory: &Path) -> Result<OwnedFd, Errno> {
    use nix::fcntl::{OFlag, open};
    let device = open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let number = device.as_raw_fd();
    let options = format!("fd={number},rootmode=40000,user_id={user},group_id={group}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kind = Some("fuse.tracefs");
    nix::mount::mount(Some("tracefs"), directory, kind, flags, Some(options.as_str()))?;
    Ok(device)
}

/// Passes on what happens until the mount is gone or a signal says so.
fn serve(
    session: &BackgroundSession,
    served: &Mutex<Served>,
    waiting: &Mutex<WaitingReads>,
    signals: &Signals,
) -> Option<i32> {
    let mut status = None;
    while !session.guard.is_finished() && !signals.arrived() {
        let mut it = locked(served);
        let records = it.catch_up();
        status = it.process.ended();
        let Served { tree, .. } = &mut *it;
        locked(waiting).serve(tree, status.is_some() && records == 0);
        drop(it);
        if records == 0 {
            std::thread::sleep(NAP);
        }
    }
    status
}

/// Signals that ask us to end, held back so that we can unmount first.
#[derive(Debug)]
struct Signals(SignalFd);

impl Signals {
    fn block() -> Result<Self, MountError> {
        let failed =
            |what| move |error: nix::Error| MountError::System { what, source: error.into() };
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().map_err(failed("blocking signals"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&set, flags).map_err(failed("signalfd"))?;
        Ok(Self(descriptor))
    }

    fn arrived(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}
