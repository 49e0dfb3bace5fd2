//! The mount: requests of the kernel, as reads and writes of the tree.

use crate::inodes::Inodes;
use crate::served::{Served, locked};
use crate::waiting::{Waiting, WaitingReads};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::libc::{O_NONBLOCK, O_TRUNC};
use sledge_tracefs::{HandleId, Kind, Open, Read, Writer};
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Names come and go: the kernel asks each time.
const NO_TIME: Duration = Duration::ZERO;

/// What is mounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) served: Arc<Mutex<Served>>,
    pub(crate) waiting: Arc<Mutex<WaitingReads>>,
    inodes: Mutex<Inodes>,
    owner: (u32, u32),
    since: SystemTime,
}

impl Mounted {
    pub(crate) fn new(served: Arc<Mutex<Served>>, waiting: Arc<Mutex<WaitingReads>>) -> Self {
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let inodes = Mutex::default();
        Self { served, waiting, inodes, owner, since: SystemTime::now() }
    }

    fn attributes(&self, inodes: &Inodes, number: u64, path: &str, kind: Kind) -> FileAttr {
        let (kind, perm, nlink) = match kind {
            Kind::Directory => (FileType::Directory, 0o750, 2),
            Kind::File(mode) => (FileType::RegularFile, mode as u16, 1),
        };
        let (uid, gid) = inodes.owner(path).unwrap_or(self.owner);
        let time = self.since;
        FileAttr {
            ino: INodeNo(number),
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// The path of a number, and what it is.
    fn find(&self, number: INodeNo) -> Result<(String, Kind), Errno> {
        let inodes = locked(&self.inodes);
        let path = inodes.path(number.0).ok_or(Errno::ENOENT)?.to_owned();
        drop(inodes);
        let kind = locked(&self.served).tree.kind(&path).ok_or(Errno::ENOENT)?;
        Ok((path, kind))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<String, Errno> {
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        locked(&self.inodes).child(parent.0, name).ok_or(Errno::ENOENT)
    }

    fn entry(&self, path: &str) -> Result<FileAttr, Errno> {
        let kind = locked(&self.served).tree.kind(path).ok_or(Errno::ENOENT)?;
        let mut inodes = locked(&self.inodes);
        let number = inodes.number(path, true);
        Ok(self.attributes(&inodes, number, path, kind))
    }

    fn enter(&self, path: Result<String, Errno>, reply: ReplyEntry) {
        match path.and_then(|path| self.entry(&path)) {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    /// An operation on the tree, after it heard what happened until now.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut sledge_tracefs::Tree) -> Result<T, sledge_tracefs::Errno>,
    ) -> Result<T, Errno> {
        let mut served = locked(&self.served);
        served.catch_up();
        let changed = change(&mut served.tree).map_err(code);
        let Served { tree, .. } = &mut *served;
        locked(&self.waiting).serve(tree, false);
        changed
    }
}

fn code(error: sledge_tracefs::Errno) -> Errno {
    Errno::from_i32(error.code())
}

fn answer(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// Who asks.
fn writer(tid: u32) -> Writer {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{tid}/{file}"));
    let comm = read("comm").map_or_else(|_| "<...>".to_owned(), |comm| comm.trim_end().to_owned());
    let tgid = read("status").ok().and_then(|status| {
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    });
    Writer { tid, tgid: tgid.unwrap_or(tid), comm }
}

impl Filesystem for Mounted {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Else `>` would empty a file before it is opened, by its size.
        let wanted = InitFlags::FUSE_ATOMIC_O_TRUNC;
        config.add_capabilities(wanted).map_err(|_| io::ErrorKind::Unsupported)?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.enter(self.child(parent, name), reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        locked(&self.inodes).forget(number.0, count);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.find(number) {
            Ok((path, kind)) => {
                let inodes = locked(&self.inodes);
                reply.attr(&NO_TIME, &self.attributes(&inodes, number.0, &path, kind));
            }
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        _: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if uid.is_some() || gid.is_some() {
            let mut inodes = locked(&self.inodes);
            if let Some(path) = inodes.path(number.0).map(str::to_owned) {
                let (own, group) = inodes.owner(&path).unwrap_or(self.owner);
                inodes.set_owner(&path, (uid.unwrap_or(own), gid.unwrap_or(group)));
            }
        }
        self.getattr(request, number, handle, reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.child(parent, name).and_then(|path| {
            self.change(|tree| tree.make_directory(&path))?;
            Ok(path)
        });
        self.enter(made, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.child(parent, name).and_then(|path| {
            self.change(|tree| tree.remove_directory(&path))?;
            locked(&self.inodes).remove(&path);
            Ok(())
        });
        answer(removed, reply);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = flags.acc_mode();
        let open = Open {
            read: mode != OpenAccMode::O_WRONLY,
            write: mode != OpenAccMode::O_RDONLY,
            truncate: flags.0 & O_TRUNC != 0,
            nonblocking: flags.0 & O_NONBLOCK != 0,
            who: writer(request.pid()),
        };
        let opened =
            self.find(number).and_then(|(path, _)| self.change(|tree| tree.open(&path, open)));
        match opened {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        request: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        most: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (handle, most) = (HandleId(handle.0), most as usize);
        let mut served = locked(&self.served);
        match served.tree.read(handle, offset, most) {
            Ok(Read::Data(data)) => reply.data(&data),
            Ok(Read::Wait) => {
                let tid = request.pid();
                let waiting = Waiting { handle, most, tid, reply };
                locked(&self.waiting).add(waiting);
            }
            Err(error) => reply.error(code(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|tree| tree.write(HandleId(handle.0), bytes)) {
            Ok(taken) => reply.written(taken as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(self.change(|tree| tree.flush(HandleId(handle.0))), reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        answer(self.change(|tree| tree.close(HandleId(handle.0))), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.find(number).and_then(|(path, _)| {
            let list = locked(&self.served).tree.list(&path).map_err(code)?;
            Ok((path, list))
        });
        let (path, list) = match listed {
            Ok(listed) => listed,
            Err(error) => return reply.error(error),
        };
        let dots = [".", ".."].map(|name| (name.to_owned(), Kind::Directory));
        let mut inodes = locked(&self.inodes);
        for (at, (name, kind)) in dots.into_iter().chain(list).enumerate().skip(offset as usize) {
            let full = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let number = if at < 2 { number.0 } else { inodes.number(&full, false) };
            let kind = match kind {
                Kind::Directory => FileType::Directory,
                Kind::File(_) => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), at as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }
}
