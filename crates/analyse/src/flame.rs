//! Flame graphs: the tree of calling contexts as nested boxes as wide as they took time.

mod svg;

use std::collections::HashMap;
use std::io::{self, Write};

use crate::contexts::{ContextId, Contexts};
use crate::graph;
use crate::records::Format;
use crate::text::printable;

/// How a flame graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlameFormat {
    /// A picture that a browser shows, with search and zoom in it.
    #[default]
    Svg,
    /// A line for each context: `main;serve;read 4711`, with nanoseconds. Two numbers, before and
    /// after, where traces are compared.
    Folded,
    /// The contexts as rows, as `graph` has them.
    Rows(Format),
}

/// A flame graph, perhaps compared with another.
#[derive(Clone, Copy, Debug)]
pub struct Flame<'c> {
    contexts: &'c Contexts,
    before: Option<&'c Contexts>,
    title: &'c str,
}

impl<'c> Flame<'c> {
    /// Of these contexts.
    #[must_use]
    pub fn new(contexts: &'c Contexts, title: &'c str) -> Self {
        Self { contexts, before: None, title }
    }

    /// Coloured by what took more, or less, than `before`.
    #[must_use]
    pub fn compared_with(self, before: &'c Contexts) -> Self {
        Self { before: Some(before), ..self }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, writer: &mut impl Write, format: FlameFormat) -> io::Result<()> {
        let mut out = Vec::new();
        match format {
            FlameFormat::Svg => svg::write(&mut out, self),
            FlameFormat::Folded => self.fold(&mut out),
            FlameFormat::Rows(format) => {
                return graph::write(writer, &graph::whole(self.contexts), format, 0);
            }
        }
        writer.write_all(&out)?;
        writer.flush()
    }

    fn fold(&self, out: &mut Vec<u8>) {
        let mut before = self.before.map(own_by_path);
        let mut lines: Vec<(String, Option<u64>, u64)> = Vec::new();
        for (path, own) in own_by_path(self.contexts) {
            let earlier = before.as_mut().map(|before| before.remove(&path).unwrap_or(0));
            lines.push((path, earlier, own));
        }
        lines.extend(before.into_iter().flatten().map(|(path, own)| (path, Some(own), 0)));
        lines.sort();
        for (path, before, after) in lines {
            let before = before.map(|own| format!("{own} ")).unwrap_or_default();
            out.extend_from_slice(format!("{path} {before}{after}\n").as_bytes());
        }
    }

    /// By context, how much longer it took than before, where there is a before.
    fn changes(&self) -> Option<Vec<i64>> {
        let before = self.before?;
        let earlier = counterparts(self.contexts, before);
        let total = |context: ContextId| before.node(context).total;
        let change = |(now, earlier): (&crate::contexts::Context, &Option<ContextId>)| {
            now.total.cast_signed() - earlier.map_or(0, total).cast_signed()
        };
        Some(self.contexts.nodes.iter().zip(&earlier).map(change).collect())
    }
}

/// For each context the one of another tree that was reached in the same way.
fn counterparts(contexts: &Contexts, others: &Contexts) -> Vec<Option<ContextId>> {
    let mut found = vec![None; contexts.nodes.len()];
    found[0] = Some(0);
    for context in 1..contexts.nodes.len() as ContextId {
        let parent = found[contexts.node(context).parent as usize];
        let label = contexts.label(context);
        found[context as usize] = parent.and_then(|parent: ContextId| {
            let children = others.node(parent).children.iter().copied();
            children.into_iter().find(|&child| others.label(child) == label)
        });
    }
    found
}

/// Own nanoseconds by `main;serve;read`. Contexts that read alike are put together.
fn own_by_path(contexts: &Contexts) -> HashMap<String, u64> {
    let mut lines = HashMap::new();
    let mut path: Vec<String> = Vec::new();
    contexts.walk(0, &mut |context, level| {
        path.truncate(level.saturating_sub(1));
        if level == 0 {
            return;
        }
        // The separator cannot be part of a name.
        path.push(printable(&contexts.label(context).name).replace(';', ":").replace('\n', " "));
        let own = contexts.node(context).own;
        if own > 0 {
            *lines.entry(path.join(";")).or_insert(0) += own;
        }
    });
    lines
}

#[cfg(test)]
mod tests;
