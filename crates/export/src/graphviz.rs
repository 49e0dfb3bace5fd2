//! Who calls whom, as a graph for Graphviz.

use std::io::{self, Write};

use sledge_analyse::calls::Calls;
use sledge_analyse::{Names, Output, text};
use sledge_trace::event::Directory;

use crate::edges::{Drawing, Edge, EdgeSums, Node, label};
use crate::paths::Step;

/// A `digraph`: a node for each function and process, an edge for who calls whom. The numbers are
/// in attributes of their own, too: `calls` and `own_ns` of nodes, `calls` and `total_ns` of edges.
#[derive(Debug)]
pub struct Graphviz<W> {
    output: Output<W>,
    names: Names,
}

impl<W: Write> Graphviz<W> {
    /// Into `writer`.
    pub fn new(writer: W, names: Names) -> Calls<EdgeSums<Self>> {
        EdgeSums::new(Self { output: Output::new(writer), names })
    }
}

/// Quotes text as the format wants it; a line break is told by a backslash.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A duration as people read it.
pub(crate) fn time(nanos: u64) -> String {
    let mut out = Vec::new();
    text::duration(&mut out, nanos);
    String::from_utf8_lossy(&out).split_whitespace().collect::<Vec<_>>().join(" ")
}

impl<W: Write> Drawing for Graphviz<W> {
    fn draw(&mut self, directory: &Directory, nodes: &[Node], edges: &[Edge]) -> io::Result<()> {
        let out = &mut self.output;
        out.bytes.extend_from_slice(b"digraph calls {\n  node [shape=box];\n");
        for (index, node) in nodes.iter().enumerate() {
            let name = quoted(&label(&mut self.names, directory, node.step));
            let Node { calls, own, .. } = node;
            match node.step {
                Step::Process(_) => writeln!(out.bytes, "  n{index} [label={name} shape=oval];")?,
                Step::Call(_) => writeln!(
                    out.bytes,
                    "  n{index} [label={name} tooltip=\"{calls} calls, {} of its own\" \
                     calls={calls} own_ns={own}];",
                    time(*own)
                )?,
            }
            out.batch()?;
        }
        for Edge { from, to, calls, total } in edges {
            writeln!(
                out.bytes,
                "  n{from} -> n{to} [label=\"{calls} x\\n{}\" calls={calls} total_ns={total}];",
                time(*total)
            )?;
            out.batch()?;
        }
        out.bytes.extend_from_slice(b"}\n");
        out.finish()
    }
}
