//! Runs a few instructions on the real processor, from one complete state to another.

use super::generate::Random;
use super::shared::map;
use std::arch::global_asm;
use std::ptr::{addr_of, addr_of_mut};

/// Where the original instructions are. Their operands and branch targets are within the window.
const WINDOW: u64 = 0x2_0000_0000;
const ORIGINAL: u64 = WINDOW + 0x8000;
/// The places that branches lead to.
const EXITS: u64 = WINDOW + 0x1_0000;
const EXIT_COUNT: u64 = 4;
const EXIT_BYTES: u64 = 64;
const DATA: u64 = WINDOW + 0x2_0000;
const DATA_BYTES: usize = 4096;
const STACK: u64 = WINDOW + 0x4_0000;
const STACK_BYTES: usize = 4096;
const WINDOW_BYTES: usize = 0x5_0000;
const NEAR: u64 = 0x2_4000_0000;
const FAR: u64 = 0x30_0000_0000;

const RSP: usize = 4;
/// Carry, parity, adjust, zero, sign, direction, overflow.
const FLAGS: u64 = 0xcd5;

/// Registers and flags. The layout is known to the assembler below.
#[repr(C)]
#[derive(Clone, PartialEq, Eq)]
struct Registers {
    general: [u64; 16],
    flags: u64,
    vector: [u128; 16],
}

/// Everything an instruction can read.
pub(crate) struct State {
    registers: Registers,
    data: Vec<u8>,
    stack: Vec<u8>,
}

/// Everything it can have changed, and where it went.
pub(crate) struct Outcome {
    state: State,
    exit: u64,
}

/// The memory that cases run in; there is one.
pub(crate) struct Machine(());

#[unsafe(no_mangle)]
static mut ORACLE_REGISTERS: Registers = Registers { general: [0; 16], flags: 0, vector: [0; 16] };
#[unsafe(no_mangle)]
static mut ORACLE_RAX: u64 = 0;
#[unsafe(no_mangle)]
static mut ORACLE_EXIT: u64 = 0;
#[unsafe(no_mangle)]
static mut ORACLE_RSP: u64 = 0;
#[unsafe(no_mangle)]
static mut ORACLE_TARGET: u64 = 0;

unsafe extern "C" {
    fn oracle_run();
    fn oracle_stop();
}

