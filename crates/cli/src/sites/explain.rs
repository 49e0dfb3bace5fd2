//! Where one function stands, in words.

use sledge_analyse::json::hex_digit;
use sledge_discover::{EntryOnly, Function, Refusal, Returns, Rung, Site};

use super::Display;

/// Writes all that is known of these functions.
pub(super) fn write(out: &mut Vec<u8>, functions: &[&Function], display: &Display<'_>) {
    for (index, function) in functions.iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        let lines = lines(function, display).into_iter().map(|(label, text)| match label {
            "" => format!("{text}\n"),
            _ => format!("  {label:<12}{text}\n"),
        });
        lines.for_each(|line| out.extend_from_slice(line.as_bytes()));
    }
}

fn lines(function: &Function, display: &Display<'_>) -> Vec<(&'static str, String)> {
    let end = function.address.saturating_add(function.size);
    let mut lines = vec![
        ("", display.name(function)),
        ("address", format!("{:#x}..{end:#x} ({} bytes)", function.address, function.size)),
    ];
    if !function.names.is_empty() {
        lines.push(("names", function.names.join(", ")));
    }
    match &function.verdict {
        Ok(site) => lines.extend(site_lines(site)),
        Err(refusal) => {
            lines.push(("traceable", format!("no: {refusal}")));
            lines.push(("because", meaning_of_refusal(*refusal).to_owned()));
        }
    }
    lines
}

fn site_lines(site: &Site) -> [(&'static str, String); 5] {
    let count = site.displaced.len();
    let hop = site.hop.map(|hop| format!(", by way of {hop:#x}")).unwrap_or_default();
    let boundaries: Vec<String> = boundaries(site).map(|offset| format!("+{offset}")).collect();
    [
        ("traceable", format!("yes, by {}: {}", site.rung, meaning_of_rung(site.rung))),
        ("patched", format!("at {:#x}{hop}", site.address)),
        ("displaced", format!("{count} bytes: {}", hex(&site.displaced, " "))),
        (
            "boundaries",
            match boundaries.as_slice() {
                [] => "no instruction begins inside the patch".to_owned(),
                some => format!("instructions begin inside the patch at {}", some.join(", ")),
            },
        ),
        (
            "returns",
            match site.returns {
                Returns::Hooked => "hooked".to_owned(),
                Returns::EntryOnly(why) => {
                    format!("not hooked ({}): {}", code_of(why), meaning_of_entry_only(why))
                }
            },
        ),
    ]
}

/// Offsets into the patch at which original instructions begin.
pub(super) fn boundaries(site: &Site) -> impl Iterator<Item = u32> {
    let bits = site.boundaries;
    (1..u8::BITS).filter(move |offset| bits & (1 << offset) != 0)
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8], between: &str) -> String {
    let digits = |byte: &u8| [hex_digit(byte >> 4), hex_digit(byte & 15)].map(char::from);
    let words: Vec<String> = bytes.iter().map(|byte| digits(byte).iter().collect()).collect();
    words.join(between)
}

/// The reason code of a site whose returns are not hooked.
pub(super) const fn code_of(why: EntryOnly) -> &'static str {
    match why {
        EntryOnly::ReturnsTwice => "returns-twice",
        EntryOnly::ReadsReturnAddress => "reads-return-address",
        EntryOnly::MovesReturnAddress => "moves-return-address",
    }
}

const fn meaning_of_entry_only(why: EntryOnly) -> &'static str {
    match why {
        EntryOnly::ReturnsTwice => {
            "one call returns twice, the second time to a frame that is gone"
        }
        EntryOnly::ReadsReturnAddress => "it asks who called it, and must see its true caller",
        EntryOnly::MovesReturnAddress => "it removes its stack arguments when it returns",
    }
}

/// What a rung means.
pub(super) const fn meaning_of_rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Xray => "an XRay sled, left by the compiler",
        Rung::Sled => "NOPs that the compiler left at its entry",
        Rung::Single => "one instruction that is as long as the jump",
        Rung::Prologue => "a jump in place of its first instructions, which run elsewhere",
        Rung::Hop => "a short jump to filler nearby, and the jump there",
    }
}

/// What a refusal means.
pub(super) const fn meaning_of_refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TooShort => "it is shorter than a jump, and no filler follows it",
        Refusal::BranchIntoPatch => "a branch in the file lands inside the bytes of the jump",
        Refusal::UnmovableInstruction => "it begins with an instruction that cannot run elsewhere",
        Refusal::Undecodable => "its first bytes are not valid instructions",
        Refusal::Overlaps => "another function's jump takes these bytes",
        Refusal::IfuncResolver => "it chooses an implementation while the program is being loaded",
        Refusal::RuntimeGlue => "start-up code of the C runtime",
        Refusal::NotACall => "it is not entered by a call: no return address is on its stack",
        Refusal::RestartableSequence => "the kernel restarts it, by its address",
        Refusal::NoBytes => "its bytes are not in the file",
    }
}
