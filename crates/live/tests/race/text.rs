//! Functions with every kind of prologue, and all that is needed to patch them.

use nix::libc;
use sledge_discover::maps;
use sledge_discover::site::{HOP_BYTES, PATCH_BYTES, Returns, Rung, Site};
use sledge_engine::islands::{AddressSpace, Options, SiteSpec, place};
use sledge_engine::relocate::relocate;
use sledge_engine::thunk;
use sledge_live::patch::{LiveSite, PatchError};
use std::ops::Range;

/// Text, copies and cells of each function.
const CELL: usize = 128;
const PAGE: usize = 4096;
/// What RIP-relative operands name.
const CONSTANT: u64 = 0x1234_5678_9abc;
const HELPER: [u8; 4] = [0x48, 0xff, 0xc7, 0xc3];

/// One instruction of a prologue, and what it does to `rdi`.
#[derive(Clone, Copy, Debug)]
enum Op {
    Endbr64,
    Nop,
    Push,
    PushImmediate,
    IncrementEdi,
    TestEdi,
    Increment,
    AddByte,
    AddEdi,
    Lea,
    AddRipRelative,
    /// Over an increment, if `edi` was zero: short and near.
    SkipShort,
    SkipNear,
    CallHelper,
    /// `mov eax, edi`.
    Truncate,
}

impl Op {
    fn bytes(self, at: u64, constant: u64, helper: u64) -> Vec<u8> {
        let relative = |length: u64, to: u64| (to.wrapping_sub(at + length) as u32).to_le_bytes();
        match self {
            Self::Endbr64 => vec![0xf3, 0x0f, 0x1e, 0xfa],
            Self::Nop => vec![0x90],
            Self::Push => vec![0x53],
            Self::PushImmediate => vec![0x68, 0x50, 0x51, 0x52, 0x53],
            Self::IncrementEdi => vec![0xff, 0xc7],
            Self::TestEdi => vec![0x85, 0xff],
            Self::Increment => vec![0x48, 0xff, 0xc7],
            Self::AddByte => vec![0x48, 0x83, 0xc7, 0x35],
            Self::AddEdi => vec![0x81, 0xc7, 0x21, 0x43, 0x65, 0x07],
            Self::Lea => vec![0x48, 0x8d, 0xbf, 0x11, 0x22, 0x33, 0x44],
            Self::AddRipRelative => {
                [vec![0x48, 0x03, 0x3d], relative(7, constant).to_vec()].concat()
            }
            Self::Truncate => vec![0x89, 0xf8],
            Self::SkipShort => vec![0x74, 3],
            Self::SkipNear => vec![0x0f, 0x84, 3, 0, 0, 0],
            Self::CallHelper => [vec![0xe8], relative(5, helper).to_vec()].concat(),
        }
    }

    fn apply(self, rdi: u64) -> u64 {
        match self {
            Self::Increment | Self::CallHelper => rdi.wrapping_add(1),
            Self::IncrementEdi => u64::from((rdi as u32).wrapping_add(1)),
            Self::Truncate => u64::from(rdi as u32),
            Self::AddByte => rdi.wrapping_add(0x35),
            Self::AddEdi => u64::from((rdi as u32).wrapping_add(0x0765_4321)),
            Self::Lea => rdi.wrapping_add(0x4433_2211),
            Self::AddRipRelative => rdi.wrapping_add(CONSTANT),
            _ => rdi,
        }
    }
}

/// A prologue for a pattern of boundaries; `variant` chooses how the last instruction goes on.
fn pattern(boundaries: u8, variant: usize) -> Vec<Op> {
    let by_length = |length| match length {
        1 => Op::Push,
        2 => Op::IncrementEdi,
        3 => Op::Increment,
        _ => Op::AddByte,
    };
    let starts: Vec<usize> =
        (0..PATCH_BYTES).filter(|&at| at == 0 || boundaries >> at & 1 != 0).collect();
    let mut ops: Vec<Op> = starts.windows(2).map(|pair| by_length(pair[1] - pair[0])).collect();
    let last = [Op::PushImmediate, Op::AddEdi, Op::Lea, Op::AddRipRelative, Op::CallHelper];
    let rest = PATCH_BYTES - starts[starts.len() - 1];
    ops.push(match variant % 6 {
        5 if rest < PATCH_BYTES => by_length(rest),
        variant => last[variant % 5],
    });
    ops
}

