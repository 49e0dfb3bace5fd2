//! Lists of functions that are written as patterns: `set_ftrace_filter` and its kin.

use crate::errno::Errno;
use crate::functions::{FunctionId, FunctionSet, Functions};
use crate::glob::Pattern;
use crate::words::parse_number;

/// A list of functions.
#[derive(Clone, Debug, Default)]
pub(crate) struct FunctionList {
    pub(crate) set: FunctionSet,
    /// `function:mod:module` for modules that are not loaded.
    pub(crate) pending: Vec<(String, String)>,
}

impl FunctionList {
    /// Whether it is as if nothing had been written: a pending module counts as something.
    pub(crate) fn is_blank(&self) -> bool {
        self.set.is_empty() && self.pending.is_empty()
    }

    /// Whether a filter of this kind lets a function through: one that is blank lets all.
    pub(crate) fn lets(&self, id: FunctionId) -> bool {
        self.is_blank() || self.set.contains(id)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes one word: a pattern, with `!` in front to take out, with `:mod:module` behind.
    pub(crate) fn edit(&mut self, functions: &Functions, word: &str) -> Result<(), Errno> {
        match word.split_once(':') {
            None => self.edit_plain(functions, word),
            Some((pattern, rest)) => match rest.split_once(':') {
                Some(("mod", module)) => self.edit_module(functions, pattern, module),
                _ if rest == "mod" => self.edit_module(functions, pattern, ""),
                _ => Err(Errno::Invalid),
            },
        }
    }

    fn edit_plain(&mut self, functions: &Functions, word: &str) -> Result<(), Errno> {
        let (remove, text) = negated(word);
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let index = parse_number(text).and_then(|number| number.checked_sub(1));
            let index = index.filter(|&index| index < functions.len() as u64);
            self.apply([FunctionId(index.ok_or(Errno::Invalid)? as u32)].into(), remove);
            return Ok(());
        }
        let matching = select(functions, text);
        if matching.is_empty() {
            return Err(Errno::Invalid);
        }
        self.apply(matching, remove);
        Ok(())
    }

    fn edit_module(
        &mut self,
        functions: &Functions,
        pattern: &str,
        module: &str,
    ) -> Result<(), Errno> {
        let (remove, text) = negated(pattern);
        let (other, name) = negated(module);
        let any = Pattern::new(if text.is_empty() { "*" } else { text });
        let glob = Pattern::new(if name.is_empty() { "*" } else { name });
        let of = |own: Option<&str>| match own {
            Some(_) if name.is_empty() => !other,
            Some(own) => glob.matches(own) != other,
            None => other,
        };
        let matching = functions.matching(&any, of);
        if !matching.is_empty() {
            self.apply(matching, remove);
            return Ok(());
        }
        let known =
            functions.iter().any(|(_, it)| it.module.as_deref().is_some_and(|m| glob.matches(m)));
        if known || other || name.is_empty() {
            return Err(Errno::Invalid);
        }
        let entry = (if text.is_empty() { "*" } else { text }.to_owned(), name.to_owned());
        if remove {
            self.pending.retain(|it| *it != entry);
        } else if !self.pending.contains(&entry) {
            self.pending.push(entry);
        }
        Ok(())
    }

    fn apply(&mut self, ids: Vec<FunctionId>, remove: bool) {
        for id in ids {
            if remove {
                self.set.remove(id);
            } else {
                self.set.insert(id);
            }
        }
    }

    /// The lines of the file; `empty` stands for a list without functions.
    pub(crate) fn listing(&self, functions: &Functions, empty: &str) -> String {
        let mut text = String::new();
        for id in self.set.iter() {
            text += &functions.label(id);
            text.push('\n');
        }
        for (pattern, module) in &self.pending {
            text += &format!("{pattern}:mod:{module}\n");
        }
        if text.is_empty() { empty.to_owned() } else { text }
    }
}

/// Functions that a pattern selects, by name.
pub(crate) fn select(functions: &Functions, text: &str) -> Vec<FunctionId> {
    let pattern = Pattern::new(text);
    if pattern.is_exact() {
        return functions.named(text).to_vec();
    }
    functions.matching(&pattern, |_| true)
}

fn negated(word: &str) -> (bool, &str) {
    word.strip_prefix('!').map_or((false, word), |rest| (true, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Function;

    fn functions() -> Functions {
        let function = |(at, (name, module)): (usize, (&str, Option<&str>))| Function {
            name: name.into(),
            module: module.map(str::to_owned),
            address: 0x1000 + 16 * at as u64,
            size: 16,
        };
        let all = [
            ("main", None),
            ("mutex_lock", None),
            ("mutex_unlock", None),
            ("malloc", Some("libc.so.6")),
            ("free", Some("libc.so.6")),
        ];
        Functions::new(all.into_iter().enumerate().map(function).collect())
    }

    fn after(words: &[&str]) -> String {
        let (functions, mut list) = (functions(), FunctionList::default());
        words.iter().for_each(|word| list.edit(&functions, word).unwrap());
        list.listing(&functions, "empty\n")
    }

    #[test]
    fn words_put_functions_in_and_take_them_out() {
        assert_eq!(after(&[]), "empty\n");
        assert_eq!(after(&["*lock", "main"]), "main\nmutex_lock\nmutex_unlock\n");
        assert_eq!(after(&["*", "!m*"]), "free [libc.so.6]\n");
        assert_eq!(after(&["1", "0x4"]), "main\nmalloc [libc.so.6]\n");
    }

    #[test]
    fn modules_select_and_unknown_ones_wait() {
        assert_eq!(after(&[":mod:libc*"]), "malloc [libc.so.6]\nfree [libc.so.6]\n");
        assert_eq!(after(&["m*:mod:!libc*"]), "main\nmutex_lock\nmutex_unlock\n");
        assert_eq!(after(&["f:mod:libz", "*:mod:libq"]), "f:mod:libz\n*:mod:libq\n");
        assert_eq!(after(&["f:mod:libz", "!f:mod:libz"]), "empty\n");
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let (functions, mut list) = (functions(), FunctionList::default());
        for word in ["nothing", "!nothing", "0", "6", "1x", "*zz*", "main:no", "zz:mod:libc.so.6"] {
            assert_eq!(list.edit(&functions, word), Err(Errno::Invalid), "{word}");
        }
        assert!(list.is_blank());
    }

    #[test]
    fn a_pending_module_means_nothing_not_everything() {
        let (functions, mut list) = (functions(), FunctionList::default());
        assert!(list.lets(FunctionId(0)));
        list.edit(&functions, "f:mod:libz").unwrap();
        assert!(!list.lets(FunctionId(0)));
    }
}
