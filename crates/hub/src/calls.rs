//! Calls of one thread that have not returned yet, by the stack cell of their return address.

/// So many are looked through for what is likely to be on top.
const NEAR_TOP: usize = 8;
/// More distinct cells are not remembered.
const MOST: usize = 1 << 16;

/// Open calls, the latest last. Calls that were jumped over stay until their cell is used again.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    calls: Vec<(u32, u32)>,
    /// How many there may be before doubles are thrown out.
    limit: usize,
    /// Some were forgotten.
    lossy: bool,
}

impl OpenCalls {
    /// A call, of this site.
    #[inline]
    pub(crate) fn push(&mut self, cell: u32, site: u32) {
        if self.calls.last().is_some_and(|last| last.0 == cell) {
            self.calls.pop();
        }
        if self.calls.len() >= self.limit {
            self.tidy();
        }
        self.calls.push((cell, site));
    }

    /// The site of the latest call at a cell.
    pub(crate) fn find(&self, cell: u32) -> Option<u32> {
        self.calls.iter().rev().find(|call| call.0 == cell).map(|call| call.1)
    }

    /// Takes the latest call at a cell.
    #[inline]
    pub(crate) fn take(&mut self, cell: u32) -> Option<u32> {
        let at = self.calls.iter().rposition(|call| call.0 == cell)?;
        Some(self.calls.remove(at).1)
    }

    /// Something else has this cell now.
    #[inline]
    pub(crate) fn forget(&mut self, cell: u32) {
        let near = self.calls.len().saturating_sub(NEAR_TOP);
        if let Some(at) = self.calls[near..].iter().rposition(|call| call.0 == cell) {
            self.calls.remove(near + at);
        }
    }

    /// Keeps the latest call of each cell.
    #[cold]
    fn tidy(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.calls.reverse();
        self.calls.retain(|call| seen.insert(call.0));
        if self.calls.len() > MOST {
            self.calls.truncate(MOST / 2);
            self.lossy = true;
        }
        self.calls.reverse();
        self.limit = (2 * self.calls.len()).max(1024);
    }

    /// The cells; `None` if some are not known any more.
    pub(crate) fn cells(&self) -> Option<impl Iterator<Item = u32>> {
        (!self.lossy).then(|| self.calls.iter().map(|call| call.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_call_at_a_cell_is_meant() {
        let mut calls = OpenCalls::default();
        calls.push(100, 1);
        calls.push(90, 2);
        calls.push(80, 3);
        // 80 was jumped over, and 90 is called again.
        calls.push(90, 4);
        assert_eq!((calls.find(90), calls.take(90)), (Some(4), Some(4)));
        assert_eq!(calls.take(100), Some(1));
        assert_eq!(calls.take(100), None);
    }

    #[test]
    fn what_is_jumped_over_for_ever_does_not_grow() {
        let mut calls = OpenCalls::default();
        for round in 0..100_000 {
            calls.push(1000 - round % 10, round);
        }
        assert!(calls.calls.len() <= 1024);
        assert_eq!(calls.cells().unwrap().count(), calls.calls.len());
    }

    #[test]
    fn more_than_can_be_remembered_is_owned_up_to() {
        let mut calls = OpenCalls::default();
        (0..4 * MOST as u32).for_each(|cell| calls.push(cell, 0));
        assert!(calls.cells().is_none());
    }
}
