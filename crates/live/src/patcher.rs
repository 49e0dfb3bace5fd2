//! The sites of a process, and the promises about them.

use crate::memory::Memory;
use crate::patch::{Bytes, Goal, LiveSite, Patch, Rescue};
use crate::protocol::{Fault, Refusal, change};
use crate::sync::Sync;
use std::collections::BTreeMap;
use std::ops::Range;

/// What must be known to undo a patch, even to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Where it begins.
    pub address: u64,
    /// The program's bytes.
    pub bytes: Bytes,
    /// Ours.
    pub jump: Bytes,
    /// Stays when the site is disarmed: padding that a hop leads to.
    pub stays: bool,
}

/// The process that is patched.
pub trait Host {
    /// Its memory.
    type Memory: Memory;
    /// Its processors.
    type Sync: Sync;

    /// Both of them.
    fn parts(&mut self) -> (&mut Self::Memory, &mut Self::Sync);

    /// Before the first byte of these is written.
    ///
    /// # Errors
    /// When they cannot be kept; the sites are not added then.
    fn journal(&mut self, originals: &[Original]) -> Result<(), HostError>;

    /// From its return on, threads that trap in one of these sites, sorted by address, go on
    /// where it says; in no others.
    fn rescue(&mut self, sites: Vec<Rescue>);

    /// Before a batch: whatever handles traps is in place.
    ///
    /// # Errors
    /// When it is not; nothing is patched then.
    fn ready(&mut self) -> Result<(), HostError>;
}

/// What the surroundings of a patcher refused.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Originals could not be kept.
    #[error("the journal of original bytes is full")]
    JournalFull,
    /// The process has a patcher.
    #[error("this process has a patcher already")]
    Taken,
    /// Handlers are not in place.
    #[error("cannot handle traps: {0}")]
    Handlers(std::io::Error),
}

/// Why nothing more is patched, or was not.
#[derive(Debug, thiserror::Error)]
pub enum PatcherError {
    /// Two sites share a byte.
    #[error("the site at {address:#x} overlaps another")]
    Overlap {
        /// The later one.
        address: u64,
    },
    /// The surroundings failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A batch failed; everything has been disarmed as far as that was possible.
    #[error("patching failed, and everything was disarmed: {0}")]
    Fault(#[from] Fault),
    /// After a failed batch nothing is armed any more.
    #[error("patching is disabled after a failure")]
    Disabled,
}

/// A site of a [`Patcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(u32);

impl SiteId {
    /// Its number, from nought, in the order of adding.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// A site that a batch left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub site: SiteId,
    /// Why.
    pub why: Refusal,
}

struct Kept {
    pad: Option<usize>,
    patch: usize,
    rescue: Rescue,
    /// Its object is no longer mapped.
    gone: bool,
}

/// Arms and disarms sites in batches.
#[derive(Debug)]
pub struct Patcher<H> {
    host: H,
    sites: Vec<Kept>,
    patches: Vec<Patch>,
    /// Start and end of every patch.
    taken: BTreeMap<u64, u64>,
    failed: bool,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("rescue", &self.rescue).finish_non_exhaustive()
    }
}

impl<H: Host> Patcher<H> {
    /// Without sites.
    pub fn new(host: H) -> Self {
        let (sites, patches, taken) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { host, sites, patches, taken, failed: false }
    }

    /// What it patches.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Takes sites in; none is written yet.
    ///
    /// # Errors
    /// When one overlaps another, or originals cannot be kept; none is added then.
    pub fn add(&mut self, sites: Vec<LiveSite>) -> Result<Vec<SiteId>, PatcherError> {
        let mut taken = self.taken.clone();
        for patch in sites.iter().flat_map(LiveSite::patches) {
            take(&mut taken, patch.range())?;
        }
        let originals: Vec<Original> = sites.iter().flat_map(originals).collect();
        self.host.journal(&originals)?;
        self.taken = taken;
        let ids = sites.into_iter().map(|site| self.keep(site)).collect();
        self.publish();
        Ok(ids)
    }

    fn keep(&mut self, site: LiveSite) -> SiteId {
        let mut place = |patch| {
            self.patches.push(patch);
            self.patches.len() - 1
        };
        let pad = site.pad.map(&mut place);
        let patch = place(site.patch);
        self.sites.push(Kept { pad, patch, rescue: site.rescue, gone: false });
        SiteId(self.sites.len() as u32 - 1)
    }

    fn publish(&mut self) {
        let present = self.sites.iter().filter(|site| !site.gone);
        let mut rescues: Vec<Rescue> = present.map(|site| site.rescue).collect();
        rescues.sort_unstable_by_key(|rescue| rescue.address);
        self.host.rescue(rescues);
    }

    /// Drops all sites in a range of addresses that is no longer mapped; nothing is written.
    pub fn forget(&mut self, range: &Range<u64>) {
        for site in &mut self.sites {
            site.gone |= range.contains(&site.rescue.address);
        }
        self.taken.retain(|start, _| !range.contains(start));
        self.publish();
    }

    /// Whether calls of the function go to its island.
    #[must_use]
    pub fn is_armed(&self, site: SiteId) -> bool {
        let kept = self.sites.get(site.number());
        kept.is_some_and(|kept| !kept.gone && self.patches[kept.patch].is(Goal::Armed))
    }

