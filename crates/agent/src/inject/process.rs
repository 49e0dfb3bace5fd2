//! What the agent knows of its process.
//!
//! Two kinds of memory: statics, which a forked child inherits, and one page that the kernel
//! hands a child zeroed. That page, and the threads' blocks beside it, are how a child notices:
//! no `fork` is intercepted, however it is made.

use super::environment::{Ours, Path};
use super::socket::Socket;
use super::system::{self, Errno};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sledge_wire::block::BLOCK_BYTES;
use sledge_wire::message::{Hello, Origin, Reply};
use sledge_wire::segment;

/// Set once, before any site is patched.
pub(crate) struct Settings {
    pub(crate) segment: AtomicU64,
    pub(crate) segment_bytes: AtomicU64,
    pub(crate) ring_count: AtomicU64,
    pub(crate) ring_bytes: AtomicU64,
    /// Threads' blocks; zeroed in a forked child.
    pub(crate) blocks: AtomicU64,
    /// The page of [`Process`]; zeroed in a forked child.
    pub(crate) page: AtomicU64,
    /// A page that takes records which nobody wants.
    pub(crate) scratch: AtomicU64,
    follow: AtomicBool,
    /// Nothing is recorded any more, here and in children.
    disabled: AtomicBool,
}

pub(crate) static SETTINGS: Settings = Settings {
    segment: AtomicU64::new(0),
    segment_bytes: AtomicU64::new(0),
    ring_count: AtomicU64::new(0),
    ring_bytes: AtomicU64::new(0),
    blocks: AtomicU64::new(0),
    page: AtomicU64::new(0),
    scratch: AtomicU64::new(0),
    follow: AtomicBool::new(false),
    disabled: AtomicBool::new(false),
};

struct Paths(UnsafeCell<Ours>);
// SAFETY: written once by `remember`, while the process has one thread; read-only afterwards.
unsafe impl Sync for Paths {}
static PATHS: Paths = Paths(UnsafeCell::new(Ours { socket: Path::EMPTY, agent: Path::EMPTY }));

/// Keeps the paths for forked children and executed programs.
///
/// # Safety
/// Called once, before any other thread exists.
pub(crate) unsafe fn remember(ours: Ours) {
    // SAFETY: the caller's promise: nobody reads yet.
    unsafe { *PATHS.0.get() = ours };
}

/// The paths of the controller's socket and of this agent.
pub(crate) fn paths() -> &'static Ours {
    // SAFETY: written before sites were patched, never since.
    unsafe { &*PATHS.0.get() }
}

/// The wiped page.
#[repr(C)]
struct Process {
    state: AtomicU32,
}

/// States of [`Process::state`]; 0 is what a forked child finds.
const FORKED: u32 = 0;
const READY: u32 = 1;
const ARRANGING: u32 = 2;

fn process() -> &'static Process {
    // SAFETY: the page was mapped in `prepare` and is never unmapped; zeroes are a valid value.
    unsafe { &*(SETTINGS.page.load(Ordering::Relaxed) as *const Process) }
}

fn shared_word(offset: usize) -> &'static AtomicU32 {
    let address = SETTINGS.segment.load(Ordering::Relaxed) + offset as u64;
    // SAFETY: the segment is mapped for good, and its layout has an aligned `u32` here.
    unsafe { &*(address as *const AtomicU32) }
}

/// Maps what threads need, and the segment that the controller sent.
pub(crate) fn prepare(reply: &Reply, segment: i32) -> Result<(), Errno> {
    let (count, ring) = (reply.ring_count as usize, reply.ring_bytes);
    let valid = count > 0 && count <= segment::MAX_RINGS && ring.is_power_of_two();
    if !valid || !(segment::MIN_RING_BYTES..=segment::MAX_RING_BYTES).contains(&ring) {
        return Err(Errno(22));
    }
    let bytes = segment::segment_bytes(count, ring);
    let protection = system::PROT_READ | system::PROT_WRITE;
    // SAFETY: an address of the kernel's choice.
    let at = unsafe {
        let flags = system::MAP_SHARED | system::MAP_NORESERVE;
        system::map(0, bytes, protection, flags, i64::from(segment), 0)?
    };
    SETTINGS.follow.store(reply.follow, Ordering::Relaxed);
    settle(at, count as u64, ring)
}

/// Maps what threads need beside the segment, which lies at `segment` already.
pub(crate) fn settle(segment: u64, count: u64, ring: u64) -> Result<(), Errno> {
    let blocks_bytes = (count * BLOCK_BYTES).next_multiple_of(4096);
    let page = system::map_anonymous(4096 + blocks_bytes)?;
    system::wipe_on_fork(page, 4096 + blocks_bytes)?;
    let scratch = system::map_anonymous(4096)?;
    let bytes = segment::segment_bytes(count as usize, ring);
    SETTINGS.segment.store(segment, Ordering::Relaxed);
    SETTINGS.segment_bytes.store(bytes, Ordering::Relaxed);
    SETTINGS.ring_count.store(count, Ordering::Relaxed);
    SETTINGS.ring_bytes.store(ring, Ordering::Relaxed);
    SETTINGS.page.store(page, Ordering::Relaxed);
    SETTINGS.blocks.store(page + 4096, Ordering::Relaxed);
    SETTINGS.scratch.store(scratch, Ordering::Relaxed);
    process().state.store(READY, Ordering::Release);
    Ok(())
}

