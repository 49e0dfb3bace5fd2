//! The Common Trace Format 1.8: a directory for babeltrace and Trace Compass.

mod metadata;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sledge_analyse::{Memo, Names};
use sledge_trace::Host;
use sledge_trace::event::{Directory, Ending, FunctionId, Nanos, ThreadId};

use crate::lanes::{Lane, OnLanes, Timeline};

const MAGIC: u32 = 0xC1FC_1FC1;
/// Bytes of a packet, about.
const PACKET: usize = 32 << 10;
/// Where the packet's context begins, behind magic and stream class.
const CONTEXT: usize = 8;

/// Event classes, by number.
#[derive(Clone, Copy)]
enum Class {
    Entry = 0,
    Exit = 1,
}

/// A stream for each lane, with events `entry` and `exit`. Names are enumerations in the metadata.
/// Lost events are the format's own count of discarded ones.
#[derive(Debug)]
pub struct Ctf {
    directory: PathBuf,
    host: Host,
    names: Names,
    streams: Memo<Stream>,
    threads: Memo<Known>,
    called: Memo<()>,
}

/// What was lost of a thread, and the lane that last told of it.
#[derive(Debug, Default)]
struct Known {
    lost: u64,
    lane: Option<u32>,
}

#[derive(Debug)]
struct Stream {
    lane: Lane,
    /// The packet that is filled; empty before its first event.
    packet: Vec<u8>,
    first: Nanos,
    last: Nanos,
    lost: u64,
}

impl Ctf {
    /// Into `directory`, which is made, or is empty.
    ///
    /// # Errors
    /// When it cannot be made or holds something.
    pub fn new(directory: &Path, names: Names, host: &Host) -> io::Result<OnLanes<Self>> {
        fs::create_dir_all(directory)?;
        if fs::read_dir(directory)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the directory is not empty"));
        }
        Ok(OnLanes::new(Self {
            directory: directory.to_owned(),
            host: host.clone(),
            names,
            streams: Memo::default(),
            threads: Memo::default(),
            called: Memo::default(),
        }))
    }

    /// Begins an event.
    #[inline]
    fn event(
        &mut self,
        directory: &Directory,
        lane: Lane,
        class: Class,
        at: Nanos,
    ) -> &mut Vec<u8> {
        let stream = self.streams.get(lane.number, || Stream::new(lane));
        if stream.packet.is_empty() {
            stream.begin(directory, at);
        }
        stream.last = at;
        stream.packet.push(class as u8);
        stream.packet.extend_from_slice(&at.0.to_le_bytes());
        &mut stream.packet
    }

    #[inline]
    fn event_ends(&mut self, lane: Lane) -> io::Result<()> {
        let full = self.streams.peek_mut(lane.number).filter(|s| s.packet.len() >= PACKET);
        match full {
            Some(stream) => stream.store(&self.directory),
            None => Ok(()),
        }
    }
}

impl Stream {
    fn new(lane: Lane) -> Self {
        let (packet, first, last) = (Vec::new(), Nanos::default(), Nanos::default());
        Self { lane, packet, first, last, lost: 0 }
    }

    /// The packet's header, with room for what is known when it is full.
    fn begin(&mut self, directory: &Directory, at: Nanos) {
        self.first = at;
        let (pid, tid, name) = self
            .lane
            .owner(directory)
            .map_or((0, 0, ""), |(process, thread)| (process.pid, thread.tid, &thread.name));
        let out = &mut self.packet;
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&[0; 5 * 8]);
        for number in [pid, tid, self.lane.stack] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend(name.bytes().filter(|&byte| byte != 0));
        out.push(0);
    }

    /// Appends the packet to the stream's file.
    fn store(&mut self, directory: &Path) -> io::Result<()> {
        if self.packet.is_empty() {
            return Ok(());
        }
        let bits = self.packet.len() as u64 * 8;
        let context = [self.first.0, self.last.0, bits, bits, self.lost];
        for (at, value) in (CONTEXT..).step_by(8).zip(context) {
            self.packet[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        // Threads may be many: no file stays open.
        let path = directory.join(format!("lane_{}", self.lane.number));
        File::options().create(true).append(true).open(path)?.write_all(&self.packet)?;
        self.packet.clear();
        Ok(())
    }
}

impl Timeline for Ctf {
    fn lane(&mut self, _: &Directory, lane: Lane) -> io::Result<()> {
        let known = self.threads.get(lane.thread.0, Known::default);
        let stream = self.streams.get(lane.number, || Stream::new(lane));
        if known.lane.is_none() {
            stream.lost = known.lost;
            known.lane = Some(lane.number);
        }
        Ok(())
    }

    #[inline]
    fn begin(
        &mut self,
        directory: &Directory,
        lane: Lane,
        at: Nanos,
        function: FunctionId,
    ) -> io::Result<()> {
        self.called.get(function.0, || ());
        let out = self.event(directory, lane, Class::Entry, at);
        out.extend_from_slice(&function.0.to_le_bytes());
        let object = directory.functions.get(function.0 as usize).map_or(0, |known| known.object.0);
        out.extend_from_slice(&object.to_le_bytes());
        self.event_ends(lane)
    }

    #[inline]
    fn end(
        &mut self,
        directory: &Directory,
        lane: Lane,
        at: Nanos,
        function: FunctionId,
        ending: Option<Ending>,
    ) -> io::Result<()> {
        let out = self.event(directory, lane, Class::Exit, at);
        out.extend_from_slice(&function.0.to_le_bytes());
        out.push(match ending {
            Some(Ending::Returned) => 0,
            Some(Ending::Unwound) => 1,
            Some(Ending::NotSeen) => 2,
            None => 3,
        });
        self.event_ends(lane)
    }

    fn lost(
        &mut self,
        _: &Directory,
        thread: ThreadId,
        _: Nanos,
        _: Nanos,
        count: u64,
    ) -> io::Result<()> {
        let known = self.threads.get(thread.0, Known::default);
        known.lost = known.lost.saturating_add(count);
        let Some(stream) = known.lane.and_then(|lane| self.streams.peek_mut(lane)) else {
            return Ok(());
        };
        // A packet says how many were discarded up to its end.
        stream.store(&self.directory)?;
        stream.lost = known.lost;
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        for stream in std::mem::take(&mut self.streams).into_values() {
            let mut stream = stream;
            stream.store(&self.directory)?;
        }
        let mut file = File::create(self.directory.join("metadata"))?;
        file.write_all(&metadata::text(directory, &self.host, &mut self.names, &mut self.called))
    }
}
