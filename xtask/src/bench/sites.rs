//! Discovery in the largest objects that this machine has.

use super::lab::{Lab, least, output};
use super::row::Row;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BENCH: &str = "sites";
const ROUNDS: usize = 3;
/// 95 000 functions in three seconds.
const BUDGET: f64 = 95_000.0 / 3.0;

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let lab = Lab::open()?;
    for object in objects() {
        let mut times = Vec::new();
        let mut peak = 0;
        for _ in 0..ROUNDS {
            let spent = lab.measure(lab.sledge("sites").arg(&object))?;
            times.push(spent.wall.as_secs_f64());
            peak = peak.max(spent.peak_bytes);
        }
        let mut json = lab.sledge("sites");
        let found: Value =
            serde_json::from_str(&output(json.args(["--format", "json"]).arg(&object))?)?;
        let functions = found["summary"]["functions"].as_f64().unwrap_or_default();
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        let row = Row::new(BENCH, "functions/s").case("object", name.as_ref());
        let note = format!(
            "{functions} functions in {:.2} s, {} MB, peak {} MB",
            least(&times),
            fs::metadata(&object)?.len() >> 20,
            peak >> 20,
        );
        emit(row.value(functions / least(&times)).against("budget", BUDGET).note(note));
    }
    Ok(())
}

/// The objects named in the budgets, where they are installed.
fn objects() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(root) = output(Command::new("rustc").args(["--print", "sysroot"])) {
        let libraries = Path::new(root.trim()).join("lib");
        found.extend(largest(&libraries, "librustc_driver"));
        found.extend(largest(&libraries, "libLLVM"));
    }
    found.extend(largest(Path::new("/usr/lib/x86_64-linux-gnu"), "libLLVM"));
    found.extend(output(Command::new("gcc").arg("-print-prog-name=cc1")).map(trimmed));
    found.extend(output(Command::new("sh").args(["-c", "command -v node"])).map(trimmed));
    found.retain(|path| path.is_file());
    found
}

fn trimmed(line: String) -> PathBuf {
    line.trim().into()
}

fn largest(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let files = fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let named = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    named.map(|file| file.path()).max_by_key(|path| fs::metadata(path).map_or(0, |file| file.len()))
}
