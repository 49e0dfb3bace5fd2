//! Who calls what: the whole tree of calling contexts, or the callers and callees of a function.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::contexts::{ContextId, Contexts, Label};
use crate::records::{self, Format, Value};
use crate::text;

/// A line of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'c> {
    /// How far it is from the beginning of its part.
    pub level: usize,
    /// Which function.
    pub label: &'c Label,
    /// How often it was called there.
    pub calls: u64,
    /// Nanoseconds in it and what it called.
    pub total: u64,
    /// Nanoseconds in itself.
    pub own: u64,
}

/// A part of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'c> {
    /// What it shows: `contexts`, `callers` or `callees`.
    pub name: &'static str,
    /// Its lines; one of level n + 1 belongs to the last one of level n before it.
    pub nodes: Vec<Node<'c>>,
}

/// The whole tree.
#[must_use]
pub fn whole(contexts: &Contexts) -> Vec<Part<'_>> {
    let mut nodes = Vec::new();
    contexts.walk(0, &mut |context, level| {
        if level > 0 {
            nodes.push(node(contexts, context, level - 1));
        }
    });
    vec![Part { name: "contexts", nodes }]
}

/// Who calls the functions that are `wanted`, and what they call, wherever they are called. Of a
/// recursion the outermost call counts.
#[must_use]
pub fn around<'c>(contexts: &'c Contexts, wanted: impl Fn(&Label) -> bool) -> Vec<Part<'c>> {
    let wanted: Vec<bool> = contexts.labels.iter().map(wanted).collect();
    let is_wanted =
        |context: ContextId| context > 0 && wanted[contexts.node(context).label as usize];
    let mut outermost = Vec::new();
    let mut inside = vec![false; contexts.nodes.len()];
    for context in 1..contexts.nodes.len() as ContextId {
        let around = inside[contexts.node(context).parent as usize];
        inside[context as usize] = around || is_wanted(context);
        if is_wanted(context) && !around {
            outermost.push(context);
        }
    }
    let mut callers = Merged::default();
    let mut callees = Merged::default();
    for &context in &outermost {
        let taken = contexts.node(context);
        let mut at = callers.add(None, contexts, context, (taken.calls, taken.total, taken.own));
        let mut caller = taken.parent;
        while caller > 0 {
            at = callers.add(Some(at), contexts, caller, (taken.calls, taken.total, 0));
            caller = contexts.node(caller).parent;
        }
        callees.add_tree(contexts, context);
    }
    vec![callers.part("callers"), callees.part("callees")]
}

fn node(contexts: &Contexts, context: ContextId, level: usize) -> Node<'_> {
    let known = contexts.node(context);
    let (calls, total, own) = (known.calls, known.total, known.own);
    Node { level, label: contexts.label(context), calls, total, own }
}

/// Trees laid over each other.
#[derive(Debug, Default)]
struct Merged<'c> {
    nodes: Vec<(Node<'c>, Vec<usize>)>,
    tops: Vec<usize>,
    known: HashMap<(Option<usize>, u32), usize>,
}

impl<'c> Merged<'c> {
    /// Adds to the node of a context's function below another node; gives its number.
    fn add(
        &mut self,
        below: Option<usize>,
        contexts: &'c Contexts,
        context: ContextId,
        (calls, total, own): (u64, u64, u64),
    ) -> usize {
        let label = contexts.node(context).label;
        let next = self.nodes.len();
        let at = *self.known.entry((below, label)).or_insert(next);
        if at == next {
            let level = below.map_or(0, |below| self.nodes[below].0.level + 1);
            let label = contexts.label(context);
            self.nodes.push((Node { level, label, calls: 0, total: 0, own: 0 }, Vec::new()));
            match below {
                Some(below) => self.nodes[below].1.push(at),
                None => self.tops.push(at),
            }
        }
        let node = &mut self.nodes[at].0;
        node.calls += calls;
        node.total += total;
        node.own += own;
        at
    }

    fn add_tree(&mut self, contexts: &'c Contexts, top: ContextId) {
        let mut path: Vec<usize> = Vec::new();
        contexts.walk(top, &mut |context, level| {
            path.truncate(level);
            let known = contexts.node(context);
            let taken = (known.calls, known.total, known.own);
            path.push(self.add(path.last().copied(), contexts, context, taken));
        });
    }

