use super::*;
use crate::memory::array::{Array, LoggedSync};
use crate::patch::INT3;
use crate::patch::PatchError;
use sledge_discover::site::{Returns, Rung, Site};
use sledge_engine::relocate::relocate;

const TEXT: u64 = 0x7000_4000_1000;
const COPIES: u64 = 0x7000_4000_4000;
/// `push rbx; mov rbp, rsp; push rcx`, then a site of one instruction.
const CODE: [u8; 64] = {
    let mut code = [0x90; 64];
    let used = [0x53, 0x48, 0x89, 0xe5, 0x51, 0xc3, 0x90, 0x90, 0xb8, 1, 0, 0, 0, 0x89, 0xf8];
    let mut at = 0;
    while at < used.len() {
        code[at] = used[at];
        at += 1;
    }
    code
};

struct TestHost {
    memory: Array,
    sync: LoggedSync,
    journal: Vec<Original>,
    rescues: Vec<Rescue>,
}

impl Host for TestHost {
    type Memory = Array;
    type Sync = LoggedSync;

    fn parts(&mut self) -> (&mut Array, &mut LoggedSync) {
        (&mut self.memory, &mut self.sync)
    }

    fn journal(&mut self, originals: &[Original]) -> Result<(), HostError> {
        if self.journal.len() + originals.len() > 4 {
            return Err(HostError::JournalFull);
        }
        self.journal.extend_from_slice(originals);
        Ok(())
    }

    fn rescue(&mut self, sites: Vec<Rescue>) {
        assert!(sites.is_sorted_by_key(|site| site.address));
        self.rescues = sites;
    }

    fn ready(&mut self) -> Result<(), HostError> {
        Ok(())
    }
}

fn patcher() -> Patcher<TestHost> {
    let memory = Array::new(TEXT, &CODE);
    let sync = LoggedSync { log: memory.log.clone(), left: usize::MAX };
    Patcher::new(TestHost { memory, sync, journal: Vec::new(), rescues: Vec::new() })
}

fn site(offset: u64, displaced: usize, boundaries: u8, hop: Option<u64>, to: u64) -> LiveSite {
    let start = offset as usize;
    let site = Site {
        address: TEXT + offset,
        rung: if hop.is_some() { Rung::Hop } else { Rung::Prologue },
        displaced: CODE[start..start + displaced].to_vec(),
        boundaries,
        returns: Returns::Hooked,
        hop: hop.map(|hop| TEXT + hop),
    };
    let resume = site.address + displaced as u64;
    let copy = relocate(&site.displaced, site.address, resume, COPIES, 64).unwrap();
    let read = |address: u64, bytes: &mut [u8]| {
        let at = (address - TEXT) as usize;
        bytes.copy_from_slice(&CODE[at..at + bytes.len()]);
        Ok::<(), PatchError>(())
    };
    LiveSite::new(&site, read, &copy, COPIES, to).unwrap()
}

/// At a distance of 0xcc0011cc: `int3` where boundaries 1 and 4 are.
const ISLAND: u64 = (TEXT + 5).wrapping_add(0xffff_ffff_cc00_11cc);

fn three_instructions() -> LiveSite {
    site(0, 5, 0b10010, None, ISLAND)
}

#[test]
fn sites_are_armed_and_disarmed_and_known_before() {
    let mut patcher = patcher();
    let ids = patcher.add(vec![three_instructions(), site(8, 5, 0, None, COPIES)]).unwrap();
    assert_eq!(patcher.host.journal.len(), 2);
    assert_eq!(patcher.host.journal[0].bytes.as_slice(), &CODE[..5]);
    // Behind `push rbx`, and behind both.
    let inner = patcher.host.rescues[0].inner;
    assert_eq!(inner, [0, COPIES + 1, 0, 0, COPIES + 4]);
    assert!(patcher.host.memory.log.take().is_empty());
    assert_eq!(patcher.arm(&[ids[0], ids[1], ids[0]]).unwrap(), []);
    assert!(ids.iter().all(|&id| patcher.is_armed(id)));
    assert_eq!(patcher.host.memory.bytes[..5], [0xe9, 0xcc, 0x11, 0x00, 0xcc]);
    assert_eq!(patcher.disarm_all().unwrap(), []);
    assert_eq!(patcher.host.memory.bytes, CODE);
}

#[test]
fn a_jump_that_is_not_trap_safe_makes_no_site() {
    let patch = Patch::new(TEXT, 0b10, Bytes::new(&CODE[..5]), Bytes::new(&[0xe9, 1, 2, 3, 4]));
    assert!(matches!(patch, Err(PatchError::NotTrapSafe { .. })));
}

