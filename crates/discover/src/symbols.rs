//! Symbol tables.

use object::elf;

use crate::header::Header;
use crate::image::{Image, string_at, u16_at, u32_at, u64_at};
use crate::object::Export;
use crate::sections::Section;

const ENTRY: usize = 24;

/// A symbol of one of the tables.
#[derive(Clone, Copy)]
pub(crate) struct Symbol<'a> {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) kind: elf::SymbolType,
    pub(crate) binding: elf::SymbolBind,
    pub(crate) defined: bool,
    pub(crate) name: &'a [u8],
}

impl Symbol<'_> {
    /// A function, whatever its kind.
    pub(crate) fn is_function(&self) -> bool {
        self.kind == elf::STT_FUNC || self.is_ifunc()
    }

    pub(crate) fn is_ifunc(&self) -> bool {
        self.kind == elf::STT_GNU_IFUNC
    }
}

/// A symbol table with its strings.
#[derive(Clone, Copy, Default)]
pub(crate) struct Table<'a> {
    entries: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Table<'a> {
    pub(crate) const fn new(entries: &'a [u8], strings: &'a [u8]) -> Self {
        Self { entries, strings }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Symbol<'a>> {
        let start = index.checked_mul(ENTRY)?;
        let entry = self.entries.get(start..start.checked_add(ENTRY)?)?;
        let section = u16_at(entry, 6)?;
        Some(Symbol {
            address: u64_at(entry, 8)?,
            size: u64_at(entry, 16)?,
            kind: elf::SymbolType(entry[4] & 15),
            binding: elf::SymbolBind(entry[4] >> 4),
            defined: section != elf::SHN_UNDEF.0 && section != elf::SHN_ABS.0,
            name: string_at(self.strings, u32_at(entry, 0)? as usize),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let table = *self;
        (0..table.entries.len() / ENTRY).filter_map(move |index| table.get(index))
    }
}

/// The `.symtab`, if the object is not stripped.
pub(crate) fn full<'a>(sections: &[Section<'a>]) -> Table<'a> {
    let Some(table) = sections.iter().find(|section| section.kind == elf::SHT_SYMTAB) else {
        return Table::default();
    };
    let strings = sections.get(table.link).map_or(&[][..], |strings| strings.bytes);
    Table { entries: table.bytes, strings }
}

/// The dynamic symbols, found without the section table.
pub(crate) fn dynamic<'a>(header: &Header, image: &Image<'a>, sections: &[Section]) -> Table<'a> {
    let value = |tag| header.dynamic_value(tag);
    let (Some(symbols), Some(strings)) = (value(elf::DT_SYMTAB), value(elf::DT_STRTAB)) else {
        return Table::default();
    };
    let listed = sections.iter().find(|section| section.kind == elf::SHT_DYNSYM);
    let size = match listed {
        Some(section) => section.size,
        None => symbol_count(header, image).saturating_mul(ENTRY as u64),
    };
    let strings = image.table(strings, value(elf::DT_STRSZ).unwrap_or(u64::MAX));
    Table { entries: image.table(symbols, size), strings }
}

/// The hash tables tell how many dynamic symbols there are.
fn symbol_count(header: &Header, image: &Image) -> u64 {
    if let Some(table) = header.dynamic_value(elf::DT_HASH).and_then(|at| image.at(at, 8)) {
        return u32_at(table, 4).unwrap_or(0).into();
    }
    let table = header.dynamic_value(elf::DT_GNU_HASH).and_then(|at| image.from(at));
    table.and_then(gnu_symbol_count).unwrap_or(0)
}

/// Follows the chain of the last bucket to its end.
fn gnu_symbol_count(table: &[u8]) -> Option<u64> {
    let word = |index: usize| u32_at(table, index.checked_mul(4)?);
    let (buckets, first, filter) = (word(0)? as usize, word(1)? as usize, word(2)? as usize);
    let heads = filter.checked_mul(2)?.checked_add(4)?;
    let chains = heads.checked_add(buckets)?;
    let last = table.get(heads.checked_mul(4)?..chains.checked_mul(4)?)?;
    let last = last.chunks_exact(4).filter_map(|head| u32_at(head, 0)).max()? as usize;
    if last < first {
        return Some(first as u64);
    }
    let mut symbol = last;
    while word(chains.checked_add(symbol - first)?)? & 1 == 0 {
        symbol = symbol.checked_add(1)?;
    }
    Some(symbol as u64 + 1)
}

/// What the object defines for others, by name; of several versions the default one.
pub(crate) fn exports(header: &Header, image: &Image, table: &Table) -> Vec<(String, Export)> {
    let versions = header.dynamic_value(elf::DT_VERSYM).and_then(|at| image.from(at));
    let hidden = |index: usize| {
        let version = versions.and_then(|versions| u16_at(versions, index.checked_mul(2)?));
        version.is_some_and(|version| version & 0x8000 != 0)
    };
    let mut exports: Vec<_> = table
        .iter()
        .enumerate()
        .filter(|(_, symbol)| symbol.defined && symbol.binding != elf::STB_LOCAL)
        .filter(|(_, symbol)| symbol.kind != elf::STT_TLS && !symbol.name.is_empty())
        .map(|(index, symbol)| (symbol, hidden(index)))
        .collect();
    exports.sort_by_key(|&(symbol, hidden)| (symbol.name, hidden));
    exports.dedup_by_key(|&mut (symbol, _)| symbol.name);
    let export = |symbol: Symbol| Export { address: symbol.address, is_ifunc: symbol.is_ifunc() };
    exports.into_iter().map(|(symbol, _)| (text(symbol.name), export(symbol))).collect()
}

/// A name as text, without the version behind `@`.
pub(crate) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(unversioned(name)).into_owned()
}

/// A name without the version behind `@`.
pub(crate) fn unversioned(name: &[u8]) -> &[u8] {
    match name.iter().position(|&byte| byte == b'@') {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}
