//! Decide, generate and patch: what the registry wants is brought into this process.

mod apply;
mod dispatch;
pub(crate) mod loader;
mod placed;

pub use dispatch::Dispatch;
use dispatch::Dispatcher;
pub(crate) use dispatch::own_preserve;
use placed::{Placed, PlacedSites};

use crate::client::Client;
use crate::error::Error;
use crate::exits::Exits;
use crate::frames::Frames;
use crate::hooks::Hooks;
use crate::objects::{self, Loaded};
use crate::pool::Pool;
use crate::sites::{Placer, SiteError};
use crate::thread::{self, Offsets};
use sledge_engine::dispatch::redirection;
use sledge_engine::ops::{ObjectKey, OpsId, Registry, SetId, SiteIndex};
use sledge_live::memory::OwnMemory;
use sledge_live::patcher::Patcher;
use sledge_live::process::OwnProcess;
use sledge_live::sync::Barrier;
use sledge_live::trap;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// `clc; ret`: no return is hooked.
const NOTHING: [u8; 2] = [0xf8, 0xc3];

/// The code of a set.
#[derive(Debug, Default)]
struct Trampolines {
    /// Calls those that see entries only.
    plain: Option<Range<u64>>,
    /// Calls these, too, and hooks the return for the others.
    hook: Option<(Range<u64>, Box<Exits>)>,
}

/// What may be used again, or dropped, when every thread has been outside.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) trampolines: Vec<Range<u64>>,
    pub(crate) garbage: Vec<Box<dyn Any + Send>>,
}

impl Retired {
    /// Takes the code of a set that no site runs any more.
    fn set(&mut self, set: Option<Trampolines>) {
        let Some(Trampolines { plain, hook }) = set else { return };
        self.trampolines.extend(plain);
        if let Some((code, exits)) = hook {
            self.trampolines.push(code);
            self.garbage.push(exits);
        }
    }

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
    placed: PlacedSites,
    pub(crate) refused: BTreeMap<SiteIndex, SiteError>,
    /// Sites that nobody wants any more and that still wait for their original bytes.
    lingering: BTreeSet<SiteIndex>,
    pub(crate) pool: Pool,
    /// Trampolines of sets that have their own.
    sets: HashMap<SetId, Trampolines>,
    hooks: Option<Hooks>,
    pub(crate) frames: Frames,
    /// Whether the loader tells of objects; `None` as long as that was not tried.
    pub(crate) watching: Option<bool>,
    dispatcher: Dispatcher,
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
        let nothing = pool.put(objects::space, &own_text(), |_| NOTHING.to_vec());
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
            placed: PlacedSites::default(),
            refused: BTreeMap::new(),
            lingering: BTreeSet::new(),
            pool,
            sets: HashMap::new(),
            hooks: None,
            frames: Frames::new(),
            watching: None,
            dispatcher: Dispatcher::default(),
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
        let is_mapped = |loaded: &Loaded| mappings.iter().any(|map| loaded.is_in(map));
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
                Ok(Some(mut loaded)) => {
                    self.ready()?;
                    // The program's own unwinder is that of all its libraries.
                    let program = self.objects.values().next();
                    let blind = self.frames.meet(&loaded);
                    loaded.exits =
                        !blind && !loaded.compiles() && program.is_none_or(|program| program.exits);
                    self.add(loaded)?;
                }
                Err(error) if at == 0 => return Err(error.into()),
                Ok(None) | Err(_) => self.unreadable.push(path.clone()),
            }
        }
        // What cannot be now may be at the next change.
        if self.watching.is_none() {
            let _ = self.watch_loader();
        }
        Ok(())
    }

    fn add(&mut self, loaded: Loaded) -> Result<(), Error> {
        let key = ObjectKey(u64::from(self.next_site));
        let info = loaded.info();
        // An object without functions takes a number, too.
        self.next_site += loaded.object.functions.len().max(1) as u32;
        self.objects.insert(key, loaded);
        let changes = self.registry.add_object(key, info)?;
        self.apply(changes)
    }

    fn forget(&mut self, key: ObjectKey) -> Result<(), Error> {
        let Some(loaded) = self.objects.remove(&key) else { return Ok(()) };
        self.patcher.forget(&loaded.text);
        self.frames.forget(&loaded);
        let changes = self.registry.remove_object(key)?;
        self.apply(changes)?;
        let sites = loaded.first_site..loaded.first_site + loaded.object.functions.len() as u32;
        self.placed.forget(sites.clone());
        self.refused.retain(|site, _| !sites.contains(&site.0));
        Ok(())
    }

    /// The object that holds a site, and which of its functions it is.
    pub(crate) fn function(&self, site: SiteIndex) -> Option<(&Loaded, usize)> {
        let (_, loaded) = self.objects.range(..=ObjectKey(u64::from(site.0))).next_back()?;
        let at = (site.0 - loaded.first_site) as usize;
        (at < loaded.object.functions.len()).then_some((loaded, at))
    }

    /// Where a function can be called without what is attached to it, if that is known.
    pub(crate) fn body(&self, function: u64) -> Option<u64> {
        let mut placed = self.placed.iter().map(|(_, placed)| placed);
        Some(placed.find(|placed| placed.spot.function == function)?.place.body)
    }
}

/// A range near which trampolines should lie: what they call does.
fn own_text() -> Range<u64> {
    let own = trap::own_code();
    own.start..own.end.max(own.start + 1)
}
