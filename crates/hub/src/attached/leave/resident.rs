//! Images of the agent that stay for calls which have not returned, until they have.

use sledge_discover::maps::{self, Mapping};
use sledge_inject::{InjectError, is_ours, unmap};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

const MAGIC: u64 = u64::from_le_bytes(*b"sledge\0R");
/// Returns that a note has room for.
const MOST: usize = 500;
/// What stands for returns that are not known.
const UNKNOWN: u64 = u64::MAX;
/// Where, behind the beginning of an image, the distance to its note is: bytes of an ELF header that
/// nobody uses.
const POINTER: u64 = 9;
/// The note lies in the words of gates, which nobody uses any more; behind the first eight.
const NOTE: u64 = 64;

fn mappings(pid: i32) -> Vec<Mapping> {
    maps::parse(&fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default())
}

fn word(memory: &File, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Of places whose bits 3 to 35 are known, those that hold an address in `region`.
pub(crate) fn returning(pid: i32, region: &Range<u64>, cells: &[u32]) -> Vec<u64> {
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return Vec::new() };
    let mut writable = mappings(pid);
    writable.retain(|mapping| mapping.write && !is_ours(&mapping.path));
    let mut found = Vec::new();
    for &cell in cells {
        let low = u64::from(cell) << 3;
        for mapping in &writable {
            // The first such address in the mapping; each further one is 32 GiB behind.
            let base = mapping.start & !((1 << 35) - 1);
            let candidates = [base + low, base + (1 << 35) + low];
            let inside = candidates.into_iter().filter(|&address| mapping.contains(address));
            found.extend(inside.filter(|&address| {
                word(&memory, address).is_some_and(|word| region.contains(&word))
            }));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Notes in an image where the returns are that it stays for; its words of switches lie at `switches`.
pub(crate) fn note(memory: &File, region: &Range<u64>, switches: u64, returns: Option<&[u64]>) {
    let known = returns.filter(|returns| returns.len() <= MOST);
    let count = known.map_or(UNKNOWN, |returns| returns.len() as u64);
    let words = [MAGIC, count].into_iter().chain(known.into_iter().flatten().copied());
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let place = switches + NOTE;
    // Without a note the image stays for good.
    let _ = memory.write_all_at(&bytes, place);
    let distance = (place - region.start) as u32;
    let _ = memory.write_all_at(&distance.to_le_bytes(), region.start + POINTER);
}

/// Takes away what stayed in a process for calls that have returned meanwhile. Says how many images
/// still must stay.
///
/// # Errors
/// When something should go and does not.
pub(crate) fn sweep(pid: i32) -> Result<usize, InjectError> {
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return Ok(0) };
    let (mut staying, mut going) = (0, Vec::new());
    for region in images(pid, &memory) {
        let Some(returns) = noted(&memory, &region) else { continue };
        let alive = |&address: &u64| word(&memory, address).is_some_and(|at| region.contains(&at));
        match returns {
            Some(returns) if !returns.iter().any(alive) => going.push(region),
            _ => staying += 1,
        }
    }
    if !going.is_empty() {
        unmap(pid, &going, None)?;
    }
    Ok(staying)
}

/// Where images of the agent lie.
fn images(pid: i32, memory: &File) -> Vec<Range<u64>> {
    let mut images: Vec<Range<u64>> = Vec::new();
    for mapping in mappings(pid).into_iter().filter(|mapping| is_ours(&mapping.path)) {
        let begins = word(memory, mapping.start)
            .is_some_and(|head| head.to_le_bytes().starts_with(b"\x7fELF"));
        match images.last_mut() {
            _ if begins && !mapping.shared => images.push(mapping.start..mapping.end),
            Some(image) if image.end == mapping.start && !mapping.shared => image.end = mapping.end,
            _ => {}
        }
    }
    images
}

/// What an image's note says: `None` for one that is in use, or has none.
fn noted(memory: &File, region: &Range<u64>) -> Option<Option<Vec<u64>>> {
    let mut distance = [0; 4];
    memory.read_exact_at(&mut distance, region.start + POINTER).ok()?;
    let place = region.start + u64::from(u32::from_le_bytes(distance));
    if place == region.start || word(memory, place)? != MAGIC {
        return None;
    }
    let count = word(memory, place + 8)?;
    if count > MOST as u64 {
        return Some(None);
    }
    Some((0..count).map(|index| word(memory, place + 16 + 8 * index)).collect())
}
