//! A running process with the agent in it: its functions, the sites that are patched, its rings.
//!
//! * `layout` makes what a site needs, when it is first wanted: thunk, relocated prologue, island.
//! * `leave` takes everything away again.

mod layout;
mod leave;
mod objects;

use crate::agent;
use crate::error::HubError;
use crate::owner;
use layout::Layout;
use sledge_control::image::{Image, Library, Text};
use sledge_control::plan::{Choice, Scope};
use sledge_control::segment::Segment;
use sledge_engine::trampoline::{AgentLayout, Attachment, Trampolines};
use sledge_filter::Pattern;
use sledge_inject::{InjectError, Injected, Shape};
use sledge_wire::attach::{self, Order, Outcome};
use sledge_wire::message::{Hello, MESSAGE_WORDS};
use sledge_wire::segment::{Full, MAX_RINGS};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use layout::{Caller, Site, SiteId};
pub(crate) use leave::resident;
pub use leave::{Leaving, Left};

/// How a process is entered.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The agent's file.
    pub agent: &'static [u8],
    /// Bytes of a thread's ring: a power of two.
    pub ring_bytes: u64,
    /// What threads do when their ring is full.
    pub full: Full,
}

/// What somebody wants to see of a process.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Which functions of libraries.
    pub scope: Scope,
    /// Functions that match one of these; all where empty.
    pub functions: Vec<Pattern>,
    /// But not those that match one of these.
    pub but: Vec<Pattern>,
}

/// A process that is traced while it runs.
#[derive(Debug)]
pub struct Attached {
    pid: i32,
    injected: Injected,
    segment: Segment,
    image: Image,
    choice: Choice,
    layout: Layout,
    /// Library functions that the executable imports, by its names for them.
    imports: BTreeMap<(usize, usize), String>,
    armed: HashSet<SiteId>,
    notes: Vec<String>,
}

impl Attached {
    /// Enters a process. The calling thread is the one whose end tells the agent of ours.
    ///
    /// # Errors
    /// When it cannot be entered; it goes on as before.
    pub fn enter(pid: i32, entry: &Entry, library: &Library) -> Result<Self, HubError> {
        // Read before any of its threads is stopped.
        let image = Image::of(pid).map_err(|_| InjectError::Gone(pid))?;
        let (objects, mut notes) = objects::open(&image, library);
        let choice = Choice { objects, ..Choice::default() };
        let imports = layout::imports(&image, &choice);
        let shape = Shape { rings: MAX_RINGS, ring_bytes: entry.ring_bytes };
        let made = Mutex::new(None);
        let prepare = |file: &File, place: u64, region: &Range<u64>| {
            let failed = |source| InjectError::System { what: "the shared segment", source };
            let file = OwnedFd::from(file.try_clone().map_err(failed)?);
            let bytes = attach::attached_bytes(shape.rings, shape.ring_bytes);
            let segment = Segment::adopt(file, bytes, shape.rings, shape.ring_bytes, entry.full);
            let segment = segment.map_err(|error| failed(std::io::Error::other(error)))?;
            introduce(&segment, place, region);
            *made.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(segment);
            Ok(())
        };
        let injected = sledge_inject::attach(pid, entry.agent, shape, &prepare)?;
        let segment = made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let segment = segment.ok_or(HubError::Silent(pid))?;
        owner::take(&segment)
            .map_err(|error| HubError::Connection { pid, source: error.into() })?;
        let hello = hello(&segment).ok_or(HubError::Silent(pid))?;
        let attachment = Attachment {
            table: segment.long(attach::TABLE).load(Ordering::Relaxed),
            tid_offset: injected.tid_offset as i32,
            switches: segment.long(attach::SWITCHBOARD).load(Ordering::Relaxed),
        };
        let unwinder = objects::unwinder(&image, &choice.objects);
        if let Some(unwinder) = &unwinder {
            notes.push(format!(
                "{unwinder} unwinds stacks: of calls only the entry is recorded, not how long they took"
            ));
        }
        let set = Trampolines::attached(&hello, &attachment, &choice.known_callers());
        let layout = Layout::new(hello, attachment, set, unwinder.is_none());
        let armed = HashSet::new();
        let attached =
            Self { pid, injected, segment, image, choice, layout, imports, armed, notes };
        attached.begin()?;
        Ok(attached)
    }