/// Prologues that are not only a pattern.
fn shapes() -> Vec<Vec<Op>> {
    use Op::{Endbr64, Increment, IncrementEdi, Nop, Push, SkipNear, SkipShort, TestEdi};
    vec![
        vec![Nop; 5],
        vec![Endbr64, Nop, Nop, Nop, Nop, Nop],
        vec![Endbr64, Push, Increment, Push],
        vec![Endbr64, Op::AddRipRelative],
        vec![Endbr64, Op::CallHelper],
        vec![TestEdi, SkipShort, Increment],
        vec![Push, TestEdi, SkipShort, Increment],
        vec![TestEdi, SkipNear, Increment],
        vec![Endbr64, Push, TestEdi, SkipNear, Increment],
        vec![IncrementEdi, TestEdi, SkipShort, Increment],
    ]
}

/// A function that can be called and patched.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) entry: u64,
    ops: Vec<Op>,
    pub(crate) site: Site,
}

impl Function {
    pub(crate) fn call(&self, argument: u64) -> u64 {
        // SAFETY: written by `Text::write` as a function of this type.
        let function: extern "C" fn(u64) -> u64 =
            unsafe { std::mem::transmute(self.entry as usize) };
        function(argument)
    }

    pub(crate) fn expected(&self, argument: u64) -> u64 {
        Self::run(&self.ops, argument)
    }

    fn run(ops: &[Op], argument: u64) -> u64 {
        let mut value = argument;
        let mut zero = false;
        let mut skips = false;
        for op in ops {
            if !std::mem::take(&mut skips) {
                value = op.apply(value);
            }
            match op {
                Op::TestEdi => zero = value as u32 == 0,
                Op::SkipShort | Op::SkipNear => skips = zero,
                _ => {}
            }
        }
        value
    }
}

/// A context that stands inside a patch: as if the instructions before had run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    pub(crate) address: u64,
    /// The first operation that is still to be run.
    next: usize,
    /// Words that those before have pushed.
    pub(crate) pushed: usize,
}

impl Function {
    /// All places inside the patch where a thread may stand, if flags tell it nothing there.
    pub(crate) fn inside(&self) -> Vec<Inside> {
        let mut address = self.entry;
        let mut pushed = 0;
        let mut found = Vec::new();
        for (next, op) in self.ops.iter().enumerate() {
            let offset = address.wrapping_sub(self.site.address);
            let stands = (1..PATCH_BYTES as u64).contains(&offset);
            if stands && !matches!(op, Op::SkipShort | Op::SkipNear) {
                found.push(Inside { address, next, pushed });
            }
            address += op.bytes(0, 0, 0).len() as u64;
            pushed += usize::from(matches!(op, Op::Push | Op::PushImmediate));
        }
        found
    }

    /// What the function returns when it goes on there.
    pub(crate) fn expected_from(&self, place: &Inside, argument: u64) -> u64 {
        Self::run(&self.ops[place.next..], argument)
    }
}

/// Text, copies and counters, one after the other, so that everything reaches everything; and
/// islands.
#[derive(Debug)]
pub(crate) struct Text {
    base: usize,
    /// Bytes of text, and of copies.
    length: usize,
    pub(crate) functions: Vec<Function>,
}

