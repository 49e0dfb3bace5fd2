//! What a hub and its clients say to each other.
//!
//! Frames over a stream socket: a kind and a length, each a `u32`, then the body. Numbers are little
//! endian, texts have their length in front. Hub and clients are the same file of the same version: a
//! hub that reads another version's greeting closes the connection.

use crate::attached::Selection;
use sledge_control::plan::Scope;
use sledge_filter::{Pattern, Syntax};
use sledge_wire::record::{RECORD_BYTES, Record};

/// Raised with every change here.
pub(crate) const VERSION: u32 = 1;
/// Longest frame that is read.
pub(crate) const MOST_BYTES: usize = 16 << 20;
const HEAD: usize = 8;

/// Patterns as they were typed, for they are compiled where they are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Which functions of libraries.
    pub scope: Scope,
    /// Whether patterns are globs rather than regular expressions.
    pub globs: bool,
    /// Functions that match one of these; all where empty.
    pub functions: Vec<String>,
    /// But not those that match one of these.
    pub but: Vec<String>,
}

impl Wish {
    /// Compiles it.
    ///
    /// # Errors
    /// A sentence about a pattern that is none.
    pub fn selection(&self) -> Result<Selection, String> {
        let syntax = if self.globs { Syntax::Glob } else { Syntax::Regex };
        let compile = |texts: &[String]| {
            let patterns = texts.iter().map(|text| Pattern::new(text, syntax));
            patterns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
        };
        let (functions, but) = (compile(&self.functions)?, compile(&self.but)?);
        Ok(Selection { scope: self.scope, functions, but })
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who it is.
    Greeting {
        /// `VERSION`.
        version: u32,
        /// What people shall know it by.
        name: String,
    },
    /// Send it the events of these functions from now on; answered by [`Event::Selected`].
    Select(Wish),
    /// Send it events, or none for the time being.
    Switch(bool),
    /// It wants no more, and waits for [`Event::End`]: all that happened until now is still sent.
    Finish,
    /// Who is there and what they see; answered by [`Event::Answer`].
    Status,
    /// The names of functions that can be traced, those that match a pattern or all; answered by
    /// [`Event::More`], as often as it takes, and [`Event::Answer`].
    Functions(String),
    /// Change what another client sees: its number (0: the only one there is), and what.
    Control(u32, Change),
}

/// A change of what a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only these functions.
    Filter(Vec<String>),
    /// Not these.
    Notrace(Vec<String>),
    /// Events, or none for the time being.
    Switch(bool),
    /// Bring what is kept so far up to date.
    Snapshot,
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process.
    Process {
        /// Its id.
        pid: i32,
        /// Its executable.
        executable: String,
        /// Its command line.
        arguments: Vec<String>,
    },
    /// Something that people should know.
    Note(String),
    /// An object; they are numbered in this order.
    Object {
        /// Its file.
        path: String,
        /// Its build id.
        build_id: Vec<u8>,
    },
    /// A site; they are numbered in this order.
    Site {
        /// The number of its object.
        object: u32,
        /// Link-time address of the function.
        address: u64,
        /// Its length.
        size: u64,
        /// Its name.
        name: String,
    },
    /// What was asked for is patched: so many sites are seen, so many functions cannot be patched.
    Selected {
        /// Sites.
        sites: u32,
        /// Functions.
        refused: u32,
        /// Time stamp counter from which on.
        since: u64,
    },
    /// A thread, by its number.
    Thread {
        /// The number.
        index: u32,
        /// Its id.
        tid: u32,
        /// Time stamp counter when it was first seen.
        started: u64,
        /// Its name.
        name: String,
    },
    /// Records of a thread, in order.
    Records {
        /// The thread's number.
        index: u32,
        /// The records.
        records: Vec<Record>,
    },
    /// A record of a thread that was never finished: lost.
    Hole(u32),
    /// A thread has ended; its number goes to others.
    ThreadEnd {
        /// The number.
        index: u32,
        /// Records dropped of which no record tells.
        lost: u64,
        /// Since when.
        since: u64,
    },
    /// Bring what is kept up to date.
    Snapshot,
    /// A part of an answer that goes on.
    More(String),
    /// An answer for people, or the end of one.
    Answer(String),
    /// A refusal for people.
    Refused(String),
    /// No more events: the process has ended, or was left.
    End {
        /// Whether the process has ended.
        ended: bool,
        /// Threads that found no ring.
        ringless: u64,
    },
}

/// Writes a body.
#[derive(Default)]
struct Put(Vec<u8>);

impl Put {
    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut put = self.word(bytes.len() as u32);
        put.0.extend(bytes);
        put
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn texts(self, texts: &[String]) -> Self {
        let put = self.word(texts.len() as u32);
        texts.iter().fold(put, |put, text| put.text(text))
    }

