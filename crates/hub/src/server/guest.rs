//! A client, as the hub sees it.

use crate::attached::{Attached, SiteId};
use crate::error::HubError;
use crate::protocol::{Event, Frames, Request, Wish};
use crate::view::View;
use nix::poll::{PollFd, PollFlags};
use sledge_control::plan::module_name;
use sledge_wire::record::Record;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What may wait to be sent to a client before the rings are left alone for it.
const MOST_WAITING: usize = 8 << 20;
/// A client that takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records in one frame.
const PIECE: usize = 16 << 10;

/// A client.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) id: u32,
    pub(super) name: String,
    socket: UnixStream,
    frames: Frames,
    out: Vec<u8>,
    sent: usize,
    progress: Instant,
    /// What it asked for, if it did.
    pub(super) wish: Option<Wish>,
    pub(super) on: bool,
    pub(super) sites: HashSet<SiteId>,
    pub(super) view: View,
    pub(super) pending: Vec<Record>,
    told_objects: usize,
    told_sites: usize,
    told_threads: Vec<bool>,
    /// It wants to end: all until now is still its own.
    pub(super) finishes: bool,
    /// It wants to end, and is the last.
    pub(super) leaves_last: bool,
    pub(super) gone: bool,
}

impl Guest {
    pub(super) fn new(id: u32, socket: UnixStream) -> Self {
        // A socket that cannot be so will be found to be gone.
        let _ = socket.set_nonblocking(true);
        Self {
            id,
            name: String::new(),
            socket,
            frames: Frames::default(),
            out: Vec::new(),
            sent: 0,
            progress: Instant::now(),
            wish: None,
            on: false,
            sites: HashSet::new(),
            view: View::default(),
            pending: Vec::new(),
            told_objects: 0,
            told_sites: 0,
            told_threads: Vec::new(),
            finishes: false,
            leaves_last: false,
            gone: false,
        }
    }

    /// The sites that it wants now.
    pub(super) fn wanted(&self) -> impl Iterator<Item = SiteId> {
        self.sites.iter().copied().filter(|_| self.on && !self.gone)
    }

    pub(super) fn poll(&self) -> PollFd<'_> {
        let out = if self.sent < self.out.len() { PollFlags::POLLOUT } else { PollFlags::empty() };
        PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | out)
    }

    /// The next thing that it asks.
    pub(super) fn request(&mut self) -> Option<Request> {
        loop {
            match self.frames.next() {
                Ok(Some((kind, body))) => match Request::read(kind, body) {
                    Some(request) => return Some(request),
                    None => self.gone = true,
                },
                Ok(None) => {}
                Err(()) => self.gone = true,
            }
            if self.gone {
                return None;
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => self.gone = true,
                Ok(count) => self.frames.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => self.gone = true,
            }
        }
    }

    /// Lets it hear something.
    pub(super) fn tell(&mut self, event: &Event) {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.progress = Instant::now();
        }
        self.out.extend(event.to_frame());
    }

    /// Sends what can be sent now.
    pub(super) fn flush(&mut self) {
        while self.sent < self.out.len() && !self.gone {
            match self.socket.write(&self.out[self.sent..]) {
                Ok(0) => self.gone = true,
                Ok(count) => {
                    self.sent += count;
                    self.progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        if self.sent > MOST_WAITING / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.is_behind() && self.progress.elapsed() > PATIENCE {
            self.gone = true;
        }
    }

    /// Sends all, however long it takes it within reason.
    pub(super) fn flush_all(&mut self) {
        let begin = Instant::now();
        self.flush();
        while self.sent < self.out.len() && !self.gone && begin.elapsed() < 5 * PATIENCE {
            std::thread::sleep(Duration::from_micros(200));
            self.flush();
        }
    }

    /// Whether more waits to be sent than should.
    pub(super) fn is_behind(&self) -> bool {
        !self.gone && self.out.len() - self.sent > MOST_WAITING
    }

    /// A record of a thread is lost.
    pub(super) fn hole(&mut self, index: usize) {
        if self.knows(index) {
            self.tell(&Event::Hole(index as u32));
        }
    }

    fn knows(&self, index: usize) -> bool {
        self.told_threads.get(index).is_some_and(|&told| told)
    }

    /// Sends the records of a thread that are pending, and what must be known before.
    pub(super) fn hand_over(
        &mut self,
        attached: &Attached,
        index: usize,
        (tid, started, name): (u32, u64, &str),
    ) {
        if self.pending.is_empty() {
            return;
        }
        self.tell_sites(attached);
        if !self.knows(index) {
            if self.told_threads.len() <= index {
                self.told_threads.resize(index + 1, false);
            }
            self.told_threads[index] = true;
            let name = name.to_owned();
            self.tell(&Event::Thread { index: index as u32, tid, started, name });
        }
        let mut pending = std::mem::take(&mut self.pending);
        for records in pending.chunks(PIECE) {
            self.tell(&Event::Records { index: index as u32, records: records.to_vec() });
        }
        pending.clear();
        self.pending = pending;
    }

    /// Objects and sites that it does not know yet.
    pub(super) fn tell_sites(&mut self, attached: &Attached) {
        let objects = &attached.choice().objects;
        for loaded in &objects[self.told_objects.min(objects.len())..] {
            let path = loaded.path.to_string_lossy().into_owned();
            let build_id = loaded.object.build_id.clone();
            self.tell(&Event::Object { path, build_id });
        }
        self.told_objects = objects.len();
        let sites = attached.sites();
        for site in &sites[self.told_sites.min(sites.len())..] {
            let function = &objects[site.object].object.functions[site.function];
            let (address, size) = (function.address, function.size);
            let (object, name) = (site.object as u32, site.name.clone());
            self.tell(&Event::Site { object, address, size, name });
        }
        self.told_sites = sites.len();
    }

    /// A thread has ended.
    pub(super) fn thread_end(&mut self, index: usize, (lost, since): (u64, u64)) {
        self.view.end(index);
        if self.knows(index) {
            self.told_threads[index] = false;
            self.tell(&Event::ThreadEnd { index: index as u32, lost, since });
        }
    }

    /// Tells it why there is nothing for it, before its hub ends.
    pub(super) fn refuse_for_good(&mut self, error: &HubError) {
        self.tell(&Event::Refused(error.to_string()));
        self.flush_all();
    }

    /// One line about it.
    pub(super) fn line(&self) -> String {
        let state = if self.on { "on" } else { "off" };
        let wish = self.wish.clone().unwrap_or_default();
        let list = |name: &str, texts: &[String]| {
            if texts.is_empty() { String::new() } else { format!(", {name} {}", texts.join(" ")) }
        };
        format!(
            "client {}: {}, {state}, {} sites{}{}",
            self.id,
            self.name,
            self.sites.len(),
            list("filter", &wish.functions),
            list("notrace", &wish.but),
        )
    }
}

/// The functions that can be traced: name and module.
pub(super) fn listed(attached: &Attached) -> impl Iterator<Item = (String, String)> {
    attached.choice().objects.iter().flat_map(|loaded| {
        let module = module_name(loaded);
        let functions = loaded.object.functions.iter().filter(|function| function.verdict.is_ok());
        functions
            .filter_map(move |function| Some((function.names.first()?.clone(), module.clone())))
    })
}