impl Text {
    /// Assembles `count` functions; the text cannot be written afterwards.
    pub(crate) fn new(count: usize) -> Self {
        let length = ((count + 2) * CELL).next_multiple_of(PAGE);
        let base = map(None, 2 * length + (count * 8).next_multiple_of(PAGE));
        let mut text = Self { base, length, functions: Vec::new() };
        put(base, &HELPER);
        put(base + 8, &CONSTANT.to_le_bytes());
        let special = shapes();
        for index in 0..count {
            let function = match index % 8 {
                6 => text.tiny(index, index / 8 % 2 == 0),
                7 => text.write(index, special[index / 8 % special.len()].clone()),
                _ => text.write(index, pattern(((index % 16) << 1) as u8, index / 16)),
            };
            text.functions.push(function);
        }
        protect(base, length, libc::PROT_READ | libc::PROT_EXEC);
        text
    }

    /// Where a function's patch starts: straddling lines of 8, 16 and 64 bytes, and pages.
    fn patch_start(&self, index: usize) -> usize {
        self.base + CELL / 2 + (index + 1) * CELL + CELL / 2 - index % 7
    }

    fn write(&self, index: usize, ops: Vec<Op>) -> Function {
        let lead: usize = if matches!(ops[0], Op::Endbr64) { 4 } else { 0 };
        let entry = self.patch_start(index) - lead;
        let (mut code, mut starts) = (Vec::new(), Vec::new());
        for op in &ops {
            starts.push(code.len());
            let at = (entry + code.len()) as u64;
            code.extend(op.bytes(at, self.base as u64 + 8, self.base as u64));
        }
        starts.push(code.len());
        code.extend([0x48, 0x89, 0xf8]);
        let pushes = ops.iter().filter(|op| matches!(op, Op::Push | Op::PushImmediate)).count();
        code.extend(vec![0x59; pushes]);
        code.push(0xc3);
        put(entry, &code);
        let end = starts.iter().copied().find(|&start| start >= lead + PATCH_BYTES);
        let displaced = code[lead..end.unwrap_or(code.len())].to_vec();
        let within = |start: &&usize| (lead + 1..lead + PATCH_BYTES).contains(start);
        let boundaries =
            starts.iter().filter(within).fold(0, |mask, start| mask | 1 << (start - lead));
        let address = (entry + lead) as u64;
        let (rung, returns, hop) = (Rung::Prologue, Returns::Hooked, None);
        let site = Site { address, rung, displaced, boundaries, returns, hop };
        Function { entry: entry as u64, ops, site }
    }

    /// A function that is shorter than the patch: with filler behind it, or by a hop.
    fn tiny(&self, index: usize, hops: bool) -> Function {
        let entry = self.patch_start(index);
        // `inc edi; mov eax, edi; ret`, and `mov eax, edi; ret`.
        let (code, displaced, boundaries, ops): (&[u8], usize, u8, Vec<Op>) = if hops {
            (&[0xff, 0xc7, 0x89, 0xf8, 0xc3], 2, 0, vec![Op::IncrementEdi])
        } else {
            (&[0x89, 0xf8, 0xc3, 0x90, 0x90], 3, 0b100, vec![Op::Truncate])
        };
        put(entry, code);
        let pad = entry + 9;
        put(pad, &[0x90; PATCH_BYTES]);
        let site = Site {
            address: entry as u64,
            rung: if hops { Rung::Hop } else { Rung::Prologue },
            displaced: code[..displaced].to_vec(),
            boundaries,
            returns: Returns::Hooked,
            hop: hops.then_some(pad as u64),
        };
        Function { entry: entry as u64, ops, site }
    }

    /// Places islands at trap-safe distances, and writes a counting thunk and a copy for each.
    pub(crate) fn live_sites(&self) -> Vec<LiveSite> {
        let specs: Vec<SiteSpec> =
            self.functions.iter().map(|function| spec(&function.site)).collect();
        let placed = place(&mut address_space(), &specs, thunk::ISLAND_BYTES, Options::default());
        assert_eq!(placed.misses, []);
        for mapping in &placed.mappings {
            map(Some(mapping.clone()), (mapping.end - mapping.start) as usize);
        }
        let sites = self.functions.iter().enumerate().map(|(index, function)| {
            let island = placed.islands[index].expect("placed");
            self.live_site(index, &function.site, island)
        });
        let sites = sites.collect();
        for mapping in &placed.mappings {
            let length = (mapping.end - mapping.start) as usize;
            protect(mapping.start as usize, length, libc::PROT_READ | libc::PROT_EXEC);
        }
        protect(self.base + self.length, self.length, libc::PROT_READ | libc::PROT_EXEC);
        sites
    }

