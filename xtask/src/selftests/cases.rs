//! How cases end, and why some cannot pass.

use std::fmt;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Fail,
    Unsupported,
    Unresolved,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
            Self::Unresolved => "unresolved",
        })
    }
}

impl Outcome {
    /// Reads the runner's KTAP lines: whether the case ran in an instance, and how it ended. A run
    /// that was cut short has failed.
    pub(crate) fn read_all(text: &str) -> Vec<(bool, Self)> {
        let mut all = Vec::new();
        let planned = text.lines().find_map(|line| line.strip_prefix("1..")?.parse().ok());
        for line in text.lines() {
            let outcome = match line {
                _ if line.starts_with("ok ") && line.ends_with("# SKIP") => Self::Unsupported,
                _ if line.starts_with("ok ") => Self::Pass,
                _ if line.starts_with("not ok ") && line.ends_with("# UNRESOLVED") => {
                    Self::Unresolved
                }
                _ if line.starts_with("not ok ") => Self::Fail,
                _ => continue,
            };
            all.push((!all.is_empty(), outcome));
        }
        while all.len() < planned.unwrap_or(1) {
            all.push((!all.is_empty(), Self::Fail));
        }
        all
    }
}

/// Cases that are not run: they would change the machine.
pub(crate) const NOT_RUN: &str = "ftrace/func_hotplug.tc";

/// Parts of paths, and why those cases do not pass.
const REASONS: [(&str, &str); 36] = [
    (NOT_RUN, "not run: takes a CPU of the machine away, which no process has"),
    ("00basic/mount_options.tc", "mounts a kernel file system by type"),
    ("00basic/test_ownership.tc", "mounts a kernel file system by type"),
    ("direct/", "loads a sample module of the kernel"),
    ("dynevent/add_remove_btfarg.tc", "BTF is the kernel's"),
    ("dynevent/add_remove_eprobe.tc", "no event probes; traces the shell's own system calls"),
    ("dynevent/eprobes_syntax_errors.tc", "no event probes"),
    ("dynevent/test_duplicates.tc", "no event probes"),
    ("dynevent/add_remove_tprobe", "no tracepoint probes"),
    ("dynevent/tprobe_syntax_errors.tc", "no tracepoint probes"),
    ("dynevent/add_remove_uprobe.tc", "traces another process"),
    ("kprobe/uprobe_syntax_errors.tc", "no uprobe_events: every probe is one"),
    ("dynevent/add_remove_synth.tc", "no synthetic events"),
    ("dynevent/clear_select_events.tc", "no synthetic events"),
    ("dynevent/generic_clear_event.tc", "no synthetic events"),
    ("dynevent/fprobe_args_vfs.tc", "%pd is the kernel's file names"),
    ("kprobe/kprobe_args_vfs.tc", "%pd is the kernel's file names"),
    ("event/event-no-pid.tc", "traces the shell itself, by its own pid"),
    ("event/event-pid.tc", "traces the shell itself, by its own pid"),
    ("ftrace/func-filter-pid.tc", "traces the shell itself, by its own pid"),
    ("event/trace_printk.tc", "loads a sample module of the kernel"),
    ("ftrace/func_mod_trace.tc", "loads a sample module of the kernel"),
    ("kprobe/kprobe_module.tc", "loads a sample module of the kernel"),
    ("ftrace/fgraph-retval.tc", "traces the shell's own write into /proc"),
    ("kprobe/kprobe_args_user.tc", "traces the shell's own system calls"),
    ("kprobe/kprobe_opt_types.tc", "reads debugfs"),
    ("preemptirq/", "interrupts are the kernel's"),
    ("tracer/wakeup", "scheduling is the kernel's"),
    ("selftest/bashisms.tc", "checks the scripts themselves, by checkbashisms"),
    ("trigger/inter-event/", "no synthetic events and no histogram actions"),
    ("trigger/trigger-trace-marker-synthetic", "no synthetic events"),
    ("trigger/trigger-hist.tc", "expects the shell's own forks"),
    ("trigger/trigger-hist-mod.tc", "expects the shell's own forks"),
    ("trigger/trigger-multihist.tc", "expects the shell's own forks; shares a histogram"),
    ("trigger/trigger-hist-expressions.tc", "no histogram variables"),
    ("event-filter-function.tc", "traces what the shell's ls does"),
];

/// Why a case cannot pass against a process, or what is missing.
pub(crate) fn reason(case: &str) -> Option<&'static str> {
    REASONS.iter().find(|(part, _)| case.contains(part)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_runner_are_read() {
        let text = "TAP version 13\n1..2\nok 1 Basic check\nnot ok 1 (instance) Basic check\n";
        assert_eq!(Outcome::read_all(text), [(false, Outcome::Pass), (true, Outcome::Fail)]);
        let text = "1..1\nok 1 Basic check # SKIP\n";
        assert_eq!(Outcome::read_all(text), [(false, Outcome::Unsupported)]);
        assert_eq!(Outcome::read_all("1..1\n"), [(false, Outcome::Fail)]);
        let text = "1..1\nnot ok 1 x # UNRESOLVED\n";
        assert_eq!(Outcome::read_all(text), [(false, Outcome::Unresolved)]);
    }
}
