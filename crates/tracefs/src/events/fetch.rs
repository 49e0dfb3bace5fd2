//! Fetch arguments of probes: `name=+8(%di):string`.

use super::definition::{Trouble, is_name};
use crate::words::parse_number;

/// What a probe takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// A register, by its number in [`REGISTERS`].
    Register(u8),
    /// The stack pointer.
    StackPointer,
    /// A word of the stack, counted from the return address.
    Stack(u32),
    /// The value that is returned.
    Return,
    /// An integer argument, from 0.
    Argument(u32),
    /// The name of the thread.
    Comm,
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
    /// An address, by symbol and offset.
    Symbol(String, i64),
    /// Memory: so far behind an address.
    Memory(i64, Box<Fetch>),
}

/// Registers in the order of their numbers.
pub const REGISTERS: [&str; 18] = [
    "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "ip", "flags",
];

/// How a value is read and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its kind.
    pub kind: TypeKind,
    /// Bytes.
    pub bytes: u8,
    /// Elements of an array; 0 for none.
    pub count: u8,
}

/// Kinds of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the kernel's type of that name")]
pub enum TypeKind {
    Unsigned,
    Signed,
    Hexadecimal,
    Char,
    Symbol,
    String,
    Bitfield { width: u8, offset: u8 },
}

/// An argument of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: String,
    /// As it was written, without the name.
    pub(crate) text: String,
    pub(crate) fetch: Fetch,
    pub(crate) kind: Type,
}

/// What the place of a probe allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allows {
    pub(crate) retval: bool,
    pub(crate) registers: bool,
    /// `$argN`: at entries and returns.
    pub(crate) arguments: bool,
}

/// The longest argument.
const MOST_BYTES: usize = 63;
const MOST_NAME: usize = 32;
/// The deepest nesting.
const MOST_OPERATIONS: usize = 13;
const MOST_STACK: u64 = 4096;

/// Names that fields have already.
const RESERVED: [&str; 7] = [
    "common_type",
    "common_flags",
    "common_preempt_count",
    "common_pid",
    "common_tgid",
    "__probe_ip",
    "__probe_func",
];

impl Argument {
    /// Reads an argument that stands at `at`; `before` are those before it.
    pub(crate) fn parse(
        text: &str,
        at: usize,
        before: &[Self],
        allows: Allows,
    ) -> Result<Self, Trouble> {
        let (name, body) = match text.split_once('=') {
            Some((name, _)) if name.len() > MOST_NAME => {
                return Err(Trouble::new("Argument name is too long", at));
            }
            Some(("", _)) => return Err(Trouble::new("Argument name is not specified", at)),
            Some((name, body)) => (name.to_owned(), body),
            None => (format!("arg{}", before.len() + 1), text),
        };
        if !is_name(&name) {
            let rule = "Argument name must follow the same rules as C identifiers";
            return Err(Trouble::new(rule, at));
        }
        if RESERVED.contains(&name.as_str()) || before.iter().any(|other| other.name == name) {
            return Err(Trouble::new("This argument name is already used", at));
        }
        let at = at + text.len() - body.len();
        if body.len() > MOST_BYTES {
            return Err(Trouble::new("Argument expression is too long", at));
        }
        if body.is_empty() {
            return Err(Trouble::new("No argument expression", at));
        }
        Self::parse_body(name, body, at, allows)
    }

    fn parse_body(name: String, body: &str, at: usize, allows: Allows) -> Result<Self, Trouble> {
        if body == "$arg*" {
            return Err(Trouble::new("BTF is not available or not supported", at));
        }
        let immediate = body.starts_with("\\\"");
        let (expression, typed) = match body.split_once(':').filter(|_| !immediate) {
            Some((expression, typed)) => (expression, Some((typed, at + expression.len() + 1))),
            None => (body, None),
        };
        let mut reader = Reader { allows, operations: 0 };
        let fetch = reader.read(expression, at)?;
        if reader.operations > MOST_OPERATIONS {
            let at = at + expression.find('(').map_or(0, |open| open + 1);
            return Err(Trouble::new("Dereference is too much nested", at));
        }
        let textual = matches!(fetch, Fetch::Comm | Fetch::Text(_));
        let kind = match typed {
            Some((typed, at)) => Type::parse(typed, at)?,
            None if textual => Type { kind: TypeKind::String, bytes: 8, count: 0 },
            None => Type { kind: TypeKind::Hexadecimal, bytes: 8, count: 0 },
        };
        let at = typed.map_or(at, |(_, at)| at);
        let memory = matches!(fetch, Fetch::Memory(..));
        if kind.kind == TypeKind::String && !memory && !textual {
            return Err(Trouble::new("String accepts only memory argument", at));
        }
        if textual && kind.kind != TypeKind::String {
            let rule = "$comm and immediate-string only accepts string type";
            return Err(Trouble::new(rule, at));
        }
        if kind.count > 0 && !memory {
            return Err(Trouble::new("String accepts only memory argument", at));
        }
        Ok(Self { name, text: body.to_owned(), fetch, kind })
    }
}

