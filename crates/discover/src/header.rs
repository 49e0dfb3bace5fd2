//! What kind of file it is: the ELF header, the program headers, and what they lead to.

use std::path::Path;

use object::elf::{DynamicTag, FileType, Machine};
use object::read::elf::{Dyn, FileHeader, NoteIterator, ProgramHeader};
use object::{LittleEndian, ReadCache, ReadRef, elf};

use crate::error::{self, DiscoverError};

type Elf = elf::FileHeader64<LittleEndian>;
type Program = elf::ProgramHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;
/// No path or name that a header leads to is longer.
const LONGEST_NAME: u64 = 4096;

/// What a loadable ELF object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A program at a fixed address (`ET_EXEC`), static if it has no interpreter.
    Executable,
    /// A position-independent program with an interpreter.
    PieExecutable,
    /// A position-independent program without one.
    StaticPie,
    /// A shared library.
    SharedLibrary,
}

/// A `PT_LOAD` program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Link-time address.
    pub address: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Where its bytes are in the file.
    pub file_offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

/// What the headers of an ELF object say.
#[derive(Clone, Debug)]
pub struct Header {
    /// What kind of object it is.
    pub kind: Kind,
    /// The program interpreter (dynamic loader) it asks for.
    pub interpreter: Option<String>,
    /// The library name it goes by (`DT_SONAME`).
    pub soname: Option<String>,
    /// The libraries it asks for (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// The GNU build id; empty if there is none.
    pub build_id: Vec<u8>,
    /// Link-time address of the entry point; 0 if there is none.
    pub entry: u64,
    /// The loaded segments, as the file lists them.
    pub segments: Vec<Segment>,
    /// The dynamic table: tag and value.
    pub(crate) dynamic: Vec<(DynamicTag, u64)>,
    /// Address of the `.eh_frame_hdr`, which the table of segments names.
    pub(crate) unwind_index: Option<(u64, u64)>,
}

/// Classifies a file without scanning it.
///
/// # Errors
/// Says specifically why it is not an x86-64 program or shared library.
pub fn open_header(path: &Path) -> Result<Header, DiscoverError> {
    let cache = ReadCache::new(error::open_regular(path)?);
    Header::read(path, &cache)
}

impl Header {
    pub(crate) fn read<'data, R: ReadRef<'data>>(
        path: &Path,
        data: R,
    ) -> Result<Self, DiscoverError> {
        check_identity(path, data)?;
        let truncated = |what| DiscoverError::Truncated { path: path.into(), what };
        let elf = Elf::parse(data).map_err(|_| truncated("the ELF header"))?;
        let programs =
            elf.program_headers(LE, data).map_err(|_| truncated("the program header table"))?;
        let segments = segments(programs);
        let size = data.len().map_err(|()| truncated("the file"))?;
        for segment in &segments {
            if segment.file_offset.checked_add(segment.file_size).is_none_or(|end| end > size) {
                return Err(truncated("a segment"));
            }
        }
        if segments.is_empty() {
            return Err(DiscoverError::NotLoadable {
                path: path.into(),
                what: "an ELF file without loadable segments",
            });
        }
        let interpreter = interpreter(programs, data);
        let dynamic = dynamic(programs, data);
        let strings = value(&dynamic, elf::DT_STRTAB).and_then(|at| file_offset(&segments, at));
        let string = |offset: u64| string_at(data, strings?.checked_add(offset)?);
        let soname = value(&dynamic, elf::DT_SONAME).and_then(string);
        let needed = values(&dynamic, elf::DT_NEEDED).filter_map(string).collect();
        Ok(Self {
            kind: kind(elf.e_type(LE), interpreter.is_some(), soname.is_some(), &dynamic),
            interpreter,
            soname,
            needed,
            build_id: build_id(programs, data),
            entry: elf.e_entry(LE),
            segments,
            dynamic,
            unwind_index: programs
                .iter()
                .find(|program| program.p_type(LE) == elf::PT_GNU_EH_FRAME)
                .map(|program| (program.p_vaddr(LE), program.p_memsz(LE))),
        })
    }

    /// The value of a tag of the dynamic table.
    pub(crate) fn dynamic_value(&self, tag: DynamicTag) -> Option<u64> {
        value(&self.dynamic, tag)
    }
}

