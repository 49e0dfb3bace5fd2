use super::*;
use std::cell::{Cell, RefCell};

/// A table between whose steps something happens.
struct Places {
    places: RefCell<Vec<u64>>,
    used: Cell<usize>,
    /// Taken by others just before this thread takes its first place.
    rival: Cell<u64>,
}

impl Table for Places {
    fn most(&self) -> usize {
        self.places.borrow().len()
    }

    fn used(&self) -> usize {
        self.used.get()
    }

    fn raise_used(&self, to: usize) {
        self.used.set(self.used.get().max(to));
    }

    fn get(&self, at: usize) -> u64 {
        self.places.borrow()[at]
    }

    fn replace(&self, at: usize, from: u64, to: u64) -> bool {
        let place = &mut self.places.borrow_mut()[at];
        if from == 0 && self.rival.get() != 0 {
            *place = self.rival.take();
        }
        let is_as_thought = *place == from;
        if is_as_thought {
            *place = to;
        }
        is_as_thought
    }
}

fn places(rival: u64) -> Places {
    Places { places: RefCell::new(vec![0; 4]), used: Cell::new(0), rival: Cell::new(rival) }
}

#[test]
fn no_entry_lies_behind_what_counts_as_used() {
    let (own, rival) = (entry(0x1000, 1), entry(0x2000, 2));
    let table = places(rival);
    assert!(insert(&table, own));
    let used = &table.places.borrow()[..table.used.get()];
    assert_eq!(used, [rival, own], "a thread that lost its place to another is seen, too");
}

#[test]
fn who_comes_to_a_block_takes_the_entry_of_who_had_it() {
    let table = places(0);
    for generation in 0..10 {
        assert!(insert(&table, entry(0x1000, generation)));
        assert!(insert(&table, entry(0x1000, generation)), "again");
    }
    assert_eq!(*table.places.borrow(), [entry(0x1000, 9), 0, 0, 0]);
}

#[test]
fn an_entry_holds_its_block() {
    let last = 0x7fff_ffff_ffc0;
    assert_eq!(block(entry(last, u64::MAX)), last);
    assert_ne!(entry(last, 1), entry(last, 2));
}
