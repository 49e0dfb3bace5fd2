//! The contract with an agent that was brought into a running process.
//!
//! It has a thread of its own, which waits for commands in the shared segment: no descriptor and no
//! socket stays open in the tracee. All of this lies behind the rings of an ordinary segment, but
//! for a few words in its header page.
//!
//! ```text
//! header page        the words below
//! threads, rings     as in every segment
//! patches_offset     PATCHES x PATCH_BYTES: every site that was ever patched; the journal
//! batch_offset       u32 indices of patches that the next command is about
//! texts_offset       mappings that hold sites, and those pages of them that the next command is about
//! ```
//!
//! The journal holds the original bytes and those believed to be there now, at every moment: so the
//! agent can restore its process when the controller dies, and another controller can when the agent
//! is stuck.

use crate::segment::segment_bytes;

/// `u32`: futex; number of the last command given.
pub const COMMAND: usize = 64;
/// `u32`: futex; number of the last command carried out.
pub const DONE: usize = 68;
/// `u32`: see [`State`].
pub const STATE: usize = 72;
/// `u32`: id of the agent's thread while it lives; the kernel zeroes it.
pub const THREAD: usize = 76;
/// `u64`: what is to be done, see [`Order`].
pub const ORDER: usize = 80;
/// Four `u64`: with what.
pub const ARGUMENTS: usize = 88;
/// `u64`: the (positive) error number of the last command, 0 for none.
pub const ERROR: usize = 120;
/// The agent's [`crate::message::Hello`].
pub const HELLO: usize = 128;
/// `u64`: random; tells this controller's segment from another's, and names its socket.
pub const TOKEN: usize = 256;
/// `u32`: process id of the controller, as it sees itself.
pub const CONTROLLER: usize = 272;
/// `u64`: address at which the tracee has this segment.
pub const PLACE: usize = 280;
/// Two `u64`: where the agent's image lies, and its length.
pub const REGION: usize = 288;
/// `u32`: number of all texts, at the beginning of [`texts_offset`]'s array.
pub const TEXTS: usize = 304;
/// `u32`: number of patches in the journal.
pub const JOURNALED: usize = 308;
/// `u64`: address of the table of [`Known`] entries.
pub const TABLE: usize = 320;
/// `u64`: address of the words through which generated code is switched.
pub const SWITCHBOARD: usize = 328;
/// A process-shared robust mutex that the controller holds: its first word tells of its death.
pub const OWNER: usize = 512;

/// The bit that the kernel sets in [`OWNER`]'s word when its holder has died.
pub const OWNER_DIED: u32 = 0x4000_0000;

/// What the agent's thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It has not begun.
    None = 0,
    /// It waits for commands.
    Ready = 1,
    /// It could not begin; [`ERROR`] says why.
    Failed = 2,
    /// Its controller died: originals are back, and it has ended.
    Abandoned = 3,
}

/// Commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Order {
    /// Maps private memory, read-execute, for generated code: address, length.
    Map = 1,
    /// Unmaps: address, length.
    Unmap = 2,
    /// Stores a word of the agent's: address, value.
    Store = 3,
    /// Replaces the table of [`Rescue`]s: address, count.
    Rescues = 4,
    /// Changes patches: goal (0 original, 1 jump); in the low half the number of indices in the batch
    /// (0: all), in the high half that of the batch's texts, which are in the array's second half.
    Patch = 5,
    /// Makes every processor see code that was written.
    Barrier = 6,
    /// Gives the handlers of traps back.
    Handlers = 7,
    /// Ends the agent's thread.
    Quit = 8,
    /// Unmaps what the agent mapped for itself; with 1, what returns of hooked calls need, too.
    Clean = 9,
}

impl Order {
    /// Reads one.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        Some(match word {
            1 => Self::Map,
            2 => Self::Unmap,
            3 => Self::Store,
            4 => Self::Rescues,
            5 => Self::Patch,
            6 => Self::Barrier,
            7 => Self::Handlers,
            8 => Self::Quit,
            9 => Self::Clean,
            _ => return None,
        })
    }
}

