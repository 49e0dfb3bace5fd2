//! The hub: one process beside the one that is traced, which serves all who want to see it.
//!
//! It enters the process for its first client and leaves it after its last. It reads the rings once
//! and gives each client what is its own (`view`).

mod guest;
mod rounds;

use crate::attached::{Attached, Entry, SiteId, resident};
use crate::calls::OpenCalls;
use crate::client::{address, address_of};
use crate::error::HubError;
use crate::protocol::{Change, Event, Request, VERSION, Wish};
use guest::Guest;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sledge_control::image::Library;
use sledge_control::rings::{Rings, Taken};
use sledge_control::system;
use sledge_inject::InjectError;
use sledge_wire::attach::TOKEN;
use sledge_wire::record::Kind;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long it sleeps at most when the rings are empty.
const NAP_MILLISECONDS: u16 = 1;
/// How often threads that are gone are looked for.
const ROUND: Duration = Duration::from_millis(50);

/// Serves a process, for its first client and all who come later, until none is left.
///
/// # Errors
/// When the process cannot be entered or left. The first client was told.
pub fn serve(pid: i32, entry: &Entry, first: UnixStream) -> Result<(), HubError> {
    let mut first = Guest::new(1, first);
    // Two hubs that begin at the same time would both enter it.
    let Ok(lock) = lock(pid) else {
        first.refuse_for_good(&HubError::from(InjectError::Denied(pid)));
        return Err(InjectError::Denied(pid).into());
    };
    if address(pid).is_some() {
        // The first client looks again.
        return Ok(());
    }
    let library = Library::default();
    let entered = resident::sweep(pid)
        .map_err(HubError::from)
        .and_then(|_| Attached::enter(pid, entry, &library))
        .and_then(|attached| Ok((listen(&attached)?, attached)));
    drop(lock);
    match entered {
        Ok((listener, attached)) => Hub::new(attached, listener, first).run(),
        Err(error) => {
            first.refuse_for_good(&error);
            Err(error)
        }
    }
}

