//! Symbols of a process, and the events that its program declares.
//!
//! A program declares events by strings in a section `.sledge.events`: each is a definition as in
//! `dynamic_events`, such as `p:group/event function name=$arg1:s32`, and ends with a zero.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

const SECTION: &str = ".sledge.events";

/// What was read from the objects of a process.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pub(crate) list: Vec<(u64, String)>,
    pub(crate) declared: Vec<String>,
}

impl Symbols {
    /// Reads objects by their paths and biases. What cannot be read has no symbols.
    pub(crate) fn read(objects: &[(String, u64)]) -> Self {
        let mut all = Self::default();
        for (path, bias) in objects {
            let Ok(bytes) = std::fs::read(path) else { continue };
            if let Ok(file) = object::File::parse(&*bytes) {
                all.add(&file, *bias);
            }
        }
        all
    }

    fn add(&mut self, file: &object::File<'_>, bias: u64) {
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let wanted = matches!(symbol.kind(), SymbolKind::Data | SymbolKind::Text);
            if let (true, Ok(name)) = (wanted && symbol.is_definition(), symbol.name()) {
                self.list.push((symbol.address().wrapping_add(bias), name.to_owned()));
            }
        }
        let section = file.section_by_name(SECTION);
        let data = section.as_ref().and_then(|it| it.data().ok()).unwrap_or(&[]);
        let strings = data.split(|&byte| byte == 0).filter(|bytes| !bytes.is_empty());
        self.declared.extend(strings.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
    }
}
