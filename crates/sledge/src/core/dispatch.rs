//! Which code a set runs: a trampoline of its own, or the list function.

use super::{Core, Registered};
use crate::error::Error;
use crate::exits::{self, ExitOps, Exits};
use crate::hooks::Hooks;
use crate::introspect::trampoline_name;
use crate::list::{self, Hash, List, Listed, Tests};
use crate::sites::{Called, Place};
use crate::thread;
use sledge_engine::dispatch::{
    Callback, HOOKED_BYTES, HOOKED_ENTRY, Hook, Preserve, Target, ThreadFilter, entry_trampoline,
};
use sledge_engine::ops::{Flags, OpsId, SetId, SiteIndex};
use std::ops::Range;
use std::sync::Arc;

/// How calls come to callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// By a trampoline for each set of ops: a call costs what its own ops cost.
    #[default]
    Set,
    /// By the list function, which asks every ops: the old way, to be compared with. Ops that see
    /// exits keep the trampolines of their sets.
    List,
}

/// Sets with trampolines of their own, if nothing else is said.
const BUDGET: usize = 4096;

/// What is decided of all sets together.
#[derive(Debug)]
pub(super) struct Dispatcher {
    mode: Dispatch,
    budget: usize,
    listing: Option<Listing>,
}

/// The trampoline of the list function.
#[derive(Debug)]
struct Listing {
    trampoline: Range<u64>,
    demands: (bool, Preserve),
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self { mode: Dispatch::Set, budget: BUDGET, listing: None }
    }
}

impl Dispatcher {
    /// Whether so many sets with trampolines are all that may be.
    pub(super) fn is_full(&self, sets: usize) -> bool {
        sets >= self.budget
    }
}

impl Core {
    /// Chooses the way of dispatch. Running threads change over as they come.
    pub(crate) fn set_dispatch(&mut self, mode: Dispatch) -> Result<(), Error> {
        self.dispatcher.mode = mode;
        self.relist()?;
        self.point_all()?;
        self.unlist()
    }

    /// So many sets may have trampolines of their own; those that come later are listed.
    pub(crate) fn set_budget(&mut self, sets: usize) {
        self.dispatcher.budget = sets;
    }

    /// What the trampoline of a set calls, in the order of registration.
    pub(super) fn callbacks(&self, set: SetId) -> Vec<Callback> {
        let Some(set) = self.registry.set(set) else { return Vec::new() };
        let one = |id: &OpsId| {
            let registered = self.ops.get(id)?;
            if registered.client.direct().is_some() || registered.client.sees_exits() {
                return None;
            }
            let save_regs = set.registers && self.asks_registers(*id);
            let threads: Option<ThreadFilter> = registered.filter.map(thread::filter);
            let guarded = self.is_guarded(*id);
            Some(registered.client.callback(save_regs, guarded, threads, &self.offsets))
        };
        set.ops.iter().filter_map(one).collect()
    }

    /// Those of a set that see exits, and what its trampoline does for them.
    pub(super) fn exits(&self, set: SetId) -> Option<(Box<Exits>, Hook)> {
        let set = self.registry.set(set)?;
        let one = |id: &OpsId| {
            let registered = self.ops.get(id)?;
            let bit = self.registry.exit_bit(*id)?;
            Some(ExitOps {
                client: Arc::as_ptr(&registered.client),
                bit,
                guarded: self.is_guarded(*id),
                save_regs: set.registers && self.asks_registers(*id),
                threads: registered.filter.map_or(0, |number| 1 << number),
            })
        };
        let exits: Box<[ExitOps]> = set.ops.iter().filter_map(one).collect();
        if exits.is_empty() {
            return None;
        }
        let clients = set.ops.iter().filter_map(|id| Some(&self.ops.get(id)?.client));
        let clients = clients.filter(|client| client.sees_exits());
        let preserve = clients.fold(own_preserve(), |all, client| all.and(client.preserve()));
        let exits = Box::new(Exits(exits));
        let hook = Hook {
            enter: exits::enter as *const () as u64,
            data: std::ptr::from_ref(&*exits).addr() as u64,
            save_regs: exits.0.iter().any(|exit| exit.save_regs),
            preserve,
        };
        Some((exits, hook))
    }

