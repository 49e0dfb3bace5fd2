//! From wishes to sets: only functions whose wishes change are looked at.

use super::bits::{Bits, Members};
use super::object::Object;
use super::registry::{Ops, Registry};
use super::sets::Sets;
use super::{Changes, Flags, LeftOut, ObjectKey, OpsError, OpsId, OpsSet, SetId};
use std::collections::{BTreeMap, HashMap};

impl Ops {
    /// The functions of an object that the hashes ask for: an empty filter means all, notrace wins.
    pub(super) fn asked(&self, key: ObjectKey, object: &Object) -> Bits {
        let count = object.functions.len();
        let mut asked = if self.filter.is_empty() {
            Bits::full(count)
        } else {
            self.filter.members(key).cloned().unwrap_or_else(|| Bits::below(count))
        };
        asked.remove(self.notrace.members(key));
        asked
    }

    /// Of these, the functions that it could get if no other ops were there.
    fn matches(&self, key: ObjectKey, object: &Object) -> Bits {
        let needs_registers = self.flags.needs_registers();
        let able = if needs_registers { &object.registers } else { &object.traceable };
        let mut matches = self.asked(key, object);
        matches.keep(Some(able));
        if self.flags.contains(Flags::ENTRY_EXIT) {
            matches.keep(Some(&object.exits));
        }
        matches
    }

    /// Why it does not get a function that it asks for.
    pub(super) fn left_out(&self, object: &Object, at: usize) -> LeftOut {
        if !object.traceable.contains(at) {
            LeftOut::NoSite
        } else if self.flags.needs_registers() && !object.registers.contains(at) {
            LeftOut::NoRegisters
        } else if self.flags.contains(Flags::ENTRY_EXIT) && !object.exits.contains(at) {
            LeftOut::NoExit
        } else {
            LeftOut::Taken
        }
    }
}

impl Registry {
    /// The functions that an ops gets as it would be from now on, or why it cannot be so. As in the
    /// kernel, only functions that it did not ask for before (as it was, if it was) are fought for.
    pub(super) fn admit(&self, ops: &Ops, before: Option<&Ops>) -> Result<Members, OpsError> {
        if !ops.enabled {
            return Ok(Members::new());
        }
        let before = before.filter(|before| before.enabled);
        if before.is_none() && ops.flags.contains(Flags::PERMANENT) && !self.switched_on {
            return Err(OpsError::SwitchedOff);
        }
        if ops.flags.exclusive() && ops.filter.is_empty() {
            return Err(OpsError::Everything);
        }
        let mut wants = Members::new();
        for (&key, object) in &self.objects {
            let mut matches = ops.matches(key, object);
            if ops.flags.exclusive() {
                let asked = before.map(|before| before.matches(key, object));
                self.fight(key, object, &matches, asked.as_ref())?;
                let mut refused = asked.unwrap_or_default();
                refused.remove(ops.wants.get(&key));
                matches.remove(Some(&refused));
            }
            if !matches.is_empty() {
                wants.insert(key, matches);
            }
        }
        Ok(wants)
    }

    /// Looks whether another ops has a function that is to be taken newly.
    fn fight(
        &self,
        key: ObjectKey,
        object: &Object,
        matches: &Bits,
        asked: Option<&Bits>,
    ) -> Result<(), OpsError> {
        let mut clash = matches.clone();
        clash.remove(asked);
        clash.keep(Some(&object.claimed));
        let Some(at) = clash.iter().next() else { return Ok(()) };
        let has = |ops: &Ops| {
            ops.flags.exclusive() && ops.wants.get(&key).is_some_and(|bits| bits.contains(at))
        };
        let holder = self.ops.iter().find(|(_, ops)| has(ops));
        let function = object.functions[at].name().to_owned();
        holder.map_or(Ok(()), |(&by, _)| Err(OpsError::Taken { function, by }))
    }

    /// Puts an ops in place of what it was, if it may be so.
    pub(super) fn replace(&mut self, id: OpsId, ops: Ops) -> Result<Changes, OpsError> {
        let wants = self.admit(&ops, self.ops.get(&id))?;
        self.ops.insert(id, ops);
        let mut changes = Changes::default();
        self.grant(id, wants, &mut changes);
        Ok(self.finish(changes))
    }

    /// Gives an ops these functions in place of those it has.
    pub(super) fn grant(&mut self, id: OpsId, wants: Members, changes: &mut Changes) {
        let Some(ops) = self.ops.get_mut(&id) else { return };
        let had = std::mem::replace(&mut ops.wants, wants);
        let Self { objects, ops: all, sets, switched_on, .. } = self;
        let ops = &all[&id];
        let mut steps = Steps::new(id, all);
        for (key, object) in objects {
            let (old, new) = (had.get(key), ops.wants.get(key));
            if ops.flags.exclusive() {
                object.claimed.remove(old);
                object.claimed.add(new);
            }
            if !*switched_on {
                continue;
            }
            for (at, joins) in Bits::differences(old, new) {
                let (site, set) = (object.functions[at].site, object.functions[at].set);
                let next = steps.next(set, object.registers.contains(at), joins, sets);
                object.place(at, next, sets);
                site.into_iter().for_each(|site| changes.site(site, set, next));
            }
        }
    }

