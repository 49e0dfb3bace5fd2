//! Opening a trace: everything in it but the steps.

use crate::block::{HEADER_BYTES, Kind, MARKER, TRAILER_BYTES, VERSION};
use crate::chunk::Head;
use crate::clock::Clock;
use crate::error::{Damage, Flaw, ReadError};
use crate::event::{Directory, Function, Object, Process, Thread, ThreadId, Ticks};
use crate::file::{BlockError, Source, Walk};
use crate::index::{ChunkPlace, Place, Trailer, take_index};
use crate::records::{Entry, Started, take_host, take_outcome};
use crate::varint::Fields;
use crate::writer::Host;

/// A stretch of lost events, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostTicks {
    pub(crate) since: Ticks,
    pub(crate) until: Ticks,
    pub(crate) count: u64,
}

/// What is known of a thread besides its steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strand {
    /// When it was first seen; `u64::MAX` where that is not known.
    pub(crate) started: Ticks,
    pub(crate) ended: Option<Ticks>,
    pub(crate) chunks: Vec<ChunkPlace>,
    pub(crate) losses: Vec<LostTicks>,
    last_step: Ticks,
}

impl Strand {
    /// The first time at which anything is known of it.
    pub(crate) fn first(&self) -> Ticks {
        let chunk = self.chunks.first().map_or(self.started, |chunk| chunk.first);
        let loss = self.losses.first().map_or(self.started, |loss| loss.until);
        self.started.min(chunk).min(loss)
    }

    /// When the last step or loss of it was.
    pub(crate) fn last_event(&self) -> Ticks {
        let loss = self.losses.last().map_or(Ticks(0), |loss| loss.until);
        self.last_step.max(loss)
    }
}

/// Everything in a trace but its steps.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) directory: Directory,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    pub(crate) strands: Vec<Strand>,
    pub(crate) last: Ticks,
    /// From then on it is complete; 0 for a trace that has the beginning of its recording.
    pub(crate) since: Ticks,
    /// Where a trace without an end ends.
    pub(crate) cut: Option<u64>,
    pub(crate) damage: Vec<Damage>,
}

/// Reads all blocks but the steps.
pub(crate) fn load(source: &Source) -> Result<Loaded, ReadError> {
    let mut loader = Loader { limit: source.length(), ..Loader::default() };
    let (walk, trailer) = match finished(source, &mut loader.damage)? {
        Some(found) => found,
        None => (source.walk()?, None),
    };
    for damage in &walk.damage {
        if loader.damage.iter().all(|known| known.offset != damage.offset) {
            loader.damage.push(*damage);
        }
    }
    loader.read_small_blocks(source, &walk.places)?;
    let trailer = trailer.unwrap_or_default();
    loader.add_chunks(source, &walk.places, &trailer)?;
    let loaded = loader.finish(&trailer, (!walk.finished).then_some(walk.end));
    let header_flaw = loaded.damage.iter().find(|damage| damage.offset == 0);
    match header_flaw {
        // Nothing but the damaged header: there is no trace to speak of.
        Some(damage) if walk.places.len() <= 1 => Err(ReadError::BadHeader { flaw: damage.flaw }),
        _ => Ok(loaded),
    }
}

/// The blocks that a finished trace's index lists; `None` where there is no sound index.
fn finished(
    source: &Source,
    damage: &mut Vec<Damage>,
) -> Result<Option<(Walk, Option<Trailer>)>, ReadError> {
    let (mut stored, mut content) = (Vec::new(), Vec::new());
    let trailer_bytes = (HEADER_BYTES + TRAILER_BYTES) as u64;
    let Some(offset) = source.length().checked_sub(trailer_bytes) else { return Ok(None) };
    match source.block(Kind::Trailer, offset, &mut stored, &mut content) {
        Ok(_) => {}
        Err(BlockError::Unreadable(error)) => return Err(error),
        Err(BlockError::Flawed(_)) => return Ok(None),
    }
    let Some(trailer) = Trailer::decode(&content) else { return Ok(None) };
    let index = source.block(Kind::Index, trailer.index, &mut stored, &mut content);
    let flaw = match index {
        Err(BlockError::Unreadable(error)) => return Err(error),
        Err(BlockError::Flawed(flaw)) => flaw,
        Ok(_) => match take_index(&content) {
            Some(places) => {
                let end = source.length();
                let walk = Walk { places, damage: Vec::new(), end, finished: true };
                return Ok(Some((walk, Some(trailer))));
            }
            None => Flaw::BadContent,
        },
    };
    let length = offset.saturating_sub(trailer.index);
    damage.push(Damage { offset: trailer.index, length, flaw });
    Ok(Some((source.walk()?, Some(trailer))))
}

