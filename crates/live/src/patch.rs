//! One run of bytes that is switched between its original and a jump.

use sledge_discover::site::{HOP_BYTES, PATCH_BYTES, Rung, Site};
use sledge_engine::islands::TRAPS;
use sledge_engine::relocate::Relocated;
use sledge_engine::thunk;

/// `int3`: the trap that stands on boundaries while bytes change.
pub const INT3: u8 = 0xcc;
const JUMP_SHORT: u8 = 0xeb;

/// Whether a thread that comes to this byte traps.
#[must_use]
pub fn is_trap(byte: u8) -> bool {
    TRAPS.contains(&byte)
}

/// Whether a jump over these old boundaries is trap-safe: bit `i` of `boundaries` is set where an
/// original instruction starts, and byte `i` of the jump must trap there.
#[must_use]
pub fn is_trap_safe(jump: &[u8], boundaries: u8) -> bool {
    jump.iter().enumerate().skip(1).all(|(at, &byte)| boundaries >> at & 1 == 0 || is_trap(byte))
}

/// Bytes of a patch: at most [`PATCH_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Zeros behind its end.
    bytes: [u8; 8],
    length: u8,
}

impl Bytes {
    /// From a slice; what is over [`PATCH_BYTES`] is left out.
    #[must_use]
    pub fn new(from: &[u8]) -> Self {
        let length = from.len().min(PATCH_BYTES);
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&from[..length]);
        Self { bytes, length: length as u8 }
    }

    /// As a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// All of them at once, the first lowest.
    pub(crate) fn word(self) -> u64 {
        u64::from_le_bytes(self.bytes)
    }

    /// The same number of other bytes.
    pub(crate) fn with_word(self, word: u64) -> Self {
        Self { bytes: word.to_le_bytes(), length: self.length }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.as_slice())
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.as_slice().iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Which of its two contents a patch shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The jump.
    Armed,
    /// The original bytes.
    Original,
}

/// Why a site cannot be patched safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// A thread that stands on an old boundary would run a piece of the jump.
    #[error("the jump [{jump}] has a byte that does not trap on an old instruction boundary")]
    NotTrapSafe {
        /// The jump's bytes.
        jump: Bytes,
    },
    /// The jump's target is too far away.
    #[error("{target:#x} is out of reach")]
    OutOfReach {
        /// The target.
        target: u64,
    },
    /// The relocated copy has no place for a thread that stands there.
    #[error("the relocated copy has no instruction for +{offset}")]
    NoPosition {
        /// Offset in the patch.
        offset: u8,
    },
    /// What lies at the site now is not what was displaced.
    #[error("expected [{expected}], found [{found}]")]
    OtherBytes {
        /// What discovery saw.
        expected: Bytes,
        /// What is there.
        found: Bytes,
    },
}

/// A run of bytes, its two contents, and what is believed to be there now.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Where it begins.
    pub address: u64,
    /// Bit `i` is set where an original instruction starts, for `i` in 1..length.
    pub boundaries: u8,
    /// The bytes of the program.
    pub original: Bytes,
    /// Ours.
    pub jump: Bytes,
    /// What the last write left there.
    pub(crate) believed: Bytes,
    /// Every processor has seen the last write.
    pub(crate) settled: bool,
}

impl Patch {
    /// A patch whose original bytes are in place.
    ///
    /// # Errors
    /// When the jump is not trap-safe.
    pub fn new(
        address: u64,
        boundaries: u8,
        original: Bytes,
        jump: Bytes,
    ) -> Result<Self, PatchError> {
        let boundaries = boundaries & ((1 << jump.length) - 1) & !1;
        let same_length = original.length == jump.length && jump.length > 0;
        if !same_length || !is_trap_safe(jump.as_slice(), boundaries) {
            return Err(PatchError::NotTrapSafe { jump });
        }
        Ok(Self { address, boundaries, original, jump, believed: original, settled: true })
    }

    /// The bytes it shall have.
    #[must_use]
    pub fn bytes(&self, goal: Goal) -> Bytes {
        match goal {
            Goal::Armed => self.jump,
            Goal::Original => self.original,
        }
    }

    /// Whether the bytes are believed to be these.
    #[must_use]
    pub fn is(&self, goal: Goal) -> bool {
        self.believed == self.bytes(goal)
    }

