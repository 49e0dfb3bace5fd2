use super::*;

fn mapping(start: u64, end: u64) -> Mapping {
    Mapping { start, end, protection: libc::PROT_READ | libc::PROT_EXEC, shared: false }
}

#[test]
fn a_window_spans_from_the_first_to_the_last_touched_page() {
    let ranges = [0x1ffe..0x2003, 0x3010..0x3015, 0x5ffe..0x6003, 0x9000..0x9005];
    let pages = |start, end| touched(&mapping(start, end), &ranges);
    assert_eq!(pages(0x1000, 0x2000), Some(0x1000..0x2000));
    assert_eq!(pages(0x2000, 0x8000), Some(0x2000..0x7000));
    assert_eq!(pages(0x7000, 0x9000), None);
    assert_eq!(pages(0x9000, 0xa000), Some(0x9000..0xa000));
}

/// The protections of the mapping that holds an address, as text.
fn protection_at(address: u64) -> String {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = text.lines().zip(maps::parse(&text)).find(|(_, mapping)| mapping.contains(address));
    line.unwrap().0.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn own_constants_are_written_and_protections_restored() {
    static BYTES: [u8; 64] = *b"Read-only data, which the windows of this test write and restore";
    for mut memory in [OwnMemory::new(), OwnMemory::through_file()] {
        let address = std::hint::black_box(&BYTES).as_ptr().addr() as u64;
        let before = protection_at(address);
        assert!(!before.contains('w'));
        assert!(memory.write(address, 0).is_err(), "closed");
        memory.open(std::slice::from_ref(&(address..address + 5))).unwrap();
        let mut bytes = [0; 5];
        memory.read(address, &mut bytes).unwrap();
        assert_eq!(&bytes, b"Read-");
        memory.write(address, b'r').unwrap();
        memory.read(address, &mut bytes).unwrap();
        assert_eq!(&bytes, b"read-");
        memory.write(address, b'R').unwrap();
        memory.close().unwrap();
        assert_eq!(protection_at(address), before);
        assert!(memory.read(address, &mut bytes).is_err(), "closed again");
    }
}

#[test]
fn what_is_not_mapped_is_refused() {
    let mut memory = OwnMemory::new();
    memory.open(std::slice::from_ref(&(0x1000..0x1005))).unwrap();
    assert!(matches!(memory.read(0x1000, &mut [0; 5]), Err(MemoryError::Closed { .. })));
    assert!(matches!(memory.write(0x1000, 0), Err(MemoryError::Closed { .. })));
}

#[test]
fn both_ways_to_look_at_mappings_agree() {
    let file = File::open("/proc/self/maps").unwrap();
    let place = |address: *const u8| address.addr() as u64;
    let code = place(both_ways_to_look_at_mappings_agree as *const u8);
    let (constant, local) = (place(b"constant".as_ptr()), place(&raw const code as *const u8));
    let mut ranges = [code..code + 5, constant..constant + 5, local..local + 5, 0x1000..0x1005];
    ranges.sort_by_key(|range| range.start);
    let Ok(asked) = by_query(&file, &ranges) else { return };
    let all = by_text(&file).unwrap();
    let touched = all.into_iter().filter(|mapping| touched(mapping, &ranges).is_some());
    assert_eq!(asked, touched.collect::<Vec<_>>());
    assert!(asked.len() >= 2);
}
