//! Present: what is traced and by what, in ftrace's own formats, and names for generated code.

use crate::client::Client;
use crate::core::Core;
use crate::list;
use crate::process::Locked;
use crate::tracer::Tracer;
use crate::{Error, gdb, perf_map};
use sledge_discover::names::demangle;
use sledge_engine::ops::{OpsId, SetId, Symbols};
use std::path::PathBuf;

impl Tracer {
    /// `available_filter_functions`: what can be traced, one function a line.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn available_filter_functions(&self) -> Result<String, Error> {
        text(|core, text| core.registry.available_filter_functions(text))
    }

    /// `enabled_functions`: what is armed now. After the name come the number of its ops, the letters
    /// `R I D M` (all registers are saved, an ops may redirect it, an ops brought its own trampoline,
    /// one of the latter two was there at some time), and its trampolines with their callbacks.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn enabled_functions(&self) -> Result<String, Error> {
        text(|core, text| core.registry.enabled_functions(core, text))
    }

    /// `touched_functions`: what was armed at some time, as [`enabled_functions`](Self::enabled_functions).
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn touched_functions(&self) -> Result<String, Error> {
        text(|core, text| core.registry.touched_functions(core, text))
    }

    /// `dyn_ftrace_total_info`: how many functions can be traced, in how many objects.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn totals(&self) -> Result<String, Error> {
        text(|core, text| core.registry.totals(text))
    }

    /// Writes the names of generated code to `/tmp/perf-PID.map`, where `perf` looks for those of
    /// compilers at run time; lines of theirs stay. Returns the file's path.
    ///
    /// # Errors
    /// When the file is not this user's own, or cannot be written.
    pub fn write_perf_map(&self) -> Result<PathBuf, Error> {
        let names = Locked::new()?.core().code_names();
        perf_map::write(&names).map_err(Error::system("writing the perf map"))
    }
}

impl Tracer {
    /// Tells debuggers what generated code is called and how it is unwound, as of now: gdb's `bt` goes
    /// through it, in this process, attached then or later.
    ///
    /// # Errors
    /// When there is no tracer.
    pub fn tell_debuggers(&self) -> Result<(), Error> {
        let mut locked = Locked::new()?;
        let core = locked.core();
        gdb::tell(&core.code_names(), core.frames.tables());
        Ok(())
    }
}

fn text(write: impl FnOnce(&Core, &mut String) -> std::fmt::Result) -> Result<String, Error> {
    let mut text = String::new();
    let mut locked = Locked::new()?;
    // Writing to a string does not fail.
    let _ = write(locked.core(), &mut text);
    Ok(text)
}

impl Core {
    /// A readable name of an address in this process.
    pub(crate) fn symbol(&self, address: u64) -> String {
        let objects = self.objects.values();
        let inside = |text: &std::ops::Range<u64>| text.contains(&address);
        let Some(loaded) = objects.into_iter().find(|loaded| inside(&loaded.text)) else {
            return format!("{address:#x}");
        };
        let functions = &loaded.object.functions;
        let behind =
            functions.partition_point(|it| it.address.wrapping_add(loaded.bias) <= address);
        let Some(at) = behind.checked_sub(1) else { return format!("{address:#x}") };
        let offset = address - loaded.address(at);
        match functions[at].names.first() {
            Some(name) if offset == 0 => demangle(name).into_owned(),
            Some(name) => format!("{}+{offset:#x}", demangle(name)),
            None => format!("{address:#x}"),
        }
    }

    fn client_name(&self, client: &Client) -> String {
        client.label().map_or_else(|| self.symbol(client.code()), str::to_owned)
    }
}

impl Symbols for Core {
    fn trampoline(&self, set: SetId) -> Option<String> {
        self.has_trampoline(set).then(|| trampoline_name(set))
    }

    fn callback(&self, ops: OpsId) -> String {
        self.ops.get(&ops).map_or_else(String::new, |ops| self.client_name(&ops.client))
    }

    fn list_function(&self) -> String {
        self.symbol(list::list_function as *const () as u64)
    }

    fn direct(&self, ops: OpsId) -> String {
        let code = self.ops.get(&ops).and_then(|ops| ops.client.direct());
        code.map_or_else(String::new, |code| self.symbol(code))
    }
}

/// The name of a set's trampoline, in listings and for profilers.
pub(crate) fn trampoline_name(set: SetId) -> String {
    format!("sledge_trampoline_{}", set.get())
}
