//! Separate debug files: the symbols of a stripped object, where a distribution put them.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, SectionHeader};
use object::{LittleEndian, ReadCache, ReadRef, elf};

use crate::header::Header;
use crate::image::string_at;
use crate::sections::{Section, link_name};
use crate::symbols::Table;

const LE: LittleEndian = LittleEndian;
const ROOT: &str = "/usr/lib/debug";

/// The symbol table of a debug file.
pub(crate) struct DebugSymbols {
    entries: Vec<u8>,
    strings: Vec<u8>,
}

impl DebugSymbols {
    /// Finds the debug file of an object by its build id, which both must have.
    pub(crate) fn find(path: &Path, header: &Header, sections: &[Section]) -> Option<Self> {
        places(path, header, sections).iter().find_map(|place| Self::read(place, header))
    }

    pub(crate) fn table(&self) -> Table<'_> {
        Table::new(&self.entries, &self.strings)
    }

    /// Reads no more of a (large) debug file than the table.
    fn read(path: &Path, header: &Header) -> Option<Self> {
        let cache = ReadCache::new(File::open(path).ok()?);
        let debug = Header::read(path, &cache).ok()?;
        if debug.build_id != header.build_id {
            return None;
        }
        let elf = elf::FileHeader64::<LittleEndian>::parse(&cache).ok()?;
        let sections = elf.sections(LE, &cache).ok()?;
        let table = sections.iter().find(|section| section.sh_type(LE) == elf::SHT_SYMTAB)?;
        let strings = sections.iter().nth(table.sh_link(LE) as usize)?;
        let bytes = |section: &elf::SectionHeader64<LittleEndian>| {
            let (offset, size) = section.file_range(LE)?;
            Some((&cache).read_bytes_at(offset, size).ok()?.to_vec())
        };
        Some(Self { entries: bytes(table)?, strings: bytes(strings)? })
    }
}

/// Where the debug file may be, likeliest first.
fn places(path: &Path, header: &Header, sections: &[Section]) -> Vec<PathBuf> {
    let Some((first, rest)) = header.build_id.split_first() else { return Vec::new() };
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut places = vec![Path::new(ROOT).join(format!(".build-id/{first:02x}/{rest}.debug"))];
    let link = link_name(sections).map(|bytes| string_at(bytes, 0));
    let link = link.and_then(|name| std::str::from_utf8(name).ok());
    let plain = link.filter(|name| !name.is_empty() && !name.contains('/'));
    if let (Some(name), Some(directory)) = (plain, path.parent()) {
        places.push(directory.join(name));
        places.push(directory.join(".debug").join(name));
        if let Ok(absolute) = directory.strip_prefix("/") {
            places.push(Path::new(ROOT).join(absolute).join(name));
        }
    }
    places
}