    fn asks_registers(&self, id: OpsId) -> bool {
        let either = Flags::SAVE_REGS | Flags::SAVE_REGS_IF_SUPPORTED;
        self.registry.flags(id).is_some_and(|flags| flags.intersects(either))
    }

    fn is_guarded(&self, id: OpsId) -> bool {
        self.registry.flags(id).is_some_and(|flags| flags.contains(Flags::RECURSION))
    }

    /// The trampoline of a set.
    pub(super) fn target(&self, set: SetId) -> u64 {
        let listed = self.dispatcher.listing.as_ref().filter(|_| self.is_listed(set));
        let own = self.sets.get(&set).and_then(|code| Some(code.plain.as_ref()?.start));
        listed.map(|listing| listing.trampoline.start).or(own).unwrap_or(self.nothing)
    }

    /// The trampoline of a set with ops that see exits, which hooks returns.
    pub(super) fn hook_target(&self, set: SetId) -> Option<u64> {
        let (code, _) = self.sets.get(&set)?.hook.as_ref()?;
        Some(code.start)
    }

    /// What the calls of a set's sites run.
    pub(super) fn called(&self, set: SetId) -> Called {
        let ops = self.registry.set(set).map_or(&[][..], |set| &set.ops);
        let clients = ops.iter().filter_map(|id| Some(&self.ops.get(id)?.client));
        Called {
            target: self.target(set),
            hook: self.hook_target(set),
            lone: self.lone(set),
            present: clients.map(|client| client.lone()).collect(),
        }
    }

    /// The only callback of a set, if thunks can call it themselves.
    pub(super) fn lone(&self, set: SetId) -> Option<u64> {
        if self.is_listed(set) || self.hook_target(set).is_some() {
            return None;
        }
        let all = self.registry.set(set)?;
        let [id] = all.ops[..] else { return None };
        let Registered { client, filter } = self.ops.get(&id)?;
        let plain = !self.is_guarded(id) && filter.is_none();
        let registers = all.registers && self.asks_registers(id);
        (plain && !registers && client.can_be_lone()).then(|| client.lone())
    }

    /// Whether a set's calls come to a trampoline of its own.
    pub(crate) fn has_trampoline(&self, set: SetId) -> bool {
        self.sets.contains_key(&set) && !self.is_listed(set)
    }

    /// Generated code and its names.
    pub(crate) fn code_names(&self) -> Vec<(Range<u64>, String)> {
        let mut names = Vec::new();
        for (&set, code) in &self.sets {
            let name = trampoline_name(set);
            names.extend(code.plain.clone().map(|code| (code, name.clone())));
            let hook = code.hook.as_ref().map(|(code, _)| code.clone());
            names.extend(hook.map(|code| (code, format!("{name}_exits"))));
        }
        let listing = self.dispatcher.listing.as_ref();
        names.extend(listing.map(|it| (it.trampoline.clone(), "sledge_trampoline_list".into())));
        let leaving = self.hooks.as_ref().and_then(Hooks::leaving);
        names.extend(leaving.map(|code| (code, "sledge_leave".into())));
        for (_, placed) in self.placed.iter() {
            let name = self.symbol(placed.spot.function);
            let Place { entry, body, hooked, lone, .. } = placed.place;
            names.push((entry..body, format!("sledge_thunk:{name}")));
            let lone = lone.map(|lone| lone.entry..lone.body);
            names.extend(lone.map(|code| (code, format!("sledge_thunk:{name}"))));
            let hooked = hooked.map(|it| it.entry..it.entry + HOOKED_BYTES - HOOKED_ENTRY);
            names.extend(hooked.map(|code| (code, format!("sledge_hooked:{name}"))));
        }
        names.sort_by_key(|(code, _)| code.start);
        names
    }

