//! The description of the streams, in the format's own language.

use sledge_analyse::{Memo, Names};
use sledge_trace::Host;
use sledge_trace::event::{Directory, FunctionId};

const TYPES: &str = r"/* CTF 1.8 */
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
trace {
	major = 1;
	minor = 8;
	byte_order = le;
	packet.header := struct {
		uint32_t magic;
		uint32_t stream_id;
	};
};
";

const STREAM: &str = r"typealias integer {
	size = 64; align = 8; signed = false; map = clock.recording.value;
} := time_t;
stream {
	id = 0;
	event.header := struct {
		uint8_t id;
		time_t timestamp;
	};
	packet.context := struct {
		time_t timestamp_begin;
		time_t timestamp_end;
		uint64_t content_size;
		uint64_t packet_size;
		uint64_t events_discarded;
		uint32_t pid;
		uint32_t tid;
		uint32_t stack;
		string thread;
	};
};
event {
	name = entry;
	id = 0;
	stream_id = 0;
	fields := struct {
		enum function function;
		enum module module;
	};
};
event {
	name = exit;
	id = 1;
	stream_id = 0;
	fields := struct {
		enum function function;
		enum ending : uint8_t { returned, unwound, not_seen, open } ending;
	};
};
";

/// The metadata of a trace in which these functions were called.
pub(super) fn text(
    directory: &Directory,
    host: &Host,
    names: &mut Names,
    called: &mut Memo<()>,
) -> Vec<u8> {
    let mut text = TYPES.to_owned();
    text.push_str(&format!(
        "env {{\n\thostname = {};\n\tkernel = {};\n\ttracer_name = \"sledge\";\n}};\n",
        quoted(&host.name),
        quoted(&host.kernel)
    ));
    let (seconds, rest) = (host.began / 1_000_000_000, host.began % 1_000_000_000);
    text.push_str(&format!(
        "clock {{\n\tname = recording;\n\tfreq = 1000000000;\n\toffset_s = {seconds};\n\t\
         offset = {rest};\n}};\n"
    ));
    let functions: Vec<(u32, String)> = (0..called.len())
        .filter(|&function| called.peek_mut(function).is_some())
        .map(|function| (function, names.of(directory, FunctionId(function)).to_owned()))
        .collect();
    enumeration(&mut text, "function", functions);
    let objects = (0..).zip(&directory.objects);
    let objects = objects.map(|(number, object)| (number, object.path.clone())).collect();
    enumeration(&mut text, "module", objects);
    text.push_str(STREAM);
    text.into_bytes()
}

fn enumeration(text: &mut String, name: &str, mut values: Vec<(u32, String)>) {
    if values.is_empty() {
        values.push((0, "none".to_owned()));
    }
    text.push_str(&format!("enum {name} : uint32_t {{\n"));
    for (number, value) in values {
        text.push_str(&format!("\t{} = {number},\n", quoted(&value)));
    }
    text.push_str("};\n");
}

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
