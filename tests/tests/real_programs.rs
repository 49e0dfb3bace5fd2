//! Programs that people use, with everything traced: they write the same and end the same, nearly
//! all their functions can be traced, and every call that began ended or is said to be open.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sledge_tests::{
    Checks, Invocation, Trouble, build, compare, named, run, scratch, sledge, tally, tool,
};
use tempfile::TempDir;

const HELLO: &str = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n";
const SHELL: &str =
    "fact() { if [ $1 -le 1 ]; then echo 1; else echo $(( $1 * $(fact $(( $1 - 1 ))) )); fi; }
for i in 1 2 3 4 5; do echo \"$i: $(fact $i)\"; done
declare -A seen; for w in a b a c b a; do (( seen[$w]++ )); done
for w in a b c; do printf '%s=%d\\n' $w ${seen[$w]}; done; echo done >&2; exit 3";
const PYTHON: &str = "import json, re, collections
def gen(n):
    for i in range(n): yield i * i
try: {}['missing']
except KeyError as e: print('caught', e)
print(json.dumps(collections.Counter(str(sum(gen(100)))), sort_keys=True), re.sub('a+', 'b', 'caaat'))";
const PERL: &str = "my %h; $h{$_ % 7} += $_ for 1..500; print join(',', map {\"$_=$h{$_}\"} sort keys %h), \"\\n\"; eval { die \"out\\n\" }; print STDERR $@; exit 4";
const NODE: &str = "const f=n=>n<2?n:f(n-1)+f(n-2); console.log(f(18)); try { null.x } catch (e) { console.error(e.name) } Promise.resolve(7).then(x=>console.log(x))";
const SQL: &str = "create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i+1 from n where i<200) insert into t select i, hex(i*7919) from n;
create index x on t(b); select count(*), sum(a), max(b) from t where b like '3%'; select nothing;\n";

/// Files that the programs work on.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Result<Self, Trouble> {
        let directory = TempDir::new_in(scratch()?)?;
        fs::write(directory.path().join("hello.c"), HELLO)?;
        fs::write(directory.path().join("text"), words(4000))?;
        Ok(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A repository with three commits and a changed file.
    fn repository(&self) -> Result<PathBuf, Trouble> {
        let place = self.path().join("repository");
        fs::create_dir_all(&place)?;
        self.git(&["init", "-q", "-b", "main"])?;
        for n in 1..=3 {
            fs::write(place.join("file"), words(50 * n))?;
            self.git(&["add", "file"])?;
            self.git(&["commit", "-q", "-m", &format!("commit {n}")])?;
        }
        fs::write(place.join("file"), "changed\n")?;
        fs::write(place.join("untracked"), "new\n")?;
        Ok(place)
    }

    fn git(&self, arguments: &[&str]) -> Result<(), Trouble> {
        let mut git = Command::new(tool("git")?);
        git.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(arguments);
        git.env("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z");
        git.env("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z");
        git.current_dir(self.path().join("repository"));
        let done = run(git, b"")?;
        if done.errors().is_empty() { Ok(()) } else { Err(done.errors().into()) }
    }
}

/// Text that compresses, with numbers in it.
fn words(count: usize) -> String {
    let mut state = 12345_u32;
    let mut text = String::new();
    for n in 0..count {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        let word = ["alpha", "beta", "gamma", "delta", "omega"][(state >> 16) as usize % 5];
        let _ = writeln!(text, "{word} {n} {}", state >> 20);
    }
    text
}

/// What a command prints, as a path.
fn told(program: &str, arguments: &[&str]) -> Result<PathBuf, Trouble> {
    let mut command = Command::new(program);
    command.args(arguments);
    let path =
        run(command, b"").map_err(|_| Trouble::Skip(format!("{program} is not installed")))?;
    let path = PathBuf::from(path.text().trim());
    if path.is_file() {
        Ok(path)
    } else {
        Err(Trouble::Skip(format!("{program} is not installed")))
    }
}

