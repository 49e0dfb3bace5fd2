//! Folded stacks, one line a path: what flamegraph.pl, inferno and speedscope read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use sledge_analyse::calls::Calls;
use sledge_analyse::{Names, Output, text};
use sledge_trace::event::Directory;

use crate::lanes::process_name;
use crate::paths::{Path, PathTree, Step, Summary};

/// Lines of `process;caller;callee NANOSECONDS`, sorted: the time that the last one took itself.
#[derive(Debug)]
pub struct Folded<W> {
    output: Output<W>,
    names: Names,
}

impl<W: Write> Folded<W> {
    /// Into `writer`.
    pub fn new(writer: W, names: Names) -> Calls<PathTree<Self>> {
        PathTree::new(Self { output: Output::new(writer), names })
    }

    /// A step's name, without what means something in the format.
    fn frame(&mut self, directory: &Directory, step: Step) -> String {
        let name = match step {
            Step::Call(function) => self.names.of(directory, function),
            Step::Process(process) => {
                directory.processes.get(process.0 as usize).map_or("?", process_name)
            }
        };
        name.replace(';', ":").replace(|c: char| c.is_control(), " ")
    }
}

impl<W: Write> Summary for Folded<W> {
    fn write(&mut self, directory: &Directory, paths: &[Path]) -> io::Result<()> {
        // Processes of one name are one.
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for path in paths.iter().filter(|path| path.own > 0) {
            let mut frames = Vec::new();
            let mut next = Some(path);
            while let Some(path) = next {
                frames.push(self.frame(directory, path.step));
                next = path.parent.map(|parent| &paths[parent as usize]);
            }
            frames.reverse();
            *lines.entry(frames.join(";")).or_default() += path.own;
        }
        for (line, own) in lines {
            self.output.bytes.extend_from_slice(line.as_bytes());
            self.output.bytes.push(b' ');
            text::number(&mut self.output.bytes, own);
            self.output.bytes.push(b'\n');
            self.output.batch()?;
        }
        self.output.finish()
    }
}
