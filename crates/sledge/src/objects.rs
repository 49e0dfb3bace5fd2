//! Discover: the objects of this process, and what of them can be traced.

use sledge_discover::maps::{self, Mapping};
use sledge_discover::names::demangle;
use sledge_discover::{DiscoverError, Object, Returns};
use sledge_engine::islands::AddressSpace;
use sledge_engine::ops::{FunctionInfo, ObjectInfo, SiteIndex};
use sledge_live::trap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An object where it is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    /// Its file name, as patterns and listings use it.
    pub(crate) module: String,
    pub(crate) program: bool,
    /// What to add to its own addresses.
    pub(crate) bias: u64,
    /// Its executable mappings: from the first to the last.
    pub(crate) text: Range<u64>,
    pub(crate) object: Arc<Object>,
    /// Number of its first function among all sites.
    pub(crate) first_site: u32,
    /// For each function: why it is left alone although it could be patched.
    pub(crate) denied: Vec<Option<Denied>>,
    /// Whether returns can be hooked: nobody unwinds its functions who cannot be told how.
    pub(crate) exits: bool,
}

/// Why a function that could be patched is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Code of sledge, or what it needs while it patches or handles a trap.
    #[error("used by sledge itself")]
    Own,
    /// The dynamic loader: it runs before and below everything.
    #[error("in the dynamic loader")]
    Loader,
    /// Runs in new threads and children while all signals are blocked: a trap would kill.
    #[error("may run while all signals are blocked")]
    SignalsBlocked,
}

/// The mappings of this process.
pub(crate) fn mappings() -> io::Result<Vec<Mapping>> {
    Ok(maps::parse(&std::fs::read_to_string("/proc/self/maps")?))
}

/// What of the address space is free now.
pub(crate) fn space() -> io::Result<AddressSpace> {
    let mappings = mappings()?;
    let mut space = AddressSpace::new(mappings.iter().map(|map| map.start..map.end).collect());
    let heap = mappings.iter().find(|map| map.path == Path::new("[heap]"));
    if let Some(heap) = heap {
        space.keep_heap(heap.end);
    }
    if let Some(stack) = mappings.iter().find(|map| map.path == Path::new("[stack]")) {
        let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_STACK)?;
        space.keep_stack(stack.start, limit);
    }
    Ok(space)
}

/// Paths of the mapped objects; the program first.
pub(crate) fn paths(mappings: &[Mapping]) -> io::Result<Vec<PathBuf>> {
    let program = std::fs::read_link(SELF)?;
    let mut paths = vec![undeleted(&program).to_owned()];
    for mapping in mappings {
        let object = mapping.execute && mapping.inode != 0 && !mapping.shared;
        if object && !mapping.deleted() && !paths.contains(&mapping.path) {
            paths.push(mapping.path.clone());
        }
    }
    Ok(paths)
}

const SELF: &str = "/proc/self/exe";

/// A path as it was: files that are replaced while they are mapped go on under a longer name.
fn undeleted(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    Path::new(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)))
}

impl Loaded {
    /// Whether a mapping is the begin of this object's code. Its file may have been replaced since.
    pub(crate) fn is_in(&self, map: &Mapping) -> bool {
        map.execute && map.start == self.text.start && undeleted(&map.path) == self.path
    }

    /// Reads an object that is mapped; `None` if what is mapped there is no object of its file.
    pub(crate) fn read(
        path: &Path,
        mappings: &[Mapping],
        program: bool,
        first_site: u32,
    ) -> Result<Option<Self>, DiscoverError> {
        // The program's file may have been replaced since it began; what it runs is still to be had.
        let own = |map: &&Mapping| {
            map.execute && (map.path == path || program && undeleted(&map.path) == path)
        };
        let Some(first) = mappings.iter().find(own) else { return Ok(None) };
        let object = Object::open(if first.deleted() { Path::new(SELF) } else { path })?;
        let Some(bias) = object.bias(first) else { return Ok(None) };
        let end = mappings.iter().filter(own).map(|map| map.end).max().unwrap_or(first.end);
        let module = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut loaded = Self {
            path: path.to_owned(),
            module,
            program,
            bias,
            text: first.start..end,
            object: Arc::new(object),
            first_site,
            denied: Vec::new(),
            exits: true,
        };
        let functions = 0..loaded.object.functions.len();
        loaded.denied = functions.map(|at| loaded.deny(at)).collect();
        Ok(Some(loaded))
    }

    /// Whether it holds a compiler that finds its frames by the return addresses it pushed: V8's
    /// builtins, code that it made when the program was built, tell.
    pub(crate) fn compiles(&self) -> bool {
        self.object.function_named("Builtins_JSEntry").is_some()
    }

    /// The address of a function in this process.
    pub(crate) fn address(&self, function: usize) -> u64 {
        self.object.functions[function].address.wrapping_add(self.bias)
    }

    /// What the registry must know.
    pub(crate) fn info(&self) -> ObjectInfo {
        let functions = self.object.functions.iter().enumerate().map(|(at, function)| {
            let traceable = function.verdict.is_ok() && self.denied[at].is_none();
            let site = traceable.then(|| SiteIndex(self.first_site + at as u32));
            let mut names: Vec<String> = Vec::new();
            for name in &function.names {
                let readable = demangle(name).into_owned();
                for name in [readable, name.clone()] {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            let hooked =
                function.verdict.as_ref().is_ok_and(|site| site.returns == Returns::Hooked);
            let exit_supported = hooked && self.exits;
            FunctionInfo { names, site, regs_supported: traceable, exit_supported }
        });
        let functions = functions.collect();
        ObjectInfo { module: self.module.clone(), program: self.program, functions }
    }

    fn deny(&self, at: usize) -> Option<Denied> {
        let function = &self.object.functions[at];
        let own = trap::own_code();
        let library = !self.program && self.text.contains(&own.start);
        if library || own.contains(&self.address(at)) {
            return Some(Denied::Own);
        }
        if self.module.starts_with("ld-linux") || self.module.starts_with("ld-musl") {
            return Some(Denied::Loader);
        }
        let library = self.module.starts_with("libc.so") || self.module.starts_with("libpthread");
        if library && (function.names.is_empty() || names_one(&function.names, &BLOCKED)) {
            return Some(Denied::SignalsBlocked);
        }
        let readable = function.names.first().map(|name| demangle(name));
        let needed = |name: &str| OWN.iter().any(|own| name.contains(own));
        readable.is_some_and(|name| needed(&name)).then_some(Denied::Own)
    }
}

fn names_one(names: &[String], list: &[&str]) -> bool {
    names.iter().any(|name| list.contains(&name.as_str()))
}

/// What the C library calls in a new thread or child before it unblocks signals.
const BLOCKED: [&str; 13] = [
    "__ctype_init",
    "_setjmp",
    "__sigsetjmp",
    "setjmp",
    "sigprocmask",
    "pthread_sigmask",
    "__pthread_sigmask",
    "clone",
    "__clone",
    "__clone3",
    "sigaction",
    "__sigaction",
    "__libc_sigaction",
];

/// Functions by parts of their names that run in callbacks' shims, handlers and first calls.
const OWN: [&str; 10] = [
    "sledge::",
    "sledge_live::",
    "sledge_engine::",
    "sledge_discover::",
    "core::sync::atomic",
    "core::ptr::",
    "core::num::",
    "core::ub_checks",
    "core::panicking",
    "__rust_probestack",
];
