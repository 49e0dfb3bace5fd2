//! What one client sees of a process: its own events and no others.
//!
//! All clients share the rings. A client gets the calls of the sites that it wanted when they were
//! called, and the ends of exactly those, whatever was changed in between. It must make no difference
//! to it who else is there: where a function that it wants was entered by a jump out of one that only
//! others want, it hears of a call, as it would if it were alone.

use crate::attached::SiteId;
use crate::calls::OpenCalls;
use sledge_wire::record::{Kind, Record};
use sledge_wire::segment::LOST_SITE;
use std::collections::HashSet;

/// A set of sites.
#[derive(Clone, Debug, Default)]
struct Sites(Vec<u64>);

impl Sites {
    fn new(sites: &HashSet<SiteId>) -> Self {
        let most = sites.iter().map(|site| site.0).max();
        let mut words = vec![0; most.map_or(0, |most| most as usize / 64 + 1)];
        for site in sites {
            words[site.0 as usize / 64] |= 1 << (site.0 % 64);
        }
        Self(words)
    }

    #[inline]
    fn has(&self, site: u32) -> bool {
        self.0.get(site as usize / 64).is_some_and(|word| word >> (site % 64) & 1 != 0)
    }
}

/// A client's view.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Which sites, since when: the latest last.
    wanted: Vec<(u64, Sites)>,
    open: Vec<OpenCalls>,
}

impl View {
    /// Sees these sites, from a time on.
    pub(crate) fn want(&mut self, since: u64, sites: &HashSet<SiteId>) {
        self.wanted.push((since, Sites::new(sites)));
    }

    /// No record older than this will come any more.
    pub(crate) fn prune(&mut self, before: u64) {
        let old = self.wanted.iter().rposition(|wanted| wanted.0 <= before).unwrap_or(0);
        self.wanted.drain(..old);
    }

    #[inline]
    fn wants(&self, record: &Record) -> bool {
        let then = self.wanted.iter().rev().find(|wanted| wanted.0 <= record.tsc);
        then.is_some_and(|(_, sites)| sites.has(record.site))
    }

    /// What the client is to hear of a thread's record.
    pub(crate) fn see(&mut self, thread: usize, record: &Record) -> Option<Record> {
        if record.site == LOST_SITE {
            return Some(*record);
        }
        if self.open.len() <= thread {
            self.open.resize_with(thread + 1, OpenCalls::default);
        }
        let wants = record.kind != Kind::Exit && self.wants(record);
        let open = &mut self.open[thread];
        match record.kind {
            Kind::Enter if wants => {
                open.push(record.cell, record.site);
                Some(*record)
            }
            Kind::Enter => {
                open.forget(record.cell);
                None
            }
            // The outermost of those that share a cell is the one that returns.
            Kind::Tail if wants && open.find(record.cell).is_some() => Some(*record),
            Kind::Tail if wants => {
                open.push(record.cell, record.site);
                Some(Record { kind: Kind::Enter, ..*record })
            }
            Kind::Tail => None,
            Kind::EnterOnly => wants.then_some(*record),
            Kind::Exit => open.take(record.cell).map(|site| Record { site, ..*record }),
        }
    }

    /// A thread's number goes to another.
    pub(crate) fn end(&mut self, thread: usize) {
        if let Some(open) = self.open.get_mut(thread) {
            *open = OpenCalls::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tsc: u64, kind: Kind, site: u32, cell: u32) -> Record {
        Record { tsc, kind, site, cell }
    }

    fn view(sites: &[u32]) -> View {
        let mut view = View::default();
        view.want(0, &sites.iter().map(|&site| SiteId(site)).collect());
        view
    }

    fn seen(view: &mut View, records: &[Record]) -> Vec<Record> {
        records.iter().filter_map(|record| view.see(0, record)).collect()
    }

    #[test]
    fn a_client_sees_what_it_wants_and_its_ends() {
        let records = [
            record(1, Kind::Enter, 1, 100),
            record(2, Kind::Enter, 2, 90),
            record(3, Kind::Exit, 2, 90),
            record(4, Kind::EnterOnly, 3, 90),
            record(5, Kind::Exit, 1, 100),
        ];
        assert_eq!(seen(&mut view(&[2]), &records), records[1..3]);
        assert_eq!(seen(&mut view(&[3]), &records), records[3..4]);
        assert_eq!(seen(&mut view(&[1, 2, 3]), &records), records);
    }

    #[test]
    fn a_jump_out_of_what_it_does_not_see_is_a_call() {
        let records = [
            record(1, Kind::Enter, 1, 100),
            record(2, Kind::Tail, 2, 100),
            record(3, Kind::Tail, 3, 100),
            record(4, Kind::Exit, 1, 100),
        ];
        let alone = [
            record(2, Kind::Enter, 2, 100),
            record(3, Kind::Tail, 3, 100),
            record(4, Kind::Exit, 2, 100),
        ];
        assert_eq!(seen(&mut view(&[2, 3]), &records), alone);
        let last = [record(3, Kind::Enter, 3, 100), record(4, Kind::Exit, 3, 100)];
        assert_eq!(seen(&mut view(&[3]), &records), last);
    }

    #[test]
    fn what_is_called_before_a_change_ends_after_it() {
        let mut view = view(&[1]);
        view.want(10, &HashSet::from([SiteId(2)]));
        let records = [
            record(5, Kind::Enter, 1, 100),
            record(6, Kind::Enter, 2, 90),
            record(11, Kind::Exit, 2, 90),
            record(12, Kind::Enter, 2, 90),
            record(13, Kind::Exit, 2, 90),
            record(14, Kind::Exit, 1, 100),
            record(15, Kind::Enter, 1, 100),
        ];
        let expected = [records[0], records[3], records[4], records[5]];
        assert_eq!(seen(&mut view, &records), expected);
        view.prune(20);
        assert_eq!(view.wanted.len(), 1);
    }
}
