//! Unwind tables: where functions begin and end, symbols or not.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CallFrameInstruction, CieOrFde, CommonInformationEntry, EhFrame, EhFrameHdr,
    EndianSlice, FrameDescriptionEntry, LittleEndian, Pointer, UnwindSection, X86_64,
};

use crate::header::Header;
use crate::image::Image;
use crate::sections::{Section, named};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Cie<'a> = CommonInformationEntry<Slice<'a>>;
type Fde<'a> = FrameDescriptionEntry<Slice<'a>>;
/// Rows deeper into a function than so many instructions are not looked up.
const MOST_INSTRUCTIONS: usize = 1 << 11;

/// What an unwind table says of the frame at some address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// As right after a call: the return address is on top of the stack.
    Called,
    /// Something is on the stack already: a part of a function.
    Inside,
    /// There is no caller: the first frame of a thread.
    Outermost,
    /// A signal frame.
    Signal,
}

/// An entry of the unwind table.
#[derive(Clone, Copy)]
pub(crate) struct Unwind {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The frame at `start`.
    pub(crate) frame: Frame,
    /// Where the entry is in the table.
    offset: usize,
}

/// The unwind table of an object.
pub(crate) struct UnwindTable<'a> {
    section: EhFrame<Slice<'a>>,
    bases: BaseAddresses,
    /// By address.
    pub(crate) entries: Vec<Unwind>,
}

/// The rules of a row, as far as they matter here.
#[derive(Clone, Copy)]
struct Row {
    /// Register and offset that the frame address is computed from, if it is so simple.
    base: Option<(gimli::Register, i64)>,
    /// The caller is unknown.
    outermost: bool,
    location: u64,
}

impl<'a> UnwindTable<'a> {
    pub(crate) fn read(header: &Header, image: &Image<'a>, sections: &[Section<'a>]) -> Self {
        let (address, bytes) = locate(header, image, sections).unwrap_or_default();
        let mut section = EhFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        let mut bases = BaseAddresses::default().set_eh_frame(address);
        if let Some(text) = named(sections, ".text").next() {
            bases = bases.set_text(text.address);
        }
        let mut table = Self { section, bases, entries: Vec::new() };
        table.scan();
        table
    }

    fn scan(&mut self) {
        let mut cies: HashMap<usize, (Cie<'a>, Row)> = HashMap::new();
        let mut entries = self.section.entries(&self.bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let offset = partial.cie_offset().0;
            let known = cies.get(&offset);
            let fde = partial.parse(|section, bases, at| match known {
                Some(known) => Ok(known.0.clone()),
                None => section.cie_from_offset(bases, at),
            });
            let Ok(fde) = fde else { continue };
            let initial = match cies.get(&offset) {
                Some(known) => known.1,
                None => self.initial_row(fde.cie()),
            };
            cies.entry(offset).or_insert_with(|| (fde.cie().clone(), initial));
            let start = fde.initial_address();
            let row = self.row(&fde, initial, start);
            let Some(end) = start.checked_add(fde.len()).filter(|&end| end > start) else {
                continue;
            };
            let frame = row.frame(&fde);
            self.entries.push(Unwind { start, end, frame, offset: fde.offset() });
        }
        self.entries.sort_by_key(|entry| (entry.start, entry.end));
        self.entries.dedup_by_key(|entry| entry.start);
    }

    /// The entry that holds an address.
    pub(crate) fn at(&self, address: u64) -> Option<&Unwind> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        self.entries[..after].last().filter(|entry| address < entry.end)
    }

    /// The frame at an address; `None` where the table says nothing.
    pub(crate) fn frame_at(&self, address: u64) -> Option<Frame> {
        let entry = self.at(address)?;
        if entry.start == address || matches!(entry.frame, Frame::Outermost | Frame::Signal) {
            return Some(entry.frame);
        }
        let offset = gimli::EhFrameOffset(entry.offset);
        let section = &self.section;
        let fde = section.fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset).ok()?;
        let row = self.row(&fde, self.initial_row(fde.cie()), address);
        Some(row.frame(&fde))
    }

    fn initial_row(&self, cie: &Cie<'a>) -> Row {
        let mut row = Row { base: None, outermost: false, location: 0 };
        let mut instructions = cie.instructions(&self.section, &self.bases);
        while let Ok(Some(instruction)) = instructions.next() {
            row.apply(&instruction, cie);
        }
        row
    }

    /// The row for an address of an entry.
    fn row(&self, fde: &Fde<'a>, initial: Row, address: u64) -> Row {
        let mut row = Row { location: fde.initial_address(), ..initial };
        let mut saved = Vec::new();
        let mut instructions = fde.instructions(&self.section, &self.bases);
        for _ in 0..MOST_INSTRUCTIONS {
            let Ok(Some(instruction)) = instructions.next() else { break };
            let before = row;
            match instruction {
                CallFrameInstruction::RememberState => saved.push(row),
                CallFrameInstruction::RestoreState => {
                    let location = row.location;
                    row = Row { location, ..saved.pop().unwrap_or(row) };
                }
                _ => row.apply(&instruction, fde.cie()),
            }
            if row.location > address {
                return before;
            }
        }
        row
    }
}

impl Row {
    fn apply(&mut self, instruction: &CallFrameInstruction<usize>, cie: &Cie<'_>) {
        use CallFrameInstruction as Cfi;
        let factor = cie.data_alignment_factor();
        let set_offset = |row: &mut Self, offset: i64| {
            row.base = row.base.map(|(register, _)| (register, offset));
        };
        match *instruction {
            Cfi::SetLoc { address } => self.location = address,
            Cfi::AdvanceLoc { delta } => {
                let delta = u64::from(delta).wrapping_mul(cie.code_alignment_factor());
                self.location = self.location.saturating_add(delta);
            }
            Cfi::DefCfa { register, offset } => self.base = Some((register, offset as i64)),
            Cfi::DefCfaSf { register, factored_offset } => {
                self.base = Some((register, factored_offset.wrapping_mul(factor)));
            }
            Cfi::DefCfaRegister { register } => {
                self.base = self.base.map(|(_, offset)| (register, offset));
            }
            Cfi::DefCfaOffset { offset } => set_offset(self, offset as i64),
            Cfi::DefCfaOffsetSf { factored_offset } => {
                set_offset(self, factored_offset.wrapping_mul(factor));
            }
            Cfi::DefCfaExpression { .. } => self.base = None,
            Cfi::Undefined { register } if register == cie.return_address_register() => {
                self.outermost = true;
            }
            _ => {}
        }
    }

    fn frame(&self, fde: &Fde<'_>) -> Frame {
        if fde.is_signal_trampoline() {
            Frame::Signal
        } else if self.outermost {
            Frame::Outermost
        } else if self.base == Some((X86_64::RSP, 8)) {
            Frame::Called
        } else {
            Frame::Inside
        }
    }
}

/// The `.eh_frame`, by section or by the index that a program header names.
fn locate<'a>(
    header: &Header,
    image: &Image<'a>,
    sections: &[Section<'a>],
) -> Option<(u64, &'a [u8])> {
    if let Some(section) = named(sections, ".eh_frame").find(|section| !section.bytes.is_empty()) {
        return Some((section.address, section.bytes));
    }
    let (address, size) = header.unwind_index?;
    let index = EhFrameHdr::new(image.at(address, size)?, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame_hdr(address);
    let Pointer::Direct(start) = index.parse(&bases, 8).ok()?.eh_frame_ptr() else { return None };
    Some((start, image.from(start)?))
}
