//! What discovery says of one function.

use std::fmt;

/// Bytes that the `jmp rel32` of a patched site takes.
pub const PATCH_BYTES: usize = 5;
/// Bytes that the short jump of [`Rung::Hop`] takes.
pub const HOP_BYTES: usize = 2;
/// No patch displaces more original bytes than this.
pub const MAX_DISPLACED: usize = 20;

/// A function of an object, and what can be done with it. Addresses are the object's own
/// (link-time) ones.
#[derive(Clone, Debug)]
pub struct Function {
    /// Where it begins.
    pub address: u64,
    /// Its length in bytes, as its symbol or unwind table entry says.
    pub size: u64,
    /// Its names as the symbol tables have them (mangled), best first: more than one where
    /// symbols alias, none in a stripped object.
    pub names: Vec<String>,
    /// Where it can be patched, or why not.
    pub verdict: Result<Site, Refusal>,
}

/// A place where a function can be patched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Address of the first patched byte: the function's, or past its `endbr64`.
    pub address: u64,
    /// How the site is patched.
    pub rung: Rung,
    /// The original bytes that the patch displaces: whole instructions, at least
    /// [`PATCH_BYTES`] of them (at [`Rung::Hop`]: [`HOP_BYTES`]), or fewer where filler behind
    /// the function makes up the rest.
    pub displaced: Vec<u8>,
    /// Bit `i` is set where an original instruction starts `i` bytes into the patch (1..=4).
    pub boundaries: u8,
    /// Whether returns can be hooked.
    pub returns: Returns,
    /// At [`Rung::Hop`]: address of the [`PATCH_BYTES`] bytes of padding, this site's alone, that
    /// the two-byte jump leads to. A two-byte jump from `address` reaches it.
    pub hop: Option<u64>,
}

/// The ladder of ways to patch a site, best first (DESIGN §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// An XRay sled.
    Xray,
    /// NOPs the compiler left: `__patchable_function_entries` or `__mcount_loc`.
    Sled,
    /// One instruction of five bytes or more.
    Single,
    /// A relocated prologue and a `jmp rel32`.
    Prologue,
    /// A two-byte jump to padding nearby, and `jmp rel32` there.
    Hop,
}

/// Whether a function's returns may be hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Returns {
    /// Entry and exit.
    Hooked,
    /// Entry only.
    EntryOnly(EntryOnly),
}

/// Why only the entry of a function can be hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryOnly {
    /// It returns twice (`setjmp`, `vfork`, `getcontext`).
    ReturnsTwice,
    /// It reads its return address as data (`dlopen`, `dlsym`, …).
    ReadsReturnAddress,
    /// It returns from another stack cell than the one it was called with (`ret n`; code whose
    /// callees remove their arguments, such as V8's).
    MovesReturnAddress,
}

/// Why a function cannot be traced: the reason code of `sledge sites --explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Shorter than the patch, and no filler behind it.
    TooShort,
    /// A branch somewhere in the object lands inside the patched bytes.
    BranchIntoPatch,
    /// The prologue holds an instruction that cannot be moved.
    UnmovableInstruction,
    /// The bytes are not valid instructions.
    Undecodable,
    /// Another function's patch takes these bytes.
    Overlaps,
    /// An IFUNC resolver: runs inside the dynamic loader, before relocation is done.
    IfuncResolver,
    /// Start-up code of the C runtime (`_start`, `frame_dummy`, …).
    RuntimeGlue,
    /// Not entered by a call (`_dl_runtime_resolve`, `__restore_rt`): its return address is not
    /// on top of the stack.
    NotACall,
    /// A restartable sequence: the kernel aborts it by address range.
    RestartableSequence,
    /// Its bytes are not in the file (no such segment, or truncated).
    NoBytes,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Self; 5] = [Self::Xray, Self::Sled, Self::Single, Self::Prologue, Self::Hop];

    /// The name in tables and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xray => "xray",
            Self::Sled => "sled",
            Self::Single => "single",
            Self::Prologue => "prologue",
            Self::Hop => "hop",
        }
    }
}

impl Refusal {
    /// Whether this is code that no program calls as a function, rather than a function that
    /// cannot be traced.
    #[must_use]
    pub const fn sets_aside(self) -> bool {
        matches!(
            self,
            Self::IfuncResolver | Self::RuntimeGlue | Self::NotACall | Self::RestartableSequence
        )
    }

    /// The reason code in tables and JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::BranchIntoPatch => "branch-into-patch",
            Self::UnmovableInstruction => "unmovable-instruction",
            Self::Undecodable => "undecodable",
            Self::Overlaps => "overlaps",
            Self::IfuncResolver => "ifunc-resolver",
            Self::RuntimeGlue => "runtime-glue",
            Self::NotACall => "not-a-call",
            Self::RestartableSequence => "restartable-sequence",
            Self::NoBytes => "no-bytes",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}
