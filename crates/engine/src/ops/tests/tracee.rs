//! A pretended process: what its sites run when all changes are carried out as they come.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Sites, and trampolines with the ops they had when they were made.
#[derive(Default)]
pub(super) struct Tracee {
    pub(super) armed: BTreeMap<SiteIndex, SetId>,
    pub(super) sets: BTreeMap<SetId, OpsSet>,
}

impl Tracee {
    /// Carries out the changes, each of which must fit what is there. Each site changes once, from
    /// the code of its old set to that of its new one: so there is no moment at which an ops that is
    /// in both is missing, nor one at which an ops runs that is in neither.
    pub(super) fn apply(&mut self, changes: &Changes, registry: &Registry) {
        for &set in &changes.new_sets {
            let ops = registry.set(set).unwrap().clone();
            assert!(self.sets.values().all(|known| *known != ops) || is_renewed(changes, set));
            assert_eq!(self.sets.insert(set, ops), None, "a number is used again");
        }
        for set in &changes.retarget {
            assert!(self.sets.contains_key(set), "no such trampoline: {set:?}");
        }
        let mut seen = BTreeSet::new();
        for (site, old, new) in &changes.repoint {
            assert!(seen.insert(site) && old != new && self.sets.contains_key(new));
            assert_eq!(self.armed.insert(*site, *new), Some(*old));
        }
        for (site, set) in &changes.arm {
            assert!(seen.insert(site) && self.sets.contains_key(set));
            assert_eq!(self.armed.insert(*site, *set), None);
        }
        for site in &changes.disarm {
            assert!(seen.insert(site) && self.armed.remove(site).is_some());
        }
        for set in &changes.dead_sets {
            assert!(self.sets.remove(set).is_some());
            assert!(self.armed.values().all(|used| used != set), "a dead set is in use");
        }
        let used: BTreeSet<_> = self.armed.values().collect();
        assert!(changes.new_sets.iter().all(|set| used.contains(set)), "made for nothing");
        for (set, ops) in &self.sets {
            assert_eq!(registry.set(*set), Some(ops), "a set changed, or was lost in silence");
        }
        assert_eq!(registry.sets().count(), self.sets.len());
    }

    /// The ops that a site calls, and whether they have all registers.
    pub(super) fn fires(&self, site: SiteIndex) -> (Vec<u64>, bool) {
        let set = self.armed.get(&site).map(|set| &self.sets[set]);
        set.map_or((Vec::new(), false), |set| {
            (set.ops.iter().map(|ops| ops.get()).collect(), set.registers)
        })
    }

    /// Sets that no site uses.
    pub(super) fn unused(&self) -> impl Iterator<Item = &OpsSet> {
        let used: BTreeSet<_> = self.armed.values().collect();
        self.sets.iter().filter(move |(set, _)| !used.contains(set)).map(|(_, ops)| ops)
    }
}

/// Whether it takes the place of one with the same ops.
fn is_renewed(changes: &Changes, set: SetId) -> bool {
    changes.repoint.iter().any(|(_, old, new)| *new == set && changes.dead_sets.contains(old))
}