/// Patches there is room for.
pub const PATCHES: usize = crate::cell::CELLS as usize * 2;
/// Bytes of a patch.
pub const PATCH_BYTES: usize = 48;
/// `u64`: where it begins.
pub const PATCH_ADDRESS: usize = 0;
/// `u64`: the program's bytes.
pub const PATCH_ORIGINAL: usize = 8;
/// `u64`: ours.
pub const PATCH_JUMP: usize = 16;
/// `u64`: what was written last.
pub const PATCH_BELIEVED: usize = 24;
/// `u64`: length in the lowest byte, old boundaries (a bit each) in the next.
pub const PATCH_SHAPE: usize = 32;
/// `u64`: see [`Outcome`]; in the top 40 bits the bytes that were found instead.
pub const PATCH_OUTCOME: usize = 40;

/// What became of a patch in the last command about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Outcome {
    /// Nothing was to be done yet.
    None = 0,
    /// It is as was asked.
    Done = 1,
    /// Other bytes were there: left alone from then on.
    Refused = 2,
    /// Its memory cannot be written, or is gone.
    Unwritable = 3,
}

/// Texts in each half of the array: in the first all mappings that hold sites, in the second the pages
/// that a batch is about.
pub const MAX_TEXTS: usize = 2048;
/// Bytes of one: address, length, protection.
pub const TEXT_BYTES: usize = 24;

/// Offset of the journal.
#[must_use]
pub const fn patches_offset(ring_count: usize, ring_bytes: u64) -> u64 {
    segment_bytes(ring_count, ring_bytes)
}

/// Offset of the batch.
#[must_use]
pub const fn batch_offset(ring_count: usize, ring_bytes: u64) -> u64 {
    patches_offset(ring_count, ring_bytes) + (PATCHES * PATCH_BYTES) as u64
}

/// Offset of the texts.
#[must_use]
pub const fn texts_offset(ring_count: usize, ring_bytes: u64) -> u64 {
    batch_offset(ring_count, ring_bytes) + (PATCHES * 4) as u64
}

/// Bytes of a whole segment of an attached process; whole pages.
#[must_use]
pub const fn attached_bytes(ring_count: usize, ring_bytes: u64) -> u64 {
    (texts_offset(ring_count, ring_bytes) + (2 * MAX_TEXTS * TEXT_BYTES) as u64 + 4095) & !4095
}

/// Where a thread that trapped in a site goes on: 32 bytes, sorted by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rescue {
    /// First byte of the patch.
    pub address: u64,
    /// For a thread there: what the patch leads to.
    pub entry: u64,
    /// The relocated copy.
    pub body: u64,
    /// For a thread at byte `i`: so far into the copy; [`NOWHERE`] where none can stand.
    pub inner: [u8; 8],
}

/// What the agent leaves in the link of a signal's context (`uc_link`, which nobody reads) when it has
/// sent a thread on from a trap: the frame that is found on a stack later is none of those that are still
/// to be returned to.
pub const RESCUED: u64 = u64::from_le_bytes(*b"sledge\0T");

/// No thread can stand there.
pub const NOWHERE: u8 = 0xff;
/// Longest patch.
pub const LONGEST: u64 = 5;

/// An entry of the table by which generated code finds a thread's block: 32 bytes.
///
/// The key is the thread pointer, which `fs:[0]` holds; the thread id beside it tells a thread from
/// an earlier one that had its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Known {
    /// The thread pointer; 0 in an unused entry.
    pub pointer: u64,
    /// The thread id.
    pub tid: u64,
    /// Its block.
    pub block: u64,
    /// Nothing.
    pub unused: u64,
}

/// Bytes of [`Known`].
pub const KNOWN_BYTES: u64 = 32;
/// Offset of the thread id in it.
pub const KNOWN_TID: usize = 8;
/// Offset of the block in it.
pub const KNOWN_BLOCK: usize = 16;
/// Bits of the index that a thread pointer hashes to.
pub const KNOWN_BITS: u32 = 13;
/// How many entries behind that are looked at.
pub const KNOWN_PROBES: usize = 64;
/// Entries; the last is never used, and ends every search.
pub const KNOWN_ENTRIES: usize = (1 << KNOWN_BITS) + KNOWN_PROBES + 1;
/// What a thread pointer is multiplied with; the top bits of the product are the index.
pub const KNOWN_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Words by which generated code is switched: addresses to go on at.
pub const SWITCH_ENTER: usize = 0;
/// For entries alone.
pub const SWITCH_ENTER_ONLY: usize = 1;
/// For exits.
pub const SWITCH_LEAVE: usize = 2;
/// So far behind each of these lies where to go on when nobody records any more.
pub const SWITCH_QUIET: usize = 3;
/// The first that belongs to a gate.
pub const SWITCH_GATES: usize = 8;
/// How many there are.
pub const SWITCHES: usize = 1 << 16;