/// Excludes other hubs, by the process's own memory: nobody else can hold it.
fn lock(pid: i32) -> io::Result<Flock<File>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    Flock::lock(memory, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// Listens under a random name, which is told in the memory of the process.
fn listen(attached: &Attached) -> Result<UnixListener, HubError> {
    let failed = |source| HubError::Connection { pid: attached.pid(), source };
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(failed)?;
    let (low, high) = bytes.split_at(8);
    let half = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or([1; 8]));
    let token = [half(low), half(high)];
    let address = address_of(token).ok_or(failed(io::ErrorKind::InvalidInput.into()))?;
    let listener = UnixListener::bind_addr(&address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    attached.segment().long(TOKEN + 8).store(token[1], Ordering::Relaxed);
    attached.segment().long(TOKEN).store(token[0], Ordering::Release);
    Ok(listener)
}

/// A thread whose ring is read.
#[derive(Debug, Default)]
struct Thread {
    tid: u32,
    started: u64,
    name: String,
    /// Its hooked calls: they will return through generated code.
    open: OpenCalls,
}

struct Hub {
    pid: i32,
    attached: Option<Attached>,
    listener: UnixListener,
    guests: Vec<Guest>,
    next_guest: u32,
    rings: Rings,
    threads: Vec<Option<Thread>>,
    /// Records were lost: which calls are open is not known.
    lossy: bool,
    last_round: Instant,
}

impl Hub {
    fn new(attached: Attached, listener: UnixListener, first: Guest) -> Self {
        let segment = attached.segment();
        let rings = Rings::new(segment);
        let threads = (0..segment.rings()).map(|_| None).collect();
        Self {
            pid: attached.pid(),
            attached: Some(attached),
            listener,
            guests: vec![first],
            next_guest: 2,
            rings,
            threads,
            lossy: false,
            last_round: Instant::now(),
        }
    }

    fn run(mut self) -> Result<(), HubError> {
        loop {
            self.admit();
            self.hear();
            let begun = system::time_stamp();
            let read = self.drain(false);
            if read == 0 {
                self.guests.iter_mut().for_each(|guest| guest.view.prune(begun));
                self.say_good_bye();
            }
            self.guests.iter_mut().for_each(Guest::flush);
            if self.last_round.elapsed() > ROUND {
                self.last_round = Instant::now();
                self.retire();
                if !self.attached.as_ref().is_some_and(Attached::is_alive) {
                    self.end();
                    return Ok(());
                }
            }
            self.dismiss();
            if self.guests.iter().any(|guest| guest.leaves_last) {
                return self.leave_with_guests();
            }
            if self.guests.is_empty() {
                return self.leave().map(drop);
            }
            if read == 0 {
                self.sleep();
            }
        }
    }

    /// Takes in clients that knock.
    fn admit(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if crate::client::is_trusted(&socket) {
                self.guests.push(Guest::new(self.next_guest, socket));
                self.next_guest += 1;
            }
        }
    }

    /// Does what clients ask.
    fn hear(&mut self) {
        for index in 0..self.guests.len() {
            while let Some(request) = self.guests[index].request() {
                if let Err(text) = self.answer(index, request) {
                    self.guests[index].tell(&Event::Refused(text));
                }
            }
        }
    }

    fn answer(&mut self, index: usize, request: Request) -> Result<(), String> {
        match request {
            Request::Greeting { version: VERSION, name } => self.welcome(index, name),
            Request::Greeting { .. } => {
                self.guests[index].gone = true;
                return Err("the hub of this process is of another version".into());
            }
            Request::Select(wish) => return self.select(index, wish),
            Request::Switch(on) => return self.switch(index, on),
            Request::Finish => return self.finish(index),
            Request::Status => {
                let text = self.status();
                self.guests[index].tell(&Event::Answer(text));
            }
            Request::Functions(pattern) => {
                let text = self.functions(&pattern)?;
                for piece in text {
                    self.guests[index].tell(&piece);
                }
            }
            Request::Control(id, change) => {
                self.control(id, change)?;
                self.guests[index].tell(&Event::Answer(String::new()));
            }
        }
        Ok(())
    }

    fn welcome(&mut self, index: usize, name: String) {
        let Some(attached) = &self.attached else { return };
        let (executable, arguments) = attached.program();
        let guest = &mut self.guests[index];
        guest.name = name;
        guest.tell(&Event::Process { pid: self.pid, executable, arguments });
        for note in attached.notes() {
            guest.tell(&Event::Note(note.clone()));
        }
    }

    fn select(&mut self, index: usize, wish: Wish) -> Result<(), String> {
        let selection = wish.selection()?;
        let Some(attached) = &mut self.attached else { return Ok(()) };
        let sites = attached.select(&selection).map_err(|error| error.to_string())?;
        if sites.is_empty() {
            let names = wish.functions.join(", ");
            return Err(format!("no function matches '{names}'"));
        }
        let guest = &mut self.guests[index];
        guest.sites = sites.into_iter().collect();
        (guest.wish, guest.on) = (Some(wish), true);
        let since = self.rearm(index)?;
        let refused = self.attached.as_ref().map_or(0, Attached::refused) as u32;
        let guest = &mut self.guests[index];
        let sites = guest.sites.len() as u32;
        guest.tell(&Event::Selected { sites, refused, since });
        Ok(())
    }

    fn switch(&mut self, index: usize, on: bool) -> Result<(), String> {
        self.guests[index].on = on;
        self.rearm(index).map(drop)
    }

    fn finish(&mut self, index: usize) -> Result<(), String> {
        self.guests[index].on = false;
        let mut others = self.guests.iter().enumerate();
        if !others.any(|(at, guest)| at != index && guest.wish.is_some() && !guest.gone) {
            // It hears of the end when the process was left.
            self.guests[index].leaves_last = true;
            return Ok(());
        }
        self.rearm(index)?;
        self.guests[index].finishes = true;
        Ok(())
    }

    /// Tells clients that finish, when all their records were read.
    fn say_good_bye(&mut self) {
        let ringless = self.attached.as_ref().map_or(0, |attached| attached.segment().ringless());
        for guest in self.guests.iter_mut().filter(|guest| guest.finishes) {
            (guest.finishes, guest.wish) = (false, None);
            guest.tell(&Event::End { ended: false, ringless });
        }
    }

    /// Patches what is wanted now, after one client changed its mind: what was wanted before and still
    /// is never misses a call. Says since when the change holds.
    fn rearm(&mut self, index: usize) -> Result<u64, String> {
        let wanted: HashSet<SiteId> = self.guests.iter().flat_map(Guest::wanted).collect();
        let Some(attached) = &mut self.attached else { return Ok(0) };
        let both = wanted.union(attached.armed()).copied().collect();
        let failed = |error: HubError| error.to_string();
        attached.arm(&both).map_err(failed)?;
        let since = system::time_stamp();
        let guest = &mut self.guests[index];
        let own = guest.wanted().collect();
        guest.view.want(since, &own);
        attached.arm(&wanted).map_err(failed)?;
        Ok(since)
    }

    fn control(&mut self, id: u32, change: Change) -> Result<(), String> {
        let registered = |guest: &Guest| guest.wish.is_some();
        let chosen = |guest: &Guest| registered(guest) && (id == 0 || guest.id == id);
        let mut found = (0..self.guests.len()).filter(|&at| chosen(&self.guests[at]));
        let (Some(index), others) = (found.next(), found.next().is_some()) else {
            return Err("there is no such client (see: sledge ctl PID status)".into());
        };
        if others {
            return Err("there are several clients: say which (see: sledge ctl PID status)".into());
        }
        let wish = self.guests[index].wish.clone().unwrap_or_default();
        match change {
            Change::Switch(on) => self.switch(index, on),
            Change::Filter(functions) => self.select(index, Wish { functions, ..wish }),
            Change::Notrace(but) => self.select(index, Wish { but, ..wish }),
            Change::Snapshot => {
                self.guests[index].tell(&Event::Snapshot);
                Ok(())
            }
        }
    }

    /// Reads what is in the rings, a batch of each. Returns how many records that were.
    fn drain(&mut self, ended: bool) -> u64 {
        if !ended && self.guests.iter().any(Guest::is_behind) {
            return 0;
        }
        let Some(attached) = &self.attached else { return 0 };
        let segment = attached.segment();
        let mut total = 0;
        for index in 0..segment.rings() {
            if self.threads[index].is_none() {
                if !segment.is_live(index) {
                    continue;
                }
                let (tid, started, name) = segment.thread(index);
                let open = OpenCalls::default();
                self.threads[index] = Some(Thread { tid, started, name, open });
            }
            let Some(thread) = &mut self.threads[index] else { continue };
            let (guests, lossy) = (&mut self.guests, &mut self.lossy);
            let read = self.rings.read(segment, index, ended, |taken| match taken {
                Taken::Record(record) => {
                    match record.kind {
                        Kind::Enter => thread.open.push(record.cell, record.site),
                        Kind::Exit => drop(thread.open.take(record.cell)),
                        Kind::Tail | Kind::EnterOnly => {}
                    }
                    for guest in guests.iter_mut() {
                        guest.pending.extend(guest.view.see(index, &record));
                    }
                }
                Taken::Hole => {
                    *lossy = true;
                    guests.iter_mut().for_each(|guest| guest.hole(index));
                }
            });
            if read > 0 {
                for guest in guests.iter_mut() {
                    guest.hand_over(attached, index, (thread.tid, thread.started, &thread.name));
                }
            }
            total += read;
        }
        total
    }

    /// Lets go of clients that are gone.
    fn dismiss(&mut self) {
        while let Some(index) = self.guests.iter().position(|guest| guest.gone) {
            if self.guests.len() > 1 && self.guests[index].wish.is_some() {
                // Should it fail, what nobody wants is patched until the process is left.
                let _ = self.rearm(index);
            }
            self.guests.remove(index);
        }
    }

    fn sleep(&self) {
        let mut waited = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        waited.extend(self.guests.iter().map(Guest::poll));
        let timeout = PollTimeout::from(NAP_MILLISECONDS);
        let _ = poll(&mut waited, timeout);
    }
}
