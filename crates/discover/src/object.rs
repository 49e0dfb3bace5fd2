//! An ELF object with its functions.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::candidates::{Candidate, Code};
use crate::debug::DebugSymbols;
use crate::error::{self, DiscoverError};
use crate::header::{Header, Kind, Segment};
use crate::image::Image;
use crate::ladder::Ladder;
use crate::maps::Mapping;
use crate::relocations::Relocations;
use crate::sections::Section;
use crate::site::{Function, Refusal, Site};
use crate::sleds::{self, Sleds};
use crate::summary::Summary;
use crate::unwind::UnwindTable;
use crate::{sections, sweep, symbols};

/// An ELF object: what it is, its functions, and where each can be hooked. All addresses are
/// link-time ones.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where it was read from.
    pub path: PathBuf,
    /// The GNU build id; empty if there is none.
    pub build_id: Vec<u8>,
    /// What kind of object it is.
    pub kind: Kind,
    /// The program interpreter (dynamic loader) it asks for.
    pub interpreter: Option<String>,
    /// The library name it goes by.
    pub soname: Option<String>,
    /// Address of the entry point; 0 if there is none.
    pub entry: u64,
    /// The loaded segments.
    pub segments: Vec<Segment>,
    /// The functions, by address; no two have the same one.
    pub functions: Vec<Function>,
    /// GOT slots of functions from other objects.
    pub imports: Vec<Import>,
    /// GOT slots that an IFUNC resolver fills: slot and resolver.
    pub irelative: Vec<(u64, u64)>,
    pub(crate) exports: Vec<(String, Export)>,
    pub(crate) uncovered_bytes: u64,
    pub(crate) by_name: OnceLock<Vec<(u32, u32)>>,
}

/// A function that another object provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Address of the GOT slot that holds the pointer to it.
    pub got: u64,
}

/// A dynamic symbol that this object defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its address; for an IFUNC that of its resolver.
    pub address: u64,
    /// Whether it is an IFUNC.
    pub is_ifunc: bool,
}

impl Object {
    /// Reads an object from a file; where it is stripped and its separate debug file is
    /// installed, with the symbols of that.
    ///
    /// # Errors
    /// Says specifically why it is not an x86-64 program or shared library.
    pub fn open(path: &Path) -> Result<Self, DiscoverError> {
        let mut file = error::open_regular(path)?;
        Header::read(path, &object::ReadCache::new(&file))?;
        let mut bytes = Vec::new();
        let read = std::io::Seek::rewind(&mut file)
            .and_then(|()| std::io::Read::read_to_end(&mut file, &mut bytes));
        read.map_err(|source| error::from_io(path, source))?;
        let header = Header::read(path, &bytes[..])?;
        let sections = sections::read(&bytes);
        let stripped = symbols::full(&sections).is_empty();
        let debug = stripped.then(|| DebugSymbols::find(path, &header, &sections)).flatten();
        Ok(Self::assemble(path, &bytes, header, sections, debug.as_ref()))
    }