#[derive(Debug, Default)]
struct Loader {
    objects: Vec<Object>,
    functions: Vec<Function>,
    processes: Vec<Process>,
    threads: Vec<Started>,
    names: Vec<(u32, String)>,
    readings: Vec<(Ticks, u64)>,
    losses: Vec<(u32, LostTicks)>,
    ends: Vec<(u32, Ticks)>,
    strands: Vec<Strand>,
    directory: Directory,
    host: Host,
    since: Ticks,
    damage: Vec<Damage>,
    /// No file can define more things than it has bytes.
    limit: u64,
}

impl Loader {
    fn read_small_blocks(&mut self, source: &Source, places: &[Place]) -> Result<(), ReadError> {
        let (mut stored, mut content) = (Vec::new(), Vec::new());
        for place in places {
            let &Place::Other { kind, offset } = place else { continue };
            let Some(kind) = Kind::from_number(kind) else { continue };
            let read = source.block(kind, offset, &mut stored, &mut content);
            let flaw = match read {
                Ok(head) => match self.body(kind, head, &content) {
                    Ok(()) => continue,
                    Err(version) => version?,
                },
                Err(BlockError::Flawed(flaw)) => flaw,
                Err(BlockError::Unreadable(error)) => return Err(error),
            };
            let length = source.header(offset).map_or(0, |header| header.block_bytes());
            self.damage.push(Damage { offset, length, flaw });
        }
        Ok(())
    }

    /// Takes the content of one block. An error is a flaw of it, or one that ends everything.
    fn body(
        &mut self,
        kind: Kind,
        head: &[u8],
        content: &[u8],
    ) -> Result<(), Result<Flaw, ReadError>> {
        let mut fields = Fields::new(content);
        let limit = self.limit;
        let done = match kind {
            Kind::Header => return self.header(head, &mut fields),
            Kind::Objects => define(&mut self.objects, &mut fields, limit),
            Kind::Functions => define(&mut self.functions, &mut fields, limit),
            Kind::Processes => define(&mut self.processes, &mut fields, limit),
            Kind::Threads => define(&mut self.threads, &mut fields, limit),
            Kind::ThreadNames => {
                each(&mut fields, &mut self.names, |f| Some((f.number32()?, f.text()?)))
            }
            Kind::Clock => {
                each(&mut fields, &mut self.readings, |f| Some((Ticks(f.number()?), f.number()?)))
            }
            Kind::Lost => each(&mut fields, &mut self.losses, take_loss),
            Kind::ThreadEnds => {
                each(&mut fields, &mut self.ends, |f| Some((f.number32()?, Ticks(f.number()?))))
            }
            Kind::Outcome => take_outcome(&mut fields).map(|outcome| {
                self.directory.outcome = Some(outcome);
            }),
            Kind::Steps | Kind::Index | Kind::Trailer => Some(()),
        };
        done.ok_or(Ok(Flaw::BadContent))
    }

    fn header(
        &mut self,
        head: &[u8],
        fields: &mut Fields<'_>,
    ) -> Result<(), Result<Flaw, ReadError>> {
        let version = head.get(MARKER.len()..).and_then(|rest| Fields::new(rest).fixed32());
        match version {
            Some(VERSION) => {}
            Some(found) => return Err(Err(ReadError::WrongVersion { found, known: VERSION })),
            None => return Err(Ok(Flaw::BadContent)),
        }
        self.host = take_host(fields).ok_or(Ok(Flaw::BadContent))?;
        self.since = Ticks(fields.number().unwrap_or(0));
        Ok(())
    }

    /// Sorts the steps blocks by thread; makes up what they name and damaged blocks defined.
    fn add_chunks(
        &mut self,
        source: &Source,
        places: &[Place],
        trailer: &Trailer,
    ) -> Result<(), ReadError> {
        let chunks = || {
            places.iter().filter_map(|place| match place {
                Place::Steps(chunk) => Some(*chunk),
                Place::Other { .. } => None,
            })
        };
        let named = chunks().map(|chunk| chunk.thread.0.saturating_add(1)).max();
        fill(&mut self.threads, named.unwrap_or(0).max(trailer.threads), self.limit);
        fill(&mut self.objects, trailer.objects, self.limit);
        fill(&mut self.processes, trailer.processes, self.limit);
        fill(&mut self.functions, trailer.functions, self.limit);
        if let Some(chunk) = chunks().next_back() {
            let defined = functions_before(source, chunk)?;
            fill(&mut self.functions, defined, self.limit);
        }
        self.strands = self
            .threads
            .iter()
            .map(|started| Strand { started: started.at, ..Strand::default() })
            .collect();
        for chunk in chunks() {
            match self.strands.get_mut(chunk.thread.0 as usize) {
                Some(strand) => strand.chunks.push(chunk),
                None => self.damage.push(Damage {
                    offset: chunk.offset,
                    length: source.header(chunk.offset).map_or(0, |header| header.block_bytes()),
                    flaw: Flaw::Undefined,
                }),
            }
        }
        Ok(())
    }