    /// Whether a set's calls go through the list function.
    fn is_listed(&self, set: SetId) -> bool {
        if self.hook_target(set).is_some() {
            return false;
        }
        let calls = self.registry.set(set).is_some_and(|set| {
            set.ops
                .iter()
                .any(|id| self.ops.get(id).is_some_and(|ops| ops.client.direct().is_none()))
        });
        calls && (self.dispatcher.mode == Dispatch::List || !self.sets.contains_key(&set))
    }

    fn needs_list(&self) -> bool {
        self.registry.sets().any(|(set, _)| self.is_listed(set))
    }

    /// Brings the list up to date, if some set needs it: before sites are pointed there.
    pub(super) fn relist(&mut self) -> Result<(), Error> {
        if !self.needs_list() {
            return Ok(());
        }
        let list = Box::new(self.list());
        let demands = (list.save_regs(), list.preserve());
        let old = list::replace(Some(list));
        self.retired.garbage.extend(old.map(|list| list as _));
        if self.dispatcher.listing.as_ref().is_some_and(|listing| listing.demands == demands) {
            return Ok(());
        }
        let callback = Callback {
            target: Target::Function(list::list_function as *const () as u64),
            ops: 0,
            save_regs: demands.0,
            preserve: demands.1,
            guard: None,
            threads: None,
        };
        let redirected = self.redirected;
        let trampoline = self.put(|place| entry_trampoline(place, &[callback], redirected))?;
        self.barrier().map_err(Error::system("membarrier"))?;
        let old = self.dispatcher.listing.replace(Listing { trampoline, demands });
        if let Some(old) = old {
            self.point_all()?;
            self.retired.trampolines.push(old.trampoline);
        }
        Ok(())
    }

    /// Drops the list when no set needs it any more: after sites were pointed elsewhere.
    pub(super) fn unlist(&mut self) -> Result<(), Error> {
        if self.dispatcher.listing.is_some() && !self.needs_list() {
            let listing = self.dispatcher.listing.take();
            self.retired.trampolines.extend(listing.map(|listing| listing.trampoline));
            self.retired.garbage.extend(list::replace(None).map(|list| list as _));
        }
        Ok(())
    }

    /// Points every armed site at what its set runs.
    fn point_all(&mut self) -> Result<(), Error> {
        let sites = self.placed.iter().map(|(site, _)| site);
        let sites = sites.filter_map(|site| Some((site, self.registry.set_at(site)?)));
        let sites: Vec<_> = sites.collect();
        self.point(&sites)
    }

    /// All ops, as the list function asks them.
    fn list(&self) -> List {
        let listed = self.ops.iter().filter_map(|(&id, registered)| {
            let client = &registered.client;
            let elsewhere = client.direct().is_some() || client.sees_exits();
            if elsewhere || self.registry.wanted(id) == 0 {
                return None;
            }
            let hashes = self.registry.hashes(id)?;
            let tests = Tests {
                filter: hashes.filter.map(|sites| Hash::new(&self.addresses(&sites))),
                notrace: Some(self.addresses(&hashes.notrace))
                    .filter(|functions| !functions.is_empty())
                    .map(|functions| Hash::new(&functions)),
                guarded: self.is_guarded(id),
                threads: registered.filter.map(|number| 1 << number),
            };
            Some(Listed::new(Arc::clone(&registered.client), tests, self.asks_registers(id)))
        });
        List::new(listed.collect())
    }

    /// The functions' addresses, as callbacks are told them.
    fn addresses(&self, sites: &[SiteIndex]) -> Vec<u64> {
        let address = |&site: &SiteIndex| {
            let (loaded, at) = self.function(site)?;
            Some(loaded.address(at))
        };
        sites.iter().filter_map(address).collect()
    }
}

/// What our own functions in traced calls need to be saved: the compiler may use the vector
/// registers that every processor has, unless it was told of more.
pub(crate) fn own_preserve() -> Preserve {
    if cfg!(target_feature = "avx") { Preserve::default() } else { Preserve::Xmm }
}
