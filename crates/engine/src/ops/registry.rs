//! The registry: all objects, all ops, and what each operation does to them.

use super::bits::{Bits, Members};
use super::hash::Hash;
use super::object::Object;
use super::sets::Sets;
use super::{
    Changes, Flags, LeftOut, ObjectInfo, ObjectKey, OpsError, OpsId, OpsSet, Pattern, SetId,
    SiteIndex,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// What is to be registered.
#[derive(Clone, Debug)]
pub struct OpsSpec {
    /// What the ops is and asks for.
    pub flags: Flags,
    /// The functions it wants; all if empty.
    pub filter: Vec<Pattern>,
    /// The functions it does not want, whatever the filter says.
    pub notrace: Vec<Pattern>,
    /// The threads it wants; all if none are named.
    pub threads: Option<BTreeSet<i32>>,
    /// Whether it begins at once.
    pub enabled: bool,
}

impl Default for OpsSpec {
    fn default() -> Self {
        let (filter, notrace) = (Vec::new(), Vec::new());
        Self { flags: Flags::default(), filter, notrace, threads: None, enabled: true }
    }
}

/// The functions that an ops asks for, and those of them that it does not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// What its filter names; without a filter, everything.
    pub filter: Option<Vec<SiteIndex>>,
    /// What of that its notrace list takes out, or what it cannot have.
    pub notrace: Vec<SiteIndex>,
}

/// An ops, and what it gets.
#[derive(Clone, Debug)]
pub(super) struct Ops {
    pub(super) flags: Flags,
    pub(super) filter: Hash,
    pub(super) notrace: Hash,
    pub(super) threads: Option<BTreeSet<i32>>,
    pub(super) enabled: bool,
    /// Its bit in the masks of those that see exits.
    pub(super) exit: Option<u8>,
    /// The functions it has, whether or not tracing is switched on. None while it is disabled.
    pub(super) wants: Members,
}

/// Decides which ops run where. See the [module](super) for the rules.
#[derive(Debug)]
pub struct Registry {
    pub(super) objects: BTreeMap<ObjectKey, Object>,
    pub(super) ops: BTreeMap<OpsId, Ops>,
    pub(super) sets: Sets,
    pub(super) sites: HashMap<SiteIndex, (ObjectKey, usize)>,
    /// The kernel's `ftrace_enabled`.
    pub(super) switched_on: bool,
    /// Free bits for ops that see exits. What was released last is used last.
    exits: VecDeque<u8>,
    next_ops: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            ops: BTreeMap::new(),
            sets: Sets::default(),
            sites: HashMap::new(),
            switched_on: true,
            exits: (0..Self::MOST_EXITS).collect(),
            next_ops: 1,
        }
    }
}

impl Registry {
    /// So many ops can see exits at once.
    pub const MOST_EXITS: u8 = 64;

    /// An empty registry, switched on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the functions of an object. Filters apply to them at once. Where two exclusive ops
    /// ask for a function, the one that was registered first gets it; the other's share is in
    /// [`Changes::refused`] and stays refused until its filter leaves the function out or it is
    /// disabled.
    pub fn add_object(&mut self, key: ObjectKey, info: ObjectInfo) -> Result<Changes, OpsError> {
        if self.objects.contains_key(&key) {
            return Err(OpsError::KnownObject(key));
        }
        let mut seen = HashSet::new();
        for site in info.functions.iter().filter_map(|function| function.site) {
            if self.sites.contains_key(&site) || !seen.insert(site) {
                return Err(OpsError::KnownSite(site));
            }
        }
        let object = Object::new(info);
        let functions = object.functions.iter().enumerate();
        self.sites.extend(functions.filter_map(|(at, f)| Some((f.site?, (key, at)))));
        let mut changes = Changes::default();
        self.load(key, object, &mut changes);
        Ok(self.finish(changes))
    }

    /// Forgets an object and its functions. The filters keep their patterns.
    pub fn remove_object(&mut self, key: ObjectKey) -> Result<Changes, OpsError> {
        let object = self.objects.remove(&key).ok_or(OpsError::UnknownObject(key))?;
        let mut changes = Changes::default();
        for function in &object.functions {
            self.sets.release(function.set);
            if let Some(site) = function.site {
                self.sites.remove(&site);
                changes.site(site, function.set, None);
            }
        }
        for ops in self.ops.values_mut() {
            ops.filter.unload(key);
            ops.notrace.unload(key);
            ops.wants.remove(&key);
        }
        Ok(self.finish(changes))
    }