    /// Puts everything where it belongs. All that is named in the result is there.
    fn finish(mut self, trailer: &Trailer, cut: Option<u64>) -> Loaded {
        for (thread, loss) in self.losses {
            if let Some(strand) = self.strands.get_mut(thread as usize) {
                strand.losses.push(loss);
            }
        }
        for (thread, at) in self.ends {
            if let Some(strand) = self.strands.get_mut(thread as usize) {
                strand.ended = Some(at);
            }
        }
        for (thread, name) in self.names {
            if let Some(started) = self.threads.get_mut(thread as usize) {
                started.thread.name = name;
            }
        }
        let reading = self.readings.iter().map(|reading| reading.0).max();
        let mut last = Ticks(trailer.last).max(reading.unwrap_or(Ticks(0)));
        for strand in &mut self.strands {
            let ends = strand.chunks.iter().map(|chunk| chunk.last);
            strand.last_step = ends.max().unwrap_or(Ticks(0));
            strand.chunks.sort_by_key(|chunk| chunk.first);
            strand.losses.sort_by_key(|loss| loss.until);
            last = last.max(strand.last_event()).max(strand.ended.unwrap_or(Ticks(0)));
        }
        let threads: Vec<Thread> = self.threads.into_iter().map(|s| s.thread).collect();
        let directory = Directory {
            processes: self.processes,
            threads,
            objects: self.objects,
            functions: self.functions,
            outcome: self.directory.outcome,
        };
        let clock = Clock::new(&self.readings, self.host.ticks_per_second);
        let (host, since, strands, damage) = (self.host, self.since, self.strands, self.damage);
        let directory = completed(directory);
        Loaded { directory, host, clock, strands, last, since, cut, damage }
    }
}

fn take_loss(fields: &mut Fields<'_>) -> Option<(u32, LostTicks)> {
    let thread = fields.number32()?;
    let since = fields.number()?;
    let until = since.checked_add(fields.number()?)?;
    let (since, until) = (Ticks(since), Ticks(until));
    Some((thread, LostTicks { since, until, count: fields.number()? }))
}

/// How many functions were defined before a steps block; 0 when it cannot be read.
fn functions_before(source: &Source, chunk: ChunkPlace) -> Result<u32, ReadError> {
    let mut bytes = [0; crate::block::STEPS_HEAD_BYTES];
    source.read(chunk.offset.saturating_add(HEADER_BYTES as u64), &mut bytes)?;
    Ok(Head::decode(&bytes).map_or(0, |head| head.functions))
}

/// Reads definitions, each at its number.
fn define<E: Entry>(table: &mut Vec<E>, fields: &mut Fields<'_>, limit: u64) -> Option<()> {
    let first = fields.number32()?;
    let count = fields.number32()?;
    if u64::from(first) > limit {
        return None;
    }
    fill(table, first, limit);
    for number in first as usize..first as usize + count as usize {
        let entry = E::take(fields)?;
        match table.get_mut(number) {
            Some(place) => *place = entry,
            None => table.push(entry),
        }
    }
    Some(())
}

/// Makes up entries until there are `count`.
fn fill<E: Entry>(table: &mut Vec<E>, count: u32, limit: u64) {
    let count = u64::from(count).min(limit) as usize;
    if table.len() < count {
        table.resize_with(count, E::unknown);
    }
}

/// Reads entries until the block ends.
fn each<'f, T>(
    fields: &mut Fields<'f>,
    into: &mut Vec<T>,
    take: impl Fn(&mut Fields<'f>) -> Option<T>,
) -> Option<()> {
    while !fields.at_end() {
        into.push(take(fields)?);
    }
    Some(())
}

/// Turns references to what is not there into ones to what is.
fn completed(mut directory: Directory) -> Directory {
    let (objects, processes) = (directory.objects.len(), directory.processes.len());
    let mut lost_object = false;
    for function in &mut directory.functions {
        if function.object.0 as usize >= objects {
            function.object.0 = objects as u32;
            lost_object = true;
        }
    }
    if lost_object {
        directory.objects.push(Object::unknown());
    }
    let mut lost_process = false;
    for thread in &mut directory.threads {
        if thread.process.0 as usize >= processes {
            thread.process.0 = processes as u32;
            lost_process = true;
        }
    }
    if lost_process {
        directory.processes.push(Process::unknown());
    }
    for number in 0..directory.processes.len() {
        let parent = directory.processes[number].parent;
        // A parent comes before its children, so following parents ends.
        directory.processes[number].parent = parent.filter(|parent| (parent.0 as usize) < number);
    }
    directory
}

/// The number of a thread, for lists in thread order.
pub(crate) fn thread_at(number: usize) -> ThreadId {
    ThreadId(number as u32)
}
