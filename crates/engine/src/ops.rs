//! Decide: which ops want which site, and what changes when somebody changes their mind.
//!
//! Pure: a [`Registry`] is told of functions and of ops, and answers each operation with the
//! [`Changes`] that a patcher has to carry out. The rules are those of Linux' ftrace; each is named
//! where it is kept, and tested in `ops/tests`.
//!
//! **I5** A site runs the code of its *set*, the ops that want it and no others. What a call costs
//! does not depend on ops that are not in the set.
//!
//! **I6** While filters change there is no moment at which an ops misses a call that it wanted before
//! and wants after, and none at which it sees a call that it did not ask for. [`Changes`] names a site
//! at most once: one that goes from some ops to others is re-pointed, never disarmed and armed again.
//!
//! An operation that fails changes nothing.

mod apply;
mod bits;
mod changes;
mod error;
mod flags;
mod hash;
mod listing;
mod object;
mod registry;
mod sets;

#[cfg(test)]
#[allow(unused_must_use, reason = "tests look at the state more often than at the changes")]
mod tests;

pub use changes::Changes;
pub use error::{LeftOut, OpsError};
pub use flags::Flags;
pub use hash::{Matcher, Pattern};
pub use listing::Symbols;
pub use object::{FunctionInfo, ObjectInfo};
pub use registry::{Hashes, OpsSpec, Registry};
pub use sets::OpsSet;

use std::fmt;
use std::num::NonZeroU64;

/// A site, by the number its owner gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteIndex(pub u32);

/// A loaded object, by a number of the caller's choice; objects are listed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(pub u64);

/// A registered ops. Numbers ascend in the order of registration and are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpsId(u64);

/// A set of ops that some site runs. Numbers are never used again, so that a trampoline on its way
/// out is not taken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(NonZeroU64);

impl OpsId {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl SetId {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for OpsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ops {}", self.0)
    }
}
