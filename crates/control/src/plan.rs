//! Decide: which functions of an image become sites.

use crate::image::{Image, Loaded};
use sledge_discover::site::{Function, Returns};
use sledge_discover::{Object, names};
use sledge_filter::Pattern;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Which functions of libraries are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// None: the executable's functions only.
    Executable,
    /// Those that the executable calls, where it calls them.
    #[default]
    Calls,
    /// All functions of all libraries.
    Libraries,
}

/// One function that is to be patched.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Index of the object in [`Choice::objects`].
    pub object: usize,
    /// Index of the function in its object.
    pub function: usize,
    /// The name that the trace shows: the import's, where that says more than the symbol table.
    pub name: String,
    /// Only calls out of the executable count.
    pub from_executable: bool,
    /// The function replaces the image: index of the agent's entry that completes its arguments.
    pub exec: Option<usize>,
    /// Whether its calls are recorded at all.
    pub recorded: bool,
}

/// What was decided for an image.
#[derive(Debug, Default)]
pub struct Choice {
    /// The objects of the image; the first is the executable.
    pub objects: Vec<Loaded>,
    /// The functions that are to be patched.
    pub chosen: Vec<Chosen>,
    /// Imports that were not found, or cannot be patched.
    pub untraceable: Vec<(usize, String)>,
}

/// Functions that are called around `main`, not by the program.
const AROUND_MAIN: [&str; 7] = [
    "__libc_start_main",
    "__libc_start_call_main",
    "__cxa_finalize",
    "__gmon_start__",
    "_ITM_deregisterTMCloneTable",
    "_ITM_registerTMCloneTable",
    "__tls_get_addr",
];

/// The functions that execute another program, in the order of the agent's entries.
pub const EXEC_FUNCTIONS: [&str; 3] = ["execve", "fexecve", "execveat"];

impl Choice {
    /// Decides for the objects of an image; the first is the executable.
    pub fn make(
        image: &Image,
        objects: Vec<Loaded>,
        scope: Scope,
        patterns: &[Pattern],
        follow: bool,
    ) -> Self {
        let mut choice = Self { objects, ..Self::default() };
        choice.choose_all(0, patterns);
        match scope {
            Scope::Executable => {}
            Scope::Calls => choice.choose_imports(image, patterns),
            Scope::Libraries => {
                (1..choice.objects.len()).for_each(|object| choice.choose_all(object, patterns));
            }
        }
        if follow {
            choice.choose_exec();
        }
        choice
    }

    /// Where hooked calls may come from, if the executable compiles code at run time: its own
    /// text and its libraries', without the pieces of code that the compiler made beforehand.
    /// Empty where calls may come from anywhere.
    pub fn known_callers(&self) -> Vec<Range<u64>> {
        let Some((executable, libraries)) = self.objects.split_first() else { return Vec::new() };
        let Some(made) = compiled_beforehand(&executable.object) else { return Vec::new() };
        let made = executable.bias.wrapping_add(made.start)..executable.bias.wrapping_add(made.end);
        let mut callers = Vec::new();
        for text in &executable.text {
            callers.push(text.range.start..made.start.min(text.range.end));
            callers.push(made.end.max(text.range.start)..text.range.end);
        }
        let texts = || libraries.iter().flat_map(|library| &library.text);
        if let (Some(start), Some(end)) =
            (texts().map(|text| text.range.start).min(), texts().map(|text| text.range.end).max())
        {
            callers.push(start..end);
        }
        callers.retain(|range| range.start < range.end);
        callers
    }

    fn object(&self, index: usize) -> Arc<Object> {
        Arc::clone(&self.objects[index].object)
    }

    fn choose_all(&mut self, object: usize, patterns: &[Pattern]) {
        let module = module_name(&self.objects[object]);
        for (function, it) in self.object(object).functions.iter().enumerate() {
            if wanted(it, &module, patterns) && it.verdict.is_ok() {
                let name = it.names.first().cloned().unwrap_or_default();
                self.chosen.push(Chosen::plain(object, function, name));
            }
        }
    }

