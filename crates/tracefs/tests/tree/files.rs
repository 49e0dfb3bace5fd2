//! Reading and writing files: sense, nonsense, and pieces of words.

use crate::support::Lab;
use sledge_tracefs::{Errno, Kind, Open, Read, Writer};

fn all_files(lab: &Lab, directory: &str, found: &mut Vec<String>) {
    for (name, kind) in lab.tree.list(directory).unwrap() {
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        match kind {
            Kind::Directory => all_files(lab, &path, found),
            Kind::File(_) => found.push(path),
        }
    }
}

#[test]
fn filters_are_read_back_as_they_were_written() {
    let mut lab = Lab::new();
    let file = "set_ftrace_filter";
    assert_eq!(lab.cat(file), "#### all functions enabled ####\n");
    lab.echo("*lock schedule", file).unwrap();
    assert_eq!(lab.cat(file), "mutex_lock\nmutex_unlock\nschedule\n");
    lab.append("!mutex*", file).unwrap();
    lab.append("kfree:mod:libk.so", file).unwrap();
    assert_eq!(lab.cat(file), "schedule\nkfree [libk.so]\n");
    lab.echo("schedule:traceoff", file).unwrap();
    assert_eq!(lab.cat(file), "#### all functions enabled ####\nschedule:traceoff:unlimited\n");
    lab.append("*lock:traceon:3", file).unwrap();
    assert!(lab.cat(file).contains("mutex_lock:traceon:count=3\nmutex_unlock:traceon:count=3\n"));
    lab.append("!*lock:traceon:0", file).unwrap();
    lab.append("!schedule:traceoff", file).unwrap();
    assert_eq!(lab.cat(file), "#### all functions enabled ####\n");
}

#[test]
fn words_before_a_wrong_one_take_effect() {
    let mut lab = Lab::new();
    assert_eq!(lab.echo("schedule nothing main", "set_ftrace_filter"), Err(Errno::Invalid));
    assert_eq!(lab.cat("set_ftrace_filter"), "schedule\n");
    let log = lab.cat("error_log");
    assert!(log.contains("set_ftrace_filter: error: Invalid argument\n"), "{log}");
    assert!(log.contains("  Command: nothing main\n           ^\n"), "{log}");
}

#[test]
fn a_word_may_come_in_pieces() {
    let mut lab = Lab::new();
    let who = Writer { tid: 1, tgid: 1, comm: "sh".into() };
    let open = Open { read: false, write: true, truncate: true, nonblocking: false, who };
    let handle = lab.tree.open("set_ftrace_filter", open).unwrap();
    for piece in ["sche", "dule", " ma", "in"] {
        assert_eq!(lab.tree.write(handle, piece.as_bytes()), Ok(piece.len()));
    }
    lab.tree.flush(handle).unwrap();
    assert_eq!(lab.cat("set_ftrace_filter"), "schedule\n");
    lab.tree.close(handle).unwrap();
    assert_eq!(lab.cat("set_ftrace_filter"), "main\nschedule\n");
}

#[test]
fn nonsense_is_refused_by_every_file_and_changes_nothing() {
    let mut lab = Lab::new();
    lab.tree.make_directory("instances/one").unwrap();
    let mut files = Vec::new();
    all_files(&lab, "", &mut files);
    assert!(files.len() > 100);
    let free = ["trace", "trace_marker", "trace_marker_raw", "error_log"];
    for path in files {
        let Some(Kind::File(mode)) = lab.tree.kind(&path) else { panic!("{path}") };
        if mode & 0o400 != 0 && !path.ends_with("trace_pipe") {
            lab.cat(&path);
        }
        let name = path.rsplit('/').next().unwrap();
        if mode & 0o200 == 0 {
            assert_eq!(lab.append("1", &path), Err(Errno::Permission), "{path}");
        } else if !free.contains(&name) {
            let before = if mode & 0o400 != 0 { lab.cat(&path) } else { String::new() };
            for nonsense in ["\u{fffd}\u{1}", "no such thing", "-1", "99999999999999999999", "%s%n"]
            {
                assert_eq!(lab.append(nonsense, &path), Err(Errno::Invalid), "{path} {nonsense}");
            }
            assert!(lab.append(&"x".repeat(1 << 20), &path).is_err(), "{path}");
            if mode & 0o400 != 0 {
                assert_eq!(lab.cat(&path), before, "{path}");
            }
        }
    }
}

#[test]
fn options_sizes_and_clocks() {
    let mut lab = Lab::new();
    lab.append("nooverwrite sym-offset", "trace_options").unwrap();
    assert_eq!(lab.cat("options/overwrite"), "0\n");
    lab.echo("0", "options/sym-offset").unwrap();
    assert!(lab.cat("trace_options").contains("nosym-offset\n"));
    lab.echo("64", "per_cpu/cpu1/buffer_size_kb").unwrap();
    assert_eq!(lab.cat("buffer_size_kb"), "X\n");
    lab.echo("32", "buffer_size_kb").unwrap();
    assert_eq!(lab.cat("buffer_total_size_kb"), "64\n");
    lab.echo("boot", "trace_clock").unwrap();
    assert!(lab.cat("trace_clock").contains("[boot]"));
    lab.echo("2", "tracing_cpumask").unwrap();
    assert_eq!(lab.cat("tracing_cpumask"), "2\n");
    assert_eq!(lab.cat("set_ftrace_pid"), "no pid\n");
    lab.echo("100 7", "set_ftrace_pid").unwrap();
    assert_eq!(lab.cat("set_ftrace_pid"), "7\n100\n");
}

#[test]
fn a_pipe_has_one_reader() {
    let mut lab = Lab::new();
    let who = Writer { tid: 1, tgid: 1, comm: "sh".into() };
    let open = Open { read: true, write: false, truncate: false, nonblocking: false, who };
    let one = lab.tree.open("trace_pipe", open.clone()).unwrap();
    assert_eq!(lab.tree.read(one, 0, 100), Ok(Read::Wait));
    assert_eq!(lab.tree.open("per_cpu/cpu0/trace_pipe", open.clone()), Err(Errno::Busy));
    lab.tree.close(one).unwrap();
    let part = lab.tree.open("per_cpu/cpu0/trace_pipe", open.clone()).unwrap();
    lab.tree.open("per_cpu/cpu1/trace_pipe", open.clone()).unwrap();
    assert_eq!(lab.tree.open("trace_pipe", open), Err(Errno::Busy));
    lab.tree.close(part).unwrap();
}