    fn frame(self, kind: u32) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEAD + self.0.len());
        frame.extend(kind.to_le_bytes());
        frame.extend((self.0.len() as u32).to_le_bytes());
        frame.extend(self.0);
        frame
    }
}

/// Reads a body.
struct Get<'a>(&'a [u8]);

impl<'a> Get<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.word()? as usize;
        self.take(count)
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.word()?;
        (0..count).map(|_| self.text()).collect()
    }
}

impl Request {
    /// As a frame.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let put = Put::default();
        match self {
            Self::Greeting { version, name } => put.word(*version).text(name).frame(1),
            Self::Select(wish) => {
                let scope = match wish.scope {
                    Scope::Executable => 0,
                    Scope::Calls => 1,
                    Scope::Libraries => 2,
                };
                let put = put.word(scope).word(wish.globs.into());
                put.texts(&wish.functions).texts(&wish.but).frame(2)
            }
            Self::Switch(on) => put.word((*on).into()).frame(3),
            Self::Status => put.frame(4),
            Self::Finish => put.frame(10),
            Self::Functions(pattern) => put.text(pattern).frame(5),
            Self::Control(client, change) => match change {
                Change::Filter(texts) => put.word(*client).texts(texts).frame(6),
                Change::Notrace(texts) => put.word(*client).texts(texts).frame(7),
                Change::Switch(on) => put.word(*client).word((*on).into()).frame(8),
                Change::Snapshot => put.word(*client).frame(9),
            },
        }
    }

    /// Reads a frame's body.
    #[must_use]
    pub fn read(kind: u32, body: &[u8]) -> Option<Self> {
        let get = &mut Get(body);
        Some(match kind {
            1 => Self::Greeting { version: get.word()?, name: get.text()? },
            2 => {
                let scope = match get.word()? {
                    0 => Scope::Executable,
                    1 => Scope::Calls,
                    _ => Scope::Libraries,
                };
                let globs = get.word()? != 0;
                Self::Select(Wish { scope, globs, functions: get.texts()?, but: get.texts()? })
            }
            3 => Self::Switch(get.word()? != 0),
            4 => Self::Status,
            5 => Self::Functions(get.text()?),
            6 => Self::Control(get.word()?, Change::Filter(get.texts()?)),
            7 => Self::Control(get.word()?, Change::Notrace(get.texts()?)),
            8 => Self::Control(get.word()?, Change::Switch(get.word()? != 0)),
            9 => Self::Control(get.word()?, Change::Snapshot),
            10 => Self::Finish,
            _ => return None,
        })
    }
}

impl Event {
    /// As a frame.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let put = Put::default();
        match self {
            Self::Process { pid, executable, arguments } => {
                put.word(pid.cast_unsigned()).text(executable).texts(arguments).frame(1)
            }
            Self::Note(text) => put.text(text).frame(2),
            Self::Object { path, build_id } => put.text(path).bytes(build_id).frame(3),
            Self::Site { object, address, size, name } => {
                put.word(*object).long(*address).long(*size).text(name).frame(4)
            }
            Self::Selected { sites, refused, since } => {
                put.word(*sites).word(*refused).long(*since).frame(5)
            }
            Self::Thread { index, tid, started, name } => {
                put.word(*index).word(*tid).long(*started).text(name).frame(6)
            }
            Self::Records { index, records } => {
                let put = put.word(*index);
                let put = records.iter().fold(put, |put, record| {
                    let (time, rest) = record.encode();
                    put.long(time).long(rest)
                });
                put.frame(7)
            }
            Self::Hole(index) => put.word(*index).frame(8),
            Self::ThreadEnd { index, lost, since } => {
                put.word(*index).long(*lost).long(*since).frame(9)
            }
            Self::Snapshot => put.frame(10),
            Self::More(text) => put.text(text).frame(14),
            Self::Answer(text) => put.text(text).frame(11),
            Self::Refused(text) => put.text(text).frame(12),
            Self::End { ended, ringless } => put.word((*ended).into()).long(*ringless).frame(13),
        }
    }

    /// Reads a frame's body.
    #[must_use]
    pub fn read(kind: u32, body: &[u8]) -> Option<Self> {
        let get = &mut Get(body);
        Some(match kind {
            1 => Self::Process {
                pid: get.word()?.cast_signed(),
                executable: get.text()?,
                arguments: get.texts()?,
            },
            2 => Self::Note(get.text()?),
            3 => Self::Object { path: get.text()?, build_id: get.bytes()?.to_vec() },
            4 => Self::Site {
                object: get.word()?,
                address: get.long()?,
                size: get.long()?,
                name: get.text()?,
            },
            5 => Self::Selected { sites: get.word()?, refused: get.word()?, since: get.long()? },
            6 => Self::Thread {
                index: get.word()?,
                tid: get.word()?,
                started: get.long()?,
                name: get.text()?,
            },
            7 => {
                let index = get.word()?;
                let chunks = get.0.chunks_exact(RECORD_BYTES as usize);
                let record = |bytes: &[u8]| {
                    let (time, rest) = bytes.split_at_checked(8)?;
                    let time = u64::from_le_bytes(time.try_into().ok()?);
                    Record::decode(time, u64::from_le_bytes(rest.try_into().ok()?))
                };
                Self::Records { index, records: chunks.map(record).collect::<Option<_>>()? }
            }
            8 => Self::Hole(get.word()?),
            9 => Self::ThreadEnd { index: get.word()?, lost: get.long()?, since: get.long()? },
            10 => Self::Snapshot,
            11 => Self::Answer(get.text()?),
            12 => Self::Refused(get.text()?),
            13 => Self::End { ended: get.word()? != 0, ringless: get.long()? },
            14 => Self::More(get.text()?),
            _ => return None,
        })
    }
}

