//! Counts over the functions of an object.

use std::collections::BTreeMap;

use crate::site::{EntryOnly, Function, Refusal, Returns, Rung};

/// How many functions can be traced and how, and how many cannot and why.
///
/// What the program never calls as a function is set aside and counted on its own: start-up code
/// of the C runtime, IFUNC resolvers, code that is not entered by a call, restartable sequences
/// (see [`Refusal::sets_aside`]). All else that discovery lists counts as a function.
/// What has neither a function symbol nor an unwind entry is not known to be a function, and is
/// not listed; [`Summary::uncovered_bytes`] says how much code that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Functions that a program calls.
    pub functions: usize,
    /// What is listed besides, by the reason why it is no function to trace.
    pub set_aside: BTreeMap<Refusal, usize>,
    /// Those that have a site.
    pub traceable: usize,
    /// Sites by rung.
    pub rungs: BTreeMap<Rung, usize>,
    /// Functions without a site, by reason; not those set aside.
    pub refusals: BTreeMap<Refusal, usize>,
    /// Sites whose returns cannot be hooked because they return twice.
    pub returns_twice: usize,
    /// Sites whose returns cannot be hooked because they read their return address.
    pub reads_return_address: usize,
    /// Sites whose returns cannot be hooked because they return from another stack cell.
    pub moves_return_address: usize,
    /// Bytes of executable sections that belong to no known function and are not filler.
    pub uncovered_bytes: u64,
}

impl Summary {
    pub(crate) fn of(functions: &[Function], uncovered_bytes: u64) -> Self {
        let mut summary = Self { uncovered_bytes, ..Self::default() };
        for function in functions {
            summary.count(function);
        }
        summary
    }

    fn count(&mut self, function: &Function) {
        let site = match &function.verdict {
            Ok(site) => site,
            Err(refusal) => {
                let set_aside = refusal.sets_aside();
                let counts = if set_aside { &mut self.set_aside } else { &mut self.refusals };
                *counts.entry(*refusal).or_default() += 1;
                self.functions += usize::from(!set_aside);
                return;
            }
        };
        self.functions += 1;
        self.traceable += 1;
        *self.rungs.entry(site.rung).or_default() += 1;
        match site.returns {
            Returns::Hooked => {}
            Returns::EntryOnly(EntryOnly::ReturnsTwice) => self.returns_twice += 1,
            Returns::EntryOnly(EntryOnly::ReadsReturnAddress) => self.reads_return_address += 1,
            Returns::EntryOnly(EntryOnly::MovesReturnAddress) => self.moves_return_address += 1,
        }
    }

    /// The share of functions that can be traced, in percent; 100 if there are none.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.functions == 0 {
            return 100.0;
        }
        100.0 * self.traceable as f64 / self.functions as f64
    }
}
