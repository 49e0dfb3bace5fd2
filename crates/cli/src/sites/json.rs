//! Coverage as JSON.

use sledge_analyse::json::{self, Object as Json};
use sledge_discover::{Function, Object, Returns, Site};

use super::Display;
use super::explain::{boundaries, code_of, hex};

/// Writes `summary`, `functions` and what is set aside of an object.
pub(super) fn whole(out: &mut Vec<u8>, object: &Object, display: &Display<'_>) {
    let mut json = Json::begin(out);
    json.string("file", &object.path.to_string_lossy());
    summary(json.key("summary"), object);
    let (set_aside, called): (Vec<_>, Vec<_>) =
        object.functions.iter().partition(|function| is_set_aside(function));
    functions(json.key("functions"), called, display);
    functions(json.key("set_aside"), set_aside, display);
    json.end();
    out.push(b'\n');
}

/// Writes `functions`, only these.
pub(super) fn only(out: &mut Vec<u8>, wanted: &[&Function], display: &Display<'_>) {
    let mut json = Json::begin(out);
    json.string("file", &display.object.path.to_string_lossy());
    functions(json.key("functions"), wanted.iter().copied(), display);
    json.end();
    out.push(b'\n');
}

fn is_set_aside(function: &Function) -> bool {
    function.verdict.as_ref().is_err_and(|refusal| refusal.sets_aside())
}

fn summary(out: &mut Vec<u8>, object: &Object) {
    let summary = object.summary();
    let mut json = Json::begin(out);
    json.number("functions", summary.functions as u64)
        .number("traceable", summary.traceable as u64);
    let rungs = summary.rungs.iter().map(|(rung, count)| (rung.name(), *count));
    counts(json.key("by_rung"), rungs);
    let refusals = summary.refusals.iter().map(|(refusal, count)| (refusal.code(), *count));
    counts(json.key("by_reason"), refusals);
    let set_aside = summary.set_aside.iter().map(|(refusal, count)| (refusal.code(), *count));
    counts(json.key("set_aside"), set_aside);
    json.number("returns_twice", summary.returns_twice as u64)
        .number("reads_return_address", summary.reads_return_address as u64)
        .number("moves_return_address", summary.moves_return_address as u64)
        .number("uncovered_bytes", summary.uncovered_bytes)
        .end();
}

fn counts(out: &mut Vec<u8>, counts: impl Iterator<Item = (&'static str, usize)>) {
    let mut json = Json::begin(out);
    counts.for_each(|(key, count)| {
        json.number(key, count as u64);
    });
    json.end();
}

fn functions<'f>(
    out: &mut Vec<u8>,
    functions: impl IntoIterator<Item = &'f Function>,
    display: &Display<'_>,
) {
    json::array(out, functions, |out, function| {
        out.push(b'\n');
        self::function(out, function, display);
    });
}

fn function(out: &mut Vec<u8>, function: &Function, display: &Display<'_>) {
    let mut json = Json::begin(out);
    json.string("name", &display.name(function));
    json::array(json.key("names"), &function.names, |out, name| json::string(out, name));
    json.string("address", &format!("{:#x}", function.address)).number("size", function.size);
    match &function.verdict {
        Ok(site) => self::site(&mut json, site),
        Err(refusal) => {
            json.string("reason", refusal.code());
        }
    }
    json.end();
}

fn site(json: &mut Json<'_>, site: &Site) {
    let returns = match site.returns {
        Returns::Hooked => "hooked",
        Returns::EntryOnly(why) => code_of(why),
    };
    json.string("rung", site.rung.name())
        .string("returns", returns)
        .string("site", &format!("{:#x}", site.address))
        .string("displaced", &hex(&site.displaced, ""));
    if let Some(hop) = site.hop {
        json.string("hop", &format!("{hop:#x}"));
    }
    json::array(json.key("boundaries"), boundaries(site), |out, offset| {
        sledge_analyse::text::number(out, offset.into());
    });
}
