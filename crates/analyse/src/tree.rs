//! Which processes and threads there were, who started whom, and how much of each was seen.

use std::convert::Infallible;
use std::io::{self, Write};

use sledge_trace::event::{Directory, Event, EventKind, Nanos, ProcessId, Sink, ThreadId};

use crate::names::Memo;
use crate::records::{self, Format, Value};
use crate::text;

/// What was seen of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    first: Nanos,
    last: Nanos,
    calls: u64,
    lost: u64,
}

/// Counts by thread what is read.
#[derive(Debug, Default)]
pub struct Tree {
    threads: Memo<Seen>,
}

impl Sink for Tree {
    type Error = Infallible;

    #[inline]
    fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Infallible> {
        let seen = self.threads.get(event.thread.0, || Seen { first: event.at, ..Seen::default() });
        seen.last = event.at;
        match event.kind {
            EventKind::Enter { .. } => seen.calls += 1,
            EventKind::Lost { count, .. } => seen.lost = seen.lost.saturating_add(count),
            _ => {}
        }
        Ok(())
    }
}

/// A line: a process, or a thread of it.
enum Line {
    Process(ProcessId),
    Thread(ThreadId, Seen),
}

impl Tree {
    /// Writes the tree. Processes of which no thread was read are left out, but for those that
    /// started others.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(
        &self,
        writer: &mut impl Write,
        directory: &Directory,
        format: Format,
    ) -> io::Result<()> {
        let lines = self.lines(directory);
        if format == Format::Text {
            let mut out = Vec::new();
            table(&mut out, directory, &lines);
            writer.write_all(&out)?;
            return writer.flush();
        }
        rows(writer, directory, &lines, format)
    }

    /// Processes, their threads, their children, with how far they are indented.
    fn lines(&self, directory: &Directory) -> Vec<(usize, Line)> {
        let processes = directory.processes.len();
        let mut threads = vec![Vec::new(); processes];
        for (number, thread) in (0..).map(ThreadId).zip(&directory.threads) {
            if let Some(seen) = self.threads.known(number.0) {
                threads[thread.process.0 as usize].push((number, *seen));
            }
        }
        let mut shown: Vec<bool> = threads.iter().map(|threads| !threads.is_empty()).collect();
        let mut children = vec![Vec::new(); processes];
        let mut tops = Vec::new();
        // Children come behind their parents.
        for number in (0..processes).rev() {
            if !shown[number] {
                continue;
            }
            match directory.processes[number].parent {
                Some(parent) => {
                    shown[parent.0 as usize] = true;
                    children[parent.0 as usize].push(number);
                }
                None => tops.push(number),
            }
        }
        let mut lines = Vec::new();
        let mut open: Vec<(usize, usize)> = tops.into_iter().map(|top| (0, top)).collect();
        while let Some((level, number)) = open.pop() {
            lines.push((level, Line::Process(ProcessId(number as u32))));
            let own = threads[number].drain(..);
            lines.extend(own.map(|(thread, seen)| (level + 1, Line::Thread(thread, seen))));
            open.extend(children[number].iter().map(|&child| (level + 1, child)));
        }
        lines
    }
}

fn table(out: &mut Vec<u8>, directory: &Directory, lines: &[(usize, Line)]) {
    out.extend_from_slice(b"       First        Last       Calls        Lost  Process or thread\n");
    out.extend_from_slice(
        b"  ==========  ==========  ==========  ==========  ====================\n",
    );
    for (level, line) in lines {
        let named = match line {
            Line::Process(process) => {
                text::blanks(out, 4 * (text::DURATION_COLUMNS + 2));
                let process = &directory.processes[process.0 as usize];
                let arguments = process.arguments.join(" ");
                let words = if arguments.is_empty() { &process.executable } else { &arguments };
                format!("{} {words}", process.pid)
            }
            Line::Thread(thread, seen) => {
                for at in [seen.first, seen.last] {
                    text::blanks(out, 2);
                    text::duration(out, at.0);
                }
                for count in [seen.calls, seen.lost] {
                    text::blanks(out, 2);
                    text::right(out, count, text::DURATION_COLUMNS);
                }
                let thread = &directory.threads[thread.0 as usize];
                format!("{} [{}]", thread.name, thread.tid)
            }
        };
        text::blanks(out, 2 + 2 * level);
        out.extend_from_slice(text::printable(&named).as_bytes());
        out.push(b'\n');
    }
}

