//! The sites that were placed, by their numbers, which are dense.

use crate::sites::{Place, Spot};
use sledge_engine::ops::SiteIndex;
use sledge_live::patcher::SiteId;
use std::ops::Range;

/// A site that was placed.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) spot: Spot,
    pub(super) text: Range<u64>,
    pub(super) id: SiteId,
}

/// All of them. Changes go through many in ascending order: so do the looks into this.
#[derive(Debug, Default)]
pub(super) struct PlacedSites(Vec<Option<Box<Placed>>>);

impl PlacedSites {
    pub(super) fn get(&self, site: SiteIndex) -> Option<&Placed> {
        self.0.get(site.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, site: SiteIndex) -> Option<&mut Placed> {
        self.0.get_mut(site.0 as usize)?.as_deref_mut()
    }

    pub(super) fn insert(&mut self, site: SiteIndex, placed: Placed) {
        let at = site.0 as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(Box::new(placed));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SiteIndex, &Placed)> {
        (0_u32..).zip(&self.0).filter_map(|(at, placed)| Some((SiteIndex(at), placed.as_deref()?)))
    }

    /// Forgets those of an object that is gone.
    pub(super) fn forget(&mut self, sites: Range<u32>) {
        let end = (sites.end as usize).min(self.0.len());
        let gone = self.0.get_mut(sites.start as usize..end);
        gone.into_iter().flatten().for_each(|placed| *placed = None);
    }
}