    /// Writes the trampolines and sets their switches.
    fn begin(&self) -> Result<(), HubError> {
        for (place, bytes) in self.layout.trampolines() {
            self.write(place, bytes)?;
        }
        for (word, target) in self.layout.switches() {
            self.order("set a switch", Order::Store, [word, target])?;
        }
        Ok(())
    }

    fn order(&self, what: &'static str, order: Order, with: [u64; 2]) -> Result<(), HubError> {
        agent::order(self.pid, &self.segment, what, order, with)
    }

    fn write(&self, place: u64, bytes: &[u8]) -> Result<(), HubError> {
        use std::os::unix::fs::FileExt;
        let what = "writing generated code into the process";
        let failed = |source| InjectError::System { what, source };
        Ok(self.injected.memory.write_all_at(bytes, place).map_err(failed)?)
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Its executable and command line.
    #[must_use]
    pub fn program(&self) -> (String, Vec<String>) {
        (self.image.executable.to_string_lossy().into_owned(), self.image.arguments())
    }

    /// Its rings.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// For how long the borrowed thread stood still.
    #[must_use]
    pub const fn pause(&self) -> Duration {
        self.injected.pause
    }

    /// What was found out on the way, for people.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The objects and functions that there are.
    #[must_use]
    pub const fn choice(&self) -> &Choice {
        &self.choice
    }

    /// All sites that were ever wanted, by number.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        self.layout.sites()
    }

    /// The sites that are patched now.
    #[must_use]
    pub const fn armed(&self) -> &HashSet<SiteId> {
        &self.armed
    }

