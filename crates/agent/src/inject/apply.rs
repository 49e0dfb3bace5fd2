//! Carries out the controller's plan, while the program is still single-threaded.
//!
//! The plan lies in shared memory with the original bytes of every site in it, so it is the
//! journal, too: whoever holds it can put everything back.

use super::system::{self, Errno, PROT_EXEC, PROT_READ, PROT_WRITE};
use sledge_wire::message::{Applied, STEP_DONE, STEP_REFUSED, STEP_RESULT, STEP_WORDS, Step};

/// Carries out `steps` steps of the plan in `plan`; maps code from `code`.
pub(crate) fn apply(plan: i32, code: i32, steps: u64) -> Applied {
    let mut applied = Applied { patched: 0, refused: 0, failed_step: 0, error: 0 };
    let length = steps * 8 * STEP_WORDS as u64;
    let protection = PROT_READ | PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let mapped =
        unsafe { system::map(0, length, protection, system::MAP_SHARED, i64::from(plan), 0) };
    let address = match mapped {
        Ok(address) => address,
        Err(Errno(error)) => return Applied { error, ..applied },
    };
    for index in 0..steps {
        let words = (address + index * 8 * STEP_WORDS as u64) as *mut [u64; STEP_WORDS];
        // SAFETY: within the mapping made above, aligned to words.
        let step = unsafe { words.read_volatile() };
        let mut words_after = step;
        match Step::from_words(step).map_or(Err(Errno(22)), |step| carry_out(step, code)) {
            Ok(Outcome::Done) => words_after[STEP_RESULT] = STEP_DONE,
            Ok(Outcome::Patched) => {
                applied.patched += 1;
                words_after[STEP_RESULT] = STEP_DONE;
            }
            Ok(Outcome::Refused(found)) => {
                applied.refused += 1;
                words_after[STEP_RESULT] = STEP_REFUSED;
                words_after[STEP_RESULT - 1] = found;
            }
            Err(Errno(error)) => {
                applied.failed_step = index;
                applied.error = error;
                break;
            }
        }
        // SAFETY: as above.
        unsafe { words.write_volatile(words_after) };
    }
    // SAFETY: the mapping made above; nothing refers to it any more.
    unsafe { system::unmap(address, length) };
    applied
}

enum Outcome {
    Done,
    Patched,
    Refused(u64),
}

fn carry_out(step: Step, code: i32) -> Result<Outcome, Errno> {
    match step {
        Step::Map { address, length, offset, reserved } => {
            let place = if reserved { system::MAP_FIXED } else { system::MAP_FIXED_NOREPLACE };
            let flags = system::MAP_SHARED | place;
            // SAFETY: a fixed mapping goes over our own reserved ranges, where nothing is yet;
            // any other fails where something is.
            let at = unsafe {
                system::map(address, length, PROT_READ | PROT_EXEC, flags, i64::from(code), offset)?
            };
            // A kernel that ignores the flag chose another place.
            if at == address { Ok(Outcome::Done) } else { Err(Errno(17)) }
        }
        Step::Open { address, length } => {
            // SAFETY: no thread but this one exists, and it runs none of this code meanwhile.
            unsafe { system::protect(address, length, PROT_READ | PROT_WRITE)? };
            Ok(Outcome::Done)
        }
        Step::Close { address, length, protection } => {
            // SAFETY: the protection that the pages had.
            unsafe { system::protect(address, length, protection)? };
            Ok(Outcome::Done)
        }
        Step::Patch { address, length, expected, replacement } => {
            // SAFETY: the pages are mapped and were opened for writing by an earlier step.
            Ok(unsafe { patch(address, length.min(8), expected, replacement) })
        }
    }
}

/// Replaces `length` bytes if they are what is expected (I3).
///
/// # Safety
/// The bytes are writable and nobody executes them now.
unsafe fn patch(address: u64, length: u64, expected: u64, replacement: u64) -> Outcome {
    let site = address as *mut u8;
    let mut found = [0u8; 8];
    for (i, byte) in found.iter_mut().enumerate().take(length as usize) {
        // SAFETY: the caller's promise.
        *byte = unsafe { site.add(i).read_volatile() };
    }
    if u64::from_le_bytes(found) != expected {
        return Outcome::Refused(u64::from_le_bytes(found));
    }
    for (i, byte) in replacement.to_le_bytes().into_iter().enumerate().take(length as usize) {
        // SAFETY: the caller's promise.
        unsafe { site.add(i).write_volatile(byte) };
    }
    Outcome::Patched
}
