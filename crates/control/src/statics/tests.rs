//! The parts that only compute.

use super::storage::Storage;
use proptest::prelude::*;
use sledge_inject::header::{
    Additions, HEADER_BYTES, Header, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, PT_PHDR,
    PT_TLS, READ, second, second_count,
};
use sledge_inject::index::Index;
use sledge_inject::{Agent, note};
use sledge_wire::raw::NOTE_ENTRY;

fn any_header() -> impl Strategy<Value = Header> {
    (any::<[u32; 2]>(), any::<[u64; 6]>()).prop_map(|([kind, flags], words)| {
        let [offset, address, physical, file_size, memory_size, align] = words;
        Header { kind, flags, offset, address, physical, file_size, memory_size, align }
    })
}

fn additions() -> Additions {
    Additions {
        bias: 0x7fff_0000_0000,
        table: 0x7ffe_f000_0000,
        region: 0x7ffe_f000_0000..0x7ffe_f100_0000,
        index: 0x7ffe_f000_0200..0x7ffe_f000_1000,
        storage: Header { kind: PT_TLS, address: 0x7ffe_f000_2000, align: 8, ..Header::default() },
    }
}

fn storage(memory_size: u64, file_size: u64, align: u64, address: u64) -> Header {
    Header {
        kind: PT_TLS,
        flags: READ,
        file_size,
        memory_size,
        align,
        address,
        ..Header::default()
    }
}

proptest! {
    #[test]
    fn headers_survive(headers in prop::collection::vec(any_header(), 0..20)) {
        let bytes: Vec<u8> = headers.iter().flat_map(|header| header.to_bytes()).collect();
        prop_assert_eq!(bytes.len() as u64, headers.len() as u64 * HEADER_BYTES);
        prop_assert_eq!(Header::table(&bytes), headers);
    }

    #[test]
    fn the_second_table_keeps_what_it_does_not_replace(
        headers in prop::collection::vec(any_header(), 0..12),
        kinds in prop::collection::vec(
            prop::sample::select(vec![
                PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_PHDR, PT_TLS, PT_GNU_EH_FRAME,
            ]),
            12,
        ),
    ) {
        let mut headers = headers;
        headers.iter_mut().zip(kinds).for_each(|(header, kind)| header.kind = kind);
        let additions = additions();
        let table = second(&headers, &additions);
        prop_assert_eq!(table.len() as u64, second_count(&headers));
        let kept = |header: &&Header| matches!(header.kind, PT_LOAD | PT_DYNAMIC | PT_NOTE);
        let is_region = |header: &&Header| {
            additions.bias.wrapping_add(header.address) == additions.region.start
                && header.memory_size == 0x100_0000
                && header.kind == PT_LOAD
        };
        let before: Vec<_> = headers.iter().filter(kept).collect();
        let after: Vec<_> =
            table.iter().filter(kept).filter(|header| !is_region(header)).collect();
        prop_assert_eq!(before, after);
        prop_assert_eq!(table.iter().filter(is_region).count(), 1);
        let place = |kind| {
            let found = table.iter().find(|header| header.kind == kind);
            found.map(|header| additions.bias.wrapping_add(header.address))
        };
        prop_assert_eq!(place(PT_TLS), Some(additions.storage.address));
        prop_assert_eq!(place(PT_GNU_EH_FRAME), Some(additions.index.start));
        let had_own = headers.iter().any(|header| header.kind == PT_PHDR);
        prop_assert_eq!(place(PT_PHDR), had_own.then_some(additions.table));
        let mut loads = table.iter().filter(|header| header.kind == PT_LOAD);
        prop_assert!(loads.next_back().is_some_and(|last| is_region(&last)));
    }

    /// The program's own variables stay where its linker counted them from the thread pointer.
    #[test]
    fn storage_grows_downwards(
        memory in 0_u64..100_000, file in 0_u64..100_000, shift in 0_u32..=12, page in 0_u64..1000,
        after in 0_u64..1 << 40, bias in (0_u64..1 << 30).prop_map(|bias| bias << 12),
    ) {
        let align = 1 << shift;
        let file = file.min(memory);
        let original = storage(memory, file, align, page * align);
        let storage = Storage::of(&[original]).unwrap();
        let image = storage.image(&vec![0xee; file as usize]);
        let growth = image.len() as u64 - file;
        prop_assert!(growth >= 64 && growth.is_multiple_of(align));
        // What any C library computes: the block begins so far below the thread pointer.
        let block = |memory: u64| -(memory.next_multiple_of(align) as i64);
        prop_assert_eq!(storage.block(), block(memory + growth));
        prop_assert_eq!(storage.block() + growth as i64, block(memory));
        // The agent's word is aligned, inside what was added, and zero at first.
        let into = usize::try_from(storage.word() - storage.block()).unwrap();
        prop_assert_eq!(storage.word().rem_euclid(16), 0);
        prop_assert_eq!(&image[into..into + 16], &[0; 16]);
        prop_assert!(into as u64 + 16 <= growth);
        prop_assert!(image[growth as usize..].iter().all(|&byte| byte == 0xee));
        let place = storage.place(after, bias);
        prop_assert!((after..after + align).contains(&place));
        prop_assert_eq!(place % align, (bias + original.address) % align);
        let header = storage.header(place);
        prop_assert_eq!(header.file_size, image.len() as u64);
        prop_assert_eq!(header.memory_size, memory + growth);
        prop_assert_eq!(header.align, align);
    }

    #[test]
    fn an_index_survives(
        at in 1_u64 << 40..1 << 46,
        own in prop::collection::vec((-0x7fff_0000_i64..0x7fff_0000, any::<i32>()), 0..50),
        other in prop::collection::vec((-0x7fff_0000_i64..0x7fff_0000, any::<i32>()), 0..50),
    ) {
        let index = |entries: &[(i64, i32)], frames| Index {
            frames,
            entries: entries
                .iter()
                .map(|&(start, rule)| (at.wrapping_add_signed(start), at.wrapping_add_signed(rule.into())))
                .collect(),
        };
        let joined = index(&own, 0).join(index(&other, at + 77));
        prop_assert!(joined.entries.is_sorted());
        prop_assert_eq!(joined.entries.len(), own.len() + other.len());
        let bytes = joined.to_bytes(at).unwrap();
        prop_assert_eq!(bytes.len() as u64, joined.size());
        prop_assert_eq!(Index::read(&bytes, at).unwrap(), joined);
    }

    #[test]
    fn damaged_input_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Index::read(&bytes, 0x1000);
        let _ = note(&bytes, b"sledge\0", None);
        prop_assert!(Agent::read(&bytes).and_then(|agent| agent.entry(NOTE_ENTRY)).is_err());
    }
}