    /// Whether an original instruction starts at this offset in the patch.
    #[must_use]
    pub fn is_boundary(&self, offset: usize) -> bool {
        offset > 0 && self.boundaries >> offset & 1 != 0
    }

    /// The addresses it takes.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<u64> {
        self.address..self.address + u64::from(self.original.length)
    }
}

/// Where threads that trap in a site go on. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The site's first byte.
    pub address: u64,
    /// For a thread at the first byte: the island.
    pub entry: u64,
    /// For one at byte `i`: in the relocated copy; 0 where none can stand.
    pub inner: [u64; PATCH_BYTES],
}

/// A site as the patcher keeps it.
#[derive(Clone, Debug)]
pub struct LiveSite {
    /// The padding that a hop leads to. Once written it stays: a thread may stand there.
    pub(crate) pad: Option<Patch>,
    /// The function's own bytes.
    pub(crate) patch: Patch,
    pub(crate) rescue: Rescue,
}

impl LiveSite {
    /// A site of a mapped object. `site` holds addresses as mapped; `read` gives the bytes that
    /// are there now; `copy` is the relocated copy, which lies at `copy_at`; `island` is where
    /// the jump leads, and from there to the copy while nobody wants the site.
    ///
    /// gcc's five NOPs are five instructions like any others: no five-byte NOP has traps on all
    /// their boundaries, so they cannot safely be made one.
    ///
    /// # Errors
    /// When no jump there is safe, or the bytes are not those displaced.
    pub fn new<E: From<PatchError>>(
        site: &Site,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E>,
        copy: &Relocated,
        copy_at: u64,
        island: u64,
    ) -> Result<Self, E> {
        let current = |address, length| {
            let mut bytes = [0; PATCH_BYTES];
            read(address, &mut bytes[..length]).map(|()| Bytes::new(&bytes[..length]))
        };
        let far = |from: u64, length: usize| -> Result<Patch, E> {
            let jump = thunk::patch(from, island);
            let jump = jump.ok_or(PatchError::OutOfReach { target: island })?;
            let boundaries = if length == HOP_BYTES { 0 } else { site.boundaries };
            Ok(Patch::new(from, boundaries, current(from, PATCH_BYTES)?, Bytes::new(&jump))?)
        };
        let (pad, patch) = match (site.rung, site.hop) {
            (Rung::Hop, Some(hop)) => {
                let jump = Bytes::new(&short_jump(site.address, hop)?);
                let original = current(site.address, HOP_BYTES)?;
                let patch = Patch::new(site.address, site.boundaries, original, jump)?;
                (Some(far(hop, HOP_BYTES)?), patch)
            }
            _ => (None, far(site.address, PATCH_BYTES)?),
        };
        as_displaced(&patch, &site.displaced)?;
        let rescue = rescue(&patch, copy, copy_at, island)?;
        Ok(Self { pad, patch, rescue })
    }

    /// The function's own bytes.
    #[must_use]
    pub fn patch(&self) -> &Patch {
        &self.patch
    }
}

fn short_jump(site: u64, hop: u64) -> Result<[u8; HOP_BYTES], PatchError> {
    let distance = hop.wrapping_sub(site + HOP_BYTES as u64).cast_signed();
    let distance = i8::try_from(distance).map_err(|_| PatchError::OutOfReach { target: hop })?;
    Ok([JUMP_SHORT, distance.cast_unsigned()])
}

/// The displaced bytes may be fewer than the patch, where filler makes up the rest.
fn as_displaced(patch: &Patch, displaced: &[u8]) -> Result<(), PatchError> {
    let found = patch.original;
    let length = displaced.len().min(found.as_slice().len());
    if found.as_slice()[..length] == displaced[..length] {
        return Ok(());
    }
    Err(PatchError::OtherBytes { expected: Bytes::new(displaced), found })
}

fn rescue(patch: &Patch, copy: &Relocated, at: u64, entry: u64) -> Result<Rescue, PatchError> {
    let mut inner = [0; PATCH_BYTES];
    for offset in (1..PATCH_BYTES).filter(|&offset| patch.is_boundary(offset)) {
        let offset_byte = offset as u8;
        let position = copy.position(offset_byte);
        let position = position.ok_or(PatchError::NoPosition { offset: offset_byte })?;
        inner[offset] = at + position as u64;
    }
    Ok(Rescue { address: patch.address, entry, inner })
}
