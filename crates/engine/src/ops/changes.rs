//! What a patcher has to do.

use super::{OpsId, SetId, SiteIndex};

/// What an operation changed, to be carried out in the order of the fields. All lists are sorted by
/// their first item, and no site is in more than one of `repoint`, `arm` and `disarm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "sites still run what they ran before"]
pub struct Changes {
    /// Sets that need a trampoline now; [`Registry::set`](super::Registry::set) has their ops.
    pub new_sets: Vec<SetId>,
    /// Sets that go on with the same ops, one of which calls something else or for other threads
    /// now: their trampolines change, and no site does.
    pub retarget: Vec<SetId>,
    /// Armed sites that go from one set (the first) to another.
    pub repoint: Vec<(SiteIndex, SetId, SetId)>,
    /// Sites that nobody wanted and somebody wants now.
    pub arm: Vec<(SiteIndex, SetId)>,
    /// Sites that nobody wants any more. Those of a removed object are here, too: if its code is
    /// unmapped already, there is nothing to restore.
    pub disarm: Vec<SiteIndex>,
    /// Sets whose trampolines may go as soon as no thread is in them.
    pub dead_sets: Vec<SetId>,
    /// Functions of a new object that an ops asked for and cannot have, because another ops has
    /// them for itself.
    pub refused: Vec<(OpsId, SiteIndex)>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Notes what becomes of a site.
    pub(super) fn site(&mut self, site: SiteIndex, old: Option<SetId>, new: Option<SetId>) {
        match (old, new) {
            (Some(old), Some(new)) if old != new => self.repoint.push((site, old, new)),
            (None, Some(new)) => self.arm.push((site, new)),
            (Some(_), None) => self.disarm.push(site),
            _ => {}
        }
    }

    /// Brings the lists into their order.
    pub(super) fn sort(&mut self) {
        self.new_sets.sort_unstable();
        self.retarget.sort_unstable();
        self.repoint.sort_unstable();
        self.arm.sort_unstable();
        self.disarm.sort_unstable();
        self.dead_sets.sort_unstable();
        self.refused.sort_unstable();
    }
}
