//! `format`: the layout of an event's record.

use super::fetch::{Argument, TypeKind};
use super::{Event, PRINT};
use std::fmt::Write;

/// `header_page`, for sub-buffers of so many kilobytes.
pub(crate) fn header_page(kilobytes: usize) -> String {
    format!(
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
         \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
         \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
         \tfield: char data;\toffset:16;\tsize:{};\tsigned:1;\n",
        kilobytes * 1024 - 16
    )
}

/// `header_event`.
pub(crate) const HEADER_EVENT: &str = "\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
";

const COMMON: &str = "\
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

";

/// The text of an event's `format`.
pub(super) fn format(event: &Event) -> String {
    let mut text = format!("name: {}\nID: {}\n{COMMON}", event.name, event.id.0);
    if event.id == PRINT {
        text += "\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;\n\
                 \tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;\n\n\
                 print fmt: \"%ps: %s\", (void *)REC->ip, REC->buf\n";
        return text;
    }
    let fields = event.fields();
    let places: &[&str] =
        if fields.on_return { &["__probe_func", "__probe_ret_ip"] } else { &["__probe_ip"] };
    let mut at = 8;
    for name in places {
        let _ = writeln!(text, "\tfield:unsigned long {name};\toffset:{at};\tsize:8;\tsigned:0;");
        at += 8;
    }
    let (mut print, mut references) = (String::new(), String::new());
    for argument in fields.arguments {
        let (declared, size, signed, shown) = layout(argument);
        let _ = writeln!(
            text,
            "\tfield:{declared};\toffset:{at};\tsize:{size};\tsigned:{};",
            u8::from(signed)
        );
        at += size;
        let _ = write!(print, " {}={shown}", argument.name);
        let _ = match argument.kind.kind {
            TypeKind::String => write!(references, ", __get_str({})", argument.name),
            _ => write!(references, ", REC->{}", argument.name),
        };
    }
    let head = if fields.on_return { "(%lx <- %lx)" } else { "(%lx)" };
    let order: Vec<String> = places.iter().rev().map(|name| format!("REC->{name}")).collect();
    let order = order.join(", ");
    let _ = writeln!(text, "\nprint fmt: \"{head}{print}\", {order}{references}");
    text
}

/// How a field is declared, its bytes, whether it has a sign, and how it is printed.
fn layout(argument: &Argument) -> (String, usize, bool, &'static str) {
    let (name, kind) = (&argument.name, &argument.kind);
    let bits = u32::from(kind.bytes) * 8;
    if kind.kind == TypeKind::String {
        return (format!("__data_loc char[] {name}"), 4, true, "\\\"%s\\\"");
    }
    let signed = kind.kind == TypeKind::Signed;
    let count = usize::from(kind.count.max(1));
    let declared = match kind.count {
        0 => format!("{}{bits} {name}", if signed { 's' } else { 'u' }),
        count => format!("{}{bits} {name}[{count}]", if signed { 's' } else { 'u' }),
    };
    let shown = match kind.kind {
        TypeKind::Hexadecimal => "0x%Lx",
        TypeKind::Signed => "%Ld",
        TypeKind::Char => "'%c'",
        TypeKind::Symbol => "%pS",
        _ => "%Lu",
    };
    (declared, usize::from(kind.bytes) * count, signed, shown)
}