struct Reader {
    allows: Allows,
    operations: usize,
}

impl Reader {
    fn read(&mut self, text: &str, at: usize) -> Result<Fetch, Trouble> {
        self.operations += 1;
        let (first, rest) = match text.char_indices().nth(1) {
            Some((second, _)) => text.split_at(second),
            None => (text, ""),
        };
        match first {
            "$" => self.variable(rest, at),
            "%" if !self.allows.registers => Err(Trouble::new("Invalid $-variable specified", at)),
            "%" => {
                let number = REGISTERS.iter().position(|name| *name == rest);
                let number = number.ok_or_else(|| Trouble::new("Invalid register name", at))?;
                Ok(Fetch::Register(number as u8))
            }
            "@" => Self::memory(rest, at),
            "+" | "-" => self.dereference(text, at),
            "\\" => Self::immediate(rest, at),
            _ if first.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                Err(Trouble::new("BTF is not available or not supported", at))
            }
            _ => Err(Trouble::new("Invalid fetch argument", at)),
        }
    }

    fn variable(&self, name: &str, at: usize) -> Result<Fetch, Trouble> {
        let trouble = |error| Err(Trouble::new(error, at));
        let digits = |prefix: &str| {
            let rest = name.strip_prefix(prefix)?;
            rest.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
        };
        if name == "retval" {
            return match self.allows.retval {
                true => Ok(Fetch::Return),
                false => trouble("$retval is not available on probe"),
            };
        }
        if name == "comm" || name == "COMM" {
            return Ok(Fetch::Comm);
        }
        match digits("stack") {
            Some("") => return Ok(Fetch::StackPointer),
            Some(number) => match number.parse::<u64>() {
                Ok(number) if number <= MOST_STACK => return Ok(Fetch::Stack(number as u32)),
                _ => return trouble("Invalid stack number"),
            },
            None => {}
        }
        match digits("arg").filter(|number| !number.is_empty()) {
            Some(_) if !self.allows.arguments => {
                trouble("$arg* can be used only on function entry or exit")
            }
            Some(number) => match number.parse::<u64>() {
                Ok(number @ 1..=MOST_STACK) => Ok(Fetch::Argument(number as u32 - 1)),
                _ => trouble("Invalid argument number"),
            },
            None => trouble("Invalid $-variable specified"),
        }
    }

    /// `@0x1234`, `@symbol+8`.
    fn memory(text: &str, at: usize) -> Result<Fetch, Trouble> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let address = parse_number(text);
            let address = address.ok_or_else(|| Trouble::new("Invalid memory address", at))?;
            return Ok(Fetch::Memory(0, Box::new(Fetch::Number(address))));
        }
        if text.starts_with('+') {
            return Err(Trouble::new("File offset is not available with kprobe", at));
        }
        let split = text.find(['+', '-']).unwrap_or(text.len());
        let (name, offset) = text.split_at(split);
        let offset = if offset.is_empty() { Some(0) } else { signed(offset) };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.$".contains(c);
        match offset {
            Some(offset) if !name.is_empty() && name.chars().all(plain) => {
                let symbol = Fetch::Symbol(name.to_owned(), offset);
                Ok(Fetch::Memory(0, Box::new(symbol)))
            }
            _ => Err(Trouble::new("Invalid memory address", at)),
        }
    }

    /// `+8(…)`, `-8(…)`, with `u` behind the sign.
    fn dereference(&mut self, text: &str, at: usize) -> Result<Fetch, Trouble> {
        let open = text.find('(').ok_or_else(|| Trouble::new("Dereference needs a brace", at))?;
        let sign = &text[..1];
        let digits = text[1..open].strip_prefix('u').unwrap_or(&text[1..open]);
        let offset = signed(&format!("{sign}{digits}"));
        let offset = offset.ok_or_else(|| Trouble::new("Invalid dereference offset", at))?;
        let (inner, at) = (&text[open + 1..], at + open + 1);
        let Some(close) = inner.rfind(')') else {
            return Err(Trouble::new("Dereference brace is not closed", at + inner.len()));
        };
        if close + 1 != inner.len() {
            return Err(Trouble::new("Invalid fetch argument", at));
        }
        match self.read(&inner[..close], at)? {
            Fetch::Comm | Fetch::Text(_) => Err(Trouble::new("$comm can not be dereferenced", at)),
            inner => Ok(Fetch::Memory(offset, Box::new(inner))),
        }
    }

    fn immediate(text: &str, at: usize) -> Result<Fetch, Trouble> {
        if let Some(string) = text.strip_prefix('"') {
            let end = at + 2 + string.len();
            let closed = string.strip_suffix('"');
            let closed =
                closed.ok_or_else(|| Trouble::new("String is not closed with '\"'", end))?;
            return Ok(Fetch::Text(closed.to_owned()));
        }
        let number = match text.starts_with('-') {
            true => signed(text).map(i64::cast_unsigned),
            false => parse_number(text),
        };
        number.map(Fetch::Number).ok_or_else(|| Trouble::new("Invalid immediate value", at + 1))
    }
}

