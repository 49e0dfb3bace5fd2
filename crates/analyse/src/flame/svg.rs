//! The picture: one SVG file with everything in it, also the script that searches and zooms.

use super::Flame;
use crate::contexts::{ContextId, Contexts};
use crate::text::{self, columns, cut};

/// Width of the picture; its height depends on how deep the calls are.
const WIDTH: f64 = 1200.0;
/// Left and right of the boxes.
const MARGIN: f64 = 10.0;
const TOP: usize = 44;
const BOTTOM: usize = 28;
const ROW: usize = 17;
/// Width of a letter.
const LETTER: f64 = 7.0;
/// Boxes narrower than this cannot be seen.
const LEAST: f64 = 0.1;

const STYLE: &str = include_str!("flame.css");
const SCRIPT: &str = include_str!("flame.js");

/// A box.
struct Frame {
    context: ContextId,
    level: usize,
    left: f64,
    width: f64,
}

pub(super) fn write(out: &mut Vec<u8>, flame: &Flame<'_>) {
    let contexts = flame.contexts;
    let frames = frames(contexts);
    let levels = frames.iter().map(|frame| frame.level).max().unwrap_or(0) + 1;
    let height = TOP + levels * ROW + BOTTOM;
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put(&format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\">\n\
         <style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fffdf7\"/>\n\
         <text id=\"title\" x=\"{}\" y=\"20\">{}</text>\n\
         <text id=\"reset\" class=\"button hidden\" x=\"{MARGIN}\" y=\"20\">Show all</text>\n\
         <text id=\"search\" class=\"button\" x=\"{}\" y=\"20\">Search (/)</text>\n\
         <text id=\"matched\" x=\"{}\" y=\"{}\"></text>\n\
         <text id=\"details\" x=\"{MARGIN}\" y=\"{}\"> </text>\n",
        WIDTH / 2.0,
        escaped(flame.title),
        WIDTH - MARGIN,
        WIDTH - MARGIN,
        height - 10,
        height - 10,
    ));
    if contexts.node(0).total == 0 {
        put(&format!("<text x=\"{MARGIN}\" y=\"{TOP}\">No time was spent in any call.</text>\n"));
    }
    put("<g id=\"frames\">\n");
    let changes = flame.changes();
    for frame in &frames {
        let change = changes.as_ref().map(|changes| changes[frame.context as usize]);
        put(&element(contexts, frame, change, height));
    }
    put("</g>\n<script><![CDATA[\n");
    put(SCRIPT);
    put("]]></script>\n</svg>\n");
}

/// Where the boxes are. Children stand side by side above their caller, by name, so that graphs of
/// the same program look alike.
fn frames(contexts: &Contexts) -> Vec<Frame> {
    let whole = contexts.node(0).total;
    let scale = if whole > 0 { (WIDTH - 2.0 * MARGIN) / whole as f64 } else { 0.0 };
    let mut frames = Vec::new();
    let mut open = vec![(0, 0, MARGIN)];
    while let Some((context, level, left)) = open.pop() {
        let width = contexts.node(context).total as f64 * scale;
        if width < LEAST {
            continue;
        }
        frames.push(Frame { context, level, left, width });
        let mut children = contexts.node(context).children.clone();
        children.sort_by_key(|&child| contexts.label(child));
        let mut left = left;
        for child in children {
            open.push((child, level + 1, left));
            left += contexts.node(child).total as f64 * scale;
        }
    }
    frames
}

fn element(contexts: &Contexts, frame: &Frame, change: Option<i64>, height: usize) -> String {
    let node = contexts.node(frame.context);
    let label = contexts.label(frame.context);
    let whole = contexts.node(0).total;
    let (name, told) = if frame.context == 0 {
        ("all", format!("all ({})", spelled(whole)))
    } else {
        let share = 100.0 * node.total as f64 / whole.max(1) as f64;
        let plural = if node.calls == 1 { "" } else { "s" };
        let calls = format!("{} call{plural}", text::grouped(node.calls));
        let times = format!("{}, {share:.2} %, self {}", spelled(node.total), spelled(node.own));
        (&*label.name, format!("{} [{}] ({calls}, {times})", label.name, label.module))
    };
    let told = match change {
        Some(change) if frame.context > 0 => {
            let sign = if change < 0 { "-" } else { "+" };
            format!("{told}; {sign}{} than before", spelled(change.unsigned_abs()))
        }
        _ => told,
    };
    let y = height - BOTTOM - (frame.level + 1) * ROW;
    let name = text::printable(name);
    let fill = match change {
        Some(change) => compared(change, whole),
        None => warm(&label.module, &label.name),
    };
    format!(
        "<g data-n=\"{}\"><title>{}</title><rect x=\"{:.2}\" y=\"{y}\" width=\"{:.2}\" \
         height=\"{}\" rx=\"2\" fill=\"{fill}\"/><text x=\"{:.2}\" y=\"{}\">{}</text></g>\n",
        escaped(&name),
        escaped(&told),
        frame.left,
        frame.width,
        ROW - 1,
        frame.left + 3.0,
        y + 12,
        escaped(fitting(&name, frame.width)),
    )
}

/// As much of a name as a box has room for.
fn fitting(name: &str, width: f64) -> &str {
    let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
    if columns(name) <= letters {
        name
    } else if letters < 3 {
        ""
    } else {
        cut(name, letters)
    }
}

fn spelled(nanos: u64) -> String {
    let mut out = Vec::new();
    text::duration(&mut out, nanos);
    String::from_utf8(out).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Modules differ in hue, functions in shade.
fn warm(module: &str, name: &str) -> String {
    let (module, name) = (hash(module), hash(name));
    let hue = 5 + module % 50;
    format!("hsl({hue},{}%,{}%)", 70 + name % 25, 58 + name / 25 % 14)
}

/// Red where it takes longer, blue where less, white where nothing changed.
fn compared(change: i64, whole: u64) -> String {
    let share = (change.unsigned_abs() as f64 / whole.max(1) as f64).sqrt();
    let lightness = 97.0 - 40.0 * share.min(1.0);
    match change {
        0 => "hsl(0,0%,93%)".to_owned(),
        more if more > 0 => format!("hsl(5,90%,{lightness:.0}%)"),
        _ => format!("hsl(215,90%,{lightness:.0}%)"),
    }
}

fn hash(text: &str) -> u32 {
    text.bytes()
        .fold(2_166_136_261, |state, byte| (state ^ u32::from(byte)).wrapping_mul(16_777_619))
        >> 7
}

/// Text within XML. What XML cannot say at all has been spelled out before.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text::printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}
