//! The socket to the controller: open only while something is being arranged.

use super::system::{self, Errno};
use sledge_wire::message::{MESSAGE_WORDS, Words};

const AF_UNIX: u64 = 1;
const SOCK_SEQPACKET_CLOEXEC: u64 = 5 | 0o2_000_000;
const MSG_NOSIGNAL: u64 = 0x4000;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const SCM_RIGHTS: u32 = 1;
const SOL_SOCKET: u32 = 1;
const MESSAGE_BYTES: usize = MESSAGE_WORDS * 8;

/// Most descriptors that come with one message.
pub(crate) const MAX_DESCRIPTORS: usize = 3;

/// A connection; closed when dropped.
pub(crate) struct Socket(u64);

/// A message and the descriptors that came with it (-1 where none).
pub(crate) struct Received {
    pub(crate) words: Words,
    pub(crate) descriptors: [i32; MAX_DESCRIPTORS],
}

#[repr(C)]
struct Vector {
    base: u64,
    length: u64,
}

#[repr(C)]
struct Header {
    name: u64,
    name_length: u64,
    vectors: u64,
    vector_count: u64,
    control: u64,
    control_length: u64,
    flags: u64,
}

#[repr(C, align(8))]
struct Control {
    length: u64,
    level: u32,
    kind: u32,
    descriptors: [i32; MAX_DESCRIPTORS + 1],
}

impl Socket {
    /// Connects to the controller's socket.
    pub(crate) fn connect(path: &[u8]) -> Result<Self, Errno> {
        let mut address = [0u8; 110];
        address[0] = AF_UNIX as u8;
        let room = address.get_mut(2..2 + path.len()).ok_or(Errno(36))?;
        room.copy_from_slice(path);
        let length = path.len() as u64 + 3;
        // SAFETY: creates a descriptor, touches no memory.
        let socket =
            unsafe { system::retrying(41, [AF_UNIX, SOCK_SEQPACKET_CLOEXEC, 0, 0, 0, 0])? };
        let socket = Self(socket);
        // SAFETY: reads `length` bytes of the address, which is longer.
        unsafe {
            system::retrying(42, [socket.0, address.as_ptr().addr() as u64, length, 0, 0, 0])?;
        }
        Ok(socket)
    }

    pub(crate) fn send(&self, words: &Words) -> Result<(), Errno> {
        let buffer = words.as_ptr().addr() as u64;
        // SAFETY: reads the message only.
        unsafe {
            let arguments = [self.0, buffer, MESSAGE_BYTES as u64, MSG_NOSIGNAL, 0, 0];
            system::retrying(44, arguments).map(drop)
        }
    }

    /// Waits for a message; an end of the connection is an error.
    pub(crate) fn receive(&self) -> Result<Received, Errno> {
        let mut received = Received { words: [0; MESSAGE_WORDS], descriptors: [-1; 3] };
        let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; 4] };
        let vector = Vector {
            base: received.words.as_mut_ptr().addr() as u64,
            length: MESSAGE_BYTES as u64,
        };
        let mut header = Header {
            name: 0,
            name_length: 0,
            vectors: (&raw const vector).addr() as u64,
            vector_count: 1,
            control: (&raw mut control).addr() as u64,
            control_length: 16 + 4 * MAX_DESCRIPTORS as u64,
            flags: 0,
        };
        let address = (&raw mut header).addr() as u64;
        // SAFETY: the header names buffers that live here, with their true lengths.
        let bytes = unsafe { system::retrying(47, [self.0, address, MSG_CMSG_CLOEXEC, 0, 0, 0])? };
        // SAFETY: the kernel wrote it behind the compiler's back.
        let control = unsafe { (&raw const control).read_volatile() };
        // SAFETY: likewise.
        received.words = unsafe { (&raw const received.words).read_volatile() };
        if bytes == 0 {
            return Err(Errno(104));
        }
        if control.level == SOL_SOCKET && control.kind == SCM_RIGHTS && control.length >= 16 {
            let count = ((control.length - 16) / 4) as usize;
            for (to, from) in received.descriptors.iter_mut().zip(control.descriptors).take(count) {
                *to = from;
            }
        }
        Ok(received)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        system::close(self.0);
    }
}
