//! Names for people, made once per function.

use std::fmt;

use sledge_trace::event::{Directory, Function, FunctionId, Object};

use crate::text::printable;

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

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line; 0 where that is not known.
    pub line: u32,
}

/// Knows where functions stand in their sources.
pub trait Places: fmt::Debug {
    /// Where a function begins.
    fn place(&mut self, object: &Object, function: &Function) -> Option<Place>;
}

/// The readable names of a trace's functions, and where they stand.
#[derive(Debug)]
pub struct Names {
    naming: Box<dyn Naming>,
    places: Option<Box<dyn Places>>,
    printed: bool,
    known: Memo<Label>,
    placed: Memo<Option<Place>>,
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
        let (known, placed) = (Memo::default(), Memo::default());
        Self { naming, places: None, printed: false, known, placed }
    }

    /// The same, to be shown on a terminal: names are nothing but text.
    #[must_use]
    pub(crate) fn printed(self) -> Self {
        Self { printed: true, ..self }
    }

    /// The same, with someone who knows the sources.
    #[must_use]
    pub fn with_places(self, places: Box<dyn Places>) -> Self {
        Self { places: Some(places), ..self }
    }

    /// Where a function begins in its source.
    pub fn place(&mut self, directory: &Directory, function: FunctionId) -> Option<&Place> {
        let places = self.places.as_mut()?;
        let make = || {
            let known = directory.functions.get(function.0 as usize)?;
            let object = directory.objects.get(known.object.0 as usize)?;
            places.place(object, known)
        };
        self.placed.get(function.0, make).as_ref()
    }

    /// The source file of a function; `?` where that is not known.
    pub fn file(&mut self, directory: &Directory, function: FunctionId) -> &str {
        self.place(directory, function).map_or("?", |place| &place.file)
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
        let (naming, printed) = (self.naming.as_ref(), self.printed);
        self.known.get(function.0, || {
            let mut call = readable(naming, directory, function);
            if printed {
                call = printable(&call).into_owned();
            }
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
pub struct Memo<T>(Vec<Option<T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Memo<T> {
    /// The value of `index`, made now if it is not known yet.
    #[inline]
    pub fn get(&mut self, index: u32, make: impl FnOnce() -> T) -> &mut T {
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index].get_or_insert_with(make)
    }

    /// The value of `index`, if it has been made.
    pub(crate) fn known(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize)?.as_ref()
    }

    /// The value of `index`, if it was made.
    #[inline]
    pub fn peek_mut(&mut self, index: u32) -> Option<&mut T> {
        self.0.get_mut(index as usize)?.as_mut()
    }

    /// The values that were made, by index.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten()
    }

    /// No index up to now was as large.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// Whether no value was asked for yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