#[test]
fn the_padding_of_a_hop_is_written_first_and_stays() {
    let mut patcher = patcher();
    let ids = patcher.add(vec![site(13, 2, 0, Some(20), COPIES)]).unwrap();
    assert_eq!(patcher.arm(&ids).unwrap(), []);
    assert_eq!(patcher.host.memory.bytes[13..15], [0xeb, 5]);
    assert_eq!(patcher.host.memory.bytes[20], 0xe9);
    patcher.disarm(&ids).unwrap();
    assert_eq!(patcher.host.memory.bytes[..20], CODE[..20]);
    assert_eq!(patcher.host.memory.bytes[20], 0xe9);
    assert!(patcher.host.journal.iter().any(|original| original.stays));
}

#[test]
fn a_hop_without_its_padding_is_not_armed() {
    let mut patcher = patcher();
    let ids = patcher.add(vec![site(13, 2, 0, Some(20), COPIES)]).unwrap();
    patcher.host.memory.bytes[22] = 0x66;
    let refused = patcher.arm(&ids).unwrap();
    assert!(matches!(refused[..], [Refused { why: Refusal::OtherBytes { .. }, .. }]));
    assert_eq!(patcher.host.memory.bytes[13..15], CODE[13..15]);
}

#[test]
fn overlaps_and_a_full_journal_add_nothing() {
    let mut patcher = patcher();
    patcher.add(vec![three_instructions()]).unwrap();
    let again = patcher.add(vec![site(8, 5, 0, None, COPIES), three_instructions()]);
    assert!(matches!(again, Err(PatcherError::Overlap { address: TEXT })));
    let hops = vec![site(8, 5, 0, None, COPIES), site(13, 2, 0, Some(20), COPIES)];
    patcher.add(hops).unwrap();
    let over = patcher.add(vec![site(30, 5, 0, None, COPIES)]);
    assert!(matches!(over, Err(PatcherError::Host(HostError::JournalFull))));
    assert_eq!(patcher.host.rescues.len(), 3);
}

#[test]
fn a_failed_barrier_disarms_everything_for_good() {
    for left in 0..6 {
        let mut patcher = patcher();
        let ids = patcher.add(vec![three_instructions(), site(8, 5, 0, None, COPIES)]).unwrap();
        patcher.arm(&ids[1..]).unwrap();
        patcher.host.sync.left = left;
        let Err(error) = patcher.arm(&ids[..1]) else {
            assert!(left >= 3, "arming takes three barriers");
            continue;
        };
        assert!(matches!(error, PatcherError::Fault(Fault::Sync(_))), "{error}");
        assert!(matches!(patcher.arm(&ids), Err(PatcherError::Disabled)));
        // Without barriers there is no way back: it stands as it was, trapping, or as a whole jump.
        let whole = left == 2;
        assert_eq!(patcher.host.memory.bytes[0], if whole { 0xe9 } else { INT3 });
        assert_eq!(patcher.is_armed(ids[0]), whole);
        patcher.host.sync.left = usize::MAX;
        assert_eq!(patcher.disarm_all().unwrap(), []);
        assert_eq!(patcher.host.memory.bytes, CODE);
    }
}

#[test]
fn a_site_that_somebody_takes_in_the_middle_is_put_back_when_it_is_ours_again() {
    let mut patcher = patcher();
    let ids = patcher.add(vec![three_instructions()]).unwrap();
    patcher.host.memory.intruder = Some((3, 2, 0xf4));
    let refused = patcher.arm(&ids).unwrap();
    assert!(matches!(refused[..], [Refused { why: Refusal::OtherBytes { .. }, .. }]));
    assert_eq!(patcher.host.memory.bytes[..5], [INT3, INT3, 0xf4, 0xe5, INT3]);
    patcher.host.memory.bytes[2] = CODE[2];
    assert_eq!(patcher.disarm(&ids).unwrap(), []);
    assert_eq!(patcher.host.memory.bytes, CODE);
}

#[test]
fn sites_of_unmapped_objects_are_forgotten_unwritten() {
    let mut patcher = patcher();
    let ids = patcher.add(vec![three_instructions()]).unwrap();
    patcher.arm(&ids).unwrap();
    patcher.host.memory.log.take();
    patcher.forget(&(TEXT..TEXT + 64));
    assert!(patcher.host.rescues.is_empty());
    assert_eq!(patcher.disarm_all().unwrap(), []);
    assert!(patcher.host.memory.log.take().is_empty());
    patcher.host.memory.bytes.copy_from_slice(&CODE);
    let again = patcher.add(vec![three_instructions()]).unwrap();
    assert_eq!(patcher.arm(&again).unwrap(), []);
}
