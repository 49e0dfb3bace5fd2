//! Relocations: what the dynamic loader will write, and where.

use object::elf;

use crate::header::Header;
use crate::image::{Image, u64_at};
use crate::object::Import;
use crate::sections::Section;
use crate::symbols::{Symbol, Table, text};

const ENTRY: usize = 24;

/// An entry of a `RELA` table.
struct Relocation {
    slot: u64,
    kind: u32,
    symbol: usize,
    addend: u64,
}

/// What of the relocations matters for hooking.
#[derive(Default)]
pub(crate) struct Relocations {
    pub(crate) imports: Vec<Import>,
    pub(crate) irelative: Vec<(u64, u64)>,
    /// Addresses that the loader writes into tables which discovery reads, by slot.
    relative: Vec<(u64, u64)>,
}

impl Relocations {
    /// Reads all tables; keeps relative relocations only within `tables`.
    pub(crate) fn read(
        header: &Header,
        image: &Image,
        sections: &[Section],
        symbols: &Table,
        tables: &[(u64, u64)],
    ) -> Self {
        let mut all = Self::default();
        for bytes in rela_tables(header, image, sections) {
            for relocation in bytes.chunks_exact(ENTRY).filter_map(Relocation::read) {
                all.add(&relocation, symbols, tables);
            }
        }
        all.relative.sort_unstable();
        all
    }

    fn add(&mut self, relocation: &Relocation, symbols: &Table, tables: &[(u64, u64)]) {
        let slot = relocation.slot;
        match elf::RelocationType(relocation.kind) {
            elf::R_X86_64_IRELATIVE => self.irelative.push((slot, relocation.addend)),
            elf::R_X86_64_JUMP_SLOT => self.import(relocation, symbols, |_| true),
            elf::R_X86_64_GLOB_DAT => {
                self.import(relocation, symbols, |symbol| symbol.is_function())
            }
            elf::R_X86_64_RELATIVE if tables.iter().any(|t| t.0 <= slot && slot < t.1) => {
                self.relative.push((slot, relocation.addend));
            }
            _ => {}
        }
    }

    fn import(&mut self, relocation: &Relocation, symbols: &Table, fits: fn(&Symbol) -> bool) {
        let symbol = symbols.get(relocation.symbol);
        let wanted = |symbol: &Symbol| !symbol.defined && !symbol.name.is_empty() && fits(symbol);
        if let Some(symbol) = symbol.filter(wanted) {
            self.imports.push(Import { name: text(symbol.name), got: relocation.slot });
        }
    }

    /// The address stored in a slot of a table, once it is relocated.
    pub(crate) fn address(&self, slot: u64, stored: u64) -> u64 {
        let found = self.relative.binary_search_by_key(&slot, |&(slot, _)| slot);
        found.map_or(stored, |index| self.relative[index].1)
    }
}

impl Relocation {
    fn read(entry: &[u8]) -> Option<Self> {
        let info = u64_at(entry, 8)?;
        Some(Self {
            slot: u64_at(entry, 0)?,
            kind: info as u32,
            symbol: (info >> 32) as usize,
            addend: u64_at(entry, 16)?,
        })
    }
}

/// The tables that the dynamic table names; in a static program, those that sections hold.
fn rela_tables<'a>(header: &Header, image: &Image<'a>, sections: &[Section<'a>]) -> Vec<&'a [u8]> {
    let table =
        |at, size| Some(image.table(header.dynamic_value(at)?, header.dynamic_value(size)?));
    let plain = table(elf::DT_RELA, elf::DT_RELASZ);
    let plt = table(elf::DT_JMPREL, elf::DT_PLTRELSZ);
    if plain.is_some() || plt.is_some() {
        return plain.into_iter().chain(plt).collect();
    }
    let stored = sections.iter().filter(|section| section.kind == elf::SHT_RELA);
    stored.filter(|section| section.address != 0).map(|section| section.bytes).collect()
}
