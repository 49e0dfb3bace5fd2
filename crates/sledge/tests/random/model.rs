//! Which clients must fire at a function, as plainly as it can be said.

use super::functions::{self, COUNT, OBJECTS};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    pub(crate) filter: Vec<String>,
    pub(crate) notrace: Vec<String>,
    pub(crate) enabled: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) ops: Vec<Wants>,
    pub(crate) loaded: [bool; OBJECTS],
    pub(crate) off: bool,
}

impl Model {
    pub(crate) fn new(loaded: [bool; OBJECTS]) -> Self {
        Self { ops: Vec::new(), loaded, off: false }
    }

    /// For each function: whether the client fires there.
    pub(crate) fn has(&self, at: usize) -> [bool; COUNT] {
        let Wants { filter, notrace, enabled } = &self.ops[at];
        std::array::from_fn(|number| {
            let means =
                |list: &[String]| list.iter().any(|one| matches(one, &functions::name(number)));
            let loaded = self.loaded[functions::object(number)];
            *enabled && !self.off && loaded && means(filter) && !means(notrace)
        })
    }
}

/// `*` is anything at the end, `?` one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, open) = match pattern.strip_suffix('*') {
        Some(start) => (start, true),
        None => (pattern, false),
    };
    let fits = pattern.len() == name.len() || open && pattern.len() <= name.len();
    fits && pattern.bytes().zip(name.bytes()).all(|(one, other)| one == b'?' || one == other)
}