/// The bytes of a patch after a step of the trap-safe protocol, in a word, the first lowest.
///
/// Steps, with a barrier behind each: 0 traps, 1 operands, 2 boundaries, 3 entry. A thread that
/// comes to the first byte, or stands on an old boundary, finds the original instruction whole, or a
/// trap, or the whole jump: from any state that an interrupted change may have left, and both ways.
#[must_use]
pub const fn after(step: u32, believed: u64, goal: u64, boundaries: u8) -> u64 {
    let inner = spread(boundaries);
    let (bytes, from) = match step {
        0 => (ENTRY | inner & !trapping(believed, boundaries), INT3S),
        1 => (!(ENTRY | inner), goal),
        2 => (inner, goal),
        _ => (ENTRY, goal),
    };
    believed & !bytes | from & bytes
}

/// Steps of the protocol.
pub const STEPS: u32 = 4;
/// The opcodes that trap on x86-64 whatever follows them: `int3`, then those that raise #UD.
pub const TRAPS: [u8; 19] = [
    0xcc, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd4,
    0x9a, 0xea, 0x82,
];
const ENTRY: u64 = 0xff;
const INT3S: u64 = u64::from_le_bytes([0xcc; 8]);

/// A byte of ones for each bit but the first.
const fn spread(bits: u8) -> u64 {
    let (mut mask, mut at) = (0, 1);
    while at < 8 {
        if bits >> at & 1 != 0 {
            mask |= 0xff << (8 * at);
        }
        at += 1;
    }
    mask
}

/// The boundaries that trap now.
const fn trapping(believed: u64, boundaries: u8) -> u64 {
    let (mut mask, mut at) = (0, 1);
    while at < 8 {
        let byte = (believed >> (8 * at)) as u8;
        if boundaries >> at & 1 != 0 && is_trap(byte) {
            mask |= 0xff << (8 * at);
        }
        at += 1;
    }
    mask
}

const fn is_trap(byte: u8) -> bool {
    let mut at = 0;
    while at < TRAPS.len() {
        if TRAPS[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `push rbp; mov rbp, rsp; push r12` under a jump whose last byte traps.
    const ORIGINAL: u64 = u64::from_le_bytes([0x55, 0x48, 0x89, 0xe5, 0x41, 0, 0, 0]);
    const JUMP: u64 = u64::from_le_bytes([0xe9, 0xcc, 0x34, 0x12, 0xcc, 0, 0, 0]);
    const BOUNDARIES: u8 = 0b1_0010;

    fn bytes(word: u64) -> [u8; 8] {
        word.to_le_bytes()
    }

    #[test]
    fn each_step_changes_its_bytes_and_no_others() {
        let mut states = [ORIGINAL; 4];
        let mut state = ORIGINAL;
        for (step, after_it) in (0..STEPS).zip(&mut states) {
            state = after(step, state, JUMP, BOUNDARIES);
            *after_it = state;
        }
        assert_eq!(bytes(states[0]), [0xcc, 0xcc, 0x89, 0xe5, 0xcc, 0, 0, 0]);
        assert_eq!(bytes(states[1]), [0xcc, 0xcc, 0x34, 0x12, 0xcc, 0, 0, 0]);
        assert_eq!(states[2], states[1]);
        assert_eq!(states[3], JUMP);
    }

    #[test]
    fn every_interrupted_change_can_be_undone() {
        let mut state = ORIGINAL;
        for step in 0..STEPS {
            state = after(step, state, JUMP, BOUNDARIES);
            let back = (0..STEPS).fold(state, |now, step| after(step, now, ORIGINAL, BOUNDARIES));
            assert_eq!(back, ORIGINAL);
        }
    }

    #[test]
    fn the_parts_of_a_segment_do_not_overlap() {
        let (rings, ring) = (1024, 4 << 20);
        assert!(patches_offset(rings, ring) >= segment_bytes(rings, ring));
        assert!(attached_bytes(rings, ring).is_multiple_of(4096));
        const { assert!(OWNER + 64 < crate::segment::HEADER_BYTES && HELLO + 128 <= TOKEN) };
    }
}
