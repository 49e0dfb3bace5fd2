//! Probes that take values in a real process.
#![forbid(unsafe_code)]

use sledge_tests::{Checks, Mount, Program, Trouble};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

const PROBES: Program = Program::named_source("probes", "probes.c");
const BURST: u64 = 5000;
const NAMES: [&str; 4] = ["", "a", "eight by", "a name of some length, more than a word"];

const TAKE: &str = "p:test/take take n=$arg1:u64 value=+0($arg2):u64 name=+0(+8($arg2)):string \
                    bytes=+16($arg2):x8[4] small=$arg3:s32 stack=$arg7";
const BACK: &str = "r:test/back take ret=$retval:u64";

/// Lets the program make its calls, and checks each line that comes of them.
fn bursts(
    mount: &mut Mount,
    count: u64,
    lines: u64,
    mut check: impl FnMut(u64, &str) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    mount.echo("16384", "buffer_size_kb")?;
    let mut pipe = BufReader::new(File::open(mount.path("trace_pipe"))?);
    let mut line = String::new();
    for number in 0..count * BURST {
        if number % BURST == 0 {
            let input = mount.input().ok_or("no input")?;
            input.write_all(b"\n")?;
            input.flush()?;
        }
        for _ in 0..lines {
            line.clear();
            pipe.read_line(&mut line)?;
            check(number, line.trim_end())?;
        }
    }
    Ok(())
}

/// How many bursts of calls: SLEDGE_PROBE_BURSTS, for the long run.
fn how_many() -> u64 {
    let told = std::env::var("SLEDGE_PROBE_BURSTS").ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(6)
}

#[test]
fn probes_take_values() {
    let mut checks = Checks::new("probes");
    checks.case("five arguments and a result are right in every call", || {
        let mut mount = Mount::new(&PROBES, &[&BURST.to_string()])?;
        mount.append(TAKE, "kprobe_events")?;
        mount.append(BACK, "kprobe_events")?;
        mount.echo("1", "events/test/enable")?;
        let mut back = false;
        bursts(&mut mount, how_many(), 2, |n, line| {
            let expected = if back {
                format!(" <- take) ret={}", n * 7 + 7)
            } else {
                let bytes = format!("{{{:#x},{:#x},0x1,0x2}}", n & 0xff, n >> 8 & 0xff);
                let (name, small) = (NAMES[n as usize % 4], -((n % 1000) as i64));
                format!(
                    " n={n} value={} name=\"{name}\" bytes={bytes} small={small} stack=0x7",
                    n * 3
                )
            };
            back = !back;
            if line.ends_with(&expected) {
                Ok(())
            } else {
                Err(format!("{line}, not {expected}").into())
            }
        })
    });
    checks.case("memory that is not there is a fault, and the program goes on", || {
        let mut mount = Mount::new(&PROBES, &[&BURST.to_string(), "unmapping"])?;
        mount.append(
            "p:test/take take n=$arg1:u64 value=+0($arg2):u64 name=+0(+8($arg2)):string",
            "kprobe_events",
        )?;
        mount.echo("1", "events/test/enable")?;
        bursts(&mut mount, 4, 1, |n, line| {
            let values =
                line.split_once(&format!(" n={n} value=")).ok_or_else(|| format!("{n}: {line}"))?.1;
            let (value, name) = values.split_once(" name=").ok_or_else(|| line.to_owned())?;
            let never = n % 3 == 0;
            let right = ["0", "42", "(fault)"].contains(&value)
                && ["\"a\"", "(fault)"].contains(&name)
                && (!never || values == "(fault) name=(fault)");
            if right { Ok(()) } else { Err(format!("{n}: {line}").into()) }
        })?;
        mount.echo("0", "events/test/enable")
    });
    checks.case("values filter, and are what histograms count", || {
        let mut mount = Mount::new(&PROBES, &[&BURST.to_string()])?;
        mount.append(TAKE, "kprobe_events")?;
        mount.echo("n % 1 == 1", "events/test/take/filter").err().ok_or("nonsense was taken")?;
        mount.echo("n >= 4990 && name == \"a\"", "events/test/take/filter")?;
        mount.echo("hist:keys=name:vals=n", "events/test/take/trigger")?;
        mount.echo("1", "events/test/enable")?;
        mount.input().ok_or("no input")?.write_all(b"\n")?;
        let text = mount.shows("events/test/take/hist", "Hits: 5000")?;
        for name in 0..4 {
            let sum: u64 = (0..BURST).filter(|n| n % 4 == name).sum();
            if !text.contains(&format!("hitcount:       1250  n: {sum:10}")) {
                return Err(format!("no {sum} in {text}").into());
            }
        }
        let trace = mount.cat("trace")?;
        let found: Vec<&str> =
            trace.lines().filter_map(|line| line.split(" n=").nth(1)?.split(' ').next()).collect();
        if found == ["4993", "4997"] { Ok(()) } else { Err(format!("{found:?} in {trace}").into()) }
    });
    checks.finish();
}