fn signed(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = digits.starts_with(|first: char| first.is_ascii_digit());
    let number = parse_number(digits).filter(|_| plain)?;
    let number = i64::try_from(number).ok()?;
    Some(if negative { -number } else { number })
}

impl Type {
    /// Reads what stands behind the colon, which is at `at`.
    fn parse(text: &str, at: usize) -> Result<Self, Trouble> {
        let (name, count) = match text.split_once('[') {
            None => (text, 0),
            Some((name, rest)) => (name, Self::count(rest, at + name.len() + 1)?),
        };
        let (kind, bytes) = Self::named(name, at)?;
        Ok(Self { kind, bytes, count })
    }

    fn count(rest: &str, at: usize) -> Result<u8, Trouble> {
        const MOST: u64 = 64;
        let Some((number, behind)) = rest.split_once(']') else {
            return Err(Trouble::new("Array is not closed", at + rest.len()));
        };
        if !behind.is_empty() {
            return Err(Trouble::new("Array has wrong suffix", at + number.len() + 1));
        }
        match number.parse::<u64>() {
            Ok(number @ 1..=MOST) => Ok(number as u8),
            Ok(0) | Err(_) => Err(Trouble::new("Invalid array size", at)),
            Ok(_) => Err(Trouble::new("Array number is too big", at)),
        }
    }

    fn named(name: &str, at: usize) -> Result<(TypeKind, u8), Trouble> {
        let unknown = || Trouble::new("Unknown type is specified", at);
        match name {
            "char" => return Ok((TypeKind::Char, 1)),
            "symbol" => return Ok((TypeKind::Symbol, 8)),
            "string" | "ustring" => return Ok((TypeKind::String, 8)),
            _ => {}
        }
        if name.starts_with('b') {
            return bitfield(name).ok_or_else(|| Trouble::new("Invalid bitfield", at));
        }
        let kind = match name.get(..1) {
            Some("u") => TypeKind::Unsigned,
            Some("s") => TypeKind::Signed,
            Some("x") => TypeKind::Hexadecimal,
            _ => return Err(unknown()),
        };
        let bits: u8 = name[1..].parse().map_err(|_| unknown())?;
        if matches!(bits, 8 | 16 | 32 | 64) { Ok((kind, bits / 8)) } else { Err(unknown()) }
    }
}

/// `b<width>@<offset>/<container>`.
fn bitfield(text: &str) -> Option<(TypeKind, u8)> {
    let (width, rest) = text.strip_prefix('b')?.split_once('@')?;
    let (offset, container) = rest.split_once('/')?;
    let (width, offset): (u8, u8) = (width.parse().ok()?, offset.parse().ok()?);
    let container: u8 = container.parse().ok().filter(|it| matches!(it, 8 | 16 | 32 | 64))?;
    let fits = width > 0 && u16::from(width) + u16::from(offset) <= u16::from(container);
    fits.then_some((TypeKind::Bitfield { width, offset }, container / 8))
}

impl Fetch {
    /// Whether the process must be asked when the probe is hit.
    #[must_use]
    pub fn needs_process(&self) -> bool {
        !matches!(self, Self::Comm | Self::Number(_) | Self::Text(_))
    }

    /// Symbols that it names.
    pub(crate) fn symbol(&self) -> Option<&str> {
        match self {
            Self::Symbol(name, _) => Some(name),
            Self::Memory(_, inner) => inner.symbol(),
            _ => None,
        }
    }
}
