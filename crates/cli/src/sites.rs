//! `sledge sites`.

mod explain;
mod json;
mod table;

use std::borrow::Cow;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sledge_analyse::Naming;
use sledge_discover::names::demangle;
use sledge_discover::{DiscoverError, Function, Object};
use sledge_filter::suggest;

use crate::arguments::{Demangle, SitesArgs, SitesFormat};
use crate::failure::Failure;
use crate::patience::Patience;
use crate::screen::Screen;

/// Shows what can be traced of a file.
pub(crate) fn run(args: &SitesArgs) -> anyhow::Result<()> {
    let path = find(&args.file);
    let patience = Patience::with(format!("reading symbols of {}", path.display()));
    let object = Object::open(&path).map_err(|error| unreadable(&error))?;
    drop(patience);
    let explained = args.explain.as_deref().map(|wanted| functions_named(&object, wanted));
    let explained = explained.transpose()?;
    let mut out = Vec::new();
    let names = Display { object: &object, demangle: args.names.demangle };
    match (args.format, &explained) {
        (SitesFormat::Text, None) => table::write(&mut out, &object),
        (SitesFormat::Text, Some(functions)) => explain::write(&mut out, functions, &names),
        (SitesFormat::Json, None) => json::whole(&mut out, &object, &names),
        (SitesFormat::Json, Some(functions)) => json::only(&mut out, functions, &names),
    }
    let mut screen = Screen::open(&args.output, args.screen)?;
    screen.write_all(&out).context("cannot write")?;
    screen.close()
}

/// The file itself, or the program of that name in `PATH`.
pub(crate) fn find(file: &Path) -> PathBuf {
    if file.exists() || file.components().count() != 1 {
        return file.to_owned();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|directory| directory.join(file));
    found.find(|candidate| candidate.is_file()).unwrap_or_else(|| file.to_owned())
}

fn unreadable(error: &DiscoverError) -> Failure {
    let advice = match error {
        DiscoverError::NotFound(_) => "give the path of a program or shared library",
        DiscoverError::Script { .. } => "look at its interpreter instead: that is what runs",
        DiscoverError::PermissionDenied(_) => "run as a user who may read it",
        _ => "give an x86-64 program or shared library",
    };
    Failure::new(error.to_string(), advice)
}

/// The functions that have this name, raw or demangled, or contain this address.
fn functions_named<'o>(object: &'o Object, wanted: &str) -> Result<Vec<&'o Function>, Failure> {
    if let Some(address) = parse_address(wanted) {
        return object.function_at(address).map(|function| vec![function]).ok_or_else(|| {
            let what = format!("no function of {} is at {wanted}", object.path.display());
            Failure::new(what, "addresses are those in the file, as nm and objdump show them")
        });
    }
    let is_it = |function: &&Function| {
        function.names.iter().any(|name| name == wanted || demangle(name) == wanted)
    };
    let found: Vec<&Function> = object.functions.iter().filter(is_it).collect();
    if found.is_empty() { Err(no_such_function(object, wanted)) } else { Ok(found) }
}

fn parse_address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn no_such_function(object: &Object, wanted: &str) -> Failure {
    let names: Vec<Cow<'_, str>> =
        object.functions.iter().flat_map(|known| &known.names).map(|name| demangle(name)).collect();
    let path = object.path.display();
    let what = format!("no function of {path} is named '{wanted}'");
    if names.is_empty() {
        return Failure::new(what, "the file has no symbols; give an address instead, as 0x1234");
    }
    match suggest(wanted, names.iter().map(AsRef::as_ref)) {
        Some(near) => Failure::new(what, format!("did you mean '{near}'?")),
        None => Failure::new(what, format!("see all: sledge sites {path} --format json")),
    }
}

/// How functions of an object are called.
struct Display<'o> {
    object: &'o Object,
    demangle: Demangle,
}

impl Display<'_> {
    /// The best name of a function; `module+0x1234` if it has none.
    fn name(&self, function: &Function) -> String {
        match function.names.first() {
            Some(name) => self.demangle.readable(name),
            None => {
                let module = self.object.path.file_name().unwrap_or_default();
                format!("{}+{:#x}", module.to_string_lossy(), function.address)
            }
        }
    }
}

#[cfg(test)]
mod tests;
