//! What an ops is and asks for.

use std::ops::BitOr;

/// Properties of an ops, fixed at registration. Bits are where the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// No flags.
    pub const NONE: Self = Self(0);
    /// The owner frees the ops after `unregister`. Without it (a static ops) the trampoline of the
    /// ops alone is kept until then, however often the ops is disabled.
    pub const DYNAMIC: Self = Self(1 << 1);
    /// The callback gets all registers; functions that cannot give them are left out.
    pub const SAVE_REGS: Self = Self(1 << 2);
    /// The callback gets all registers where they can be had.
    pub const SAVE_REGS_IF_SUPPORTED: Self = Self(1 << 3);
    /// The callback wants protection from recursion.
    pub const RECURSION: Self = Self(1 << 4);
    /// The callback may change where the function goes on.
    pub const IPMODIFY: Self = Self(1 << 12);
    /// While enabled, tracing cannot be switched off as a whole.
    pub const PERMANENT: Self = Self(1 << 16);
    /// The ops brought its own trampoline: a site that it alone wants jumps right there.
    pub const DIRECT: Self = Self(1 << 17);
    /// The ops is told of exits, too.
    pub const ENTRY_EXIT: Self = Self(1 << 19);

    /// Of these at most one ops may have a function.
    pub(super) const EXCLUSIVE: Self = Self(Self::IPMODIFY.0 | Self::DIRECT.0);
    const REGISTERS: Self = Self(Self::SAVE_REGS.0 | Self::SAVE_REGS_IF_SUPPORTED.0);

    /// Whether all of the other's flags are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of the other's flags is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it can do nothing without all registers.
    pub(super) const fn needs_registers(self) -> bool {
        self.contains(Self::SAVE_REGS) && !self.contains(Self::SAVE_REGS_IF_SUPPORTED)
    }

    /// Whether it takes all registers where they can be had.
    pub(super) const fn takes_registers(self) -> bool {
        self.intersects(Self::REGISTERS)
    }

    /// Whether it shares its functions with no other such ops.
    pub(super) const fn exclusive(self) -> bool {
        self.intersects(Self::EXCLUSIVE)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
