//! Probes that take values in a process: their programs on the way there, their hits on the way back.

use crate::segment::Segment;
use sledge_wire::cell;
use sledge_wire::probe::{
    AREA_WORDS, HIT_SITE, Head, LIST_WORDS, MOST_RECORDS, Step, VALUE_BYTES, VALUE_FAULT,
    VALUE_LAST, VALUE_SITE,
};
use sledge_wire::record::{Kind, Record};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A probe: where it is, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its number, which comes back with each hit.
    pub number: u32,
    /// The site, as in [`crate::Stream::functions`].
    pub site: u32,
    /// Hit when the function returns, not when it is called.
    pub on_return: bool,
    /// How its values are taken.
    pub steps: Vec<Step>,
}

impl Probe {
    /// Whether a hit has room for all its values.
    #[must_use]
    pub fn fits(steps: &[Step]) -> bool {
        // Two are for the hit itself and for the caller.
        2 + steps.iter().map(|step| step.records()).sum::<usize>() <= MOST_RECORDS
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        let steps = self.steps.len() as u16;
        let head = Head { probe: self.number, on_return: self.on_return, steps };
        std::iter::once(head.to_word()).chain(self.steps.iter().flat_map(|step| step.to_words()))
    }
}

/// The probes of a process.
#[derive(Debug)]
pub struct Probes {
    segment: Arc<Segment>,
    /// Generated code, and where in it the thunks begin.
    code: (OwnedFd, u64),
    /// Words of the area that are taken.
    used: u64,
    /// Lists that are in the area. None is ever changed: a thread could just read it.
    lists: HashMap<Vec<u64>, u32>,
    /// What the thunks of sites say.
    armed: BTreeMap<u32, u32>,
}

impl Probes {
    pub(crate) fn new(segment: Arc<Segment>, code: (OwnedFd, u64)) -> Self {
        let (lists, armed) = (HashMap::new(), BTreeMap::new());
        // Offset 0 says that there are none.
        Self { segment, code, used: 1, lists, armed }
    }

    /// These are the probes from now on. A hit that is under way may still come.
    ///
    /// # Errors
    /// When there is no room for more different ones; what was, stays.
    pub fn set(&mut self, probes: &[Probe]) -> io::Result<()> {
        let mut wanted: BTreeMap<u32, Vec<&Probe>> = BTreeMap::new();
        for probe in probes {
            wanted.entry(probe.site).or_default().push(probe);
        }
        let mut next = BTreeMap::new();
        for (site, probes) in wanted {
            let mut words = vec![u64::from(site), probes.len() as u64];
            debug_assert_eq!(words.len() as u64, LIST_WORDS);
            words.extend(probes.into_iter().flat_map(Probe::words));
            next.insert(site, self.list(words)?);
        }
        for (&site, _) in self.armed.iter().filter(|(site, _)| !next.contains_key(site)) {
            self.name(site, 0)?;
        }
        for (&site, &list) in next.iter().filter(|(site, list)| self.armed.get(site) != Some(list))
        {
            self.name(site, list)?;
        }
        self.armed = next;
        Ok(())
    }

    /// The place of a list, which is written if it is not there yet.
    fn list(&mut self, words: Vec<u64>) -> io::Result<u32> {
        if let Some(place) = self.lists.get(&words) {
            return Ok(*place);
        }
        let place = self.used;
        if place + words.len() as u64 > AREA_WORDS {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.used += words.len() as u64;
        for (index, word) in words.iter().enumerate() {
            self.segment.set_probe_word(place as usize + index, *word);
        }
        self.lists.insert(words, place as u32);
        Ok(place as u32)
    }

    /// Writes a thunk's word. Threads that read it meanwhile find a list of another site at worst.
    fn name(&self, site: u32, list: u32) -> io::Result<()> {
        let (code, thunks) = &self.code;
        let at = thunks + u64::from(site) * cell::THUNK_BYTES + cell::THUNK_PROBES;
        nix::sys::uio::pwrite(code, &list.to_le_bytes(), at.cast_signed())?;
        Ok(())
    }
}

/// A probe was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its number.
    pub probe: u32,
    /// Time stamp counter.
    pub tsc: u64,
    /// Where the function returns to.
    pub caller: u64,
    /// The bytes of its values; `None` where memory could not be read.
    pub values: Vec<Option<Vec<u8>>>,
}

/// Puts the records of hits together again, for one ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hits {
    open: Option<(Record, Vec<Option<Vec<u8>>>)>,
    /// Of a value whose end is still to come.
    begun: Vec<u8>,
}

/// What became of a record.
pub(crate) enum Assembled {
    /// It is none of a hit.
    Other,
    /// More must come.
    More,
    /// It was the last.
    Hit(Hit),
}

impl Hits {
    /// What came before belongs to nothing any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn push(&mut self, record: Record) -> Assembled {
        match record.site {
            HIT_SITE => {
                self.begun.clear();
                self.open = Some((record, Vec::new()));
                Assembled::More
            }
            VALUE_SITE => self.value(record),
            _ => Assembled::Other,
        }
    }

    fn value(&mut self, record: Record) -> Assembled {
        let Some((_, values)) = self.open.as_mut().filter(|(_, all)| all.len() < MOST_RECORDS)
        else {
            return Assembled::More;
        };
        let word = if record.kind == Kind::Exit { 0 } else { record.tsc };
        let left = (record.cell & VALUE_BYTES) as usize;
        if record.cell & VALUE_FAULT != 0 {
            self.begun.clear();
            values.push(None);
        } else {
            self.begun.extend_from_slice(&word.to_le_bytes()[..left.min(8)]);
            if left > 8 {
                return Assembled::More;
            }
            values.push(Some(std::mem::take(&mut self.begun)));
        }
        if record.cell & VALUE_LAST == 0 {
            return Assembled::More;
        }
        let Some((head, mut values)) = self.open.take() else { return Assembled::More };
        let caller = values.remove(0).map_or(0, |bytes| number(&bytes));
        Assembled::Hit(Hit { probe: head.cell, tsc: head.tsc, caller, values })
    }
}

/// The number that bytes are, the lowest first.
#[must_use]
pub fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tsc: u64, kind: Kind, site: u32, cell: u32) -> Record {
        Record { tsc, kind, site, cell }
    }

    #[test]
    fn hits_are_put_together() {
        let mut hits = Hits::default();
        let text = u64::from_le_bytes(*b"abcdefgh");
        let records = [
            // The rest of one whose beginning was lost.
            record(1, Kind::Enter, VALUE_SITE, 8 | VALUE_LAST),
            record(77, Kind::Enter, HIT_SITE, 5),
            record(0x4000, Kind::Enter, VALUE_SITE, 8),
            record(1, Kind::Exit, VALUE_SITE, 8),
            record(1, Kind::Exit, VALUE_SITE, VALUE_FAULT),
            record(text, Kind::Enter, VALUE_SITE, 9),
            record(u64::from(b'i'), Kind::Enter, VALUE_SITE, 1),
            record(1, Kind::Exit, VALUE_SITE, VALUE_LAST),
        ];
        let found: Vec<Hit> = records
            .into_iter()
            .filter_map(|record| match hits.push(record) {
                Assembled::Hit(hit) => Some(hit),
                _ => None,
            })
            .collect();
        let values = vec![Some(vec![0; 8]), None, Some(b"abcdefghi".to_vec()), Some(Vec::new())];
        assert_eq!(found, [Hit { probe: 5, tsc: 77, caller: 0x4000, values }]);
        assert!(matches!(hits.push(record(9, Kind::Enter, 3, 8)), Assembled::Other));
    }
}
