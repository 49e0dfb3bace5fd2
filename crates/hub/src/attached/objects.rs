//! The objects of a running process whose functions can be patched.

use sledge_control::image::{Image, Library, Loaded};
use sledge_discover::{Kind, open_header};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Opens the executable and what it was linked with; says what is left out, and why.
///
/// What was opened by `dlopen` can be gone at any moment, and must not be written to.
pub(super) fn open(image: &Image, library: &Library) -> (Vec<Loaded>, Vec<String>) {
    let paths = image.object_paths();
    let linked = linked(image, &paths);
    let (mut objects, mut notes) = (Vec::new(), Vec::new());
    let mut opened_later = 0;
    for (index, path) in paths.iter().enumerate() {
        if index > 0 && !linked.contains(name_of(path)) {
            opened_later += 1;
            continue;
        }
        let seen = seen_from_here(image.pid, path);
        match library.open(&seen) {
            Ok(object) => objects.extend(image.locate(path, object)),
            Err(error) => notes.push(error.to_string()),
        }
    }
    if opened_later > 0 {
        notes.push(format!(
            "{opened_later} objects that it opened while it ran are not traced; calls into them are"
        ));
    }
    (objects, notes)
}

/// A file of the process, whose root may be another.
fn seen_from_here(pid: i32, path: &Path) -> PathBuf {
    let inside = PathBuf::from(format!("/proc/{pid}/root"));
    let elsewhere = std::fs::read_link(&inside).is_ok_and(|root| root != Path::new("/"));
    let other = |kind: &str| {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        link(&pid.to_string()) != link("self")
    };
    if elsewhere || other("mnt") {
        let relative = path.strip_prefix("/").unwrap_or(path);
        return inside.join(relative);
    }
    path.to_owned()
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// File names of what the executable asks for, directly or not, and of its loader.
fn linked(image: &Image, paths: &[PathBuf]) -> HashSet<OsString> {
    let mut linked = HashSet::new();
    let mut todo = vec![image.executable.clone()];
    while let Some(path) = todo.pop() {
        let Ok(header) = open_header(&seen_from_here(image.pid, &path)) else { continue };
        let interpreter = header.interpreter.iter().map(|path| name_of(Path::new(path)).to_owned());
        let needed = header.needed.iter().map(|name| name_of(Path::new(name)).to_owned());
        for name in needed.chain(interpreter) {
            // The name asked for may be a link to the file that is mapped.
            let found = paths.iter().find(|path| {
                let soname = || open_header(&seen_from_here(image.pid, path)).ok()?.soname;
                name_of(path) == name || soname().is_some_and(|own| *name == *own)
            });
            if let Some(path) = found
                && linked.insert(name_of(path).to_owned())
            {
                todo.push(path.clone());
            }
        }
    }
    linked
}

/// What in the process unwinds stacks by tables that do not have our code.
pub(super) fn unwinder(image: &Image, objects: &[Loaded]) -> Option<String> {
    const RAISE: &str = "_Unwind_RaiseException";
    let names = image.mappings.iter().map(|mapping| name_of(&mapping.path).to_string_lossy());
    let known = |name: &str| name.starts_with("libgcc_s") || name.starts_with("libunwind");
    if let Some(name) = { names }.find(|name| known(name)) {
        return Some(name.into_owned());
    }
    let (executable, libraries) = objects.split_first()?;
    let exports = |loaded: &&Loaded| loaded.object.export(RAISE).is_some();
    if let Some(library) = libraries.iter().find(exports) {
        return Some(name_of(&library.path).to_string_lossy().into_owned());
    }
    let object = &executable.object;
    let is_static = object.interpreter.is_none() && object.kind != Kind::SharedLibrary;
    let stripped = object.functions.iter().all(|function| function.names.is_empty());
    let has = object.function_named(RAISE).is_some() || is_static && stripped;
    has.then(|| name_of(&executable.path).to_string_lossy().into_owned())
}