    /// The library functions that the executable imports.
    fn choose_imports(&mut self, image: &Image, patterns: &[Pattern]) {
        let executable = self.object(0);
        let bias = self.objects[0].bias;
        let resolver = Resolver::new(image, &self.objects);
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for import in &executable.imports {
            if AROUND_MAIN.contains(&import.name.as_str()) || !seen.insert(import.name.clone()) {
                continue;
            }
            let pointer = image.read_pointer(bias.wrapping_add(import.got));
            found.push((import.name.clone(), resolver.resolve(&import.name, pointer)));
        }
        let mut taken = HashSet::new();
        for (name, place) in found {
            let Some((object, function)) = place else {
                self.untraceable.push((0, name));
                continue;
            };
            let module = module_name(&self.objects[object]);
            let it = &self.objects[object].object.functions[function];
            if !patterns_match(&[&name, &names::demangle(&name)], &module, patterns) {
                continue;
            }
            if it.verdict.is_err() {
                self.untraceable.push((object, name));
            } else if taken.insert((object, function)) {
                let from_executable = true;
                self.chosen
                    .push(Chosen { from_executable, ..Chosen::plain(object, function, name) });
            }
        }
    }

    /// `execve` and its like, so that the programs they start are followed.
    fn choose_exec(&mut self) {
        for (exec, name) in EXEC_FUNCTIONS.into_iter().enumerate() {
            for object in 0..self.objects.len() {
                let it = self.object(object);
                let Some(address) = exec_address(&it, name) else { continue };
                let at = it.functions.binary_search_by_key(&address, |f| f.address);
                let Some(function) = at.ok().filter(|&f| it.functions[f].verdict.is_ok()) else {
                    continue;
                };
                let same = |c: &&mut Chosen| c.object == object && c.function == function;
                if let Some(chosen) = self.chosen.iter_mut().find(same) {
                    chosen.exec = Some(exec);
                } else {
                    let plain = Chosen::plain(object, function, name.to_owned());
                    self.chosen.push(Chosen { exec: Some(exec), recorded: false, ..plain });
                }
            }
        }
    }
}

/// Where a function begins that executes another program. A static executable exports nothing.
fn exec_address(object: &Object, name: &str) -> Option<u64> {
    if object.exports().next().is_some() {
        return object.export(name).map(|export| export.address);
    }
    object.function_named(name).map(|function| function.address)
}

impl Chosen {
    fn plain(object: usize, function: usize, name: String) -> Self {
        Self { object, function, name, from_executable: false, exec: None, recorded: true }
    }
}

/// Functions by which a program starts another: what is looked for may be there.
const STARTERS: [&str; 11] = [
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "execl",
    "execlp",
    "execle",
    "posix_spawn",
    "posix_spawnp",
    "system",
    "popen",
];

/// A pattern that no function matches.
#[derive(Debug)]
pub struct Unmatched {
    /// The pattern.
    pub pattern: String,
    /// A name that may have been meant.
    pub suggestion: Option<String>,
    /// How many functions there were to match.
    pub functions: usize,
}

impl Choice {
    /// The first of `patterns` that matches nothing in scope; `None` where the program may start
    /// others, in which it may match.
    pub fn unmatched<'p>(
        &self,
        patterns: impl Iterator<Item = &'p Pattern>,
        scope: Scope,
        follow: bool,
    ) -> Option<Unmatched> {
        let executable = &self.objects.first()?.object;
        let starts = |name: &str| STARTERS.contains(&name);
        if follow && executable.imports.iter().any(|import| starts(&import.name)) {
            return None;
        }
        let candidates = self.candidates(scope);
        let matches = |pattern: &Pattern| {
            let one = |(name, module): &(String, String)| {
                pattern.matches(&[name, &names::demangle(name)], module)
            };
            candidates.iter().any(one)
        };
        let pattern = patterns.into_iter().find(|pattern| !matches(pattern))?;
        let known = candidates.iter().map(|(name, _)| name.as_str());
        Some(Unmatched {
            pattern: pattern.text().to_owned(),
            suggestion: sledge_filter::suggest(pattern.text(), known).map(str::to_owned),
            functions: candidates.len(),
        })
    }

    /// Names and modules of all functions in scope.
    fn candidates(&self, scope: Scope) -> Vec<(String, String)> {
        let libraries = if scope == Scope::Libraries { self.objects.len() } else { 1 };
        let mut candidates = Vec::new();
        for loaded in self.objects.iter().take(libraries) {
            let module = module_name(loaded);
            for function in &loaded.object.functions {
                let names = function.names.iter().map(|name| (name.clone(), module.clone()));
                candidates.extend(names);
            }
        }
        if scope == Scope::Calls {
            let library = |name: &str| {
                let of = |loaded: &&Loaded| loaded.object.export(name).is_some();
                self.objects.iter().skip(1).find(of).map_or_else(String::new, module_name)
            };
            for import in &self.objects[0].object.imports {
                candidates.push((import.name.clone(), library(&import.name)));
            }
        }
        candidates
    }
}

