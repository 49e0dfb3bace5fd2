//! The rules as plainly as they can be said: for each function, who asks for it.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// An ops: its patterns are names, or beginnings of names with a star.
#[derive(Clone, Default)]
pub(super) struct ModelOps {
    pub(super) flags: Flags,
    pub(super) filter: Vec<String>,
    pub(super) notrace: Vec<String>,
    pub(super) enabled: bool,
    /// Sites that another exclusive ops had first when they were loaded.
    pub(super) refused: BTreeSet<SiteIndex>,
}

/// Everything, in lists.
#[derive(Default)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<ObjectKey, Vec<FunctionInfo>>,
    pub(super) ops: BTreeMap<u64, ModelOps>,
    pub(super) off: bool,
}

/// The operation fails.
#[derive(Debug)]
pub(super) struct Refused;

/// Whether the pattern means the function.
pub(super) fn means(pattern: &str, names: &[impl AsRef<str>]) -> bool {
    names.iter().any(|name| match pattern.strip_suffix('*') {
        Some(start) => name.as_ref().starts_with(start),
        None => name.as_ref() == pattern,
    })
}

impl ModelOps {
    fn asks(&self, function: &FunctionInfo) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| means(pattern, &function.names));
        let able = function.site.is_some() && (function.regs_supported || !self.is_strict());
        let able = able && (function.exit_supported || !self.flags.contains(Flags::ENTRY_EXIT));
        able && (self.filter.is_empty() || any(&self.filter)) && !any(&self.notrace)
    }

    fn is_strict(&self) -> bool {
        self.flags.contains(Flags::SAVE_REGS) && !self.flags.contains(Flags::SAVE_REGS_IF_SUPPORTED)
    }

    pub(super) fn has(&self, function: &FunctionInfo) -> bool {
        let refused = function.site.is_some_and(|site| self.refused.contains(&site));
        self.enabled && self.asks(function) && !refused
    }

    fn is_exclusive(&self) -> bool {
        self.flags.contains(Flags::IPMODIFY) || self.flags.contains(Flags::DIRECT)
    }
}

impl Model {
    pub(super) fn functions(&self) -> impl Iterator<Item = &FunctionInfo> {
        self.objects.values().flatten()
    }

    /// Which ops must fire at a function, and whether all registers are saved there.
    pub(super) fn fires(&self, function: &FunctionInfo) -> (Vec<u64>, bool) {
        let has = self.ops.iter().filter(|(_, ops)| !self.off && ops.has(function));
        let has: Vec<_> = has.collect();
        let wants = has.iter().any(|(_, ops)| {
            ops.flags.contains(Flags::SAVE_REGS)
                || ops.flags.contains(Flags::SAVE_REGS_IF_SUPPORTED)
        });
        (has.iter().map(|(id, _)| **id).collect(), wants && function.regs_supported)
    }

    /// Puts an ops in place of what it was.
    pub(super) fn replace(&mut self, id: u64, mut ops: ModelOps) -> Result<(), Refused> {
        let before = self.ops.get(&id).cloned().unwrap_or_default();
        let everything = ops.is_exclusive() && ops.filter.is_empty();
        let begins = !before.enabled && ops.flags.contains(Flags::PERMANENT);
        if !ops.enabled {
            ops.refused.clear();
        } else if everything || begins && self.off {
            return Err(Refused);
        }
        let asked = |function: &&FunctionInfo| before.enabled && before.asks(function);
        for function in self.functions().filter(|f| ops.enabled && ops.asks(f) && !asked(f)) {
            if ops.is_exclusive() && self.holder(function, id) {
                return Err(Refused);
            }
        }
        let asks = |site: &SiteIndex| {
            self.functions().any(|function| function.site == Some(*site) && ops.asks(function))
        };
        let refused = ops.refused.iter().copied().filter(asks).collect();
        self.ops.insert(id, ModelOps { refused, ..ops });
        Ok(())
    }

    /// Whether an exclusive ops other than this one has the function.
    fn holder(&self, function: &FunctionInfo, not: u64) -> bool {
        let others = self.ops.iter().filter(|(id, ops)| **id != not && ops.is_exclusive());
        others.into_iter().any(|(_, ops)| ops.has(function))
    }

    pub(super) fn register(&mut self, id: u64, ops: ModelOps) -> Result<(), Refused> {
        let direct = ops.flags.contains(Flags::DIRECT);
        let modifies = ops.flags.contains(Flags::IPMODIFY);
        let exits = ops.flags.contains(Flags::ENTRY_EXIT);
        if direct && (modifies || exits) || modifies && !ops.notrace.is_empty() {
            return Err(Refused);
        }
        self.replace(id, ops)
    }

    pub(super) fn switch(&mut self, on: bool) -> Result<(), Refused> {
        let permanent = |ops: &ModelOps| ops.enabled && ops.flags.contains(Flags::PERMANENT);
        if !on && self.ops.values().any(permanent) {
            return Err(Refused);
        }
        self.off = !on;
        Ok(())
    }

    /// Takes in an object; who is refused what.
    pub(super) fn load(
        &mut self,
        key: ObjectKey,
        functions: Vec<FunctionInfo>,
    ) -> Vec<(u64, SiteIndex)> {
        let mut refused = Vec::new();
        for function in &functions {
            let asks = |ops: &ModelOps| ops.enabled && ops.is_exclusive() && ops.asks(function);
            let asking = self.ops.iter_mut().filter(|(_, ops)| asks(ops));
            for (&id, ops) in asking.skip(1) {
                ops.refused.extend(function.site);
                refused.extend(function.site.map(|site| (id, site)));
            }
        }
        self.objects.insert(key, functions);
        refused.sort();
        refused
    }

    pub(super) fn unload(&mut self, key: ObjectKey) {
        for site in self.objects.remove(&key).into_iter().flatten().filter_map(|f| f.site) {
            self.ops.values_mut().for_each(|ops| _ = ops.refused.remove(&site));
        }
    }
}