/// Cuts what was received into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    read: usize,
}

impl Frames {
    /// Takes what was received.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives a frame back that was taken.
    pub(crate) fn push_front(&mut self, frame: &[u8]) {
        self.bytes.splice(..self.read, frame.iter().copied());
        self.read = 0;
    }

    /// The next whole frame: its kind and body. An error is one that is too long.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, &[u8])>, ()> {
        let mut get = Get(&self.bytes[self.read..]);
        let (Some(kind), Some(length)) = (get.word(), get.word()) else { return Ok(None) };
        let length = length as usize;
        if length > MOST_BYTES {
            return Err(());
        }
        let start = self.read + HEAD;
        if self.bytes.len() < start + length {
            return Ok(None);
        }
        self.read = start + length;
        Ok(Some((kind, &self.bytes[start..start + length])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sledge_wire::record::Kind;

    fn events() -> Vec<Event> {
        let record = Record { tsc: 9, kind: Kind::Tail, site: 77, cell: 1234 };
        vec![
            Event::Process {
                pid: 7,
                executable: "/bin/true".into(),
                arguments: vec!["true".into(), String::new()],
            },
            Event::Note("a note".into()),
            Event::Object { path: "/lib/libc.so".into(), build_id: vec![1, 2, 3] },
            Event::Site { object: 1, address: 2, size: 3, name: "f".into() },
            Event::Selected { sites: 3, refused: 1, since: 5 },
            Event::Thread { index: 4, tid: 5, started: 6, name: "t".into() },
            Event::Records { index: 4, records: vec![record; 3] },
            Event::Hole(4),
            Event::ThreadEnd { index: 4, lost: 1, since: 2 },
            Event::Snapshot,
            Event::More("and".into()),
            Event::Answer("yes".into()),
            Event::Refused("no".into()),
            Event::End { ended: true, ringless: 1 },
        ]
    }

    fn requests() -> Vec<Request> {
        let wish = Wish {
            scope: Scope::Libraries,
            globs: true,
            functions: vec!["a*".into()],
            but: vec!["b".into(), "c".into()],
        };
        vec![
            Request::Greeting { version: 1, name: "me".into() },
            Request::Select(wish),
            Request::Switch(true),
            Request::Finish,
            Request::Status,
            Request::Functions("x".into()),
            Request::Control(3, Change::Filter(vec!["y".into()])),
            Request::Control(3, Change::Notrace(vec![])),
            Request::Control(0, Change::Switch(false)),
            Request::Control(0, Change::Snapshot),
        ]
    }

    #[test]
    fn frames_survive_however_they_are_cut() {
        let sent: Vec<u8> = events().iter().flat_map(Event::to_frame).collect();
        for step in [1, 7, sent.len()] {
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for piece in sent.chunks(step) {
                frames.push(piece);
                while let Some((kind, body)) = frames.next().unwrap() {
                    read.push(Event::read(kind, body).unwrap());
                }
            }
            assert_eq!(read, events());
        }
        for request in requests() {
            let frame = request.to_frame();
            let kind = u32::from_le_bytes(frame[..4].try_into().unwrap());
            assert_eq!(Request::read(kind, &frame[HEAD..]), Some(request));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for frame in events().iter().map(Event::to_frame) {
            let kind = u32::from_le_bytes(frame[..4].try_into().unwrap());
            for end in HEAD..frame.len() {
                // Shorter than it says, or a list that is shorter: never a panic.
                let _ = Event::read(kind, &frame[HEAD..end]);
                let _ = Request::read(kind, &frame[HEAD..end]);
            }
        }
        let mut frames = Frames::default();
        frames.push(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert!(frames.next().is_err());
    }
}