/// Unmaps what [`settle`] mapped: no thread records any more, and none will.
pub(crate) fn unmap() {
    let count = SETTINGS.ring_count.load(Ordering::Relaxed);
    let blocks_bytes = (count * BLOCK_BYTES).next_multiple_of(4096);
    for (address, bytes) in [(&SETTINGS.page, 4096 + blocks_bytes), (&SETTINGS.scratch, 4096)] {
        // SAFETY: mapped by us, and the controller saw that nobody uses it.
        unsafe { system::unmap(address.load(Ordering::Relaxed), bytes) };
    }
}

/// Nothing is to be recorded any more.
pub(crate) fn close() {
    shared_word(segment::HEADER_CLOSED).store(1, Ordering::SeqCst);
}

/// Whether executed programs and forked children are to be traced.
pub(crate) fn follows() -> bool {
    SETTINGS.follow.load(Ordering::Relaxed) && !SETTINGS.disabled.load(Ordering::Relaxed)
}

/// Whether events are wanted; arranges that first where this is a forked child.
pub(crate) fn recording() -> bool {
    if SETTINGS.disabled.load(Ordering::Relaxed) {
        return false;
    }
    let state = &process().state;
    loop {
        match state.compare_exchange(FORKED, ARRANGING, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => break,
            Err(READY) => return shared_word(segment::HEADER_CLOSED).load(Ordering::Relaxed) == 0,
            // Another thread of the child arranges it; it takes a few system calls.
            Err(_) => core::hint::spin_loop(),
        }
    }
    if !follows() || adopt().is_err() {
        SETTINGS.disabled.store(true, Ordering::Relaxed);
    }
    state.store(READY, Ordering::Release);
    !SETTINGS.disabled.load(Ordering::Relaxed)
}

/// Gets a forked child a segment of its own, at the address of its parent's.
fn adopt() -> Result<(), Errno> {
    let socket = Socket::connect(paths().socket.as_bytes())?;
    let hello = Hello {
        origin: Origin::Fork,
        pid: system::process_id(),
        parent: system::parent_id(),
        thunks: 0,
        relocated: 0,
        trampolines: 0,
        slots: 0,
        tls_offset: 0,
        cover: 0,
        thread: 0,
        full: 0,
        exec: [0; 3],
        probe: 0,
    };
    socket.send(&hello.to_words())?;
    let received = socket.receive()?;
    let reply = Reply::from_words(received.words).ok_or(Errno(71))?;
    let segment = received.descriptors[0];
    let same = u64::from(reply.ring_count) == SETTINGS.ring_count.load(Ordering::Relaxed)
        && reply.ring_bytes == SETTINGS.ring_bytes.load(Ordering::Relaxed);
    let result = if reply.accepted && same && segment >= 0 {
        replace_segment(segment)
    } else {
        Err(Errno(111))
    };
    for descriptor in received.descriptors.into_iter().filter(|&d| d >= 0) {
        system::close(descriptor as u64);
    }
    result
}

fn replace_segment(descriptor: i32) -> Result<(), Errno> {
    let at = SETTINGS.segment.load(Ordering::Relaxed);
    let bytes = SETTINGS.segment_bytes.load(Ordering::Relaxed);
    let protection = system::PROT_READ | system::PROT_WRITE;
    let flags = system::MAP_SHARED | system::MAP_NORESERVE | system::MAP_FIXED;
    // SAFETY: replaces the parent's segment, of the same size and layout, in this child.
    unsafe { system::map(at, bytes, protection, flags, i64::from(descriptor), 0).map(drop) }
}

/// Tells the controller that there is something to read, if it sleeps.
pub(crate) fn ring_doorbell() {
    shared_word(segment::HEADER_DOORBELL).fetch_add(1, Ordering::Release);
    if shared_word(segment::HEADER_SLEEPING).load(Ordering::SeqCst) != 0 {
        let base = SETTINGS.segment.load(Ordering::Relaxed);
        system::futex_wake(base + segment::HEADER_DOORBELL as u64);
    }
}

/// Whether the controller stopped reading.
pub(crate) fn closed() -> bool {
    shared_word(segment::HEADER_CLOSED).load(Ordering::Relaxed) != 0
}

/// Whether a thread with a full ring is to wait.
pub(crate) fn waits_when_full() -> bool {
    shared_word(segment::HEADER_FULL).load(Ordering::Relaxed) == segment::Full::Wait as u32
}

/// Counts a thread that found no ring.
pub(crate) fn count_ringless() {
    let address = SETTINGS.segment.load(Ordering::Relaxed) + segment::HEADER_RINGLESS as u64;
    // SAFETY: as `shared_word`, for a `u64`.
    unsafe { &*(address as *const AtomicU64) }.fetch_add(1, Ordering::Relaxed);
}
