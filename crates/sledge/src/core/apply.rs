//! Carries out what the registry decided, in the order that keeps its promises.

use super::{Core, Placed, Trampolines, own_text};
use crate::error::Error;
use crate::hooks::{Hooks, leaving};
use crate::objects;
use crate::sites::{Called, Place, SiteError, Spot, Way};
use crate::thread;
use sledge_engine::dispatch::{
    Callback, Preserve, Target, entry_trampoline, hook_trampoline, trampoline_frames,
};
use sledge_engine::ops::{Changes, SetId, SiteIndex};
use sledge_live::patch::LiveSite;
use sledge_live::patcher::SiteId;
use sledge_live::sync::Sync as _;
use sledge_live::trap;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long threads that block traps are waited for: they may be in a handler.
const UNBLOCK: Duration = Duration::from_millis(200);
/// And those that do so for a moment: they may not get a processor for long.
const PASS: Duration = Duration::from_secs(60);
/// Thunks that are generated before they are written.
const AT_ONCE: usize = 1024;

impl Core {
    /// Waits until sites can be patched. To be called before the registry decides to arm any: what
    /// it has decided must be carried out.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        await_unblocked()
    }

    /// Carries out what the registry decided, in the order that keeps its promises.
    pub(crate) fn apply(&mut self, changes: Changes) -> Result<(), Error> {
        for &set in &changes.new_sets {
            self.generate(set)?;
        }
        // If something fails before cells lead elsewhere, these are still called: not dropped then.
        let mut old = ManuallyDrop::new(Vec::new());
        for &set in &changes.retarget {
            old.push(self.sets.remove(&set));
            self.generate(set)?;
        }
        // No processor has what was there before in its pipeline when it is led there.
        if !changes.new_sets.is_empty() || !changes.retarget.is_empty() {
            self.barrier().map_err(Error::system("membarrier"))?;
        }
        self.relist()?;
        for &set in &changes.retarget {
            self.retarget(set)?;
        }
        ManuallyDrop::into_inner(old).into_iter().for_each(|set| self.retired.set(set));
        let repoint = changes.repoint.iter().map(|&(site, _, set)| (site, set));
        self.point(&repoint.collect::<Vec<_>>())?;
        self.arm(&changes.arm)?;
        self.disarm(&changes.disarm)?;
        for set in &changes.dead_sets {
            let set = self.sets.remove(set);
            self.retired.set(set);
        }
        self.unlist()
    }

    /// Every processor takes notice of what was stored before.
    pub(crate) fn barrier(&mut self) -> std::io::Result<()> {
        self.barrier.sync().map_err(std::io::Error::other)
    }

    fn generate(&mut self, set: SetId) -> Result<(), Error> {
        let (callbacks, exits) = (self.callbacks(set), self.exits(set));
        let mut code = Trampolines::default();
        let redirected = self.redirected;
        if !callbacks.is_empty() && (exits.is_some() || !self.dispatcher.is_full(self.sets.len())) {
            code.plain = Some(self.put(|place| entry_trampoline(place, &callbacks, redirected))?);
        }
        if let Some((exits, hook)) = exits {
            self.ready_to_leave(hook.preserve)?;
            let generate = |place| hook_trampoline(place, &callbacks, &hook, redirected);
            code.hook = Some((self.put(generate)?, exits));
        }
        if code.plain.is_some() || code.hook.is_some() {
            self.sets.insert(set, code);
        }
        Ok(())
    }

    pub(super) fn put(&mut self, generate: impl Fn(u64) -> Vec<u8>) -> Result<Range<u64>, Error> {
        let piece = self.pool.put(objects::space, &own_text(), generate);
        let fresh = std::mem::take(&mut self.pool.fresh);
        fresh.iter().for_each(|code| self.frames.add(trampoline_frames(code)));
        piece.map_err(Error::system("mapping code"))
    }

    /// Sees to it that returns save enough for a client.
    fn ready_to_leave(&mut self, preserve: Preserve) -> Result<(), Error> {
        let hooks = match self.hooks.take() {
            Some(hooks) => hooks,
            None => {
                let first = self.put(first)?;
                Hooks::new(first.start, self.offsets, &mut self.frames)
                    .map_err(Error::system("mapping code"))?
            }
        };
        let hooks = self.hooks.insert(hooks);
        if let Some(preserve) = hooks.must_save(preserve) {
            let code = self.put(|place| leaving(place, preserve))?;
            self.barrier().map_err(Error::system("membarrier"))?;
            let old = self.hooks.as_mut().and_then(|hooks| hooks.set_leaving(preserve, code));
            self.retired.trampolines.extend(old);
        }
        Ok(())
    }

    /// There is a new trampoline for the same set: the cells of its sites lead there, and no site
    /// changes.
    fn retarget(&mut self, set: SetId) -> Result<(), Error> {
        let sites = self.placed.iter().map(|(site, _)| (site, set));
        let sites = sites.filter(|&(site, _)| self.registry.set_at(site) == Some(set));
        let sites: Vec<_> = sites.collect();
        self.point(&sites)
    }

    /// The way calls take that this set wants.
    fn way(&self, set: SetId) -> Way {
        let ops = self.registry.set(set).map_or(&[][..], |set| &set.ops);
        let direct = ops.iter().find_map(|id| self.ops.get(id)?.client.direct());
        if self.hook_target(set).is_some() {
            return Way::Hooked { direct };
        }
        if self.lone(set).is_some() {
            return Way::Lone;
        }
        let callbacks = self.target(set) != self.nothing;
        direct.map_or(Way::Callbacks, |code| Way::Direct { code, callbacks })
    }

    /// Lets placed sites run their sets.
    pub(super) fn point(&mut self, sites: &[(SiteIndex, SetId)]) -> Result<(), Error> {
        self.hook(sites)?;
        self.make_lone(sites)?;
        for run in sites.chunk_by(|a, b| a.1 == b.1) {
            let set = run[0].1;
            let (called, way) = (self.called(set), self.way(set));
            for &(site, _) in run {
                let Some(placed) = self.placed.get_mut(site) else { continue };
                placed.place.call(&called);
                let Placed { place, spot, text, .. } = placed;
                let led = self.placer.lead(text, spot, place, &first, way);
                if let Err(error) = led.map_err(Error::system("mapping code"))? {
                    self.refused.insert(site, error.into());
                }
            }
        }
        Ok(())
    }

    /// Makes the cells of sites whose returns are to be hooked.
    fn hook(&mut self, sites: &[(SiteIndex, SetId)]) -> Result<(), Error> {
        let runs = sites.chunk_by(|a, b| a.1 == b.1);
        let hooked = runs.filter(|run| self.hook_target(run[0].1).is_some()).flatten();
        let has =
            |site: SiteIndex| self.placed.get(site).is_none_or(|it| it.place.hooked.is_some());
        let missing: Vec<SiteIndex> = hooked.map(|one| one.0).filter(|&site| !has(site)).collect();
        let functions = missing.iter().filter_map(|site| {
            let placed = self.placed.get(*site)?;
            Some((placed.spot.function, placed.place.body))
        });
        let functions: Vec<_> = functions.collect();
        let Some(hooks) = self.hooks.as_mut().filter(|_| !missing.is_empty()) else {
            return Ok(());
        };
        let cells = hooks.place(&functions, self.nothing);
        let cells = cells.map_err(Error::system("mapping code"))?;
        for (site, hooked) in missing.into_iter().zip(cells) {
            if let Some(placed) = self.placed.get_mut(site) {
                placed.place.hooked = Some(hooked);
            }
        }
        // Sites that are armed already may be led there next.
        self.barrier().map_err(Error::system("membarrier"))
    }

    /// Makes the thunks of sites whose only callback is called by them.
    fn make_lone(&mut self, sites: &[(SiteIndex, SetId)]) -> Result<(), Error> {
        let runs = sites.chunk_by(|a, b| a.1 == b.1);
        let lone = runs.filter(|run| self.lone(run[0].1).is_some()).flatten();
        let has = |site: SiteIndex| self.placed.get(site).is_none_or(|it| it.place.lone.is_some());
        let missing: Vec<SiteIndex> = lone.map(|one| one.0).filter(|&site| !has(site)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for some in missing.chunks(AT_ONCE) {
            self.make_some_lone(some)?;
        }
        // Sites that are armed already may be led there next.
        self.barrier().map_err(Error::system("membarrier"))
    }

    fn make_some_lone(&mut self, sites: &[SiteIndex]) -> Result<(), Error> {
        let placed = sites.iter().filter_map(|&site| Some((site, self.placed.get(site)?)));
        let placed: Vec<_> = placed.map(|(site, it)| (site, &it.text, &it.spot)).collect();
        let mut made = Vec::with_capacity(placed.len());
        for run in placed.chunk_by(|a, b| a.1 == b.1) {
            let spots: Vec<&Spot> = run.iter().map(|one| one.2).collect();
            let lone = self.placer.lone(run[0].1, &spots, &first);
            let lone = lone.map_err(Error::system("mapping code"))?;
            made.extend(run.iter().map(|one| one.0).zip(lone));
        }
        for (site, lone) in made {
            if let Some(placed) = self.placed.get_mut(site) {
                placed.place.lone = lone;
            }
        }
        Ok(())
    }

    fn arm(&mut self, sites: &[(SiteIndex, SetId)]) -> Result<(), Error> {
        self.place(sites.iter().map(|&(site, _)| site))?;
        self.point(sites)?;
        let mut ids = Vec::with_capacity(sites.len());
        for &(site, _) in sites {
            if !self.refused.contains_key(&site) {
                ids.extend(self.placed.get(site).map(|placed| placed.id));
            }
        }
        let refused = self.patcher.arm(&ids);
        let refused = refused.inspect_err(|_| self.let_go())?;
        if !refused.is_empty() {
            let nothing = Called::only(self.nothing);
            let why: HashMap<SiteId, _> = refused.iter().map(|one| (one.site, one.why)).collect();
            for &(site, _) in sites {
                let Some(placed) = self.placed.get(site) else { continue };
                if let Some(&why) = why.get(&placed.id) {
                    placed.place.call(&nothing);
                    self.refused.insert(site, why.into());
                }
            }
        }
        Ok(())
    }

    /// Lets sites run nothing, and puts their original bytes back; while some thread blocks traps,
    /// that must wait for a later change.
    fn disarm(&mut self, sites: &[SiteIndex]) -> Result<(), Error> {
        let nothing = Called::only(self.nothing);
        for &site in sites {
            if let Some(placed) = self.placed.get(site) {
                placed.place.call(&nothing);
            }
        }
        let mut late = std::mem::take(&mut self.lingering);
        late.retain(|&site| self.registry.set_at(site).is_none());
        let sites: Vec<SiteIndex> = late.into_iter().chain(sites.iter().copied()).collect();
        if sites.is_empty() {
            return Ok(());
        }
        if await_unblocked().is_err() {
            self.lingering.extend(sites);
            return Ok(());
        }
        let ids = sites.iter().map(|&site| self.placed.get(site).map(|placed| (placed.id, site)));
        let ids: Vec<(SiteId, SiteIndex)> = ids.flatten().collect();
        let all: Vec<SiteId> = ids.iter().map(|&(id, _)| id).collect();
        let refused = self.patcher.disarm(&all).inspect_err(|_| self.let_go())?;
        let why: HashMap<SiteId, _> = refused.iter().map(|one| (one.site, one.why)).collect();
        for (id, site) in ids {
            if let Some(&why) = why.get(&id) {
                self.refused.insert(site, why.into());
            }
            let Some(placed) = self.placed.get_mut(site) else { continue };
            let Placed { place, spot, text, .. } = placed;
            let led = self.placer.lead(text, spot, place, &first, Way::Callbacks);
            let _ = led.map_err(Error::system("mapping code"))?;
        }
        Ok(())
    }

    /// After a failure everything is disarmed; what could not be leads to nobody.
    fn let_go(&self) {
        let nothing = Called::only(self.nothing);
        self.placed.iter().for_each(|(_, placed)| placed.place.call(&nothing));
    }

    /// After a defect of ours: calls come to no callback, and all original bytes are put back where
    /// that is safe. Nothing is freed: what is believed about it may be wrong.
    pub(crate) fn give_up(&mut self) {
        self.let_go();
        if await_unblocked().is_ok() {
            let _ = self.patcher.give_up();
        }
    }

    /// Places the sites that are not yet, object by object.
    fn place(&mut self, sites: impl Iterator<Item = SiteIndex>) -> Result<(), Error> {
        let mut missing: Vec<SiteIndex> = sites
            .filter(|site| self.placed.get(*site).is_none() && !self.refused.contains_key(site))
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
                    self.placed.insert(site, Placed { place, spot, text, id });
                }
                None => {
                    self.refused.insert(site, SiteError::Overlap);
                }
            }
        }
        Ok(())
    }
}

/// Code that makes a thread known, for a place; see [`sledge_engine::dispatch::Gate::first`].
pub(super) fn first(place: u64) -> Vec<u8> {
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
