//! Numbers for paths.

use std::collections::HashMap;

/// The number of the root.
pub(crate) const ROOT: u64 = 1;

#[derive(Debug)]
struct Known {
    path: String,
    /// How often the kernel was told of it.
    told: u64,
}

/// Paths that the kernel knows, by number.
#[derive(Debug)]
pub(crate) struct Inodes {
    numbers: HashMap<String, u64>,
    known: HashMap<u64, Known>,
    next: u64,
    /// Owners that somebody changed.
    owners: HashMap<String, (u32, u32)>,
}

impl Default for Inodes {
    fn default() -> Self {
        let root = Known { path: String::new(), told: 1 };
        Self {
            numbers: HashMap::from([(String::new(), ROOT)]),
            known: HashMap::from([(ROOT, root)]),
            next: ROOT + 1,
            owners: HashMap::new(),
        }
    }
}

impl Inodes {
    pub(crate) fn path(&self, number: u64) -> Option<&str> {
        self.known.get(&number).map(|known| known.path.as_str())
    }

    /// The path of a name in a directory.
    pub(crate) fn child(&self, parent: u64, name: &str) -> Option<String> {
        let parent = self.path(parent)?;
        Some(if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") })
    }

    /// The number of a path; `tell` when the kernel is told of it.
    pub(crate) fn number(&mut self, path: &str, tell: bool) -> u64 {
        let next = self.next;
        let number = *self.numbers.entry(path.to_owned()).or_insert(next);
        if number == next {
            self.next += 1;
            self.known.insert(number, Known { path: path.to_owned(), told: 0 });
        }
        if tell && let Some(known) = self.known.get_mut(&number) {
            known.told += 1;
        }
        number
    }

    /// The kernel forgets a number as often as it was told of it.
    pub(crate) fn forget(&mut self, number: u64, count: u64) {
        if number == ROOT {
            return;
        }
        let Some(known) = self.known.get_mut(&number) else { return };
        known.told = known.told.saturating_sub(count);
        if known.told == 0
            && let Some(known) = self.known.remove(&number)
        {
            self.numbers.remove(&known.path);
        }
    }

    pub(crate) fn owner(&self, path: &str) -> Option<(u32, u32)> {
        self.owners.get(path).copied()
    }

    pub(crate) fn set_owner(&mut self, path: &str, owner: (u32, u32)) {
        self.owners.insert(path.to_owned(), owner);
    }

    /// A directory is gone, with what is in it.
    pub(crate) fn remove(&mut self, path: &str) {
        let inside = format!("{path}/");
        self.owners.retain(|other, _| other != path && !other.starts_with(&inside));
    }
}