/// V8's builtins: code that its own compiler made when the program was built.
fn compiled_beforehand(object: &Object) -> Option<Range<u64>> {
    const MANY: usize = 100;
    let builtin =
        |function: &&Function| function.names.iter().any(|name| name.starts_with("Builtins_"));
    let builtins: Vec<&Function> = object.functions.iter().filter(builtin).collect();
    let (first, last) = (builtins.first()?, builtins.last()?);
    (builtins.len() > MANY).then(|| first.address..last.address + last.size)
}

/// Whether returns of a function are hooked.
pub fn hooks_returns(function: &Function) -> bool {
    matches!(&function.verdict, Ok(site) if site.returns == Returns::Hooked)
}

/// The file name of an object.
pub fn module_name(loaded: &Loaded) -> String {
    loaded.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn wanted(function: &Function, module: &str, patterns: &[Pattern]) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let demangled: Vec<_> = function.names.iter().map(|name| names::demangle(name)).collect();
    let both = function.names.iter().map(String::as_str).chain(demangled.iter().map(|n| &**n));
    patterns_match(&both.collect::<Vec<_>>(), module, patterns)
}

fn patterns_match(names: &[&str], module: &str, patterns: &[Pattern]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(names, module))
}

/// Finds the function behind an import.
struct Resolver<'a> {
    image: &'a Image,
    objects: &'a [Loaded],
    /// What IFUNC resolvers chose: object and resolver address to the choice.
    chosen: HashMap<(usize, u64), u64>,
}

impl<'a> Resolver<'a> {
    fn new(image: &'a Image, objects: &'a [Loaded]) -> Self {
        let mut chosen = HashMap::new();
        for (index, loaded) in objects.iter().enumerate() {
            for &(slot, resolver) in &loaded.object.irelative {
                if let Some(target) = image.read_pointer(loaded.bias.wrapping_add(slot)) {
                    chosen.insert((index, resolver), target);
                }
            }
        }
        Self { image, objects, chosen }
    }

    /// `pointer` is what the import's GOT slot holds: the function itself once it is bound.
    fn resolve(&self, name: &str, pointer: Option<u64>) -> Option<(usize, usize)> {
        self.at(pointer?).or_else(|| self.exported(name))
    }

    /// The function that begins at an address, in any object but the executable.
    fn at(&self, address: u64) -> Option<(usize, usize)> {
        let path = &self.image.executable_at(address)?.path;
        let (index, loaded) =
            self.objects.iter().enumerate().skip(1).find(|(_, loaded)| loaded.path == *path)?;
        let own = address.wrapping_sub(loaded.bias);
        let at = loaded.object.functions.binary_search_by_key(&own, |function| function.address);
        Some((index, at.ok()?))
    }

    fn exported(&self, name: &str) -> Option<(usize, usize)> {
        for (index, loaded) in self.objects.iter().enumerate().skip(1) {
            let Some(export) = loaded.object.export(name) else { continue };
            if export.is_ifunc {
                return self.at(*self.chosen.get(&(index, export.address))?);
            }
            return self.at(loaded.bias.wrapping_add(export.address));
        }
        None
    }
}
