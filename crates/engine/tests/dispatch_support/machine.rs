//! Runs code on the real processor from one complete state to another, and callbacks that leave
//! nothing as it was.

use std::arch::global_asm;

const STACK_WORDS: usize = 8192;
/// Words above the return address, to be left alone.
const GIVEN_WORDS: usize = 64;
const RSP: usize = 4;
/// Carry, parity, adjust, zero, sign, overflow.
pub(crate) const STATUS: u64 = 0x8d5;

/// Registers; the layout is known to the assembler below.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    /// `rax rcx rdx rbx rsp rbp rsi rdi`, `r8`–`r15`.
    pub(crate) general: [u64; 16],
    pub(crate) flags: u64,
    pub(crate) host: u64,
    /// 0: `xmm` only; 1: `ymm`; 2: `zmm` and masks.
    pub(crate) width: u64,
    pub(crate) masks: [u64; 8],
    pub(crate) padding: [u64; 5],
    pub(crate) vectors: [[u64; 8]; 32],
}

/// What a callback of the assembler below has seen.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) function: u64,
    pub(crate) parent: u64,
    pub(crate) registers: u64,
    pub(crate) stack: u64,
}

unsafe extern "C" {
    fn dispatch_run(state: *mut State, target: u64);
    fn dispatch_back();
    pub(crate) fn dispatch_general();
    pub(crate) fn dispatch_xmm();
    pub(crate) fn dispatch_ymm();
    pub(crate) fn dispatch_zmm();
    pub(crate) fn dispatch_direct_return();
    pub(crate) fn dispatch_direct_around();
}

global_asm!(
    ".globl dispatch_run, dispatch_back, dispatch_general, dispatch_xmm, dispatch_ymm",
    ".globl dispatch_zmm, dispatch_direct_return, dispatch_direct_around",
    ".macro d_each op, from, to",
    ".altmacro",
    "d_n = \\from",
    ".rept \\to - \\from",
    "d_one \\op, %d_n",
    "d_n = d_n + 1",
    ".endr",
    ".noaltmacro",
    ".endm",
    ".macro d_one op, n",
    "\\op \\n",
    ".endm",
    ".macro d_load_xmm n",
    "movups xmm\\n, [rax + 256 + 64 * \\n]",
    ".endm",
    ".macro d_save_xmm n",
    "movups [rax + 256 + 64 * \\n], xmm\\n",
    ".endm",
    ".macro d_load_ymm n",
    "vmovups ymm\\n, [rax + 256 + 64 * \\n]",
    ".endm",
    ".macro d_save_ymm n",
    "vmovups [rax + 256 + 64 * \\n], ymm\\n",
    ".endm",
    ".macro d_load_zmm n",
    "vmovups zmm\\n, [rax + 256 + 64 * \\n]",
    ".endm",
    ".macro d_save_zmm n",
    "vmovups [rax + 256 + 64 * \\n], zmm\\n",
    ".endm",
    ".macro d_load_mask n",
    "kmovq k\\n, [rax + 152 + 8 * \\n]",
    ".endm",
    ".macro d_save_mask n",
    "kmovq [rax + 152 + 8 * \\n], k\\n",
    ".endm",
    ".macro d_break_xmm n",
    "pcmpeqd xmm\\n, xmm\\n",
    ".endm",
    ".macro d_break_zmm n",
    "vpternlogd zmm\\n, zmm\\n, zmm\\n, 255",
    ".endm",
    ".macro d_break_mask n",
    "kxnorq k\\n, k\\n, k\\n",
    ".endm",
    // Runs `rsi` with the state at `rdi`. Its stack: the return address, then the state's.
    "dispatch_run:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi + 136], rsp",
    "mov rax, rdi",
    "mov rsp, [rax + 32]",
    "lea rcx, [rip + dispatch_back]",
    "mov [rsp], rcx",
    "mov [rsp + 8], rax",
    "mov [rsp - 16], rsi",
    "cmp qword ptr [rax + 144], 1",
    "jb 1f",
    "je 2f",
    "d_each d_load_zmm 0 32",
    "d_each d_load_mask 0 8",
    "jmp 3f",
    "2: d_each d_load_ymm 0 16",
    "jmp 3f",
    "1: d_each d_load_xmm 0 16",
    "3: push qword ptr [rax + 128]",
    "popfq",
    "mov rcx, [rax + 8]",
    "mov rdx, [rax + 16]",
    "mov rbx, [rax + 24]",
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
    "jmp [rsp - 16]",
    "dispatch_back:",
    "xchg rax, [rsp]",
    "pushfq",
    "pop qword ptr [rax + 128]",
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
    "mov rcx, [rsp]",
    "mov [rax], rcx",
    "cmp qword ptr [rax + 144], 1",
    "jb 1f",
    "je 2f",
    "d_each d_save_zmm 0 32",
    "d_each d_save_mask 0 8",
    "vzeroupper",
    "jmp 3f",
    "2: d_each d_save_ymm 0 16",
    "vzeroupper",
    "jmp 3f",
    "1: d_each d_save_xmm 0 16",
    "3: mov rsp, [rax + 136]",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // Callbacks: note the arguments, and change all that a function may change.
    "dispatch_zmm:",
    "d_each d_break_zmm 0 32",
    "d_each d_break_mask 0 8",
    "jmp dispatch_general",
    "dispatch_ymm:",
    "vzeroupper",
    "dispatch_xmm:",
    "d_each d_break_xmm 0 16",
    "dispatch_general:",
    "lock inc qword ptr [rdx]",
    "mov [rdx + 8], rdi",
    "mov [rdx + 16], rsi",
    "mov [rdx + 24], rcx",
    "mov [rdx + 32], rsp",
    ".irp reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11",
    "mov \\reg, 0x5ead5ead",
    ".endr",
    "cmp rax, 1",
    "ret",
    // Caller-supplied code: lets the function run …
    "dispatch_direct_return:",
    "ret",
    // … or runs it, and adds a thousand to what it returns.
    "dispatch_direct_around:",
    "mov r10, [rsp]",
    "call r10",
    "lea rax, [rax + 1000]",
    "lea rsp, [rsp + 8]",
    "ret",
);

