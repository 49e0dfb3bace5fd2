//! Rules for single files.

use super::code::{code_only, has_word};

const MOST_LINES: usize = 700;
/// How far above an `unsafe` its reason may stand.
const REASON_ABOVE: usize = 3;

/// Crates that are safe throughout, by their root files.
const SAFE: [&str; 11] = [
    "crates/wire/src/lib.rs",
    "crates/discover/src/lib.rs",
    "crates/filter/src/lib.rs",
    "crates/trace/src/lib.rs",
    "crates/drain/src/lib.rs",
    "crates/engine/src/lib.rs",
    "crates/analyse/src/lib.rs",
    "crates/export/src/lib.rs",
    "crates/cli/src/main.rs",
    "crates/tracefs/src/lib.rs",
    "crates/mount/src/lib.rs",
];

/// All sources that may say `unsafe`: a file, or a directory with everything in it. Tests are not
/// asked.
const MAY_BE_UNSAFE: &[&str] = &[
    "crates/agent/src/",
    "crates/c/src/",
    "crates/control/src/launch.rs",
    "crates/control/src/lib.rs",
    "crates/control/src/segment.rs",
    "crates/control/src/session.rs",
    "crates/control/src/signals.rs",
    "crates/control/src/statics/tracee.rs",
    "crates/control/src/system.rs",
    "crates/hub/src/owner.rs",
    "crates/inject/src/borrow.rs",
    "crates/live/src/memory.rs",
    "crates/live/src/sync.rs",
    "crates/live/src/trap.rs",
    "crates/sledge/src/client.rs",
    "crates/sledge/src/code.rs",
    "crates/sledge/src/core/loader.rs",
    "crates/sledge/src/exits.rs",
    "crates/sledge/src/filters.rs",
    "crates/sledge/src/frames.rs",
    "crates/sledge/src/gdb.rs",
    "crates/sledge/src/list.rs",
    "crates/sledge/src/ops.rs",
    "crates/sledge/src/process.rs",
    "crates/sledge/src/thread.rs",
];

/// Directories of somebody's machine.
const PRIVATE: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// Left-overs that must not be committed.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// A text file of the project.
pub(crate) struct Source {
    path: String,
    text: String,
}

impl Source {
    /// A file by its path in the repository.
    pub(crate) fn new(path: String, text: String) -> Self {
        Self { path, text }
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut findings = self.private_paths();
        if self.path.ends_with(".rs") {
            let code = code_only(&self.text);
            findings.extend(self.too_long());
            findings.extend(self.unfinished(&code));
            findings.extend(self.unsafe_code(&code));
        }
        findings
    }

    fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    fn private_paths(&self) -> Vec<String> {
        let lines = self.text.lines().enumerate();
        let private = lines.filter(|(_, line)| PRIVATE.iter().any(|path| names(line, path)));
        private.map(|(at, _)| self.finding(at, "a path of one machine")).collect()
    }

    fn too_long(&self) -> Option<String> {
        let lines = self.text.lines().count();
        let finding = || self.finding(0, &format!("{lines} lines, more than {MOST_LINES}"));
        (lines > MOST_LINES).then(finding)
    }

    fn unfinished(&self, code: &str) -> Vec<String> {
        let found = code.lines().enumerate().filter_map(|(at, line)| {
            let word = UNFINISHED.iter().find(|word| line.contains(*word))?;
            Some(self.finding(at, word))
        });
        found.collect()
    }

    fn unsafe_code(&self, code: &str) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut findings = Vec::new();
        for (at, line) in code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
            if !self.may_be_unsafe() {
                findings.push(self.finding(at, "unsafe, and not in the list of xtask's tidy"));
            }
            if needs_reason(line) && !has_reason(&lines, at) {
                findings.push(self.finding(at, "unsafe without a SAFETY comment"));
            }
        }
        findings
    }

    /// Tests, examples and build scripts run on the developer's machine only.
    fn may_be_unsafe(&self) -> bool {
        let asked = self.path.starts_with("crates/") && self.path.contains("/src/");
        !asked || MAY_BE_UNSAFE.iter().any(|allowed| self.path.starts_with(allowed))
    }
}