    /// The nodes, the most expensive of each level first.
    fn part(self, name: &'static str) -> Part<'c> {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let by_cost = |mut numbers: Vec<usize>| {
            numbers.sort_by_key(|&number| {
                let node = &self.nodes[number].0;
                (node.total, std::cmp::Reverse(&node.label.name))
            });
            numbers
        };
        let mut open = by_cost(self.tops.clone());
        while let Some(number) = open.pop() {
            let (node, below) = &self.nodes[number];
            nodes.push(node.clone());
            open.extend(by_cost(below.clone()));
        }
        Part { name, nodes }
    }
}

const COLUMNS: [&str; 7] = ["part", "level", "function", "module", "calls", "total_ns", "self_ns"];

/// Writes a graph. Lines below `least` nanoseconds in total are left out of the text, and counted.
///
/// # Errors
/// The writer's.
pub fn write(
    writer: &mut impl Write,
    parts: &[Part<'_>],
    format: Format,
    least: u64,
) -> io::Result<()> {
    if format == Format::Text {
        let mut out = Vec::new();
        for part in parts {
            table(&mut out, part, parts.len() > 1, least);
        }
        writer.write_all(&out)?;
        return writer.flush();
    }
    let nodes = parts.iter().flat_map(|part| part.nodes.iter().map(|node| (part.name, node)));
    let values = nodes.map(|(part, node)| {
        [
            Value::Text(part),
            Value::Number(node.level as u64),
            Value::Text(&node.label.name),
            Value::Text(&node.label.module),
            Value::Number(node.calls),
            Value::Number(node.total),
            Value::Number(node.own),
        ]
    });
    records::write(writer, format, ("nodes", &COLUMNS), values)
}

fn table(out: &mut Vec<u8>, part: &Part<'_>, titled: bool, least: u64) {
    if titled {
        out.extend_from_slice(format!("# {}\n", part.name).as_bytes());
    }
    out.extend_from_slice(b"  Total time   Self time       Calls  Function\n");
    out.extend_from_slice(b"  ==========  ==========  ==========  ====================\n");
    let mut left_out = 0_usize;
    for node in &part.nodes {
        if node.total < least {
            left_out += 1;
            continue;
        }
        text::blanks(out, 2);
        text::duration(out, node.total);
        text::blanks(out, 2);
        text::duration(out, node.own);
        text::blanks(out, 2);
        text::right(out, node.calls, text::DURATION_COLUMNS);
        text::blanks(out, 2 + 2 * node.level);
        out.extend_from_slice(text::printable(&node.label.name).as_bytes());
        out.push(b'\n');
    }
    if left_out > 0 {
        out.extend_from_slice(format!("# {left_out} lines below that are left out\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts;
    use crate::synthetic::{Script, directory};

    /// main calls a, which calls b; and b, which calls itself and a.
    fn contexts() -> Contexts {
        let mut script = Script::new(directory(&["main", "a", "b"]));
        script.enter(0, 0, 0);
        script.enter(1_000, 0, 1).enter(2_000, 0, 2).end(5_000, 0).end(6_000, 0);
        script.enter(7_000, 0, 2).enter(8_000, 0, 2).end(9_000, 0);
        script.enter(10_000, 0, 1).end(12_000, 0).end(17_000, 0);
        script.end(20_000, 0);
        contexts::of(&script)
    }

    fn lines(part: &Part<'_>) -> String {
        let line = |node: &Node<'_>| {
            let indent = "-".repeat(node.level);
            format!("{indent}{} {} {}/{}", node.label.name, node.calls, node.total, node.own)
        };
        part.nodes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_whole_tree_has_the_expensive_first() {
        let contexts = contexts();
        let expected = "main 1 20000/5000\n-b 1 10000/7000\n--a 1 2000/2000\n--b 1 1000/1000\n\
                        -a 1 5000/2000\n--b 1 3000/3000";
        assert_eq!(lines(&whole(&contexts)[0]), expected);
    }

    #[test]
    fn callers_and_callees_are_those_of_all_places() {
        let contexts = contexts();
        let parts = around(&contexts, |label| &*label.name == "b");
        assert_eq!(
            lines(&parts[0]),
            "b 2 13000/10000\n-main 1 10000/0\n-a 1 3000/0\n--main 1 3000/0"
        );
        assert_eq!(lines(&parts[1]), "b 2 13000/10000\n-a 1 2000/2000\n-b 1 1000/1000");
    }

    #[test]
    fn it_is_written_for_people_and_machines() {
        let contexts = contexts();
        let written = |format, least| {
            let mut out = Vec::new();
            write(&mut out, &whole(&contexts), format, least).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = written(Format::Text, 4_000);
        assert!(text.contains("   10.000 us    7.000 us           1    b\n"), "{text}");
        assert!(text.ends_with("# 3 lines below that are left out\n"), "{text}");
        let csv = written(Format::Csv, 0);
        assert!(csv.contains("\ncontexts,2,a,app,1,2000,2000\n"), "{csv}");
        let json: serde_json::Value = serde_json::from_str(&written(Format::Json, 0)).unwrap();
        assert_eq!(json["nodes"][1]["function"], "b");
    }
}