    /// How many functions cannot be patched, of those that were wanted.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.layout.refused()
    }

    /// Whether the process still runs the image that was entered.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.segment.word(attach::THREAD).load(Ordering::Relaxed) != 0
            && sledge_control::image::is_running(self.pid)
    }

    /// The sites of a selection; what they need is made, but nothing is patched.
    ///
    /// # Errors
    /// When the agent cannot do its part.
    pub fn select(&mut self, selection: &Selection) -> Result<Vec<SiteId>, HubError> {
        let wanted = self.choose(selection);
        let known = self.layout.know(&wanted);
        if !known.is_empty() {
            self.lay_out(&known)?;
        }
        Ok(self.layout.ids(&wanted))
    }

    /// Patches exactly these sites.
    ///
    /// # Errors
    /// When the agent cannot do its part.
    pub fn arm(&mut self, wanted: &HashSet<SiteId>) -> Result<(), HubError> {
        let words = self.layout.gate_words(wanted);
        let more: HashSet<SiteId> = wanted.difference(&self.armed).copied().collect();
        let fewer: HashSet<SiteId> = self.armed.difference(wanted).copied().collect();
        for (word, target) in words {
            self.order("set a switch", Order::Store, [word, target])?;
        }
        let before = self.layout.patches_of(&self.armed);
        let after = self.layout.patches_of(wanted);
        let difference = |of: &[u32], but: &[u32]| -> Vec<u32> {
            of.iter().copied().filter(|patch| but.binary_search(patch).is_err()).collect()
        };
        if !more.is_empty() {
            let pads = self.layout.pads(&difference(&after, &before));
            self.patch(true, &pads)?;
            self.patch(true, &difference(&after, &before))?;
        }
        if !fewer.is_empty() {
            self.patch(false, &difference(&before, &after))?;
        }
        self.armed.clone_from(wanted);
        Ok(())
    }

    /// Brings patches to a goal, in one batch.
    fn patch(&self, jump: bool, patches: &[u32]) -> Result<(), HubError> {
        if patches.is_empty() {
            return Ok(());
        }
        let (rings, bytes) = (self.segment.rings(), self.segment.ring_bytes());
        let batch = attach::batch_offset(rings, bytes) as usize;
        for (index, patch) in patches.iter().enumerate() {
            self.segment.word(batch + 4 * index).store(*patch, Ordering::Relaxed);
        }
        let windows = self.layout.windows(&self.choice.objects, patches);
        self.write_texts(attach::MAX_TEXTS, &windows);
        let what = if jump { "patch functions" } else { "restore functions" };
        let counts = patches.len() as u64 | (windows.len() as u64) << 32;
        self.order(what, Order::Patch, [u64::from(jump), counts])
    }

    /// Writes a list of pages that may be opened for writing, from this place in the array on.
    fn write_texts(&self, from: usize, texts: &[Text]) {
        let (rings, bytes) = (self.segment.rings(), self.segment.ring_bytes());
        let array = attach::texts_offset(rings, bytes) as usize;
        for (index, text) in texts.iter().enumerate() {
            let at = array + (from + index) * attach::TEXT_BYTES;
            let length = text.range.end - text.range.start;
            let words = [text.range.start, length, text.protection];
            for (word, value) in words.into_iter().enumerate() {
                self.segment.long(at + 8 * word).store(value, Ordering::Relaxed);
            }
        }
    }

    /// How many patches of all were found to be somebody else's, and left alone.
    #[must_use]
    pub fn foreign(&self) -> usize {
        (0..self.layout.patch_count())
            .filter(|&index| self.outcome(index) >= Outcome::Refused as u64)
            .count()
    }

    fn outcome(&self, patch: usize) -> u64 {
        let at = attach::patches_offset(self.segment.rings(), self.segment.ring_bytes()) as usize;
        let at = at + patch * attach::PATCH_BYTES + attach::PATCH_OUTCOME;
        self.segment.long(at).load(Ordering::Relaxed) & 0xff
    }

    fn choose(&self, selection: &Selection) -> Vec<layout::Wanted> {
        layout::choose(&self.choice, &self.imports, selection)
    }
}

/// Writes what the agent must find.
fn introduce(segment: &Segment, place: u64, region: &Range<u64>) {
    segment.long(attach::PLACE).store(place, Ordering::Relaxed);
    segment.long(attach::REGION).store(region.start, Ordering::Relaxed);
    segment.long(attach::REGION + 8).store(region.end - region.start, Ordering::Relaxed);
    segment.word(attach::CONTROLLER).store(std::process::id(), Ordering::Relaxed);
}

/// What the agent told of itself. Its addresses are the process's own; nothing of ours is reached
/// through them.
fn hello(segment: &Segment) -> Option<AgentLayout> {
    let mut words = [0; MESSAGE_WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = segment.long(attach::HELLO + 8 * index).load(Ordering::Relaxed);
    }
    let hello = Hello::from_words(words)?;
    let start = segment.long(attach::REGION).load(Ordering::Relaxed);
    let end = start.checked_add(segment.long(attach::REGION + 8).load(Ordering::Relaxed))?;
    let addresses = [hello.thunks, hello.relocated, hello.trampolines, hello.slots, hello.cover];
    let inside = addresses.iter().all(|address| (start..end).contains(address));
    // Generated code refers to these by 32-bit distances.
    (inside && end - start < 1 << 30).then_some(AgentLayout {
        thunks: hello.thunks,
        relocated: hello.relocated,
        trampolines: hello.trampolines,
        slots: hello.slots,
        tls_offset: 0,
        cover: hello.cover,
        thread: hello.thread,
        full: hello.full,
        exec: hello.exec,
        probe: 0,
    })
}
