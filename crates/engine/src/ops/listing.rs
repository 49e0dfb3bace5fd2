//! What is traced, in the text formats of ftrace's files.
//!
//! Lines come in the order of the objects and of the functions in them. The flag letters are the
//! kernel's, two columns each: `R` all registers are saved, `I` an ops may redirect the function, `D`
//! an ops brought its own trampoline. The column of `O` (the ops is found by a word in front of the
//! function) is there and always blank, as on every x86 kernel. `M` means that an `I` or `D` ops was
//! there at some time.

use super::object::{Function, Object};
use super::registry::Registry;
use super::{Flags, ObjectKey, OpsId, SetId};
use std::fmt::{self, Write};

/// Size of the pages that the kernel keeps its records in, and of a record.
const RECORDS_PER_PAGE: usize = 4096 / 16;

/// How addresses are shown: what the registry does not know.
pub trait Symbols {
    /// The trampoline of a set; none if its sites run the shared one.
    fn trampoline(&self, set: SetId) -> Option<String>;

    /// The callback of an ops.
    fn callback(&self, ops: OpsId) -> String;

    /// What the trampoline of the set calls for an ops: the callback, or a guard in front of it.
    fn callee(&self, _set: SetId, ops: OpsId) -> String {
        self.callback(ops)
    }

    /// What the shared trampoline calls.
    fn list_function(&self) -> String;

    /// The trampoline that a `DIRECT` ops brought.
    fn direct(&self, ops: OpsId) -> String;
}

impl Registry {
    /// `available_filter_functions`: what can be traced.
    pub fn available_filter_functions(&self, out: &mut impl Write) -> fmt::Result {
        for (_, object, _, function) in self.traceable() {
            name(object, function, out)?;
            out.write_char('\n')?;
        }
        Ok(())
    }

    /// `enabled_functions`: what is armed now, and what it runs.
    pub fn enabled_functions(&self, symbols: &impl Symbols, out: &mut impl Write) -> fmt::Result {
        let armed = self.traceable().filter(|(.., function)| function.set.is_some());
        armed.into_iter().try_for_each(|place| self.line(place, symbols, out))
    }

    /// `touched_functions`: what has been armed at some time.
    pub fn touched_functions(&self, symbols: &impl Symbols, out: &mut impl Write) -> fmt::Result {
        let touched = self.traceable().filter(|(_, object, at, _)| object.touched.contains(*at));
        touched.into_iter().try_for_each(|place| self.line(place, symbols, out))
    }

    /// `dyn_ftrace_total_info`: how many functions can be traced, and the memory pages and groups
    /// (here: objects) of their records.
    pub fn totals(&self, out: &mut impl Write) -> fmt::Result {
        let groups = self.objects.values().map(|object| object.traceable.len());
        let groups: Vec<usize> = groups.filter(|&count| count > 0).collect();
        let pages: usize = groups.iter().map(|count| count.div_ceil(RECORDS_PER_PAGE)).sum();
        let functions: usize = groups.iter().sum();
        writeln!(out, "{functions} pages:{pages} groups: {}", groups.len())
    }

    fn traceable(&self) -> impl Iterator<Item = Place<'_>> {
        self.objects.iter().flat_map(|(&key, object)| {
            let sites = object.traceable.iter();
            sites.map(move |at| (key, object, at, &object.functions[at]))
        })
    }

    /// A line of `enabled_functions` or `touched_functions`.
    fn line(&self, place: Place<'_>, symbols: &impl Symbols, out: &mut impl Write) -> fmt::Result {
        let (key, object, at, function) = place;
        let ops = self.wishers(key, at);
        let any = |flag: Flags| ops.iter().any(|id| self.ops[id].flags.intersects(flag));
        let registers = ops.iter().any(|id| self.ops[id].flags.takes_registers());
        let column = |on: bool, letter| if on { letter } else { "  " };
        name(object, function, out)?;
        write!(
            out,
            " ({}){}{}{}  {}",
            ops.len(),
            column(registers && object.registers.contains(at), " R"),
            column(any(Flags::IPMODIFY), " I"),
            column(any(Flags::DIRECT), " D"),
            if object.modified.contains(at) { " M " } else { "   " },
        )?;
        if let Some(set) = function.set {
            self.target(set, &ops, symbols, out)?;
        }
        let direct = ops.iter().find(|id| self.ops[id].flags.contains(Flags::DIRECT));
        if let Some(&direct) = direct {
            write!(out, "\n\tdirect-->{}", symbols.direct(direct))?;
        }
        out.write_char('\n')
    }

    /// What the site runs: nothing of ours where only a direct trampoline is.
    fn target(
        &self,
        set: SetId,
        ops: &[OpsId],
        symbols: &impl Symbols,
        out: &mut impl Write,
    ) -> fmt::Result {
        if let [only] = ops
            && self.ops[only].flags.contains(Flags::DIRECT)
        {
            return Ok(());
        }
        let Some(trampoline) = symbols.trampoline(set) else {
            return write!(out, " ->{}", symbols.list_function());
        };
        for &id in ops {
            let (callback, callee) = (symbols.callback(id), symbols.callee(set, id));
            write!(out, "\ttramp: {trampoline} ({callback}) ->{callee}")?;
        }
        Ok(())
    }

    /// The ops that have a function, also while tracing is switched off.
    fn wishers(&self, key: ObjectKey, at: usize) -> Vec<OpsId> {
        let set = self.objects[&key].functions[at].set;
        if let Some(set) = set.and_then(|set| self.sets.get(set)) {
            return set.ops.clone();
        }
        let wishers = self
            .ops
            .iter()
            .filter(|(_, ops)| ops.wants.get(&key).is_some_and(|bits| bits.contains(at)));
        wishers.map(|(&id, _)| id).collect()
    }
}

/// A function, with where it is.
type Place<'a> = (ObjectKey, &'a Object, usize, &'a Function);

/// `name`, or `name [module]` outside the program.
fn name(object: &Object, function: &Function, out: &mut impl Write) -> fmt::Result {
    out.write_str(function.name())?;
    if object.program { Ok(()) } else { write!(out, " [{}]", object.module) }
}
