//! Vector state: what a callback may change, and how it is saved.

use crate::emit::{Emitter, Mem, Reg};

/// Vector state that has to survive a callback. In a set, the most demanding callback decides.
///
/// The default is safe for callbacks of which nothing is known: all vector registers of the
/// processor that runs this. Costs in ns, measured as the table of [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preserve {
    /// Nothing is saved: the callback promises to touch none, nor to call what does.
    /// [`super::promise`] finds out, for simple callbacks.
    None,
    /// `xmm0`–`xmm15`, +2: the callback, and what it calls, executes no AVX instruction. (Those
    /// clear the upper halves; the C library's `memcpy` is full of them.)
    Xmm,
    /// `ymm0`–`ymm15`: for processors without AVX-512.
    Ymm,
    /// `zmm0`–`zmm31` and the masks, +8: needs AVX-512F and BW; takes 2 KiB of stack.
    Zmm,
    /// What `xsave` saves, +140: for state that the others leave out (x87, MMX, and whatever
    /// processors may come to have).
    Xsave(XsaveArea),
}

/// How to use `xsave` on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XsaveArea {
    /// State components: at least those of all vector registers there are.
    pub mask: u64,
    /// Bytes that they take.
    pub bytes: u32,
    /// Whether `xsavec` is there.
    pub compacted: bool,
}

impl Default for Preserve {
    fn default() -> Self {
        Self::all(
            is_x86_feature_detected!("avx"),
            is_x86_feature_detected!("avx512f"),
            is_x86_feature_detected!("avx512bw"),
        )
    }
}

impl Preserve {
    /// All vector registers of a processor with these features.
    #[must_use]
    pub fn all(avx: bool, avx512f: bool, avx512bw: bool) -> Self {
        match (avx, avx512f, avx512bw) {
            (_, true, true) => Self::Zmm,
            // The first such processors; no layout of theirs takes more.
            (_, true, false) => {
                Self::Xsave(XsaveArea { mask: 0xe7, bytes: 2688, compacted: false })
            }
            (true, false, _) => Self::Ymm,
            (false, false, _) => Self::Xmm,
        }
    }

    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Xsave(a), Self::Xsave(b)) => Self::Xsave(XsaveArea {
                mask: a.mask | b.mask,
                bytes: a.bytes.max(b.bytes),
                compacted: a.compacted && b.compacted,
            }),
            _ if self.rank() < other.rank() => other,
            _ => self,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Xmm => 1,
            Self::Ymm => 2,
            Self::Zmm => 3,
            Self::Xsave(_) => 4,
        }
    }

    /// Bytes of stack, and their alignment.
    pub(super) fn room(self) -> (i32, i8) {
        match self {
            Self::None => (0, 16),
            Self::Xmm => (16 * 16, 16),
            Self::Ymm => (16 * 32, 32),
            Self::Zmm => (32 * 64 + 8 * 8, 64),
            Self::Xsave(area) => (area.bytes.next_multiple_of(64).cast_signed(), 64),
        }
    }

    /// Saves or restores it at `rsp`; changes `rax` and `rdx`.
    pub(super) fn emit(self, code: &mut Emitter, save: bool) {
        match self {
            Self::None => {}
            Self::Xmm => (0..16).for_each(|n| {
                let place = Mem::Base(Reg::Rsp, 16 * i32::from(n));
                if save { code.store_xmm(place, n) } else { code.load_xmm(n, place) }
            }),
            Self::Ymm => {
                (0..16).for_each(|n| if save { code.store_ymm(n) } else { code.load_ymm(n) })
            }
            Self::Zmm => {
                (0..32).for_each(|n| if save { code.store_zmm(n) } else { code.load_zmm(n) });
                (0..8).for_each(|n| {
                    let place = 32 * 64 + 8 * i32::from(n);
                    if save { code.store_mask(place, n) } else { code.load_mask(n, place) }
                });
            }
            Self::Xsave(area) => xsave(code, area, save),
        }
    }
}

fn xsave(code: &mut Emitter, area: XsaveArea, save: bool) {
    let place = Mem::Base(Reg::Rsp, 0);
    if save {
        // The header, of which saving writes only a part.
        code.clear(Reg::Rdx);
        for word in 0..8 {
            code.store(Mem::Base(Reg::Rsp, 512 + 8 * word), Reg::Rdx);
        }
    }
    code.set32(Reg::Rax, area.mask as u32);
    code.set32(Reg::Rdx, (area.mask >> 32) as u32);
    match (save, area.compacted) {
        (true, true) => code.xsave_compacted(place),
        (true, false) => code.xsave(place),
        (false, _) => code.xrstor(place),
    }
}
