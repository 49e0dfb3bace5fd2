//! Who calls whom, as a flowchart in Mermaid's language, which forges and wikis draw.

use std::io::{self, Write};

use sledge_analyse::calls::Calls;
use sledge_analyse::{Names, Output};
use sledge_trace::event::Directory;

use crate::edges::{Drawing, Edge, EdgeSums, Node, label};
use crate::graphviz::time;

/// Mermaid refuses charts with more edges, unless it is configured otherwise.
const EDGES: usize = 500;

/// A flowchart of the edges that took most time, each with its calls and their time.
#[derive(Debug)]
pub struct Mermaid<W> {
    output: Output<W>,
    names: Names,
}

impl<W: Write> Mermaid<W> {
    /// Into `writer`.
    pub fn new(writer: W, names: Names) -> Calls<EdgeSums<Self>> {
        EdgeSums::new(Self { output: Output::new(writer), names })
    }
}

/// Text without what means something in the language: by its entity codes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => escaped.push(' '),
            '"' | '#' | '<' | '>' | '&' | '`' | '\\' | '*' | '_' | '[' | ']' | '|' | ';' => {
                escaped.push_str(&format!("#{};", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

impl<W: Write> Drawing for Mermaid<W> {
    fn draw(&mut self, directory: &Directory, nodes: &[Node], edges: &[Edge]) -> io::Result<()> {
        let mut shown: Vec<&Edge> = edges.iter().collect();
        shown.sort_by_key(|edge| std::cmp::Reverse(edge.total));
        shown.truncate(EDGES);
        let out = &mut self.output;
        out.bytes.extend_from_slice(b"flowchart TD\n");
        if shown.len() < edges.len() {
            let less = edges.len() - shown.len();
            writeln!(out.bytes, "  %% {less} edges that took less time are left out")?;
        }
        let mut told = vec![false; nodes.len()];
        for &&Edge { from, to, calls, total } in &shown {
            for node in [from, to] {
                if !std::mem::replace(&mut told[node as usize], true) {
                    let step = nodes[node as usize].step;
                    let name = escaped(&label(&mut self.names, directory, step));
                    writeln!(out.bytes, "  n{node}[\"{name}\"]")?;
                }
            }
            writeln!(out.bytes, "  n{from} -->|\"{calls} x, {}\"| n{to}", time(total))?;
            out.batch()?;
        }
        out.finish()
    }
}