    fn live_site(&self, index: usize, site: &Site, island: u64) -> LiveSite {
        let place = self.base + self.length + index * CELL;
        // `lock inc qword [counter]`: flags are dead at a function's entry.
        let distance = (self.counter(index) - (place + 8)) as u32;
        put(place, &[0xf0, 0x48, 0xff, 0x05]);
        put(place + 4, &distance.to_le_bytes());
        let copy_at = place as u64 + 8;
        let resume = site.address + site.displaced.len() as u64;
        let room = CELL - 8;
        let copy = relocate(&site.displaced, site.address, resume, copy_at, room).expect("moves");
        put(place + 8, &copy.code);
        put(island as usize, &thunk::island(place as u64));
        let live = LiveSite::new(site, read_text, &copy, copy_at, island);
        live.expect("a safe site")
    }

    fn counter(&self, index: usize) -> usize {
        self.base + 2 * self.length + index * 8
    }

    /// How often a function was called by way of its island.
    pub(crate) fn hits(&self, index: usize) -> u64 {
        // SAFETY: a mapped counter.
        unsafe { (self.counter(index) as *const u64).read_volatile() }
    }

    /// Everything as it was assembled, but for the padding of hops.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // SAFETY: mapped, and nobody writes now.
        let mut bytes =
            unsafe { std::slice::from_raw_parts(self.base as *const u8, self.length) }.to_vec();
        for hop in self.functions.iter().filter_map(|function| function.site.hop) {
            let at = hop as usize - self.base;
            bytes[at..at + PATCH_BYTES].fill(0);
        }
        bytes
    }

    /// Makes the text writable for good, for a writer without rules.
    pub(crate) fn open(&self) {
        protect(self.base, self.length, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    }
}

/// The far jump of a hop lies in its padding, where no instruction was.
fn spec(site: &Site) -> SiteSpec {
    match site.hop {
        Some(address) => SiteSpec { address, boundaries: 0 },
        None => SiteSpec { address: site.address, boundaries: site.boundaries },
    }
}

fn address_space() -> AddressSpace {
    let text = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let mappings = maps::parse(&text);
    let taken = mappings.iter().map(|mapping| mapping.start..mapping.end).collect();
    AddressSpace::new(taken)
}

fn read_text(address: u64, bytes: &mut [u8]) -> Result<(), PatchError> {
    // SAFETY: sites lie in mapped text.
    let text = unsafe { std::slice::from_raw_parts(address as *const u8, bytes.len()) };
    bytes.copy_from_slice(text);
    Ok(())
}

pub(crate) fn put(address: usize, bytes: &[u8]) {
    // SAFETY: mapped and writable, and not run while this is called, or meant to go wrong.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}

fn map(place: Option<Range<u64>>, length: usize) -> usize {
    let fixed = if place.is_some() { libc::MAP_FIXED_NOREPLACE } else { 0 };
    let start = place.map_or(0, |place| place.start as usize);
    // SAFETY: a new mapping that replaces none.
    let mapped = unsafe {
        libc::mmap(
            start as *mut _,
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed,
            -1,
            0,
        )
    };
    assert_ne!(mapped, libc::MAP_FAILED);
    mapped as usize
}

fn protect(start: usize, length: usize, protection: i32) {
    // SAFETY: a mapping of this test's.
    assert_eq!(unsafe { libc::mprotect(start as *mut _, length, protection) }, 0);
}

/// The bytes of a plain jump over a site, for a writer without rules.
pub(crate) fn plain_jump(live: &LiveSite) -> Vec<u8> {
    let jump = live.patch().jump;
    assert!([HOP_BYTES, PATCH_BYTES].contains(&jump.as_slice().len()));
    jump.as_slice().to_vec()
}