    /// Arms sites; each that is not is in the answer.
    ///
    /// # Errors
    /// When the batch failed: then everything is disarmed and stays so.
    pub fn arm(&mut self, sites: &[SiteId]) -> Result<Vec<Refused>, PatcherError> {
        if self.failed {
            return Err(PatcherError::Disabled);
        }
        self.host.ready()?;
        let mut present = self.present(sites);
        let pads = self.pads(&present);
        let mut refused = self.batch(&pads, Goal::Armed)?;
        refused.sort_unstable_by_key(|refused| refused.site);
        // Without its padding a hop leads nowhere.
        present.retain(|site| refused.binary_search_by_key(site, |pad| pad.site).is_err());
        let late = self.batch(&self.own_patches(&present), Goal::Armed)?;
        // What was refused in the middle still traps: back to the original, if it is as we left it.
        let mut back: Vec<SiteId> = late.iter().map(|late| late.site).collect();
        back.sort_unstable();
        self.batch(&self.own_patches(&back), Goal::Original)?;
        refused.extend(late);
        Ok(refused)
    }

    /// Puts original bytes back; each site where other bytes than ours were found is in the
    /// answer, and left alone.
    ///
    /// # Errors
    /// When the batch failed.
    pub fn disarm(&mut self, sites: &[SiteId]) -> Result<Vec<Refused>, PatcherError> {
        self.host.ready()?;
        let present = self.present(sites);
        self.batch(&self.own_patches(&present), Goal::Original)
    }

    /// Puts all original bytes back.
    ///
    /// # Errors
    /// When the batch failed.
    pub fn disarm_all(&mut self) -> Result<Vec<Refused>, PatcherError> {
        let all: Vec<SiteId> = (0..self.sites.len() as u32).map(SiteId).collect();
        self.disarm(&all)
    }

    /// Each site once, without those that are gone.
    fn present(&self, sites: &[SiteId]) -> Vec<SiteId> {
        let here = |site: &SiteId| self.sites.get(site.number()).is_some_and(|kept| !kept.gone);
        let mut sites: Vec<SiteId> = sites.iter().copied().filter(here).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    fn own_patches(&self, sites: &[SiteId]) -> Vec<(SiteId, usize)> {
        sites.iter().map(|&site| (site, self.sites[site.number()].patch)).collect()
    }

    fn pads(&self, sites: &[SiteId]) -> Vec<(SiteId, usize)> {
        let pad = |&site: &SiteId| Some((site, self.sites[site.number()].pad?));
        sites.iter().filter_map(pad).collect()
    }

    /// One run of the protocol, and the policy for its failure.
    fn batch(
        &mut self,
        patches: &[(SiteId, usize)],
        goal: Goal,
    ) -> Result<Vec<Refused>, PatcherError> {
        let chosen: Vec<usize> = patches.iter().map(|&(_, patch)| patch).collect();
        match self.change(&chosen, goal) {
            Ok(refused) => {
                // Patches are numbered in the order of their sites, and the batch is sorted.
                let owner = |index| patches.partition_point(|&(_, patch)| patch < index);
                let refused = refused.into_iter();
                let told = refused.map(|(at, why)| Refused { site: patches[owner(at)].0, why });
                Ok(told.collect())
            }
            Err(fault) => {
                self.undo();
                Err(fault.into())
            }
        }
    }

    /// For a caller that found itself to be wrong: everything is disarmed and stays so.
    ///
    /// # Errors
    /// When traps cannot be handled; nothing is written then.
    pub fn give_up(&mut self) -> Result<(), PatcherError> {
        self.failed = true;
        self.host.ready()?;
        self.undo();
        Ok(())
    }

    fn undo(&mut self) {
        self.failed = true;
        let all = self.sites.iter().filter(|site| !site.gone);
        let all: Vec<usize> = all.map(|site| site.patch).collect();
        // The first failure is the one to tell; what cannot be undone still traps safely.
        let _ = self.change(&all, Goal::Original);
    }

    fn change(&mut self, chosen: &[usize], goal: Goal) -> Result<Vec<(usize, Refusal)>, Fault> {
        let (memory, sync) = self.host.parts();
        change(memory, sync, &mut self.patches, chosen, goal)
    }
}

impl LiveSite {
    fn patches(&self) -> impl Iterator<Item = &Patch> {
        self.pad.iter().chain([&self.patch])
    }
}

fn originals(site: &LiveSite) -> impl Iterator<Item = Original> {
    let original = |patch: &Patch, stays| Original {
        address: patch.address,
        bytes: patch.original,
        jump: patch.jump,
        stays,
    };
    let pad = site.pad.as_ref().map(|pad| original(pad, true));
    pad.into_iter().chain([original(&site.patch, false)])
}

fn take(taken: &mut BTreeMap<u64, u64>, range: Range<u64>) -> Result<(), PatcherError> {
    let before = taken.range(..range.end).next_back();
    if before.is_some_and(|(_, &end)| end > range.start) {
        return Err(PatcherError::Overlap { address: range.start });
    }
    taken.insert(range.start, range.end);
    Ok(())
}

#[cfg(test)]
mod tests;