/// Random numbers (xorshift), the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A stack for the code that is run.
pub(crate) struct Machine {
    stack: Vec<u64>,
    width: u64,
}

/// Whether the processor has AVX (1), or AVX-512 as far as needed (2).
pub(crate) fn width() -> u64 {
    if is_x86_feature_detected!("avx512bw") {
        2
    } else {
        u64::from(is_x86_feature_detected!("avx"))
    }
}

impl Machine {
    /// Vector registers of this width, of those there are, are part of its states.
    pub(crate) fn new(wanted: u64) -> Self {
        Self { stack: vec![0; STACK_WORDS], width: wanted.min(width()) }
    }

    /// `misaligned` by so many words: functions not written by a compiler may come with any stack.
    pub(crate) fn random_state(&mut self, random: &mut Random, misaligned: usize) -> State {
        self.stack.fill_with(|| random.next());
        let top = self.stack.as_ptr_range().end as u64 & !15;
        let mut general = [(); 16].map(|()| random.next());
        general[RSP] = top - 8 * (GIVEN_WORDS + 1 + misaligned) as u64;
        let lanes = [2, 4, 8][self.width as usize];
        let count = if self.width == 2 { 32 } else { 16 };
        let mut vectors = [[0; 8]; 32];
        for vector in &mut vectors[..count] {
            vector[..lanes].fill_with(|| random.next());
        }
        let masks = [(); 8].map(|()| if self.width == 2 { random.next() } else { 0 });
        let flags = random.next() & STATUS | 0x202;
        let width = self.width;
        State { general, flags, host: 0, width, masks, padding: [0; 5], vectors }
    }

    /// Runs a function; the stack above its return address must be left alone.
    pub(crate) fn run(&mut self, function: u64, start: &State) -> State {
        let mut state = start.clone();
        let above = self.stack.len() - (GIVEN_WORDS - 2);
        let given = self.stack[above..].to_vec();
        // SAFETY: the function is code that the test generated; the stack is large enough.
        unsafe { dispatch_run(&raw mut state, function) };
        assert_eq!(self.stack[above..], given, "the caller's stack");
        assert_eq!(state.general[RSP], start.general[RSP] + 8, "the stack pointer");
        state.host = 0;
        state
    }

    /// The address that functions return to.
    pub(crate) fn parent() -> u64 {
        dispatch_back as *const () as u64
    }
}