type Case = (&'static str, fn(&Files) -> Result<Invocation, Trouble>);

const CASES: &[Case] = &[
    ("bash", |_| Ok(Invocation::new(tool("bash")?, ["-c", SHELL]))),
    ("git log", |files| {
        Ok(Invocation::new(tool("git")?, ["log", "--stat", "-p"]).within(&files.repository()?))
    }),
    ("git status", |files| {
        Ok(Invocation::new(tool("git")?, ["status"]).within(&files.repository()?))
    }),
    ("python3", |_| {
        let python = told("python3", &["-c", "import sys; print(sys.executable)"])?;
        Ok(Invocation::new(python, ["-I", "-c", PYTHON]))
    }),
    ("cc1", |files| {
        let cc1 = told("gcc", &["-print-prog-name=cc1"])?;
        Ok(Invocation::new(cc1, ["-quiet", "-O2", "hello.c", "-o", "-"]).within(files.path()))
    }),
    ("gcc", |files| {
        Ok(Invocation::new(tool("gcc")?, ["-O2", "-c", "hello.c", "-o", "hello.o"])
            .within(files.path()))
    }),
    ("perl", |_| Ok(Invocation::new(tool("perl")?, ["-e", PERL]))),
    ("node", |_| Ok(Invocation::new(tool("node")?, ["-e", NODE]))),
    ("sqlite3", |_| Ok(Invocation::new(tool("sqlite3")?, [":memory:"]).reading(SQL.as_bytes()))),
    ("cargo", |_| {
        Ok(Invocation::new(told("rustup", &["which", "cargo"])?, ["--version", "--verbose"]))
    }),
    ("rustc", |_| Ok(Invocation::new(told("rustup", &["which", "rustc"])?, ["--version"]))),
    ("static glibc", |_| Invocation::of(named("static"))),
    ("stripped", |_| Invocation::of(named("static-stripped"))),
    ("throwing C++", |_| Invocation::of(named("throw-O2"))),
    ("4 threads", |_| Invocation::of(named("threads4"))),
    ("xz", |files| {
        Ok(Invocation::new(tool("xz")?, ["-9", "-T4", "-c", "text"]).within(files.path()))
    }),
    ("gzip", |files| Ok(Invocation::new(tool("gzip")?, ["-n", "-c", "text"]).within(files.path()))),
    ("grep", |files| {
        let arguments = ["-nE", "(alpha|omega) [0-9]*7 .*[13]$", "text", "missing"];
        Ok(Invocation::new(tool("grep")?, arguments).within(files.path()))
    }),
    ("sed", |files| {
        Ok(Invocation::new(tool("sed")?, ["-nE", "s/^(a[a-z]+) (.*)/\\2 \\1/p", "text"])
            .within(files.path()))
    }),
    ("awk", |files| {
        let program = "{ n[$1] += $3 } END { print n[\"beta\"], n[\"delta\"], NR; exit 5 }";
        Ok(Invocation::new(tool("awk")?, [program, "text"]).within(files.path()))
    }),
    ("find", |_| {
        Ok(Invocation::new(
            tool("find")?,
            ["/usr/share/perl5", "-name", "*.pm", "-newermt", "1990-01-01"],
        ))
    }),
    ("openssl", |files| {
        Ok(Invocation::new(tool("openssl")?, ["dgst", "-sha256", "-sha3-512", "text"])
            .within(files.path()))
    }),
];

#[test]
fn same_output_and_balanced_with_everything_traced() {
    let mut checks = Checks::new("real programs");
    for (name, invocation) in CASES {
        checks.case(name, || {
            let files = Files::new()?;
            let recording = compare(&invocation(&files)?, &["--libs"])?;
            tally(&recording.trace)?.balanced()
        });
    }
    checks.finish();
}

/// The numbers of functions, and of those that can be traced.
fn coverage(file: &Path) -> Result<(u64, u64), Trouble> {
    let mut command = sledge(["sites"])?;
    command.arg(file).args(["--format", "json"]);
    let told = run(command, b"")?;
    let sites: serde_json::Value = serde_json::from_slice(&told.stdout)
        .map_err(|error| format!("{error}: {}", told.errors()))?;
    let number =
        |name: &str| sites["summary"][name].as_u64().ok_or(format!("no {name} in the summary"));
    let listed = sites["functions"].as_array().map_or(0, Vec::len) as u64;
    if listed != number("functions")? {
        return Err(format!("{listed} functions listed, {} counted", number("functions")?).into());
    }
    Ok((number("functions")?, number("traceable")?))
}

#[test]
fn nearly_all_functions_are_traceable() {
    let mut checks = Checks::new("coverage");
    for (name, invocation) in CASES {
        checks.case(name, || {
            let (functions, traceable) = coverage(&invocation(&Files::new()?)?.program)?;
            if functions > 0 && traceable * 100 >= functions * 98 {
                return Ok(());
            }
            Err(format!("{traceable} of {functions} functions are traceable").into())
        });
    }
    checks.case("plugin", || {
        let (functions, traceable) = coverage(&build(named("plugin"))?)?;
        if traceable >= 3 { Ok(()) } else { Err(format!("{traceable} of {functions}").into()) }
    });
    checks.finish();
}

/// The invocations themselves: they do what they should and do it the same way twice.
#[test]
fn real_programs_work_untraced() {
    let mut checks = Checks::new("real programs untraced");
    for (name, invocation) in CASES {
        checks.case(name, || {
            let files = Files::new()?;
            let invocation = invocation(&files)?;
            let (first, second) =
                (sledge_tests::invoke(&invocation)?, sledge_tests::invoke(&invocation)?);
            if first.stdout != second.stdout
                || first.stderr != second.stderr
                || first.end != second.end
            {
                return Err("two runs differ".into());
            }
            if *name != "gcc" && first.stdout.is_empty() {
                return Err(format!("wrote nothing: {}", first.errors()).into());
            }
            Ok(())
        });
    }
    checks.finish();
}