/// Everything that the first bytes tell, before the header is believed.
fn check_identity<'data, R: ReadRef<'data>>(path: &Path, data: R) -> Result<(), DiscoverError> {
    let size = data.len().unwrap_or(0);
    if size == 0 {
        return Err(DiscoverError::Empty(path.into()));
    }
    let start = data.read_bytes_at(0, size.min(256)).unwrap_or_default();
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(line).trim().to_owned();
        return Err(DiscoverError::Script { path: path.into(), interpreter });
    }
    if !start.starts_with(&elf::ELFMAG) {
        return Err(DiscoverError::NotElf(path.into()));
    }
    let &[_, _, _, _, class, order, .., a, b, c, d] = &start[..start.len().min(20)] else {
        return Err(DiscoverError::Truncated { path: path.into(), what: "the ELF header" });
    };
    if class == elf::ELFCLASS32.0 {
        return Err(DiscoverError::Elf32(path.into()));
    }
    if start.len() < 64 {
        return Err(DiscoverError::Truncated { path: path.into(), what: "the ELF header" });
    }
    let word = if order == elf::ELFDATA2MSB.0 { u16::from_be_bytes } else { u16::from_le_bytes };
    let (kind, machine) = (FileType(word([a, b])), Machine(word([c, d])));
    if order != elf::ELFDATA2LSB.0 || machine != elf::EM_X86_64 {
        let machine = machine_name(machine);
        return Err(DiscoverError::OtherArchitecture { path: path.into(), machine });
    }
    let what = match kind {
        elf::ET_EXEC | elf::ET_DYN => return Ok(()),
        elf::ET_REL => "an object file that is not linked",
        elf::ET_CORE => "a core dump",
        _ => "an ELF file of an unknown type",
    };
    Err(DiscoverError::NotLoadable { path: path.into(), what })
}

fn machine_name(machine: Machine) -> String {
    match machine {
        elf::EM_386 => "i386".into(),
        elf::EM_AARCH64 => "AArch64".into(),
        elf::EM_ARM => "ARM".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_PPC64 => "PowerPC".into(),
        elf::EM_S390 => "S/390".into(),
        elf::EM_LOONGARCH => "LoongArch".into(),
        elf::EM_MIPS => "MIPS".into(),
        Machine(other) => format!("machine {other}"),
    }
}

fn segments(programs: &[Program]) -> Vec<Segment> {
    let loaded = programs.iter().filter(|program| program.p_type(LE) == elf::PT_LOAD);
    let segment = |program: &Program| Segment {
        address: program.p_vaddr(LE),
        memory_size: program.p_memsz(LE),
        file_offset: program.p_offset(LE),
        file_size: program.p_filesz(LE),
        read: program.p_flags(LE).0 & elf::PF_R.0 != 0,
        write: program.p_flags(LE).0 & elf::PF_W.0 != 0,
        execute: program.p_flags(LE).0 & elf::PF_X.0 != 0,
    };
    loaded.map(segment).collect()
}

fn kind(
    file_type: FileType,
    interpreted: bool,
    named: bool,
    dynamic: &[(DynamicTag, u64)],
) -> Kind {
    let flags = value(dynamic, elf::DT_FLAGS_1).unwrap_or(0);
    let program = flags & elf::DF_1_PIE.0 != 0;
    match file_type {
        elf::ET_EXEC => Kind::Executable,
        // Old linkers set no flag: then a program has an interpreter and no library name.
        _ if interpreted && (program || !named) => Kind::PieExecutable,
        _ if program => Kind::StaticPie,
        _ => Kind::SharedLibrary,
    }
}

fn interpreter<'data, R: ReadRef<'data>>(programs: &[Program], data: R) -> Option<String> {
    let program = programs.iter().find(|program| program.p_type(LE) == elf::PT_INTERP)?;
    string_at(data, program.p_offset(LE))
}

fn dynamic<'data, R: ReadRef<'data>>(programs: &[Program], data: R) -> Vec<(DynamicTag, u64)> {
    let table = programs.iter().find_map(|program| program.dynamic(LE, data).ok().flatten());
    let entries = table.unwrap_or_default().iter();
    entries
        .map(|entry| (entry.d_tag(LE), entry.d_val(LE)))
        .take_while(|&(tag, _)| tag != elf::DT_NULL)
        .collect()
}

fn values(dynamic: &[(DynamicTag, u64)], tag: DynamicTag) -> impl Iterator<Item = u64> + '_ {
    dynamic.iter().filter(move |entry| entry.0 == tag).map(|entry| entry.1)
}

fn value(dynamic: &[(DynamicTag, u64)], tag: DynamicTag) -> Option<u64> {
    values(dynamic, tag).next()
}

fn file_offset(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let into = address.checked_sub(segment.address)?;
        (into < segment.file_size).then(|| segment.file_offset.checked_add(into))?
    })
}

fn string_at<'data, R: ReadRef<'data>>(data: R, offset: u64) -> Option<String> {
    let end = data.len().ok()?.min(offset.checked_add(LONGEST_NAME)?);
    let bytes = data.read_bytes_at_until(offset..end, 0).ok()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn build_id<'data, R: ReadRef<'data>>(programs: &[Program], data: R) -> Vec<u8> {
    let notes = programs.iter().filter_map(|program| program.notes(LE, data).ok().flatten());
    notes.into_iter().find_map(build_id_note).unwrap_or_default()
}

fn build_id_note(mut notes: NoteIterator<'_, Elf>) -> Option<Vec<u8>> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}
