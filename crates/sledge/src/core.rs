//! Decide, generate and patch: what the registry wants is brought into this process.

use crate::client::Client;
use crate::code;
use crate::error::Error;
use crate::objects::{self, Loaded};
use crate::pool::Pool;
use crate::sites::{Place, Placer, SiteError, Spot, Way};
use crate::thread::{self, Offsets};
use sledge_engine::dispatch::{
    Callback, Preserve, Target, ThreadFilter, entry_trampoline, redirection,
};
use sledge_engine::ops::{Changes, Flags, ObjectKey, OpsId, Registry, SetId, SiteIndex};
use sledge_live::memory::OwnMemory;
use sledge_live::patch::LiveSite;
use sledge_live::patcher::{Patcher, SiteId};
use sledge_live::process::OwnProcess;
use sledge_live::sync::{Barrier, Sync as _};
use sledge_live::trap;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long threads that block traps are waited for: they may be in a handler.
const UNBLOCK: Duration = Duration::from_millis(200);
/// And those that do so for a moment: they may not get a processor for long.
const PASS: Duration = Duration::from_secs(60);

/// `ret`.
const RET: u8 = 0xc3;

/// A site that was placed.
#[derive(Debug)]
struct Placed {
    place: Place,
    spot: Spot,
    text: Range<u64>,
    id: SiteId,
    /// Whether its island leads to a thunk for caller-supplied code.
    direct: Option<Way>,
}

/// What may be used again, or dropped, when every thread has been outside.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) trampolines: Vec<Range<u64>>,
    pub(crate) garbage: Vec<Box<dyn Any + Send>>,
}

impl Retired {
    pub(crate) fn is_empty(&self) -> bool {
        self.trampolines.is_empty() && self.garbage.is_empty()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.trampolines.extend(other.trampolines);
        self.garbage.extend(other.garbage);
    }
}

/// A registered ops.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) client: Arc<Client>,
    /// The number of its thread filter.
    pub(crate) filter: Option<u8>,
}

/// Everything about this process.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) registry: Registry,
    patcher: Patcher<OwnProcess>,
    barrier: Barrier,
    pub(crate) objects: BTreeMap<ObjectKey, Loaded>,
    /// Objects that could not be read: not asked again.
    unreadable: Vec<PathBuf>,
    next_site: u32,
    placer: Placer,
    placed: HashMap<SiteIndex, Placed>,
    pub(crate) refused: BTreeMap<SiteIndex, SiteError>,
    pub(crate) pool: Pool,
    pub(crate) sets: HashMap<SetId, Range<u64>>,
    pub(crate) ops: BTreeMap<OpsId, Registered>,
    pub(crate) retired: Retired,
    offsets: Offsets,
    /// Returns: the trampoline of no ops.
    nothing: u64,
    /// The way out of trampolines for calls that were sent elsewhere.
    redirected: u64,
}

impl Core {
    pub(crate) fn new() -> Result<Self, Error> {
        let patcher = OwnProcess::patcher(OwnMemory::new())?;
        let barrier = patcher.host().barrier();
        let offsets = thread::offsets();
        let mut pool = Pool::default();
        let nothing = pool.put(objects::space, &own_text(), |_| vec![RET]);
        let nothing = nothing.map_err(Error::system("mapping code"))?.start;
        let redirected =
            pool.put(objects::space, &own_text(), |place| redirection(place, offsets.left));
        let redirected = redirected.map_err(Error::system("mapping code"))?.start;
        let mut core = Self {
            registry: Registry::new(),
            patcher,
            barrier,
            objects: BTreeMap::new(),
            unreadable: Vec::new(),
            next_site: 0,
            placer: Placer::new(offsets.entered, offsets.left),
            placed: HashMap::new(),
            refused: BTreeMap::new(),
            pool,
            sets: HashMap::new(),
            ops: BTreeMap::new(),
            retired: Retired::default(),
            offsets,
            nothing,
            redirected,
        };
        core.refresh()?;
        Ok(core)
    }

