//! The program's environment: what we put there is found, used and taken out again.

use sledge_wire::message::SOCKET_VARIABLE;

const PRELOAD: &[u8] = b"LD_PRELOAD";

/// Longest socket path and agent path that fit.
pub(crate) const MAX_PATH: usize = 256;

/// A path, zero-terminated.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    bytes: [u8; MAX_PATH],
    length: usize,
}

impl Path {
    pub(crate) const EMPTY: Self = Self { bytes: [0; MAX_PATH], length: 0 };

    /// The bytes up to the terminating zero, without it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    fn copy_of(text: &[u8]) -> Option<Self> {
        let mut path = Self::EMPTY;
        if text.len() >= MAX_PATH {
            return None;
        }
        path.bytes.get_mut(..text.len())?.copy_from_slice(text);
        path.length = text.len();
        Some(path)
    }
}

/// What the controller put into the environment.
pub(crate) struct Ours {
    pub(crate) socket: Path,
    pub(crate) agent: Path,
}

/// Takes our variables out of an environment and returns what they said.
///
/// # Safety
/// `environment` is the array of zero-terminated strings that the kernel laid out for this
/// image; nobody else reads it meanwhile (the loader has not let the program run yet).
pub(crate) unsafe fn take(environment: *mut *mut u8) -> Option<Ours> {
    let mut ours = Ours { socket: Path::EMPTY, agent: Path::EMPTY };
    let (mut from, mut to) = (environment, environment);
    loop {
        // SAFETY: `from` and `to` stay within the array, which a null ends.
        let entry = unsafe { *from };
        // SAFETY: a non-null entry is a zero-terminated string of the kernel's layout.
        let keep = entry.is_null() || unsafe { keep(entry, &mut ours) };
        if keep {
            // SAFETY: as above; `to` never overtakes `from`.
            unsafe { *to = entry };
            to = to.wrapping_add(1);
        }
        if entry.is_null() {
            break;
        }
        from = from.wrapping_add(1);
    }
    (!ours.socket.as_bytes().is_empty() && !ours.agent.as_bytes().is_empty()).then_some(ours)
}

/// Whether an entry stays; ours are noted and go, a shared `LD_PRELOAD` loses our part.
///
/// # Safety
/// `entry` is a zero-terminated string that may be written.
unsafe fn keep(entry: *mut u8, ours: &mut Ours) -> bool {
    // SAFETY: the caller's promise.
    let text = unsafe { text_mut(entry) };
    if let Some(value) = value_of(text, SOCKET_VARIABLE.as_bytes()) {
        ours.socket = Path::copy_of(value).unwrap_or(Path::EMPTY);
        return false;
    }
    let Some(value) = value_of(text, PRELOAD) else { return true };
    let agent = value.iter().position(|&b| b == b':').unwrap_or(value.len());
    let Some(path) = value.get(..agent).filter(|path| is_agent(path)) else { return true };
    ours.agent = Path::copy_of(path).unwrap_or(Path::EMPTY);
    let rest = PRELOAD.len() + 1 + agent + 1;
    if rest >= text.len() {
        return false;
    }
    let length = text.len();
    text.copy_within(rest.., PRELOAD.len() + 1);
    if let Some(end) = text.get_mut(PRELOAD.len() + 1 + length - rest) {
        *end = 0;
    }
    true
}

/// Whether a preloaded path is the agent's: the controller gives it this name and no other.
fn is_agent(path: &[u8]) -> bool {
    path.ends_with(b"/libsledge-agent.so")
}

/// The value of `NAME=value`, if the entry has that name.
pub(crate) fn value_of<'a>(entry: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    entry.strip_prefix(name)?.strip_prefix(b"=")
}

/// # Safety
/// `text` is a zero-terminated string that nobody else uses while the slice lives.
unsafe fn text_mut<'a>(text: *mut u8) -> &'a mut [u8] {
    let mut length = 0;
    // SAFETY: reads up to the terminating zero.
    while unsafe { *text.wrapping_add(length) } != 0 {
        length += 1;
    }
    // SAFETY: those bytes were just read.
    unsafe { core::slice::from_raw_parts_mut(text, length) }
}