global_asm!(
    ".macro vectors op",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "\\op \\n",
    ".endr",
    ".endm",
    ".macro load_vector n",
    "movups xmm\\n, [rax + 144 + 16 * \\n]",
    ".endm",
    ".macro save_vector n",
    "movups [rax + 144 + 16 * \\n], xmm\\n",
    ".endm",
    // Loads all of ORACLE_REGISTERS and jumps to ORACLE_TARGET.
    "oracle_run:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + ORACLE_RSP], rsp",
    "lea rax, [rip + ORACLE_REGISTERS]",
    "vectors load_vector",
    "push qword ptr [rax + 128]",
    "popfq",
    "mov rcx, [rax + 8]",
    "mov rdx, [rax + 16]",
    "mov rbx, [rax + 24]",
    "mov rsp, [rax + 32]",
    "mov rbp, [rax + 40]",
    "mov rsi, [rax + 48]",
    "mov rdi, [rax + 56]",
    "mov r8, [rax + 64]",
    "mov r9, [rax + 72]",
    "mov r10, [rax + 80]",
    "mov r11, [rax + 88]",
    "mov r12, [rax + 96]",
    "mov r13, [rax + 104]",
    "mov r14, [rax + 112]",
    "mov r15, [rax + 120]",
    "mov rax, [rax]",
    "jmp [rip + ORACLE_TARGET]",
    // An exit has saved rax and said which one it is. Saves the rest and returns.
    "oracle_stop:",
    "lea rax, [rip + ORACLE_REGISTERS]",
    "mov [rax + 8], rcx",
    "mov [rax + 16], rdx",
    "mov [rax + 24], rbx",
    "mov [rax + 32], rsp",
    "mov [rax + 40], rbp",
    "mov [rax + 48], rsi",
    "mov [rax + 56], rdi",
    "mov [rax + 64], r8",
    "mov [rax + 72], r9",
    "mov [rax + 80], r10",
    "mov [rax + 88], r11",
    "mov [rax + 96], r12",
    "mov [rax + 104], r13",
    "mov [rax + 112], r14",
    "mov [rax + 120], r15",
    "vectors save_vector",
    "mov rsp, [rip + ORACLE_RSP]",
    "pushfq",
    "pop qword ptr [rax + 128]",
    "mov rcx, [rip + ORACLE_RAX]",
    "mov [rax], rcx",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

impl Machine {
    pub(crate) fn new() -> Self {
        map(WINDOW, WINDOW_BYTES);
        map(NEAR, 4096);
        map(FAR, 4096);
        let machine = Self(());
        for exit in 0..EXIT_COUNT {
            write(machine.exit(exit), &exit_code(exit));
        }
        machine
    }

    pub(crate) fn original(&self) -> u64 {
        ORIGINAL
    }

    pub(crate) fn near(&self) -> u64 {
        NEAR
    }

    pub(crate) fn far(&self) -> u64 {
        FAR
    }

    /// A place that branches may lead to. Exit 0 is also what follows the original.
    pub(crate) fn exit(&self, number: u64) -> u64 {
        EXITS + number * EXIT_BYTES
    }

    pub(crate) fn exits(&self) -> u64 {
        EXIT_COUNT
    }

    /// Memory that operands may name, in its middle.
    pub(crate) fn data(&self) -> u64 {
        DATA + DATA_BYTES as u64 / 2
    }

    pub(crate) fn write_original(&mut self, bytes: &[u8]) {
        write(ORIGINAL, bytes);
        let end = ORIGINAL + bytes.len() as u64;
        write(end, &exit_code(0));
    }

    pub(crate) fn write_copy(&mut self, place: u64, code: &[u8]) {
        write(place, &[0xcc; 128]);
        write(place, code);
    }

    /// Runs the code at `target` until an exit.
    pub(crate) fn run(&mut self, target: u64, start: &State) -> Outcome {
        write(DATA, &start.data);
        write(STACK, &start.stack);
        // SAFETY: one thread uses these statics; the code at `target` ends at an exit, which
        // restores everything a called function must.
        unsafe {
            addr_of_mut!(ORACLE_REGISTERS).write(start.registers.clone());
            ORACLE_TARGET = target;
            oracle_run();
            let mut registers = addr_of!(ORACLE_REGISTERS).read();
            registers.flags &= FLAGS;
            let state =
                State { registers, data: read(DATA, DATA_BYTES), stack: read(STACK, STACK_BYTES) };
            Outcome { state, exit: ORACLE_EXIT }
        }
    }
}

impl State {
    pub(crate) fn random(random: &mut Random, machine: &Machine) -> Self {
        let mut general = [(); 16].map(|()| random.next());
        general[RSP] = STACK + STACK_BYTES as u64 / 2;
        // rdi and rsi point to data, as arguments do.
        general[6] = machine.data() - 256;
        general[7] = machine.data() + 64;
        let flags = random.next() & FLAGS | 0x202;
        let vector = [(); 16].map(|()| u128::from(random.next()) << 64 | u128::from(random.next()));
        let mut data = random.bytes(DATA_BYTES);
        // Words that indirect branches read: addresses of exits, in the middle.
        for (index, word) in data[DATA_BYTES / 2..][..32].chunks_mut(8).enumerate() {
            word.copy_from_slice(&machine.exit(index as u64 % EXIT_COUNT).to_le_bytes());
        }
        let mut stack = random.bytes(STACK_BYTES);
        // Return addresses, where `ret` and `call [rsp + n]` find them.
        for word in stack[STACK_BYTES / 2 - 64..][..128].chunks_mut(8) {
            let exit = random.below(EXIT_COUNT);
            word.copy_from_slice(&machine.exit(exit).to_le_bytes());
        }
        Self { registers: Registers { general, flags, vector }, data, stack }
    }
}

impl Outcome {
    /// What differs, in words.
    pub(crate) fn difference(start: &State, expected: &Self, found: &Self) -> Option<String> {
        let (old, new) = (&expected.state, &found.state);
        if expected.exit != found.exit {
            return Some(format!("leaves by exit {}, not {}", found.exit, expected.exit));
        }
        for register in 0..16 {
            let (old, new) = (old.registers.general[register], new.registers.general[register]);
            if old != new {
                return Some(format!("register {register} is {new:#x}, not {old:#x}"));
            }
        }
        if old.registers.flags != new.registers.flags {
            let (old, new) = (old.registers.flags, new.registers.flags);
            return Some(format!("flags are {new:#x}, not {old:#x}"));
        }
        let checks = [
            ("vector registers", old.registers.vector == new.registers.vector),
            ("data", old.data == new.data),
            ("stack", same_stack(start, old, new)),
        ];
        checks.iter().find(|(_, same)| !same).map(|(what, _)| format!("{what} differ"))
    }
}

/// Whether two stacks are the same in all that the original wrote, and all that it was given. The
/// rest, far below the stack pointer, is dead: there the copy may keep a register. (Prologues that
/// pop five words can see it 40 bytes higher.)
fn same_stack(start: &State, expected: &State, found: &State) -> bool {
    let given = STACK_BYTES / 2 - 112 + 40;
    (0..STACK_BYTES).all(|byte| {
        let written = expected.stack[byte] != start.stack[byte];
        expected.stack[byte] == found.stack[byte] || (byte < given && !written)
    })
}

/// `movabs [ORACLE_RAX], rax; mov eax, number; movabs [ORACLE_EXIT], rax; movabs rax,
/// oracle_stop; jmp rax`: touches neither flags nor stack.
fn exit_code(number: u64) -> Vec<u8> {
    let mut code = vec![0x48, 0xa3];
    code.extend((addr_of!(ORACLE_RAX) as u64).to_le_bytes());
    code.push(0xb8);
    code.extend((number as u32).to_le_bytes());
    code.extend([0x48, 0xa3]);
    code.extend((addr_of!(ORACLE_EXIT) as u64).to_le_bytes());
    code.extend([0x48, 0xb8]);
    code.extend((oracle_stop as *const () as u64).to_le_bytes());
    code.extend([0xff, 0xe0]);
    code
}

fn write(address: u64, bytes: &[u8]) {
    // SAFETY: only called for the machine's own mappings, which nothing else refers to.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}

fn read(address: u64, length: usize) -> Vec<u8> {
    // SAFETY: as for `write`.
    unsafe { std::slice::from_raw_parts(address as *const u8, length) }.to_vec()
}