/// Roots of safe crates that do not say so.
pub(crate) fn missing_forbids(files: &[Source]) -> Vec<String> {
    let forbids = |root: &str| {
        let file = files.iter().find(|file| file.path == root);
        file.is_some_and(|file| code_only(&file.text).contains("#![forbid(unsafe_code)]"))
    };
    let missing = SAFE.iter().filter(|root| !forbids(root));
    missing.map(|root| format!("{root}: no #![forbid(unsafe_code)]")).collect()
}

/// Whether a line names the directory, and not one deeper down that ends alike.
fn names(line: &str, directory: &str) -> bool {
    line.match_indices(directory)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.})$".contains(c)))
}

/// Blocks and implementations state why they are sound; functions say what they ask for.
fn needs_reason(line: &str) -> bool {
    let mut words = line.split("unsafe").skip(1).map(str::trim_start);
    words.any(|after| after.is_empty() || after.starts_with('{') || after.starts_with("impl"))
}

/// A comment with the reason begins, or goes on, just above, or stands on the line.
fn has_reason(lines: &[&str], at: usize) -> bool {
    let mut near = 0;
    for line in lines[..=at].iter().rev() {
        if line.contains("SAFETY:") {
            return true;
        }
        // A long comment counts as one line.
        near += usize::from(!line.trim_start().starts_with("//"));
        if near > REASON_ABOVE + 1 {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        Source::new(path.into(), text.into()).check()
    }

    #[test]
    fn unsafe_belongs_in_few_files_and_has_a_reason() {
        let reason = "// SAFETY: nothing else\n// refers to it\nunsafe { f() };\n";
        assert!(findings("crates/agent/src/slow.rs", reason).is_empty());
        assert_eq!(findings("crates/trace/src/lib.rs", reason).len(), 1);
        assert!(findings("crates/trace/tests/mapped.rs", reason).is_empty());
        let none = "// SAFETY: for g\nunsafe { g() };\n\n\n\n\nunsafe { f() };\n";
        let expected = ["crates/agent/src/slow.rs:7: unsafe without a SAFETY comment"];
        assert_eq!(findings("crates/agent/src/slow.rs", none), expected);
        assert!(findings("crates/agent/src/slow.rs", "unsafe fn f() {}").is_empty());
        assert!(findings("crates/trace/src/lib.rs", "// unsafe\n#![deny(unsafe_code)]").is_empty());
    }

    #[test]
    fn files_are_short_finished_and_nobodys_own() {
        assert_eq!(findings("a.rs", &"\n".repeat(MOST_LINES + 1)).len(), 1);
        assert!(findings("a.rs", &"\n".repeat(MOST_LINES)).is_empty());
        assert_eq!(findings("a.rs", "fn f() { todo!() }"), ["a.rs:1: todo!"]);
        assert!(findings("a.rs", "// todo! later\nlet x = \"dbg!\";").is_empty());
        let line = format!("see {}someone", PRIVATE[0]);
        assert_eq!(findings("README.md", &line), ["README.md:1: a path of one machine"]);
        assert!(findings("README.md", &format!("$DIR{}", PRIVATE[2])).is_empty());
    }

    #[test]
    fn safe_crates_say_so() {
        let root = Source::new(SAFE[0].into(), "#![no_std]\n#![forbid(unsafe_code)]".into());
        assert_eq!(missing_forbids(&[root]).len(), SAFE.len() - 1);
        let comment = Source::new(SAFE[0].into(), "// #![forbid(unsafe_code)]".into());
        assert_eq!(missing_forbids(&[comment]).len(), SAFE.len());
    }
}
