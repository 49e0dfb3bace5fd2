//! `/proc/PID/maps`.

use std::path::PathBuf;

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
    /// Writes are shared.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file: major and minor number.
    pub device: (u32, u32),
    /// Inode of the file; 0 for none.
    pub inode: u64,
    /// Path of the file, or a pseudo-path such as `[stack]`; empty for anonymous memory.
    pub path: PathBuf,
}

impl Mapping {
    /// Whether the mapping holds an address.
    #[must_use]
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether the file was deleted or replaced since it was mapped.
    #[must_use]
    pub fn deleted(&self) -> bool {
        self.path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)")
    }
}

/// Reads the text of a `/proc/PID/maps`; lines that are not mappings are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mapping> {
    let (range, rest) = word(line)?;
    let (permissions, rest) = word(rest)?;
    let (offset, rest) = word(rest)?;
    let (device, rest) = word(rest)?;
    let (inode, path) = word(rest)?;
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let permissions = permissions.as_bytes();
    let may = |index: usize, letter: u8| permissions.get(index) == Some(&letter);
    Some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        read: may(0, b'r'),
        write: may(1, b'w'),
        execute: may(2, b'x'),
        shared: may(3, b's'),
        offset: hexadecimal(offset)?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        path: unescaped(path),
    })
}

/// The first word, and what follows the blanks behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (!word.is_empty()).then(|| (word, rest.trim_start_matches(' ')))
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel writes a newline in a path as `\012`, and nothing else so.
fn unescaped(path: &str) -> PathBuf {
    path.replace("\\012", "\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
5581c4a00000-5581c4a2f000 r--p 00000000 fe:01 1048602                    /usr/bin/my prog
5581c4a2f000-5581c4b00000 r-xs 0002f000 fe:01 1048602                    /usr/bin/my prog (deleted)
7ffd1e000000-7ffd1e021000 rw-p 00000000 00:00 0                          [stack]
7f0000000000-7f0000001000 ---p 00000000 00:00 0 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
nonsense
";

    #[test]
    fn fields_are_read() {
        let maps = parse(TEXT);
        assert_eq!(maps.len(), 5);
        let text = &maps[1];
        assert_eq!((text.start, text.end), (0x5581_c4a2_f000, 0x5581_c4b0_0000));
        assert!(text.read && !text.write && text.execute && text.shared && text.deleted());
        assert_eq!((text.offset, text.device, text.inode), (0x2f000, (0xfe, 1), 1_048_602));
        assert_eq!(maps[0].path, PathBuf::from("/usr/bin/my prog"));
        assert_eq!(maps[2].path, PathBuf::from("[stack]"));
        assert_eq!(maps[3].path, PathBuf::new());
        assert!(maps[4].contains(0xffff_ffff_ff60_0000));
    }

    #[test]
    fn damaged_lines_are_left_out() {
        for text in ["", "-", "1-2", "1-2 r-xp 0 0 0", "x-2 r-xp 0 0:0 0", "1-2 r-xp 0 0:0"] {
            assert_eq!(parse(text), []);
        }
        assert_eq!(parse("1-2 r 0 0:0 0").len(), 1, "short permissions are tolerated");
    }

    #[test]
    fn own_maps_hold_own_code() {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let maps = parse(&text);
        assert_eq!(maps.len(), text.lines().count());
        let code = own_maps_hold_own_code as *const () as u64;
        assert!(maps.iter().any(|mapping| mapping.contains(code) && mapping.execute));
    }
}
