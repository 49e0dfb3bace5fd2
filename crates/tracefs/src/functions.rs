//! The functions of a process, and sets of them.

use crate::glob::Pattern;
use std::collections::HashMap;

/// A function, by its place in [`Functions`]: ascending by object, then by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// A function that can be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The library it is in, by file name; none for the program itself.
    pub module: Option<String>,
    /// Its address in the process.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// All functions of a process that can be traced.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    list: Vec<Function>,
    names: HashMap<String, Vec<FunctionId>>,
    by_address: Vec<FunctionId>,
}

impl Functions {
    /// From a list in the order in which they are to be shown.
    #[must_use]
    pub fn new(list: Vec<Function>) -> Self {
        let mut names: HashMap<String, Vec<FunctionId>> = HashMap::new();
        for (at, function) in list.iter().enumerate() {
            names.entry(function.name.clone()).or_default().push(FunctionId(at as u32));
        }
        let mut by_address: Vec<FunctionId> = (0..list.len() as u32).map(FunctionId).collect();
        by_address.sort_by_key(|id| list[id.0 as usize].address);
        Self { list, names, by_address }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: FunctionId) -> Option<&Function> {
        self.list.get(id.0 as usize)
    }

    /// Its name; empty for a function that is not there.
    #[must_use]
    pub fn name(&self, id: FunctionId) -> &str {
        self.get(id).map_or("", |function| &function.name)
    }

    /// All of them, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (FunctionId, &Function)> {
        self.list.iter().enumerate().map(|(at, function)| (FunctionId(at as u32), function))
    }

    /// Those that have a name.
    #[must_use]
    pub fn named(&self, name: &str) -> &[FunctionId] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// The function that an address lies in.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<FunctionId> {
        let start = |id: &FunctionId| self.list[id.0 as usize].address;
        let behind = self.by_address.partition_point(|id| start(id) <= address);
        let id = *self.by_address.get(behind.checked_sub(1)?)?;
        let function = &self.list[id.0 as usize];
        (address - function.address < function.size.max(1)).then_some(id)
    }

    /// Those that match a pattern, of any module or of those that `module` accepts.
    #[must_use]
    pub fn matching(
        &self,
        pattern: &Pattern,
        module: impl Fn(Option<&str>) -> bool,
    ) -> Vec<FunctionId> {
        let accepted = |function: &Function| {
            pattern.matches(&function.name) && module(function.module.as_deref())
        };
        self.iter().filter(|(_, function)| accepted(function)).map(|(id, _)| id).collect()
    }

    /// `name` or `name [module]`, as the files show it.
    #[must_use]
    pub fn label(&self, id: FunctionId) -> String {
        match self.get(id) {
            Some(Function { name, module: Some(module), .. }) => format!("{name} [{module}]"),
            Some(function) => function.name.clone(),
            None => String::new(),
        }
    }

    /// `name+0xoffset/0xsize` for an address, `name` alone if `offset` is not asked for, and the
    /// bare address where no function is.
    #[must_use]
    pub fn symbol(&self, address: u64, offset: bool) -> String {
        let found = self.at(address).and_then(|id| self.get(id));
        match found {
            Some(function) if offset => {
                let distance = address - function.address;
                let module = function.module.as_ref();
                let module = module.map_or_else(String::new, |name| format!(" [{name}]"));
                format!("{}+{distance:#x}/{:#x}{module}", function.name, function.size)
            }
            Some(function) => function.name.clone(),
            None => format!("{address:#x}"),
        }
    }
}

/// A set of functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSet {
    words: Vec<u64>,
    count: usize,
}

impl FunctionSet {
    /// Whether a function is in it.
    #[must_use]
    pub fn contains(&self, id: FunctionId) -> bool {
        self.words.get(id.0 as usize / 64).is_some_and(|word| word >> (id.0 % 64) & 1 != 0)
    }

    /// Puts a function in; false if it was there.
    pub fn insert(&mut self, id: FunctionId) -> bool {
        let at = id.0 as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let bit = 1 << (id.0 % 64);
        let new = self.words[at] & bit == 0;
        self.words[at] |= bit;
        self.count += usize::from(new);
        new
    }

    /// Takes a function out; false if it was not there.
    pub fn remove(&mut self, id: FunctionId) -> bool {
        let there = self.contains(id);
        if there {
            self.words[id.0 as usize / 64] &= !(1 << (id.0 % 64));
            self.count -= 1;
        }
        there
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The functions in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = FunctionId> + '_ {
        let bits = |(at, &word): (usize, &u64)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| at as u32 * 64 + bit)
        };
        self.words.iter().enumerate().flat_map(bits).map(FunctionId)
    }

    /// Puts in all that are in another.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|id| {
            self.insert(id);
        });
    }
}

impl FromIterator<FunctionId> for FunctionSet {
    fn from_iter<I: IntoIterator<Item = FunctionId>>(ids: I) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id);
        }
        set
    }
}
