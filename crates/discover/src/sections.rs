//! The section table, and the regions of code that it or the segments describe.

use object::read::elf::{FileHeader, SectionHeader};
use object::{LittleEndian, elf};

use crate::header::Segment;
use crate::image::{Image, slice};

const LE: LittleEndian = LittleEndian;
/// No program has code beyond: addresses of code can be added to without overflow.
const USER_SPACE: u64 = 1 << 47;

/// A section; its bytes are empty where the file has none.
pub(crate) struct Section<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) kind: elf::SectionType,
    pub(crate) link: usize,
    loaded: bool,
    code: bool,
}

/// A stretch of executable memory. `bytes` is what the file has of it.
pub(crate) struct Region<'a> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bytes: &'a [u8],
    /// Whether its functions are anyone's business: not the PLT, `.init` and `.fini`.
    pub(crate) hosts: bool,
}

/// All sections; none where there is no (readable) table.
pub(crate) fn read(file: &[u8]) -> Vec<Section<'_>> {
    let Ok(header) = elf::FileHeader64::<LittleEndian>::parse(file) else { return Vec::new() };
    let Ok(table) = header.sections(LE, file) else { return Vec::new() };
    let section = |section: &'_ elf::SectionHeader64<LittleEndian>| Section {
        name: table.section_name(LE, section).unwrap_or_default(),
        address: section.sh_addr(LE),
        size: section.sh_size(LE),
        bytes: match section.sh_type(LE) {
            elf::SHT_NOBITS => &[],
            _ => slice(file, section.sh_offset(LE), section.sh_size(LE)).unwrap_or_default(),
        },
        kind: section.sh_type(LE),
        link: section.sh_link(LE) as usize,
        loaded: flag(section, elf::SHF_ALLOC.0),
        code: flag(section, elf::SHF_EXECINSTR.0),
    };
    table.iter().map(section).collect()
}

fn flag(section: &elf::SectionHeader64<LittleEndian>, flag: u64) -> bool {
    let flags = section.sh_flags(LE).0;
    flags & flag != 0
}

/// The loaded sections of a name.
pub(crate) fn named<'s, 'a>(
    sections: &'s [Section<'a>],
    name: &'s str,
) -> impl Iterator<Item = &'s Section<'a>> {
    sections.iter().filter(move |section| section.loaded && section.name == name.as_bytes())
}

/// The contents of the section that names the separate debug file.
pub(crate) fn link_name<'a>(sections: &[Section<'a>]) -> Option<&'a [u8]> {
    let link = sections.iter().find(|section| section.name == b".gnu_debuglink");
    link.map(|section| section.bytes)
}

/// The regions of code, by address, without overlap.
pub(crate) fn regions<'a>(
    sections: &[Section<'a>],
    segments: &[Segment],
    image: &Image<'a>,
) -> Vec<Region<'a>> {
    let code = sections.iter().filter(|section| section.loaded && section.code);
    let mut regions: Vec<_> = code
        .map(|section| Region {
            start: section.address,
            end: section.address.saturating_add(section.size),
            bytes: section.bytes,
            hosts: !is_glue(section.name),
        })
        .collect();
    if regions.is_empty() {
        let code = segments.iter().filter(|segment| segment.execute);
        regions.extend(code.map(|segment| Region {
            start: segment.address,
            end: segment.address.saturating_add(segment.memory_size),
            bytes: image.table(segment.address, segment.file_size.min(segment.memory_size)),
            hosts: true,
        }));
    }
    regions.retain(|region| region.start < region.end && region.end <= USER_SPACE);
    regions.sort_by_key(|region| region.start);
    let mut free = 0;
    regions.retain(|region| {
        let apart = region.start >= free;
        free = if apart { region.end } else { free };
        apart
    });
    regions
}

fn is_glue(section: &[u8]) -> bool {
    section.starts_with(b".plt") || section == b".init" || section == b".fini"
}

/// The region that holds an address.
pub(crate) fn region_at<'r, 'a>(regions: &'r [Region<'a>], address: u64) -> Option<&'r Region<'a>> {
    let after = regions.partition_point(|region| region.start <= address);
    regions[..after].last().filter(|region| address < region.end)
}

impl<'a> Region<'a> {
    /// The bytes of a range, as far as the region and the file have them.
    pub(crate) fn slice(&self, start: u64, end: u64) -> &'a [u8] {
        let into = |address: u64| {
            let offset = address.clamp(self.start, self.end) - self.start;
            usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len())
        };
        self.bytes.get(into(start)..into(end)).unwrap_or_default()
    }
}
