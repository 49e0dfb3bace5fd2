//! Random operations: registry, pretended process and model must agree after each.

use super::model::{Model, ModelOps, Refused, means};
use super::tracee::Tracee;
use super::*;
use std::collections::BTreeSet;

const SEQUENCES: u64 = 2000;
const OPERATIONS: usize = 60;

/// Numbers that a seed repeats (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) as usize % limit
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// `a0`, …, `c4`.
    fn name(&mut self) -> String {
        format!("{}{}", ["a", "b", "c"][self.below(3)], self.below(5))
    }

    fn patterns(&mut self) -> Vec<String> {
        let one = |random: &mut Self| match random.below(20) {
            0 => "*".to_owned(),
            1..8 => format!("{}*", ["a", "b", "c"][random.below(3)]),
            _ => random.name(),
        };
        (0..[0, 1, 1, 1, 2, 3][self.below(6)]).map(|_| one(self)).collect()
    }

    fn flags(&mut self) -> Flags {
        let all = [
            (Flags::DYNAMIC, 50),
            (Flags::SAVE_REGS, 25),
            (Flags::SAVE_REGS_IF_SUPPORTED, 20),
            (Flags::RECURSION, 10),
            (Flags::IPMODIFY, 25),
            (Flags::DIRECT, 20),
            (Flags::PERMANENT, 5),
            (Flags::ENTRY_EXIT, 10),
        ];
        let chosen = all.into_iter().filter(|(_, percent)| self.chance(*percent));
        chosen.fold(Flags::NONE, |flags, (flag, _)| flags | flag)
    }
}

/// Patterns of the model as the registry's: names exactly, others by a matcher.
fn compiled(texts: &[String]) -> Vec<Pattern> {
    let compile = |text: &String| {
        if !text.ends_with('*') {
            return Pattern::exact(text);
        }
        let pattern = text.clone();
        Pattern::matching(text, move |names: &[&str], _: &str| means(&pattern, names))
    };
    texts.iter().map(compile).collect()
}

/// What happened in all sequences: a test that never meets the hard cases proves nothing.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
    armed: usize,
    repointed: usize,
    disarmed: usize,
    refused: usize,
    kept: usize,
}

/// The registry, and what it is compared with.
#[derive(Default)]
struct World {
    registry: Registry,
    model: Model,
    tracee: Tracee,
    next_site: u32,
    registered: u64,
    tally: Tally,
}

type Outcome = (Result<Changes, OpsError>, Result<(), Refused>);

impl World {
    /// Does something to both.
    fn step(&mut self, random: &mut Random) -> Outcome {
        let ids: Vec<u64> = self.model.ops.keys().copied().collect();
        let choice = random.below(100);
        if ids.is_empty() || choice < 16 && ids.len() < 12 {
            return self.register(random);
        }
        let id = ids[random.below(ids.len())];
        let mut ops = self.model.ops[&id].clone();
        match choice {
            ..28 => {
                self.model.ops.remove(&id);
                (self.registry.unregister(OpsId(id)), Ok(()))
            }
            28..56 => self.set_hash(id, ops, random),
            56..68 => {
                ops.enabled = random.chance(60);
                let changes = self.registry.set_enabled(OpsId(id), ops.enabled);
                (changes, self.model.replace(id, ops))
            }
            68..76 => {
                let on = random.chance(60);
                (self.registry.switch(on), self.model.switch(on))
            }
            76..90 => self.load_or_unload(random),
            _ => (self.retarget(OpsId(id), random), Ok(())),
        }
    }

    fn register(&mut self, random: &mut Random) -> Outcome {
        let notrace = if random.chance(30) { random.patterns() } else { Vec::new() };
        let enabled = random.chance(85);
        let filter = random.patterns();
        let flags = random.flags();
        let spec = OpsSpec {
            flags,
            filter: compiled(&filter),
            notrace: compiled(&notrace),
            threads: None,
            enabled,
        };
        let id = self.registered + 1;
        let refused = BTreeSet::new();
        let ops = ModelOps { flags, filter, notrace, enabled, refused };
        let outcome = self.registry.register(spec);
        let agreed = self.model.register(id, ops);
        if let Ok((given, _)) = &outcome {
            assert_eq!(given.get(), id);
            self.registered = id;
        }
        (outcome.map(|(_, changes)| changes), agreed)
    }

    fn set_hash(&mut self, id: u64, mut ops: ModelOps, random: &mut Random) -> Outcome {
        let (patterns, reset) = (random.patterns(), random.chance(50));
        let compiled = compiled(&patterns);
        let is_filter = random.chance(60);
        let hash = if is_filter { &mut ops.filter } else { &mut ops.notrace };
        if reset {
            hash.clear();
        }
        hash.extend(patterns);
        if is_filter {
            let changes = self.registry.set_filter(OpsId(id), compiled, reset);
            return (changes, self.model.replace(id, ops));
        }
        let changes = self.registry.set_notrace(OpsId(id), compiled, reset);
        let forbidden = ops.flags.contains(Flags::IPMODIFY);
        (changes, if forbidden { Err(Refused) } else { self.model.replace(id, ops) })
    }

