//! The functions of a loaded object.

use super::bits::Bits;
use super::sets::Sets;
use super::{SetId, SiteIndex};
use std::fmt;
use std::sync::OnceLock;

/// What the registry must know of an object.
#[derive(Clone, Debug, Default)]
pub struct ObjectInfo {
    /// Its name as filters use it.
    pub module: String,
    /// Whether it is the program itself, whose functions are listed without the module.
    pub program: bool,
    /// Its functions, ascending by address.
    pub functions: Vec<FunctionInfo>,
}

/// What the registry must know of a function.
#[derive(Clone, Debug)]
pub struct FunctionInfo {
    /// Its names; it is listed by the first.
    pub names: Vec<String>,
    /// Its site; none if it cannot be traced.
    pub site: Option<SiteIndex>,
    /// Whether callbacks can have all registers there.
    pub regs_supported: bool,
    /// Whether callbacks can see it return.
    pub exit_supported: bool,
}

/// A function, and what it runs now.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) names: Box<[String]>,
    pub(super) site: Option<SiteIndex>,
    pub(super) set: Option<SetId>,
}

/// An object. Functions go by their position in it.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) module: String,
    pub(super) program: bool,
    pub(super) functions: Vec<Function>,
    by_name: NameOrder,
    /// Functions with a site.
    pub(super) traceable: Bits,
    /// Those that can give all registers.
    pub(super) registers: Bits,
    /// Those that can be seen to return.
    pub(super) exits: Bits,
    /// Those that an enabled exclusive ops has.
    pub(super) claimed: Bits,
    /// Those that ever were armed.
    pub(super) touched: Bits,
    /// Those that ever ran an exclusive ops.
    pub(super) modified: Bits,
}

/// Function and name positions, in the order of the names; made when first asked for.
#[derive(Default)]
struct NameOrder(OnceLock<Vec<(u32, u32)>>);

impl fmt::Debug for NameOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameOrder") // follows from the names
    }
}

impl Function {
    /// The name it is listed by.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("__unnamed__", String::as_str)
    }
}

impl Object {
    pub(super) fn new(info: ObjectInfo) -> Self {
        let (count, given) = (info.functions.len(), &info.functions);
        let traceable = Bits::filled(count, |at| given[at].site.is_some());
        let mut registers = Bits::filled(count, |at| given[at].regs_supported);
        registers.keep(Some(&traceable));
        let mut exits = Bits::filled(count, |at| given[at].exit_supported);
        exits.keep(Some(&traceable));
        let function =
            |info: FunctionInfo| Function { names: info.names.into(), site: info.site, set: None };
        Self {
            module: info.module,
            program: info.program,
            functions: info.functions.into_iter().map(function).collect(),
            by_name: NameOrder::default(),
            traceable,
            registers,
            exits,
            claimed: Bits::below(count),
            touched: Bits::below(count),
            modified: Bits::below(count),
        }
    }

    /// The functions with this name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        let order = self.by_name.0.get_or_init(|| self.sorted_names());
        let start = order.partition_point(|&at| self.name(at) < name);
        let rest = order[start..].iter();
        rest.take_while(move |&&at| self.name(at) == name).map(|&(function, _)| function as usize)
    }

    fn sorted_names(&self) -> Vec<(u32, u32)> {
        let functions = (0_u32..).zip(&self.functions);
        let names = functions.flat_map(|(at, function)| {
            (0_u32..).zip(&function.names).map(move |(name, _)| (at, name))
        });
        let mut order: Vec<_> = names.collect();
        order.sort_unstable_by(|&a, &b| self.name(a).cmp(self.name(b)).then(a.cmp(&b)));
        order
    }

    fn name(&self, (function, name): (u32, u32)) -> &str {
        &self.functions[function as usize].names[name as usize]
    }

    /// Lets a function run another set.
    pub(super) fn place(&mut self, at: usize, set: Option<SetId>, sets: &mut Sets) {
        let old = std::mem::replace(&mut self.functions[at].set, set);
        sets.take(set);
        sets.release(old);
        if set.is_some() {
            self.touched.insert(at);
            if self.claimed.contains(at) {
                self.modified.insert(at);
            }
        }
    }
}
