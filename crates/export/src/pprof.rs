//! pprof's profiles: `go tool pprof`, and the many tools that read the same.
//!
//! Field numbers are those of `proto/profile.proto`. The file is not compressed, which readers
//! accept.

use std::collections::HashMap;
use std::io::{self, Write};

use sledge_analyse::calls::Calls;
use sledge_analyse::{Names, Output};
use sledge_trace::Host;
use sledge_trace::event::{Directory, FunctionId, ProcessId};

use crate::lanes::process_name;
use crate::paths::{Path, PathTree, Step, Summary};
use crate::protobuf::{bytes, message, number, packed};

/// `Profile`.
mod profile {
    pub(super) const SAMPLE_TYPE: u32 = 1;
    pub(super) const SAMPLE: u32 = 2;
    pub(super) const MAPPING: u32 = 3;
    pub(super) const LOCATION: u32 = 4;
    pub(super) const FUNCTION: u32 = 5;
    pub(super) const STRING: u32 = 6;
    pub(super) const TIME: u32 = 9;
    pub(super) const DEFAULT_TYPE: u32 = 14;
}

/// A sample for each path of calls, with two values: how many calls, and nanoseconds of their own.
/// Objects are mappings, processes are labels.
#[derive(Debug)]
pub struct Pprof<W> {
    output: Output<W>,
    names: Names,
    began: u64,
    strings: Strings,
}

/// The table of strings. The first is empty.
#[derive(Debug, Default)]
struct Strings {
    known: HashMap<String, u64>,
    list: Vec<String>,
}

impl Strings {
    fn index(&mut self, text: &str) -> u64 {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let index = self.list.len() as u64;
        self.known.insert(text.to_owned(), index);
        self.list.push(text.to_owned());
        index
    }
}

impl<W: Write> Pprof<W> {
    /// Into `writer`; what was recorded on `host` began at its time.
    pub fn new(writer: W, names: Names, host: &Host) -> Calls<PathTree<Self>> {
        let mut strings = Strings::default();
        strings.index("");
        PathTree::new(Self { output: Output::new(writer), names, began: host.began, strings })
    }

    fn types(&mut self) {
        let [calls, count, time, nanoseconds] =
            ["calls", "count", "time", "nanoseconds"].map(|text| self.strings.index(text));
        for (name, unit) in [(calls, count), (time, nanoseconds)] {
            message(&mut self.output.bytes, profile::SAMPLE_TYPE, |out| {
                number(out, 1, name);
                number(out, 2, unit);
            });
        }
        number(&mut self.output.bytes, profile::TIME, self.began);
        number(&mut self.output.bytes, profile::DEFAULT_TYPE, time);
    }

    fn mappings(&mut self, directory: &Directory) {
        for (id, object) in (1..).zip(&directory.objects) {
            let path = self.strings.index(&object.path);
            let hex: String = object.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
            let build_id = self.strings.index(&hex);
            message(&mut self.output.bytes, profile::MAPPING, |out| {
                number(out, 1, id);
                number(out, 5, path);
                number(out, 6, build_id);
                number(out, 7, 1);
            });
        }
    }

    /// A function, and the one location of it that there is.
    fn function(&mut self, directory: &Directory, function: FunctionId) {
        let id = number_of(function);
        let name = self.names.of(directory, function).to_owned();
        let name = self.strings.index(&name);
        let known = directory.functions.get(function.0 as usize);
        let symbol = self.strings.index(known.map_or("", |known| &known.name));
        let place = self.names.place(directory, function).cloned();
        let file = self.strings.index(place.as_ref().map_or("", |place| &place.file));
        let line = place.map_or(0, |place| place.line.into());
        let out = &mut self.output.bytes;
        message(out, profile::FUNCTION, |out| {
            for (field, value) in [(1, id), (2, name), (3, symbol), (4, file), (5, line)] {
                number(out, field, value);
            }
        });
        message(out, profile::LOCATION, |out| {
            number(out, 1, id);
            if let Some(known) = known {
                number(out, 2, u64::from(known.object.0) + 1);
            }
            message(out, 4, |out| {
                number(out, 1, id);
                number(out, 2, line);
            });
        });
    }

    fn sample(&mut self, directory: &Directory, paths: &[Path], path: &Path) {
        let (mut locations, mut process) = (Vec::new(), None);
        let mut next = Some(path);
        while let Some(path) = next {
            match path.step {
                Step::Call(function) => locations.push(number_of(function)),
                Step::Process(of) => process = Some(of),
            }
            next = path.parent.map(|parent| &paths[parent as usize]);
        }
        let known = process.and_then(|ProcessId(of)| directory.processes.get(of as usize));
        let label = known.map(|process| {
            let name = self.strings.index(process_name(process));
            (self.strings.index("process"), name, self.strings.index("pid"), process.pid)
        });
        message(&mut self.output.bytes, profile::SAMPLE, |out| {
            packed(out, 1, locations);
            packed(out, 2, [path.calls, path.own]);
            let Some((process, name, pid, id)) = label else { return };
            message(out, 3, |out| {
                number(out, 1, process);
                number(out, 2, name);
            });
            message(out, 3, |out| {
                number(out, 1, pid);
                number(out, 3, id.into());
            });
        });
    }
}

/// Functions are numbered from 1.
fn number_of(function: FunctionId) -> u64 {
    u64::from(function.0) + 1
}

impl<W: Write> Summary for Pprof<W> {
    fn write(&mut self, directory: &Directory, paths: &[Path]) -> io::Result<()> {
        self.types();
        self.mappings(directory);
        let mut called = vec![false; directory.functions.len()];
        for path in paths.iter().filter(|path| path.calls > 0) {
            if let Step::Call(function) = path.step
                && let Some(known @ false) = called.get_mut(function.0 as usize)
            {
                *known = true;
                self.function(directory, function);
            }
            self.sample(directory, paths, path);
            self.output.batch()?;
        }
        for text in std::mem::take(&mut self.strings.list) {
            bytes(&mut self.output.bytes, profile::STRING, text.as_bytes());
            self.output.batch()?;
        }
        self.output.finish()
    }
}