    fn load_or_unload(&mut self, random: &mut Random) -> Outcome {
        let key = ObjectKey(random.below(5) as u64);
        if self.model.objects.contains_key(&key) {
            self.model.unload(key);
            return (self.registry.remove_object(key), Ok(()));
        }
        let functions = self.functions(random);
        let info = ObjectInfo { functions: functions.clone(), ..ObjectInfo::default() };
        let outcome = self.registry.add_object(key, info);
        let expected = self.model.load(key, functions);
        let refused = &outcome.as_ref().unwrap().refused;
        let refused: Vec<_> = refused.iter().map(|(ops, site)| (ops.get(), *site)).collect();
        assert_eq!(refused, expected);
        (outcome, Ok(()))
    }

    fn functions(&mut self, random: &mut Random) -> Vec<FunctionInfo> {
        let count = if random.chance(5) { 60 + random.below(10) } else { random.below(7) };
        let functions = (0..count).map(|_| {
            let names = (0..1 + random.below(2)).map(|_| random.name()).collect();
            self.next_site += 1;
            let site = random.chance(90).then_some(SiteIndex(self.next_site));
            FunctionInfo {
                names,
                site,
                regs_supported: random.chance(80),
                exit_supported: random.chance(80),
            }
        });
        functions.collect()
    }

    /// Changes the callback or the threads of an ops: only the trampolines it is in are named.
    fn retarget(&mut self, id: OpsId, random: &mut Random) -> Result<Changes, OpsError> {
        let direct = self.model.ops[&id.get()].flags.contains(Flags::DIRECT);
        let callback = random.chance(50);
        let goes = |set: &OpsSet| set.ops.contains(&id) && !(callback && direct && set.ops == [id]);
        let sets = self.tracee.sets.iter().filter(|(_, set)| goes(set));
        let expected: Vec<_> = sets.map(|(set, _)| *set).collect();
        let changes = if callback {
            self.registry.set_callback(id)?
        } else {
            let threads = Some(BTreeSet::from([self.next_site as i32]));
            let differ = self.registry.threads(id) != threads.as_ref();
            let changes = self.registry.set_threads(id, threads)?;
            assert!(changes.arm.is_empty() && changes.repoint.is_empty());
            if !differ {
                assert!(changes.is_empty());
                return Ok(changes);
            }
            changes
        };
        assert_eq!(changes.retarget, expected);
        assert!(changes.arm.is_empty() && changes.disarm.is_empty());
        Ok(changes)
    }

    /// One operation, and everything that must hold after it.
    fn advance(&mut self, random: &mut Random) {
        let before = format!("{:?}", self.registry);
        let (outcome, agreed) = self.step(random);
        assert_eq!(outcome.is_ok(), agreed.is_ok(), "{outcome:?}");
        match outcome {
            Ok(changes) => {
                self.tracee.apply(&changes, &self.registry);
                self.tally.armed += changes.arm.len();
                self.tally.repointed += changes.repoint.len();
                self.tally.disarmed += changes.disarm.len();
                self.tally.refused += changes.refused.len();
            }
            Err(_) => {
                assert_eq!(format!("{:?}", self.registry), before, "a failure changed something");
                self.tally.failed += 1;
            }
        }
        self.compare();
    }

    fn compare(&mut self) {
        let mut armed = 0;
        for function in self.model.functions() {
            let Some(site) = function.site else { continue };
            let fires = self.tracee.fires(site);
            assert_eq!(fires, self.model.fires(function), "{function:?}");
            armed += usize::from(!fires.0.is_empty());
            assert_eq!(self.registry.set_at(site), self.tracee.armed.get(&site).copied());
        }
        assert_eq!(armed, self.tracee.armed.len(), "sites that are no more are armed");
        for (&id, ops) in &self.model.ops {
            let has = self.model.functions().filter(|function| ops.has(function)).count();
            assert_eq!(self.registry.wanted(OpsId(id)), has);
        }
        for set in self.tracee.unused() {
            let [id] = set.ops[..] else { panic!("{set:?} is kept for nobody") };
            let flags = self.model.ops[&id.get()].flags;
            assert!(!flags.intersects(Flags::DYNAMIC | Flags::DIRECT), "{set:?} is kept");
            self.tally.kept += 1;
        }
    }
}

#[test]
fn changes_add_up_to_the_model() {
    let mut tally = Tally::default();
    for seed in 0..SEQUENCES {
        let mut random = Random(seed);
        let mut world = World { tally, ..World::default() };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..OPERATIONS).for_each(|_| world.advance(&mut random));
        }));
        assert!(outcome.is_ok(), "seed {seed}");
        tally = world.tally;
    }
    let Tally { failed, armed, repointed, disarmed, refused, kept } = tally;
    let least = [failed, armed, repointed, disarmed, refused, kept].into_iter().min();
    assert!(least > Some(SEQUENCES as usize / 10), "{tally:?}");
}
