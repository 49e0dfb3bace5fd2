//! Definitions of probes: the lines of `kprobe_events` and `dynamic_events`.

use super::fetch::{Allows, Argument, Fetch};
use crate::errno::Errno;
use crate::functions::{FunctionId, Functions};
use crate::tracee::Value;
use crate::words::parse_number;

/// What is wrong with a definition, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) error: &'static str,
    pub(crate) at: usize,
    pub(crate) errno: Errno,
}

impl Trouble {
    pub(crate) const fn new(error: &'static str, at: usize) -> Self {
        Self { error, at, errno: Errno::Invalid }
    }

    const fn with(error: &'static str, at: usize, errno: Errno) -> Self {
        Self { error, at, errno }
    }
}

/// Which of the kernel's probes a definition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// `p` and `r`.
    Kprobe,
    /// `f`.
    Fprobe,
}

impl Flavour {
    /// Where errors come from.
    pub(crate) const fn place(self) -> &'static str {
        match self {
            Self::Kprobe => "trace_kprobe",
            Self::Fprobe => "trace_fprobe",
        }
    }

    const fn group(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobes",
            Self::Fprobe => "fprobes",
        }
    }
}

/// A probe: where it lies and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) flavour: Flavour,
    pub(crate) on_return: bool,
    pub(crate) maxactive: Option<u32>,
    pub(crate) group: String,
    pub(crate) event: String,
    /// The place as it is listed.
    pub(crate) place: String,
    pub(crate) function: FunctionId,
    pub(crate) offset: u64,
    pub(crate) arguments: Vec<Argument>,
}

const MOST_NAME: usize = 64;
const MOST_MAXACTIVE: u32 = 4096;
const MOST_ARGUMENTS: usize = 128;

/// Whether a text follows the rules of C identifiers.
pub(crate) fn is_name(text: &str) -> bool {
    let first = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_system_name(text: &str) -> bool {
    let first = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// What stands before the place: `p`, `r16`, with `:group/event`.
struct Head {
    on_return: bool,
    maxactive: Option<u32>,
    group: Option<String>,
    event: Option<String>,
}

/// Words of a line with their places; text in quotes may hold white space.
pub(crate) fn words(line: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut begun = None;
    for (at, c) in line.char_indices() {
        match (c.is_whitespace(), begun) {
            (false, None) => begun = Some(at),
            (true, Some(start)) => {
                words.push((start, &line[start..at]));
                begun = None;
            }
            _ => {}
        }
    }
    words.extend(begun.map(|start| (start, &line[start..])));
    words
}

impl Definition {
    /// Reads a line that begins with `p`, `r` or `f`.
    pub(crate) fn parse(line: &str, functions: &Functions) -> Result<Self, Trouble> {
        let words = words(line);
        let Some(&(start, head)) = words.first() else { return Err(Trouble::new(NO_PLACE, 0)) };
        let flavour = if head.starts_with('f') { Flavour::Fprobe } else { Flavour::Kprobe };
        let head = Head::parse(head, start)?;
        let Some(&(at, place)) = words.get(1) else {
            return Err(Trouble::with(NO_PLACE, line.len(), Errno::NoEntry));
        };
        let (on_return, plain) = suffix(place, at, head.on_return)?;
        let (function, offset) = locate(functions, plain, at, flavour)?;
        if on_return && offset != 0 {
            return Err(Trouble::new("Retprobe address must be an function entry", at));
        }
        if flavour == Flavour::Fprobe && head.maxactive.is_some() && !on_return {
            return Err(Trouble::new("Maxactive is only for function exit", start + 1));
        }
        let allows = Allows {
            retval: on_return,
            registers: flavour == Flavour::Kprobe,
            arguments: offset == 0,
        };
        let mut arguments = Vec::new();
        for &(at, word) in words.iter().skip(2).take(MOST_ARGUMENTS) {
            let argument = Argument::parse(word, at, &arguments, allows)?;
            arguments.push(argument);
        }
        let letter = if on_return { 'r' } else { 'p' };
        let automatic = format!("{letter}_{plain}_{offset}").replace(['.', ':', '+'], "_");
        Ok(Self {
            flavour,
            on_return,
            maxactive: head.maxactive,
            group: head.group.unwrap_or_else(|| flavour.group().to_owned()),
            event: head.event.unwrap_or(automatic),
            place: plain.to_owned(),
            function,
            offset,
            arguments,
        })
    }

    /// The values of arguments that need no process.
    pub(crate) fn values(&self, comm: &str) -> Box<[Value]> {
        let value = |argument: &Argument| match &argument.fetch {
            Fetch::Comm => Value::Text(comm.as_bytes().into()),
            Fetch::Text(text) => Value::Text(text.as_bytes().into()),
            Fetch::Number(number) => Value::Number(*number),
            _ => Value::Fault,
        };
        self.arguments.iter().map(value).collect()
    }

    /// The line by which it is listed.
    pub(crate) fn line(&self) -> String {
        let letter = match (self.flavour, self.on_return) {
            (Flavour::Fprobe, _) => "f".to_owned(),
            (_, true) => self.maxactive.map_or_else(|| "r".to_owned(), |most| format!("r{most}")),
            (_, false) => "p".to_owned(),
        };
        let suffix = if self.flavour == Flavour::Fprobe && self.on_return { "%return" } else { "" };
        let mut line = format!("{letter}:{}/{} {}{suffix}", self.group, self.event, self.place);
        for argument in &self.arguments {
            line += &format!(" {}={}", argument.name, argument.text);
        }
        line
    }

    /// Whether another probe of the same event is of the same sort: else the error.
    pub(crate) fn joins(&self, other: &Self, line: &str) -> Result<(), Trouble> {
        let words = words(line);
        let start = words.first().map_or(0, |(at, _)| *at);
        if (self.flavour, self.on_return) != (other.flavour, other.on_return) {
            let error = "Probe type is different from existing probe";
            return Err(Trouble::with(error, start, Errno::Exists));
        }
        let differs = |at: usize| match (self.arguments.get(at), other.arguments.get(at)) {
            (Some(one), Some(two)) => one.name != two.name || one.kind != two.kind,
            (None, None) => false,
            _ => true,
        };
        let most = self.arguments.len().max(other.arguments.len());
        if let Some(at) = (0..most).find(|at| differs(*at)) {
            let at = words.get(at + 2).map_or(line.len(), |(at, _)| *at);
            let error = "Argument type or name is different from existing probe";
            return Err(Trouble::with(error, at, Errno::Exists));
        }
        if (self.function, self.offset) == (other.function, other.offset)
            && self.arguments == other.arguments
        {
            let error = "There is already the exact same probe event";
            return Err(Trouble::with(error, start, Errno::Exists));
        }
        Ok(())
    }
}

const NO_PLACE: &str = "Invalid probed address or symbol";

impl Head {
    fn parse(text: &str, at: usize) -> Result<Self, Trouble> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some((name, at + kind.len() + 1))),
            None => (text, None),
        };
        let on_return = kind.starts_with('r');
        let maxactive = match &kind[1..] {
            "" => None,
            _ if kind.starts_with('p') => {
                return Err(Trouble::new("Maxactive is only for function exit", at + 1));
            }
            digits => match digits.parse::<u32>() {
                Err(_) => return Err(Trouble::new("Invalid maxactive number", at + 1)),
                Ok(most) if most > MOST_MAXACTIVE => {
                    return Err(Trouble::with("Maxactive is too big", at + 1, Errno::TooBig));
                }
                Ok(most) => Some(most),
            },
        };
        let (group, event) = match name {
            Some((name, at)) => event_name(name, at)?,
            None => (None, None),
        };
        Ok(Self { on_return, maxactive, group, event })
    }
}

