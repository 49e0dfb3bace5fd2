//! The table of threads, and how long trampolines must be kept.
//!
//! # Why that is correct
//! Who retires a trampoline stores another in every cell that led to it, then has every processor
//! take notice (`membarrier`), then reads the counts of all threads. A thread either read the cell
//! before the barrier, and then its count in is seen, since it was made before; or it reads the
//! cell after the barrier, and finds the other trampoline. So a thread whose counts agree once is
//! out, and stays out. A thread that is not in the table yet puts itself there, by a locked
//! instruction, before it reads a cell.
//!
//! A block is in the table by an entry that no other registration has, and holds that entry itself:
//! an entry whose block holds another belongs to a thread that has ended. Only such entries, and
//! those of threads that the system does not know any more, are taken out.
//!
//! The code is written over traits so that the tests can stop it between any two of its steps
//! (`explorer`).

/// The highest bit of the count in: set in a thread that is not in the table.
const UNKNOWN: u32 = 1 << 31;

const GENERATION_BITS: u32 = 23;
const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

/// The entry of a block, aligned to 64 bytes; user addresses have 47 bits.
#[inline(always)]
pub(super) fn entry(block: u64, generation: u64) -> u64 {
    (block >> 6) << GENERATION_BITS | generation & GENERATION
}

/// The block that an entry stands for.
#[inline(always)]
pub(super) fn block(entry: u64) -> u64 {
    entry >> GENERATION_BITS << 6
}

/// How many hits a thread is in.
pub(super) fn depth(entered: u32, left: u32) -> u32 {
    entered.wrapping_sub(left) & !UNKNOWN
}

/// Places for entries; nought is none. Each method is one atomic step.
pub(crate) trait Table {
    /// How many places there are.
    fn most(&self) -> usize;
    /// Behind the last place that was ever used.
    fn used(&self) -> usize;
    fn raise_used(&self, to: usize);
    fn get(&self, at: usize) -> u64;
    /// Replaces an entry, if it is this one still.
    fn replace(&self, at: usize, from: u64, to: u64) -> bool;
}

/// What a thread does with its own block.
pub(crate) trait Itself: Table {
    fn entry(&self) -> u64;
    /// Chooses an entry and notes it, unless one is there: in one instruction, since the handler of
    /// a signal may do the same, and whoever looks takes an entry that was changed for another's.
    fn note_entry(&self);
    /// Says whether the block is this thread's own, and not borrowed.
    fn note_number(&self) -> bool;
    fn apply_filters(&self);
    fn clear_unknown(&self);
}

/// Takes the calling thread into the table. Says whether there was a place.
#[inline(always)]
pub(super) fn make_known(thread: &impl Itself) -> bool {
    if thread.entry() == 0 {
        thread.note_entry();
    }
    let own = thread.note_number();
    let placed = insert(thread, thread.entry());
    thread.apply_filters();
    // Who only borrows this block leaves it to its owner to say which thread it is.
    if own {
        thread.clear_unknown();
    }
    placed
}

/// A look at the block of another thread, which may have ended: each method is one step.
pub(crate) trait Look {
    fn left(&self, block: u64) -> Option<u32>;
    fn entered(&self, block: u64) -> Option<u32>;
    fn entry(&self, block: u64) -> Option<u64>;
    /// Whether the thread that has noted its number there is known to have ended.
    fn has_ended(&self, block: u64) -> bool;
}

/// Whether the entry of the calling thread has a place.
#[inline(always)]
pub(super) fn insert(table: &impl Table, own: u64) -> bool {
    let mut free = usize::MAX;
    let used = table.used();
    let mut at = 0;
    while at < used && at < table.most() {
        let found = table.get(at);
        if found == own {
            return true;
        }
        // Whoever had this block before has ended.
        if found != 0 && block(found) == block(own) && table.replace(at, found, own) {
            return true;
        }
        if found == 0 && free == usize::MAX {
            free = at;
        }
        at += 1;
    }
    if free != usize::MAX && table.replace(free, 0, own) {
        return true;
    }
    // Others may be looking for a place here: each place counts as used before somebody has it.
    while at < table.most() {
        table.raise_used(at + 1);
        if table.replace(at, 0, own) {
            return true;
        }
        at += 1;
    }
    false
}

/// Waits until every thread has been out of all trampolines once.
#[derive(Clone, Debug)]
pub(crate) struct Grace<T, L> {
    table: T,
    blocks: L,
    /// Entries that have not been seen outside yet, and the count in that was seen last.
    waiting: Vec<(u64, u32)>,
}

/// What a look at the threads has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Each thread has been outside.
    AllOutside,
    /// Some were inside, and are running: the next look may find them outside.
    Moving,
    /// Those that were inside stand where they stood.
    Standing,
}

impl<T: Table, L: Look> Grace<T, L> {
    /// To be called after a barrier that followed the last store to a cell.
    pub(super) fn begin(table: T, blocks: L) -> Self {
        let entries = (0..table.used().min(table.most())).map(|at| table.get(at));
        let mut waiting: Vec<_> = entries.filter(|&entry| entry != 0).map(|one| (one, 0)).collect();
        waiting.retain(|&(entry, _)| is_there(&table, &blocks, entry));
        Self { table, blocks, waiting }
    }

    /// Those that were inside, to go on with later.
    #[cfg(test)]
    fn waiting(self) -> Vec<(u64, u32)> {
        self.waiting
    }

    /// Looks once more at those that were inside.
    pub(crate) fn poll(&mut self) -> Seen {
        let mut moving = false;
        let (table, blocks) = (&self.table, &self.blocks);
        self.waiting.retain_mut(|(entry, last)| {
            let Some(entered) = inside(blocks, *entry) else { return false };
            let moves = std::mem::replace(last, entered) != entered;
            moving |= moves;
            moves || is_there(table, blocks, *entry)
        });
        match (self.waiting.is_empty(), moving) {
            (true, _) => Seen::AllOutside,
            (_, true) => Seen::Moving,
            _ => Seen::Standing,
        }
    }
}

/// The count in of a thread that is in a trampoline. What is read first may only be the older of
/// the two: were it the count in, a hit in between would make a thread that is inside look as if
/// it were not.
fn inside(blocks: &impl Look, entry: u64) -> Option<u32> {
    let block = block(entry);
    let left = blocks.left(block)?;
    let entered = blocks.entered(block)?;
    (depth(entered, left) != 0).then_some(entered)
}

/// Whether the thread of an entry may still run. If it has ended, its block may be gone, or be
/// another thread's, and the entry is taken out.
fn is_there(table: &impl Table, blocks: &impl Look, entry: u64) -> bool {
    let block = block(entry);
    if blocks.entry(block) == Some(entry) && !blocks.has_ended(block) {
        return true;
    }
    for at in 0..table.used().min(table.most()) {
        if table.get(at) == entry {
            table.replace(at, entry, 0);
        }
    }
    false
}

#[cfg(test)]
mod explorer;
#[cfg(test)]
mod tests;
