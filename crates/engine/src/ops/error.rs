//! Why an operation is refused, and why a function is left out.

use super::{ObjectKey, OpsId, SiteIndex};
use thiserror::Error;

/// Why an operation failed. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpsError {
    /// There is no such ops, or no longer.
    #[error("{0} is not registered")]
    UnknownOps(OpsId),
    /// There is no such object, or no longer.
    #[error("object {} is not known", .0.0)]
    UnknownObject(ObjectKey),
    /// The object was added before.
    #[error("object {} is known already", .0.0)]
    KnownObject(ObjectKey),
    /// Two functions cannot have the same site.
    #[error("site {} belongs to another function", .0.0)]
    KnownSite(SiteIndex),
    /// `DIRECT` goes with neither `IPMODIFY` nor `ENTRY_EXIT`.
    #[error("a direct trampoline can neither redirect functions nor hook their exits")]
    DirectAndMore,
    /// An exclusive ops must say which functions it means.
    #[error("an ops that redirects functions or brings its own trampoline needs a filter")]
    Everything,
    /// `IPMODIFY` ops have no notrace hash.
    #[error("an ops that redirects functions cannot have a notrace list")]
    NotraceAndIpmodify,
    /// `IPMODIFY` and `DIRECT` are exclusive for each function.
    #[error("{by} has the function {function} for itself")]
    Taken {
        /// The function, as it is shown.
        function: String,
        /// Who has it.
        by: OpsId,
    },
    /// All places for ops that see exits are taken.
    #[error("there are {} ops with exits already", super::Registry::MOST_EXITS)]
    TooManyExits,
    /// A permanent ops is enabled: tracing cannot be switched off.
    #[error("{0} is permanent: tracing cannot be switched off")]
    Permanent(OpsId),
    /// Tracing is switched off: a permanent ops cannot be enabled.
    #[error("tracing is switched off: a permanent ops cannot be enabled")]
    SwitchedOff,
}

impl OpsError {
    /// The error number that the kernel returns in this case.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        const ENOENT: i32 = 2;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const EINVAL: i32 = 22;
        const ENOSPC: i32 = 28;
        match self {
            Self::UnknownObject(_) => ENOENT,
            Self::KnownObject(_) | Self::KnownSite(_) => EEXIST,
            Self::Taken { .. } | Self::Permanent(_) | Self::SwitchedOff => EBUSY,
            Self::TooManyExits => ENOSPC,
            Self::UnknownOps(_)
            | Self::DirectAndMore
            | Self::Everything
            | Self::NotraceAndIpmodify => EINVAL,
        }
    }
}

/// Why an ops does not get a function that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The function cannot be traced.
    NoSite,
    /// The ops needs all registers, and this site cannot give them.
    NoRegisters,
    /// The ops sees exits, and those of this function cannot be seen.
    NoExit,
    /// When the function was loaded, another ops had it for itself.
    Taken,
}
