//! Names for people, made once per function.

use std::fmt;

use sledge_trace::event::{Directory, FunctionId};

/// Turns names of symbol tables into names for people.
pub trait Naming: fmt::Debug {
    /// The name to show for a symbol.
    fn readable(&self, symbol: &str) -> String;

    /// Whether readable names may carry their parameters: `f(int)`.
    fn parameters(&self) -> bool {
        false
    }
}

/// Shows symbols as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs;

impl Naming for AsIs {
    fn readable(&self, symbol: &str) -> String {
        symbol.to_owned()
    }
}

/// The readable names of a trace's functions.
#[derive(Debug)]
pub struct Names {
    naming: Box<dyn Naming>,
    known: Memo<Label>,
}

/// A name, alone and as a call.
#[derive(Debug)]
struct Label {
    call: Box<str>,
    /// How much of `call` is the name.
    name: usize,
}

impl Names {
    /// Names made by `naming`.
    #[must_use]
    pub fn new(naming: Box<dyn Naming>) -> Self {
        Self { naming, known: Memo::default() }
    }

    /// The name of a function; `module+0x1234` where its object has none.
    pub fn of(&mut self, directory: &Directory, function: FunctionId) -> &str {
        let label = self.label(directory, function);
        &label.call[..label.name]
    }

    /// The name as a call: `f()`, or as it is where the name tells its parameters.
    pub fn call_of(&mut self, directory: &Directory, function: FunctionId) -> &str {
        &self.label(directory, function).call
    }

    fn label(&mut self, directory: &Directory, function: FunctionId) -> &Label {
        let naming = self.naming.as_ref();
        self.known.get(function.0, || {
            let mut call = readable(naming, directory, function);
            let name = call.len();
            if !(naming.parameters() && call.contains('(')) {
                call.push_str("()");
            }
            Label { call: call.into_boxed_str(), name }
        })
    }
}

fn readable(naming: &dyn Naming, directory: &Directory, function: FunctionId) -> String {
    match directory.functions.get(function.0 as usize) {
        Some(known) if known.name.is_empty() => {
            format!("{}+{:#x}", module_name(directory, function), known.address)
        }
        Some(known) => naming.readable(&known.name),
        None => format!("?{}", function.0),
    }
}

/// The file name of the object that a function belongs to.
#[must_use]
pub fn module_name(directory: &Directory, function: FunctionId) -> &str {
    let known = directory.functions.get(function.0 as usize);
    let object = known.and_then(|known| directory.objects.get(known.object.0 as usize));
    object.map_or("?", |object| object.path.rsplit('/').next().unwrap_or(&object.path))
}

/// Values made once per index.
#[derive(Debug)]
pub(crate) struct Memo<T>(Vec<Option<T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Memo<T> {
    /// The value of `index`, made now if it is not known yet.
    pub(crate) fn get(&mut self, index: u32, make: impl FnOnce() -> T) -> &mut T {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index].get_or_insert_with(make)
    }

    /// The values made so far.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}
