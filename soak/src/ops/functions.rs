//! Functions in assembly, in this program's own text: the library finds them as it finds any.

use std::arch::global_asm;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Second arguments are the first ones with these bits turned.
pub(crate) const KEY: u64 = 0x5a5a_1234_9876_a5a5;
/// What [`replacement`] adds.
pub(crate) const REPLACED: u64 = 0x7777_7777;
/// Each shape begins at so many places relative to a line of the cache, and some at a page.
pub(crate) const PLACES: usize = 7;

/// Shapes by name, and what each adds to its argument.
const SHAPES: [(&str, u64); 10] = [
    ("one", 0x1122_3344),
    ("two", 0x55),
    ("three", 7),
    ("four", 19),
    ("nops", 9),
    ("endbr", 11),
    ("rip", 0x1234_5678_9abc),
    ("branch", 13),
    ("call", 17),
    ("tiny", 0),
];
pub(crate) const COUNT: usize = SHAPES.len() * PLACES;
/// Functions by number: the first of these shapes.
pub(crate) const REPLACEABLE: usize = 0;
pub(crate) const DIRECT: usize = PLACES;

global_asm!(
    ".globl soak_functions, soak_direct, soak_direct_calls",
    ".hidden soak_functions, soak_direct, soak_direct_calls",
    ".pushsection .text.soak, \"ax\", @progbits",
    ".macro soak_body_one; lea rax, [rdi + 0x11223344]; ret; .endm",
    ".macro soak_body_two; mov rax, rdi; add rax, 0x55; ret; .endm",
    ".macro soak_body_three; push rbp; mov rbp, rsp; lea rax, [rdi + 7]; pop rbp; ret; .endm",
    ".macro soak_body_four; push rbx; push rbp; xor eax, eax; inc eax",
    "lea rax, [rdi + rax + 18]; pop rbp; pop rbx; ret; .endm",
    ".macro soak_body_nops; .byte 0x90, 0x90, 0x90, 0x90, 0x90; lea rax, [rdi + 9]; ret; .endm",
    ".macro soak_body_endbr; endbr64; push rbx; mov rbx, rdi; lea rax, [rbx + 11]; pop rbx",
    "ret; .endm",
    ".macro soak_body_rip; mov rax, [rip + soak_constant]; add rax, rdi; ret; .endm",
    ".macro soak_body_branch; test edi, edi; je 77f; lea rax, [rdi + 13]; ret",
    "77: lea rax, [rdi + 13]; ret; .endm",
    ".macro soak_body_call; call soak_helper; add rax, 1; ret; .endm",
    ".macro soak_body_tiny; mov rax, rdi; ret; .endm",
    ".macro soak_shape shape",
    ".irp place, 0, 1, 2, 3, 4, 5, 6",
    ".balign 256, 0xcc",
    ".skip 256 - \\place, 0xcc",
    ".type soak_\\shape\\()_\\place, @function",
    "soak_\\shape\\()_\\place:",
    "soak_body_\\shape",
    ".size soak_\\shape\\()_\\place, . - soak_\\shape\\()_\\place",
    ".pushsection .data.rel.ro.soak_functions, \"aw\", @progbits",
    ".quad soak_\\shape\\()_\\place",
    ".popsection",
    ".endr",
    ".endm",
    ".pushsection .data.rel.ro.soak_functions, \"aw\", @progbits",
    ".balign 8",
    "soak_functions:",
    ".popsection",
    ".balign 4096, 0xcc",
    "soak_shape one",
    "soak_shape two",
    "soak_shape three",
    "soak_shape four",
    "soak_shape nops",
    "soak_shape endbr",
    "soak_shape rip",
    "soak_shape branch",
    "soak_shape call",
    "soak_shape tiny",
    ".balign 256, 0xcc",
    ".type soak_helper, @function",
    "soak_helper: lea rax, [rdi + 16]; ret",
    ".size soak_helper, . - soak_helper",
    ".balign 16, 0xcc",
    // Counts, and goes on in the function.
    ".type soak_direct, @function",
    "soak_direct: lock inc qword ptr [rip + soak_direct_calls]; ret",
    ".size soak_direct, . - soak_direct",
    ".balign 8",
    "soak_constant: .quad 0x123456789abc",
    ".popsection",
    ".pushsection .bss.soak_direct_calls, \"aw\", @nobits",
    ".balign 8",
    "soak_direct_calls: .quad 0",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "soak_functions"]
    static ADDRESSES: [u64; COUNT];
    #[link_name = "soak_direct"]
    static DIRECT_CODE: [u8; 9];
    #[link_name = "soak_direct_calls"]
    static DIRECT_CALLS: AtomicU64;
}

/// Calls of each function that were made.
static MADE: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

pub(crate) fn addresses() -> &'static [u64; COUNT] {
    // SAFETY: a table that the loader has filled in, and nobody changes.
    unsafe { &ADDRESSES }
}

pub(crate) fn name(number: usize) -> String {
    format!("soak_{}_{}", SHAPES[number / PLACES].0, number % PLACES)
}

/// Which function an address is; they lie in the order of their numbers.
pub(crate) fn number(address: u64) -> Option<usize> {
    addresses().binary_search(&address).ok()
}

pub(crate) fn is_replaceable(number: usize) -> bool {
    (REPLACEABLE..REPLACEABLE + PLACES).contains(&number)
}

/// Calls a function, without noting it.
#[inline]
pub(crate) fn call(number: usize, argument: u64) -> u64 {
    // SAFETY: a function of this type.
    let function: extern "C" fn(u64, u64) -> u64 =
        unsafe { std::mem::transmute(addresses()[number] as usize) };
    function(argument, argument ^ KEY)
}

pub(crate) fn plain(number: usize, argument: u64) -> u64 {
    argument.wrapping_add(SHAPES[number / PLACES].1)
}

/// Whether a result may be: a function that is being replaced may give either.
pub(crate) fn may_be(number: usize, argument: u64, result: u64) -> bool {
    result == plain(number, argument)
        || is_replaceable(number) && result == argument.wrapping_add(REPLACED)
}

/// Calls a function, notes it, and says whether the result may be.
pub(crate) fn check(number: usize, argument: u64) -> bool {
    let result = call(number, argument);
    MADE[number].fetch_add(1, Relaxed);
    may_be(number, argument, result)
}

pub(crate) fn note(number: usize, calls: u64) {
    MADE[number].fetch_add(calls, Relaxed);
}

pub(crate) fn made() -> Vec<u64> {
    MADE.iter().map(|calls| calls.load(Relaxed)).collect()
}

/// Stands for a function.
pub(crate) extern "C" fn replacement(argument: u64, _: u64) -> u64 {
    argument.wrapping_add(REPLACED)
}

/// Caller-supplied code, and its bytes as they are now.
pub(crate) fn direct() -> (*const std::ffi::c_void, [u8; 9]) {
    let code = &raw const DIRECT_CODE;
    // SAFETY: so many bytes of readable text.
    (code.cast(), unsafe { code.read_volatile() })
}

pub(crate) fn direct_calls() -> u64 {
    // SAFETY: an aligned word that is only changed by atomic instructions.
    unsafe { DIRECT_CALLS.load(Relaxed) }
}