    /// Reads an object from the bytes of its file.
    ///
    /// # Errors
    /// As [`Object::open`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DiscoverError> {
        let header = Header::read(path, bytes)?;
        Ok(Self::assemble(path, bytes, header, sections::read(bytes), None))
    }

    fn assemble(
        path: &Path,
        bytes: &[u8],
        header: Header,
        sections: Vec<Section>,
        debug: Option<&DebugSymbols>,
    ) -> Self {
        let image = Image::new(bytes, &header.segments);
        let dynamic = symbols::dynamic(&header, &image, &sections);
        let tables = sleds::tables(&sections);
        let relocations = Relocations::read(&header, &image, &sections, &dynamic, &tables);
        let sleds = Sleds::read(&sections, &relocations);
        let unwind = UnwindTable::read(&header, &image, &sections);
        let regions = sections::regions(&sections, &header.segments, &image);
        let full = debug.map_or_else(|| symbols::full(&sections), DebugSymbols::table);
        let mut code = Code::find(regions, [full, dynamic], &unwind);
        code.mark_resolvers(&relocations.irelative);
        code.labels.extend(&sleds.aborts);
        let sweep = sweep::run(&code);
        let verdicts = Ladder::decide(&code, &sweep, &sleds);
        Self {
            path: path.into(),
            exports: symbols::exports(&header, &image, &dynamic),
            functions: functions(code.candidates, verdicts, bytes.len()),
            build_id: header.build_id,
            kind: header.kind,
            interpreter: header.interpreter,
            soname: header.soname,
            entry: header.entry,
            segments: header.segments,
            imports: relocations.imports,
            irelative: relocations.irelative,
            uncovered_bytes: sweep.uncovered,
            by_name: OnceLock::new(),
        }
    }

    /// What to add to the object's own addresses where its file is mapped like this; `None` if the
    /// mapping is none of its executable segments.
    #[must_use]
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            let start = segment.file_offset & !0xfff;
            let end = segment.file_offset + segment.file_size;
            segment.execute && (start..end).contains(&mapping.offset)
        })?;
        let into = mapping.offset.wrapping_sub(segment.file_offset);
        Some(mapping.start.wrapping_sub(segment.address.wrapping_add(into)))
    }

    /// The function that contains an address.
    #[must_use]
    pub fn function_at(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.address <= address);
        // A function may lie inside another one: look back past the inner ones.
        let before = self.functions[..after].iter().rev().take(16);
        before.into_iter().find(|function| {
            let into = address - function.address;
            into < function.size || into == 0
        })
    }

    /// The function with a name (as the symbol tables have it); the first where several have.
    #[must_use]
    pub fn function_named(&self, name: &str) -> Option<&Function> {
        let index = self.by_name.get_or_init(|| self.index_names());
        let named = |&(function, alias): &(u32, u32)| self.name(function, alias);
        let first = index.partition_point(|entry| named(entry) < name);
        let entry = index.get(first).filter(|entry| named(entry) == name)?;
        self.functions.get(entry.0 as usize)
    }

    /// The dynamic symbol of that name, if this object defines it.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<Export> {
        let found = self.exports.binary_search_by(|export| export.0.as_str().cmp(name)).ok()?;
        Some(self.exports[found].1)
    }

    /// All dynamic symbols that this object defines, by name.
    pub fn exports(&self) -> impl Iterator<Item = (&str, Export)> {
        self.exports.iter().map(|(name, export)| (name.as_str(), *export))
    }

    /// Counts by rung and by reason.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(&self.functions, self.uncovered_bytes)
    }

    fn name(&self, function: u32, alias: u32) -> &str {
        &self.functions[function as usize].names[alias as usize]
    }

    fn index_names(&self) -> Vec<(u32, u32)> {
        let of = |(function, names): (u32, &Vec<String>)| {
            (0..names.len() as u32).map(move |alias| (function, alias))
        };
        let functions = self.functions.iter().map(|function| &function.names);
        let mut index: Vec<_> = (0..).zip(functions).flat_map(of).collect();
        index.sort_unstable_by_key(|&(function, alias)| (self.name(function, alias), function));
        index
    }
}

/// Joins candidates with their verdicts. Names may share bytes of the file: a damaged file whose
/// names add up to much more than its size loses the last ones.
fn functions(
    candidates: Vec<Candidate>,
    verdicts: Vec<Result<Site, Refusal>>,
    file_size: usize,
) -> Vec<Function> {
    let mut left = file_size.saturating_mul(4);
    let mut names = |function: &Candidate| {
        let size = function.names.iter().map(|name| name.len()).sum::<usize>();
        let fits = size <= left;
        left = left.saturating_sub(size);
        let names = function.names.iter().filter(|_| fits);
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    let both = candidates.into_iter().zip(verdicts);
    both.map(|(function, verdict)| Function {
        address: function.start,
        size: function.end - function.start,
        names: names(&function),
        verdict,
    })
    .collect()
}
