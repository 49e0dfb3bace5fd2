//! Filter and notrace hashes: the patterns of an ops, and what they match.

use super::ObjectKey;
use super::bits::{Bits, Members};
use super::object::Object;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Says of a function, by its names and its module, whether it is meant.
pub type Matcher = dyn Fn(&[&str], &str) -> bool + Send + Sync;

/// Some functions, of objects that are loaded or will be.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Exact { module: Option<Arc<str>> },
    Matcher(Arc<Matcher>),
}

impl Pattern {
    /// The functions with this name. Found without looking at all the others.
    #[must_use]
    pub fn exact(name: &str) -> Self {
        Self { text: name.into(), rule: Rule::Exact { module: None } }
    }

    /// The functions with this name in the module.
    #[must_use]
    pub fn exact_in(name: &str, module: &str) -> Self {
        Self { text: name.into(), rule: Rule::Exact { module: Some(module.into()) } }
    }

    /// The functions that the matcher takes; the text is how users know it.
    #[must_use]
    pub fn matching(
        text: &str,
        matcher: impl Fn(&[&str], &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { text: text.into(), rule: Rule::Matcher(Arc::new(matcher)) }
    }

    /// The name, or the text that came with the matcher.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds the functions of the object that are meant.
    fn find(&self, object: &Object, found: &mut Bits) {
        match &self.rule {
            Rule::Exact { module } => {
                if module.as_deref().is_none_or(|module| *module == object.module) {
                    object.named(&self.text).for_each(|at| found.insert(at));
                }
            }
            Rule::Matcher(matches) => {
                let mut names: Vec<&str> = Vec::new();
                for (at, function) in object.functions.iter().enumerate() {
                    names.clear();
                    names.extend(function.names.iter().map(String::as_str));
                    if matches(&names, &object.module) {
                        found.insert(at);
                    }
                }
            }
        }
    }

    /// Whether no function of these objects is meant.
    pub(super) fn is_pending(&self, objects: &BTreeMap<ObjectKey, Object>) -> bool {
        objects.values().all(|object| {
            let mut found = Bits::below(object.functions.len());
            self.find(object, &mut found);
            found.is_empty()
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// Patterns, with the functions of the loaded objects that they match.
///
/// Whether a hash is empty is a question of its patterns: one that matches nothing yet keeps a
/// filter from meaning everything (the kernel's `MOD` flag of a hash).
#[derive(Clone, Debug, Default)]
pub(super) struct Hash {
    patterns: Vec<Pattern>,
    members: Members,
}

impl Hash {
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// The functions of an object that are in the hash.
    pub(super) fn members(&self, key: ObjectKey) -> Option<&Bits> {
        self.members.get(&key)
    }

    /// Adds patterns, with `reset` in place of those that are there.
    pub(super) fn change(
        &mut self,
        patterns: Vec<Pattern>,
        reset: bool,
        objects: &BTreeMap<ObjectKey, Object>,
    ) {
        if reset {
            *self = Self::default();
        }
        for (&key, object) in objects {
            self.find(&patterns, key, object);
        }
        self.patterns.extend(patterns);
    }

    /// Takes in a new object.
    pub(super) fn load(&mut self, key: ObjectKey, object: &Object) {
        let patterns = std::mem::take(&mut self.patterns);
        self.find(&patterns, key, object);
        self.patterns = patterns;
    }

    /// Forgets an object.
    pub(super) fn unload(&mut self, key: ObjectKey) {
        self.members.remove(&key);
    }

    fn find(&mut self, patterns: &[Pattern], key: ObjectKey, object: &Object) {
        if patterns.is_empty() {
            return;
        }
        let mut found = Bits::below(object.functions.len());
        patterns.iter().for_each(|pattern| pattern.find(object, &mut found));
        found.add(self.members.get(&key));
        if !found.is_empty() {
            self.members.insert(key, found);
        }
    }
}
