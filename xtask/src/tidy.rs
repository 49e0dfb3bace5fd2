//! The layout rules: what the compiler does not check.

mod code;
mod dependencies;
mod sources;

use crate::metadata::Workspace;
use anyhow::{Context, Result};
use sources::Source;
use std::fs;
use std::path::Path;

/// Endings of the files that are looked at.
const ENDINGS: [&str; 11] = ["rs", "toml", "md", "sh", "c", "cpp", "h", "S", "py", "yml", "json"];
/// Hidden directories that belong to the project.
const HIDDEN: [&str; 4] = [".ci", ".cargo", ".config", ".github"];

/// Checks the whole workspace.
pub(crate) fn run() -> Result<Vec<String>> {
    let workspace = Workspace::read()?;
    let mut files = Vec::new();
    collect(&workspace.root, &workspace.root, &mut files)?;
    let mut findings = dependencies::check(&workspace.packages);
    findings.extend(sources::missing_forbids(&files));
    findings.extend(files.iter().flat_map(Source::check));
    println!("tidy: {} packages, {} files", workspace.packages.len(), files.len());
    Ok(findings)
}

/// Reads the text files below a directory, in order.
fn collect(root: &Path, directory: &Path, files: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let foreign = name.starts_with('.') && !HIDDEN.contains(&name);
        if path.is_symlink() || foreign || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if is_text(&path)
            && let Ok(text) = fs::read_to_string(&path)
        {
            let within = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.push(Source::new(within, text));
        }
    }
    Ok(())
}

/// By its ending; a file without one is a script.
fn is_text(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy());
    ending.is_none_or(|ending| ENDINGS.contains(&&*ending))
}