    /// Registers an ops (the kernel's `register_ftrace_function`, with its filters set before).
    pub fn register(&mut self, spec: OpsSpec) -> Result<(OpsId, Changes), OpsError> {
        let OpsSpec { flags, threads, enabled, .. } = spec;
        let direct = flags.contains(Flags::DIRECT);
        if direct && flags.intersects(Flags::IPMODIFY | Flags::ENTRY_EXIT) {
            return Err(OpsError::DirectAndMore);
        }
        if flags.contains(Flags::IPMODIFY) && !spec.notrace.is_empty() {
            return Err(OpsError::NotraceAndIpmodify);
        }
        let (mut filter, mut notrace) = (Hash::default(), Hash::default());
        filter.change(spec.filter, true, &self.objects);
        notrace.change(spec.notrace, true, &self.objects);
        let wants = Members::new();
        let mut ops = Ops { flags, filter, notrace, threads, enabled, exit: None, wants };
        let wants = self.admit(&ops, None)?;
        if flags.contains(Flags::ENTRY_EXIT) {
            ops.exit = Some(self.exits.pop_front().ok_or(OpsError::TooManyExits)?);
        }
        let id = OpsId(self.next_ops);
        self.next_ops += 1;
        self.ops.insert(id, ops);
        let mut changes = Changes::default();
        self.grant(id, wants, &mut changes);
        Ok((id, self.finish(changes)))
    }

    /// Ends an ops. Its owner may free it when the changes are carried out and the dead sets'
    /// trampolines have been left.
    pub fn unregister(&mut self, id: OpsId) -> Result<Changes, OpsError> {
        let exit = self.known(id)?.exit;
        let mut changes = Changes::default();
        self.grant(id, Members::new(), &mut changes);
        self.ops.remove(&id);
        self.exits.extend(exit);
        self.sets.reconsider(id);
        Ok(self.finish(changes))
    }

    /// Adds to the filter, with `reset` replaces it. An empty filter means every function.
    pub fn set_filter(
        &mut self,
        id: OpsId,
        patterns: Vec<Pattern>,
        reset: bool,
    ) -> Result<Changes, OpsError> {
        let mut ops = self.known(id)?.clone();
        ops.filter.change(patterns, reset, &self.objects);
        self.replace(id, ops)
    }

    /// Adds to the functions that are not wanted, with `reset` replaces them. They win over the
    /// filter.
    pub fn set_notrace(
        &mut self,
        id: OpsId,
        patterns: Vec<Pattern>,
        reset: bool,
    ) -> Result<Changes, OpsError> {
        let mut ops = self.known(id)?.clone();
        if ops.flags.contains(Flags::IPMODIFY) {
            return Err(OpsError::NotraceAndIpmodify);
        }
        ops.notrace.change(patterns, reset, &self.objects);
        self.replace(id, ops)
    }

    /// Lets an ops begin or pause. A paused ops keeps its filters, and has no function for itself.
    pub fn set_enabled(&mut self, id: OpsId, enabled: bool) -> Result<Changes, OpsError> {
        let mut ops = self.known(id)?.clone();
        ops.enabled = enabled;
        self.replace(id, ops)
    }

    /// Switches all tracing on or off (the kernel's `ftrace_enabled`). While it is off, ops are
    /// registered and changed as ever, and no site is armed.
    pub fn switch(&mut self, on: bool) -> Result<Changes, OpsError> {
        let permanent = |ops: &Ops| ops.enabled && ops.flags.contains(Flags::PERMANENT);
        if !on && let Some((&id, _)) = self.ops.iter().find(|(_, ops)| permanent(ops)) {
            return Err(OpsError::Permanent(id));
        }
        let mut changes = Changes::default();
        if on != self.switched_on {
            self.switched_on = on;
            let keys: Vec<ObjectKey> = self.objects.keys().copied().collect();
            for key in keys {
                if on { self.arm(key, &mut changes) } else { self.disarm(key, &mut changes) }
            }
        }
        Ok(self.finish(changes))
    }

    /// Sets the threads that an ops wants. Trampolines change, sites do not.
    pub fn set_threads(
        &mut self,
        id: OpsId,
        threads: Option<BTreeSet<i32>>,
    ) -> Result<Changes, OpsError> {
        let ops = self.ops.get_mut(&id).ok_or(OpsError::UnknownOps(id))?;
        let mut changes = Changes::default();
        if ops.threads != threads {
            ops.threads = threads;
            changes.retarget = self.sets.with(id).map(|(set, _)| set).collect();
        }
        Ok(self.finish(changes))
    }