    /// Takes in an object: every ops takes what it wants, the eldest first.
    pub(super) fn load(&mut self, key: ObjectKey, mut object: Object, changes: &mut Changes) {
        for (&id, ops) in &mut self.ops {
            ops.filter.load(key, &object);
            ops.notrace.load(key, &object);
            if !ops.enabled {
                continue;
            }
            let mut wants = ops.matches(key, &object);
            if ops.flags.exclusive() {
                let mut refused = wants.clone();
                refused.keep(Some(&object.claimed));
                wants.remove(Some(&refused));
                object.claimed.add(Some(&wants));
                let sites = refused.iter().filter_map(|at| object.functions[at].site);
                changes.refused.extend(sites.map(|site| (id, site)));
            }
            if !wants.is_empty() {
                ops.wants.insert(key, wants);
            }
        }
        self.objects.insert(key, object);
        if self.switched_on {
            self.arm(key, changes);
        }
    }

    /// Arms all wanted functions of an object, none of which is armed.
    pub(super) fn arm(&mut self, key: ObjectKey, changes: &mut Changes) {
        let Self { objects, ops: all, sets, .. } = self;
        let Some(object) = objects.get_mut(&key) else { return };
        let mut reached: Vec<Option<SetId>> = vec![None; object.functions.len()];
        for (&id, ops) in &*all {
            let mut steps = Steps::new(id, all);
            for at in ops.wants.get(&key).into_iter().flat_map(Bits::iter) {
                let registers = object.registers.contains(at);
                reached[at] = steps.next(reached[at], registers, true, sets);
            }
        }
        for (at, set) in reached.into_iter().enumerate() {
            object.place(at, set, sets);
            object.functions[at].site.into_iter().for_each(|site| changes.site(site, None, set));
        }
    }

    /// Disarms all functions of an object.
    pub(super) fn disarm(&mut self, key: ObjectKey, changes: &mut Changes) {
        let Some(object) = self.objects.get_mut(&key) else { return };
        for at in 0..object.functions.len() {
            let (site, set) = (object.functions[at].site, object.functions[at].set);
            object.place(at, None, &mut self.sets);
            site.into_iter().for_each(|site| changes.site(site, set, None));
        }
    }

    /// Gives these sets of the ops new numbers.
    pub(super) fn renew(&mut self, id: OpsId, own: &[SetId], changes: &mut Changes) {
        let Self { objects, ops, sets, .. } = self;
        let Some(ops) = ops.get(&id) else { return };
        let renewed: HashMap<SetId, SetId> =
            own.iter().filter_map(|&old| Some((old, sets.renew(old)?))).collect();
        for (key, bits) in &ops.wants {
            let Some(object) = objects.get_mut(key) else { continue };
            for at in bits.iter() {
                let (site, old) = (object.functions[at].site, object.functions[at].set);
                if let Some(&new) = old.and_then(|old| renewed.get(&old)) {
                    object.place(at, Some(new), sets);
                    site.into_iter().for_each(|site| changes.site(site, old, Some(new)));
                }
            }
        }
    }

    /// Ends an operation.
    pub(super) fn finish(&mut self, mut changes: Changes) -> Changes {
        let ops = &self.ops;
        let keep = |set: &OpsSet| {
            let [id] = set.ops[..] else { return false };
            let has_none_to_keep = |ops: &Ops| ops.flags.intersects(Flags::DYNAMIC | Flags::DIRECT);
            ops.get(&id).is_some_and(|ops| !has_none_to_keep(ops))
        };
        (changes.new_sets, changes.dead_sets) = self.sets.settle(keep);
        changes.sort();
        changes
    }
}

/// What joining or leaving makes of a set: worked out once for all sites that share it.
struct Steps<'a> {
    id: OpsId,
    all: &'a BTreeMap<OpsId, Ops>,
    known: HashMap<Step, Option<SetId>>,
    /// Neighbours are often alike.
    last: Option<(Step, Option<SetId>)>,
}

/// From which set, whether the functions can give all registers, whether the ops joins.
type Step = (Option<SetId>, bool, bool);

impl<'a> Steps<'a> {
    fn new(id: OpsId, all: &'a BTreeMap<OpsId, Ops>) -> Self {
        Self { id, all, known: HashMap::new(), last: None }
    }

    /// The set after the ops joined or left.
    fn next(
        &mut self,
        set: Option<SetId>,
        registers: bool,
        joins: bool,
        sets: &mut Sets,
    ) -> Option<SetId> {
        let step = (set, registers, joins);
        if let Some((last, next)) = self.last
            && last == step
        {
            return next;
        }
        let known = self.known.get(&step).copied();
        let next = known.unwrap_or_else(|| self.work_out(step, sets));
        self.known.insert(step, next);
        self.last = Some((step, next));
        next
    }

    fn work_out(&self, (set, registers, joins): Step, sets: &mut Sets) -> Option<SetId> {
        let mut ops = set.and_then(|set| sets.get(set)).map_or(Vec::new(), |set| set.ops.clone());
        match ops.binary_search(&self.id) {
            Err(at) if joins => ops.insert(at, self.id),
            Ok(at) if !joins => _ = ops.remove(at),
            _ => {}
        }
        let takes = |id| self.all.get(id).is_some_and(|ops| ops.flags.takes_registers());
        let registers = registers && ops.iter().any(takes);
        sets.intern(OpsSet { ops, registers })
    }
}
