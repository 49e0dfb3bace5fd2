//! Sets of ops, interned: sites that the same ops want share one.

use super::{OpsId, SetId};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;

/// The ops of a set, as its trampoline must know them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpsSet {
    /// Who is called, in the order of registration.
    pub ops: Vec<OpsId>,
    /// Whether all registers are to be had: some ops takes them, and the sites can give them.
    pub registers: bool,
}

/// All sets that are in use, or kept for a static ops.
#[derive(Debug)]
pub(super) struct Sets {
    live: BTreeMap<SetId, Live>,
    by_ops: HashMap<OpsSet, SetId>,
    next: NonZeroU64,
    /// Made since the last [`Sets::settle`].
    created: Vec<SetId>,
    /// Out of use since then, unless taken up again.
    idle: Vec<SetId>,
}

#[derive(Debug)]
struct Live {
    set: OpsSet,
    /// How many functions run it.
    users: usize,
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            by_ops: HashMap::new(),
            next: NonZeroU64::MIN,
            created: Vec::new(),
            idle: Vec::new(),
        }
    }
}

impl Sets {
    pub(super) fn get(&self, id: SetId) -> Option<&OpsSet> {
        self.live.get(&id).map(|live| &live.set)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SetId, &OpsSet)> {
        self.live.iter().map(|(&id, live)| (id, &live.set))
    }

    /// The sets with this ops.
    pub(super) fn with(&self, ops: OpsId) -> impl Iterator<Item = (SetId, &OpsSet)> {
        self.iter().filter(move |(_, set)| set.ops.binary_search(&ops).is_ok())
    }

    /// The number of a set; of none if it is empty.
    pub(super) fn intern(&mut self, set: OpsSet) -> Option<SetId> {
        if set.ops.is_empty() {
            return None;
        }
        let known = self.by_ops.get(&set).copied();
        Some(known.unwrap_or_else(|| self.create(set)))
    }

    fn create(&mut self, set: OpsSet) -> SetId {
        let id = SetId(self.next);
        self.next = self.next.saturating_add(1);
        self.by_ops.insert(set.clone(), id);
        self.live.insert(id, Live { set, users: 0 });
        self.created.push(id);
        self.idle.push(id);
        id
    }

    /// A new number for the same ops; the old one is not found any more.
    pub(super) fn renew(&mut self, id: SetId) -> Option<SetId> {
        let set = self.get(id)?.clone();
        Some(self.create(set))
    }

    pub(super) fn take(&mut self, id: Option<SetId>) {
        if let Some(live) = id.and_then(|id| self.live.get_mut(&id)) {
            live.users += 1;
        }
    }

    pub(super) fn release(&mut self, id: Option<SetId>) {
        let Some(id) = id else { return };
        if let Some(live) = self.live.get_mut(&id) {
            live.users -= 1;
            if live.users == 0 {
                self.idle.push(id);
            }
        }
    }

    /// Asks again for the kept sets of an ops whether they are to be kept.
    pub(super) fn reconsider(&mut self, ops: OpsId) {
        let unused = self.live.iter().filter(|(_, live)| live.users == 0 && live.set.ops == [ops]);
        self.idle.extend(unused.map(|(&id, _)| id));
    }

    /// Ends an operation: which sets are new, and which are no more. A set that was in use before
    /// may be kept.
    pub(super) fn settle(&mut self, keep: impl Fn(&OpsSet) -> bool) -> (Vec<SetId>, Vec<SetId>) {
        let mut created = std::mem::take(&mut self.created);
        let before = |id: SetId| created.first().is_none_or(|&first| id < first);
        let mut dead = Vec::new();
        for id in std::mem::take(&mut self.idle) {
            let Some(live) = self.live.get(&id) else { continue };
            if live.users > 0 || before(id) && keep(&live.set) {
                continue;
            }
            if self.by_ops.get(&live.set) == Some(&id) {
                self.by_ops.remove(&live.set);
            }
            self.live.remove(&id);
            dead.extend(before(id).then_some(id));
        }
        created.retain(|id| self.live.contains_key(id));
        (created, dead)
    }
}