#[test]
fn the_index_of_the_program_keeps_its_frames() {
    let own = Index { frames: 0x5000, entries: vec![(0x1000, 0x5010)] };
    let other = Index { frames: 0x9000, entries: vec![(0x800, 0x9010)] };
    let joined = own.join(other);
    assert_eq!(joined, Index { frames: 0x5000, entries: vec![(0x800, 0x9010), (0x1000, 0x5010)] });
}

#[test]
fn an_index_out_of_reach_is_not_written() {
    let index = Index { frames: 0x1000, entries: vec![(1 << 32, 0x1000)] };
    assert_eq!(index.to_bytes(0x1000), None);
}

#[test]
fn an_index_of_another_form_is_refused() {
    let good = Index { frames: 0x1000, entries: vec![(0x2000, 0x1010)] }.to_bytes(0x1800).unwrap();
    assert!(Index::read(&good, 0x1800).is_ok());
    assert!(Index::read(&good[..good.len() - 1], 0x1800).is_err());
    for byte in 0..4 {
        let mut other = good.clone();
        other[byte] ^= 0x10;
        assert!(Index::read(&other, 0x1800).is_err(), "byte {byte}");
    }
}

#[test]
fn unusual_storage_is_refused() {
    assert!(Storage::of(&[]).is_ok());
    assert!(Storage::of(&[storage(8, 4, 8, 16)]).is_ok());
    for unusual in [
        storage(8, 9, 8, 16),
        storage(8, 4, 8, 12),
        storage(8, 4, 24, 24),
        storage(8, 4, 1 << 20, 0),
        storage(1 << 40, 4, 8, 16),
    ] {
        assert!(Storage::of(&[unusual]).is_err(), "{unusual:?}");
    }
    assert!(Storage::of(&[storage(8, 4, 8, 16), storage(8, 4, 8, 16)]).is_err());
}

#[test]
fn a_program_without_storage_gets_some() {
    let none = Storage::of(&[]).unwrap();
    assert_eq!((none.block(), none.word()), (-64, -64));
    assert_eq!(none.image(&[]).len(), 64);
    assert_eq!(none.header(0x1000).memory_size, 64);
}

#[test]
fn notes_are_found_by_owner_and_type() {
    let mut notes = Vec::new();
    for (owner, kind, descriptor) in [(&b"GNU\0"[..], 3, &[1, 2, 3][..]), (b"sledge\0", 1, &[9; 4])]
    {
        let lengths = [owner.len() as u32, descriptor.len() as u32, kind];
        notes.extend(lengths.into_iter().flat_map(u32::to_le_bytes));
        for part in [owner, descriptor] {
            notes.extend(part);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
    }
    assert_eq!(note(&notes, b"sledge\0", Some(1)), Some((40, &[9; 4][..])));
    assert_eq!(note(&notes, b"GNU\0", None), Some((16, &[1, 2, 3][..])));
    assert_eq!(note(&notes, b"sledge\0", Some(2)), None);
    assert_eq!(note(&notes, b"Go\0\0", None), None);
    assert_eq!(note(&notes[..42], b"sledge\0", Some(1)), None);
}