const COLUMNS: [&str; 11] = [
    "kind",
    "level",
    "pid",
    "tid",
    "name",
    "parent_pid",
    "executable",
    "first_ns",
    "last_ns",
    "calls",
    "lost",
];

fn rows(
    writer: &mut impl Write,
    directory: &Directory,
    lines: &[(usize, Line)],
    format: Format,
) -> io::Result<()> {
    let values = lines.iter().map(|(level, line)| {
        let level = Value::Number(*level as u64);
        let none = Value::None;
        match line {
            Line::Process(number) => {
                let process = &directory.processes[number.0 as usize];
                let parent = process.parent.map(|parent| &directory.processes[parent.0 as usize]);
                let name = process.arguments.first().unwrap_or(&process.executable);
                let (pid, name) = (Value::Number(process.pid.into()), Value::Text(name));
                let parent = Value::from(parent.map(|parent| u64::from(parent.pid)));
                let executable = Value::Text(&process.executable);
                let kind = Value::Text("process");
                [kind, level, pid, none, name, parent, executable, none, none, none, none]
            }
            Line::Thread(number, seen) => {
                let thread = &directory.threads[number.0 as usize];
                let process = &directory.processes[thread.process.0 as usize];
                let (pid, tid) = (u64::from(process.pid), u64::from(thread.tid));
                let (kind, name) = (Value::Text("thread"), Value::Text(&thread.name));
                let (first, last) = (Value::Number(seen.first.0), Value::Number(seen.last.0));
                let (calls, lost) = (Value::Number(seen.calls), Value::Number(seen.lost));
                let (pid, tid) = (Value::Number(pid), Value::Number(tid));
                [kind, level, pid, tid, name, none, none, first, last, calls, lost]
            }
        }
    });
    records::write(writer, format, ("tree", &COLUMNS), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Script, directory};
    use sledge_trace::event::Process;

    #[test]
    fn children_stand_below_their_parents_and_threads_below_their_processes() {
        let mut directory = directory(&["f"]);
        let child = |pid, parent| Process {
            pid,
            parent: Some(ProcessId(parent)),
            executable: "/bin/ls".into(),
            arguments: vec!["ls".into(), "-l".into()],
        };
        directory.processes.extend([child(4800, 0), child(4900, 1)]);
        directory.threads[2].process = ProcessId(2);
        let mut script = Script::new(directory);
        script.enter(0, 0, 0).end(1_000, 0).enter(2_000, 2, 0);
        script.push(3_000, 2, EventKind::Lost { count: 9, since: Nanos(2_500) });
        let mut tree = Tree::default();
        script.feed(&mut tree);
        let written = |format| {
            let mut out = Vec::new();
            tree.write(&mut out, &script.directory, format).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = written(Format::Text);
        let names: Vec<&str> = text.lines().skip(2).map(|line| &line[48..]).collect();
        let expected = [
            "  4700 app",
            "    thread-0 [4711]",
            "    4800 ls -l",
            "      4900 ls -l",
            "        thread-2 [4713]",
        ];
        assert_eq!(names, expected);
        let line = "    2.000 us    3.000 us           1           9";
        assert!(text.ends_with(&format!("{line}        thread-2 [4713]\n")), "{text}");
        let csv = written(Format::Csv);
        assert!(csv.contains("\nprocess,2,4900,,ls,4800,/bin/ls,,,,\n"), "{csv}");
        assert!(csv.ends_with("\nthread,3,4900,4713,thread-2,,,2000,3000,1,9\n"), "{csv}");
    }
}