    /// Takes in objects that were loaded, and drops those that were unloaded.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        let mappings = objects::mappings().map_err(Error::system("reading the mappings"))?;
        let is_mapped = |loaded: &Loaded| {
            mappings
                .iter()
                .any(|map| map.execute && map.path == loaded.path && map.start == loaded.text.start)
        };
        let gone: Vec<ObjectKey> = self
            .objects
            .iter()
            .filter(|(_, loaded)| !is_mapped(loaded))
            .map(|(&key, _)| key)
            .collect();
        for key in gone {
            self.forget(key)?;
        }
        let paths = objects::paths(&mappings).map_err(Error::system("reading /proc/self/exe"))?;
        for (at, path) in paths.iter().enumerate() {
            let known = self.objects.values().any(|loaded| loaded.path == *path);
            if known || self.unreadable.contains(path) {
                continue;
            }
            match Loaded::read(path, &mappings, at == 0, self.next_site) {
                Ok(Some(loaded)) => {
                    self.ready()?;
                    self.add(loaded)?;
                }
                Err(error) if at == 0 => return Err(error.into()),
                Ok(None) | Err(_) => self.unreadable.push(path.clone()),
            }
        }
        Ok(())
    }

    fn add(&mut self, loaded: Loaded) -> Result<(), Error> {
        let key = ObjectKey(u64::from(self.next_site));
        let info = loaded.info();
        self.next_site += loaded.object.functions.len() as u32;
        self.objects.insert(key, loaded);
        let changes = self.registry.add_object(key, info)?;
        self.apply(changes)
    }

    fn forget(&mut self, key: ObjectKey) -> Result<(), Error> {
        let Some(loaded) = self.objects.remove(&key) else { return Ok(()) };
        self.patcher.forget(&loaded.text);
        let changes = self.registry.remove_object(key)?;
        self.apply(changes)?;
        let sites = loaded.first_site..loaded.first_site + loaded.object.functions.len() as u32;
        self.placed.retain(|site, _| !sites.contains(&site.0));
        self.refused.retain(|site, _| !sites.contains(&site.0));
        Ok(())
    }

    /// The object that holds a site, and which of its functions it is.
    pub(crate) fn function(&self, site: SiteIndex) -> Option<(&Loaded, usize)> {
        let (_, loaded) = self.objects.range(..=ObjectKey(u64::from(site.0))).next_back()?;
        let at = (site.0 - loaded.first_site) as usize;
        (at < loaded.object.functions.len()).then_some((loaded, at))
    }

    /// Waits until sites can be patched. To be called before the registry decides anything: what it
    /// has decided must be carried out.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        await_unblocked()
    }

    /// Carries out what the registry decided, in the order that keeps its promises.
    pub(crate) fn apply(&mut self, changes: Changes) -> Result<(), Error> {
        for &set in &changes.new_sets {
            self.generate(set)?;
        }
        let mut old = Vec::new();
        for &set in &changes.retarget {
            let before = self.sets.get(&set).cloned();
            self.generate(set)?;
            old.extend(before);
        }
        // No processor has what was there before in its pipeline when it is led there.
        if !changes.new_sets.is_empty() || !changes.retarget.is_empty() {
            self.barrier().map_err(Error::system("membarrier"))?;
        }
        changes.retarget.iter().for_each(|&set| self.retarget(set));
        self.retired.trampolines.extend(old);
        for &(site, _, set) in &changes.repoint {
            self.point(site, set)?;
        }
        self.arm(&changes.arm)?;
        self.disarm(&changes.disarm)?;
        for set in &changes.dead_sets {
            self.retired.trampolines.extend(self.sets.remove(set));
        }
        Ok(())
    }

    /// Every processor takes notice of what was stored before.
    pub(crate) fn barrier(&mut self) -> std::io::Result<()> {
        self.barrier.sync().map_err(std::io::Error::other)
    }

    fn generate(&mut self, set: SetId) -> Result<(), Error> {
        let callbacks = self.callbacks(set);
        if callbacks.is_empty() {
            self.sets.remove(&set);
            return Ok(());
        }
        let redirected = self.redirected;
        let generate = |place| entry_trampoline(place, &callbacks, redirected);
        let piece = self.pool.put(objects::space, &own_text(), generate);
        self.sets.insert(set, piece.map_err(Error::system("mapping code"))?);
        Ok(())
    }

    fn callbacks(&self, set: SetId) -> Vec<Callback> {
        let Some(set) = self.registry.set(set) else { return Vec::new() };
        let one = |id: &OpsId| {
            let (registered, flags) = (self.ops.get(id)?, self.registry.flags(*id)?);
            if registered.client.direct().is_some() {
                return None;
            }
            let asks = flags.intersects(Flags::SAVE_REGS | Flags::SAVE_REGS_IF_SUPPORTED);
            let threads: Option<ThreadFilter> = registered.filter.map(thread::filter);
            let guarded = flags.contains(Flags::RECURSION);
            let client = &registered.client;
            Some(client.callback(asks && set.registers, guarded, threads, &self.offsets))
        };
        set.ops.iter().filter_map(one).collect()
    }

    /// There is a new trampoline for the same set: the cells of its sites lead there, and no site
    /// changes.
    fn retarget(&self, set: SetId) {
        let target = self.target(set);
        for (&site, placed) in &self.placed {
            if self.registry.set_at(site) == Some(set) {
                code::store(placed.place.cell, target);
            }
        }
    }

    fn target(&self, set: SetId) -> u64 {
        self.sets.get(&set).map_or(self.nothing, |piece| piece.start)
    }

    /// The way calls take that this set wants.
    fn way(&self, set: SetId) -> Way {
        let ops = self.registry.set(set).map_or(&[][..], |set| &set.ops);
        let direct = ops.iter().find_map(|id| self.ops.get(id)?.client.direct());
        let callbacks = self.sets.contains_key(&set);
        direct.map_or(Way::Callbacks, |code| Way::Direct { code, callbacks })
    }

    /// Lets a placed site run a set.
    fn point(&mut self, site: SiteIndex, set: SetId) -> Result<(), Error> {
        let (target, way) = (self.target(set), self.way(set));
        let Some(placed) = self.placed.get_mut(&site) else { return Ok(()) };
        code::store(placed.place.cell, target);
        if way != Way::Callbacks || placed.direct.is_some() {
            let Placed { place, spot, text, .. } = placed;
            let led = self.placer.lead(text, spot, place, &first, way);
            let led = led.map_err(Error::system("mapping code"))?;
            placed.direct = Some(way).filter(|way| *way != Way::Callbacks);
            if let Err(error) = led {
                self.refused.insert(site, error.into());
            }
        }
        Ok(())
    }

    fn arm(&mut self, sites: &[(SiteIndex, SetId)]) -> Result<(), Error> {
        self.place(sites.iter().map(|&(site, _)| site))?;
        let mut ids = Vec::with_capacity(sites.len());
        for &(site, set) in sites {
            self.point(site, set)?;
            if !self.refused.contains_key(&site) {
                ids.extend(self.placed.get(&site).map(|placed| placed.id));
            }
        }
        let refused = self.patcher.arm(&ids);
        let refused = refused.inspect_err(|_| self.let_go())?;
        if !refused.is_empty() {
            let why: HashMap<SiteId, _> = refused.iter().map(|one| (one.site, one.why)).collect();
            for &(site, _) in sites {
                let Some(placed) = self.placed.get(&site) else { continue };
                if let Some(&why) = why.get(&placed.id) {
                    code::store(placed.place.cell, self.nothing);
                    self.refused.insert(site, why.into());
                }
            }
        }
        Ok(())
    }

    fn disarm(&mut self, sites: &[SiteIndex]) -> Result<(), Error> {
        let placed = sites.iter().filter_map(|site| self.placed.get(site));
        let (ids, cells): (Vec<_>, Vec<_>) =
            placed.map(|placed| (placed.id, placed.place.cell)).unzip();
        let refused = self.patcher.disarm(&ids);
        // Late threads are on their way through the thunk: they find nobody.
        cells.iter().for_each(|&cell| code::store(cell, self.nothing));
        refused.inspect_err(|_| self.let_go())?;
        for site in sites {
            let Some(placed) = self.placed.get_mut(site) else { continue };
            if placed.direct.take().is_some() {
                let Placed { place, spot, text, .. } = placed;
                let led = self.placer.lead(text, spot, place, &first, Way::Callbacks);
                let _ = led.map_err(Error::system("mapping code"))?;
            }
        }
        Ok(())
    }

    /// After a failure everything is disarmed; what could not be leads to nobody.
    fn let_go(&self) {
        self.placed.values().for_each(|placed| code::store(placed.place.cell, self.nothing));
    }

    /// Places the sites that are not yet, object by object.
    fn place(&mut self, sites: impl Iterator<Item = SiteIndex>) -> Result<(), Error> {
        let mut missing: Vec<SiteIndex> = sites
            .filter(|site| !self.placed.contains_key(site) && !self.refused.contains_key(site))
            .collect();
        missing.sort_unstable();
        let objects: Vec<SiteIndex> = missing
            .iter()
            .filter_map(|&site| Some((site, self.function(site)?.0.first_site)))
            .map(|(_, first)| SiteIndex(first))
            .collect();
        let both: Vec<_> = missing.into_iter().zip(objects).collect();
        for run in both.chunk_by(|a, b| a.1 == b.1) {
            let sites: Vec<SiteIndex> = run.iter().map(|&(site, _)| site).collect();
            self.place_in_object(&sites)?;
        }
        Ok(())
    }

    fn place_in_object(&mut self, sites: &[SiteIndex]) -> Result<(), Error> {
        let Some((loaded, _)) = sites.first().and_then(|&site| self.function(site)) else {
            return Ok(());
        };
        let (text, loaded) = (loaded.text.clone(), loaded.clone());
        let spot = |site: &SiteIndex| Spot::new(&loaded, (site.0 - loaded.first_site) as usize);
        let (sites, spots): (Vec<_>, Vec<_>) =
            sites.iter().filter_map(|site| Some((*site, spot(site)?))).unzip();
        let places = self.placer.place(&text, &spots, &first, self.nothing);
        let places = places.map_err(Error::system("mapping code"))?;
        let mut ready = Vec::new();
        for ((site, spot), made) in sites.into_iter().zip(spots).zip(places) {
            match made {
                Ok((place, live)) => ready.push((site, spot, place, live)),
                Err(error) => {
                    self.refused.insert(site, error);
                }
            }
        }
        self.keep(ready, &text)
    }

    /// Hands placed sites to the patcher; one that overlaps another is refused by itself.
    fn keep(
        &mut self,
        ready: Vec<(SiteIndex, Spot, Place, LiveSite)>,
        text: &Range<u64>,
    ) -> Result<(), Error> {
        let all = ready.iter().map(|(.., live)| live.clone()).collect();
        let ids = self.patcher.add(all).ok();
        for (at, (site, spot, place, live)) in ready.into_iter().enumerate() {
            let id = match &ids {
                Some(ids) => ids.get(at).copied(),
                None => self.patcher.add(vec![live]).ok().and_then(|ids| ids.first().copied()),
            };
            match id {
                Some(id) => {
                    let text = text.clone();
                    self.placed.insert(site, Placed { place, spot, text, id, direct: None });
                }
                None => {
                    self.refused.insert(site, SiteError::Overlap);
                }
            }
        }
        Ok(())
    }

    /// Where a function can be called without what is attached to it, if that is known.
    pub(crate) fn body(&self, function: u64) -> Option<u64> {
        let placed = self.placed.values().find(|placed| placed.spot.function == function)?;
        Some(placed.place.body)
    }
}

/// Code that makes a thread known, for a place; see [`sledge_engine::dispatch::Gate::first`].
fn first(place: u64) -> Vec<u8> {
    let register = Callback {
        target: Target::Function(thread::register as *const () as u64),
        ops: 0,
        save_regs: false,
        preserve: Preserve::default(),
        guard: None,
        threads: None,
    };
    entry_trampoline(place, &[register], 0)
}

/// A range near which trampolines should lie: what they call does.
fn own_text() -> Range<u64> {
    let own = trap::own_code();
    own.start..own.end.max(own.start + 1)
}

/// Waits for a moment in which no thread blocks traps.
fn await_unblocked() -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let blocking = trap::threads_with_traps_blocked();
        let blocking = blocking.map_err(Error::system("reading the threads"))?;
        if blocking.is_empty() {
            return Ok(());
        }
        let passing = blocking.iter().all(|one| one.passing);
        if begin.elapsed() > if passing { PASS } else { UNBLOCK } {
            let threads = blocking.iter().map(|one| one.thread).collect();
            return Err(Error::TrapsBlocked { threads });
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}