/// `[group/][event]`, which begins at `at`.
pub(crate) fn event_name(
    text: &str,
    at: usize,
) -> Result<(Option<String>, Option<String>), Trouble> {
    let slash = text.find('/').or_else(|| text.find('.'));
    let (group, event, behind) = match slash {
        None => (None, text, at),
        Some(0) => return Err(Trouble::new("Group name is not specified", at)),
        Some(slash) => {
            let group = &text[..slash];
            if group.len() >= MOST_NAME {
                return Err(Trouble::new("Group name is too long", at));
            }
            if !is_system_name(group) {
                let rule = "Group name must follow the same rules as C identifiers";
                return Err(Trouble::new(rule, at));
            }
            (Some(group.to_owned()), &text[slash + 1..], at + slash + 1)
        }
    };
    if event.is_empty() {
        return match group {
            Some(group) => Ok((Some(group), None)),
            None => Err(Trouble::new("Event name is not specified", behind)),
        };
    }
    if event.len() >= MOST_NAME {
        return Err(Trouble::new("Event name is too long", behind));
    }
    if !is_name(event) {
        let rule = "Event name must follow the same rules as C identifiers";
        return Err(Trouble::new(rule, behind));
    }
    Ok((group, Some(event.to_owned())))
}

/// `%return` makes a return probe.
fn suffix(place: &str, at: usize, on_return: bool) -> Result<(bool, &str), Trouble> {
    match place.split_once('%') {
        None => Ok((on_return, place)),
        Some((plain, "return")) => Ok((true, plain)),
        Some((plain, _)) => Err(Trouble::new("Invalid probed address suffix", at + plain.len())),
    }
}

/// Finds `[module:]symbol[+offset]` or an address.
fn locate(
    functions: &Functions,
    place: &str,
    at: usize,
    flavour: Flavour,
) -> Result<(FunctionId, u64), Trouble> {
    let bad = |errno| Trouble::with(NO_PLACE, at, errno);
    if place.starts_with(|first: char| first.is_ascii_digit()) && flavour == Flavour::Kprobe {
        let address = parse_number(place).ok_or_else(|| bad(Errno::Invalid))?;
        return at_address(functions, address).ok_or_else(|| bad(Errno::NoEntry));
    }
    let (module, symbol) = match place.split_once(':') {
        Some((module, symbol)) => (Some(module), symbol),
        None => (None, place),
    };
    let (name, offset) = match symbol.find(['+', '-']) {
        Some(split) => {
            let offset = symbol[split..].strip_prefix('+').and_then(parse_number);
            let offset = offset.filter(|_| flavour == Flavour::Kprobe);
            (&symbol[..split], offset.ok_or_else(|| bad(Errno::Invalid))?)
        }
        None => (symbol, 0),
    };
    let of_module = |id: &&FunctionId| {
        let own = functions.get(**id).and_then(|it| it.module.as_deref());
        module.is_none_or(|module| own == Some(module))
    };
    let found: Vec<FunctionId> = functions.named(name).iter().filter(of_module).copied().collect();
    match found[..] {
        [] => Err(bad(Errno::NoEntry)),
        [one] if offset == 0 => Ok((one, 0)),
        [one] => {
            let start = functions.get(one).map_or(0, |it| it.address);
            let address = start.checked_add(offset);
            let there = address.and_then(|address| at_address(functions, address));
            there.ok_or_else(|| bad(Errno::Invalid))
        }
        _ => Err(Trouble::with("The symbol is not unique", at, Errno::Invalid)),
    }
}

/// The function at an address, and how far into it that is.
fn at_address(functions: &Functions, address: u64) -> Option<(FunctionId, u64)> {
    let id = functions.at(address)?;
    Some((id, address - functions.get(id)?.address))
}

#[cfg(test)]
mod tests;