    /// Says that an ops calls something else from now on. Trampolines change, sites do not, but for
    /// those that jump right to the trampoline a `DIRECT` ops brought: they are re-pointed to a new
    /// set.
    pub fn set_callback(&mut self, id: OpsId) -> Result<Changes, OpsError> {
        let direct = self.known(id)?.flags.contains(Flags::DIRECT);
        let sets = self.sets.with(id);
        let (own, mixed): (Vec<_>, Vec<_>) = sets.partition(|(_, set)| direct && set.ops == [id]);
        let own: Vec<SetId> = own.into_iter().map(|(set, _)| set).collect();
        let retarget = mixed.into_iter().map(|(set, _)| set).collect();
        let mut changes = Changes { retarget, ..Changes::default() };
        self.renew(id, &own, &mut changes);
        Ok(self.finish(changes))
    }

    /// The ops of a set.
    #[must_use]
    pub fn set(&self, id: SetId) -> Option<&OpsSet> {
        self.sets.get(id)
    }

    /// All sets that need a trampoline.
    pub fn sets(&self) -> impl Iterator<Item = (SetId, &OpsSet)> {
        self.sets.iter()
    }

    /// What a site runs.
    #[must_use]
    pub fn set_at(&self, site: SiteIndex) -> Option<SetId> {
        let (key, at) = self.sites.get(&site)?;
        self.objects.get(key)?.functions.get(*at)?.set
    }

    /// The flags of an ops.
    #[must_use]
    pub fn flags(&self, id: OpsId) -> Option<Flags> {
        self.ops.get(&id).map(|ops| ops.flags)
    }

    /// The threads that an ops wants; all if none are named.
    #[must_use]
    pub fn threads(&self, id: OpsId) -> Option<&BTreeSet<i32>> {
        self.ops.get(&id)?.threads.as_ref()
    }

    /// The hashes of an ops as sites; for the list function, which asks them call by call.
    #[must_use]
    pub fn hashes(&self, id: OpsId) -> Option<Hashes> {
        let ops = self.ops.get(&id)?;
        let mut hashes =
            Hashes { filter: (!ops.filter.is_empty()).then(Vec::new), ..Hashes::default() };
        for (key, object) in &self.objects {
            let sites = |bits: &Bits| -> Vec<SiteIndex> {
                bits.iter().filter_map(|at| object.functions[at].site).collect()
            };
            let mut refused = match (ops.filter.members(*key), &mut hashes.filter) {
                (Some(members), Some(filter)) => {
                    filter.extend(sites(members));
                    members.clone()
                }
                (None, Some(_)) => continue,
                (_, None) => Bits::full(object.functions.len()),
            };
            refused.remove(ops.wants.get(key));
            hashes.notrace.extend(sites(&refused));
        }
        Some(hashes)
    }

    /// The bit of an ops in the masks of those that see exits.
    #[must_use]
    pub fn exit_bit(&self, id: OpsId) -> Option<u8> {
        self.ops.get(&id)?.exit
    }

    /// How many functions an ops has.
    #[must_use]
    pub fn wanted(&self, id: OpsId) -> usize {
        self.ops.get(&id).map_or(0, |ops| ops.wants.values().map(|bits| bits.len()).sum())
    }

    /// The patterns of an ops that match nothing yet; first those of the filter.
    #[must_use]
    pub fn pending(&self, id: OpsId) -> Vec<&Pattern> {
        let Some(ops) = self.ops.get(&id) else { return Vec::new() };
        let patterns = ops.filter.patterns().iter().chain(ops.notrace.patterns());
        patterns.filter(|pattern| pattern.is_pending(&self.objects)).collect()
    }

    /// The functions that an enabled ops asked for and does not get: name, module, and why.
    #[must_use]
    pub fn left_out(&self, id: OpsId) -> Vec<(&str, &str, LeftOut)> {
        let Some(ops) = self.ops.get(&id).filter(|ops| ops.enabled) else { return Vec::new() };
        let all = self.objects.iter().flat_map(|(&key, object)| {
            let mut asked = ops.asked(key, object);
            asked.remove(ops.wants.get(&key));
            let asked: Vec<usize> = asked.iter().collect();
            asked.into_iter().map(move |at| {
                let why = ops.left_out(object, at);
                (object.functions[at].name(), object.module.as_str(), why)
            })
        });
        all.collect()
    }

    fn known(&self, id: OpsId) -> Result<&Ops, OpsError> {
        self.ops.get(&id).ok_or(OpsError::UnknownOps(id))
    }
}
