//! "Did you mean …?"

/// The name closest to `wanted`, if one is close enough to be what was meant: with at most a
/// third of its letters wrong. Letters that patterns are made with do not count.
pub fn suggest<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = wanted.rsplit_once('@').map_or(wanted, |(name, _)| name);
    let wanted: Vec<char> = name.chars().filter(|c| !"*?^$\\".contains(*c)).collect();
    let mut limit = wanted.len() / 3;
    let mut best = None;
    for name in names {
        // Each nearer one narrows the search.
        if let Some(distance) = distance(&wanted, name, limit)
            && (best.is_none() || distance < limit)
        {
            (limit, best) = (distance, Some(name));
        }
    }
    best
}

/// How many letters have to be put in, left out, changed or exchanged with their neighbour;
/// `None` if more than `limit`.
fn distance(wanted: &[char], name: &str, limit: usize) -> Option<usize> {
    let name: Vec<char> = name.chars().take(wanted.len() + limit + 1).collect();
    if name.len().abs_diff(wanted.len()) > limit {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=name.len()).collect();
    for (row, letter) in wanted.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, other) in name.iter().enumerate() {
            let changed = last[column] + usize::from(letter != other);
            let mut least = changed.min(last[column + 1] + 1).min(now[column] + 1);
            let swapped =
                row > 0 && column > 0 && wanted[row - 1] == *other && name[column - 1] == *letter;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            now.push(least);
        }
        if now.iter().all(|&distance| distance > limit) {
            return None;
        }
        (before, last) = (last, now);
    }
    last.last().copied().filter(|&distance| distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["http_set", "http_get", "main", "maintain", "std::fs::read"];
        assert_eq!(suggest("mian", names), Some("main"));
        assert_eq!(suggest("htpt_get", names), Some("http_get"));
        assert_eq!(suggest("^http_gte$", names), Some("http_get"));
        assert_eq!(suggest("std::fs::raed@app", names), Some("std::fs::read"));
        assert_eq!(suggest("http_get", names), Some("http_get"));
    }

    #[test]
    fn nothing_is_suggested_where_nothing_is_near() {
        assert_eq!(suggest("xyz", ["main", "read"]), None);
        assert_eq!(suggest("", ["a", ""]), Some(""));
        assert_eq!(suggest("ab", ["cd"]), None);
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let at = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), b, 9);
        assert_eq!(at("kitten", "sitting"), Some(3));
        assert_eq!(at("ab", "ba"), Some(1));
        assert_eq!(at("abc", ""), Some(3));
        assert_eq!(at("same", "same"), Some(0));
    }
}
