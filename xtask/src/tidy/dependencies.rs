//! Which crate may depend on which of ours: one direction, along the data path.

use crate::metadata::Package;

const OURS: &str = "sledge-";

/// A crate, and those of ours that it may name. Tests may use more.
const DIRECTION: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("agent", &["wire"]),
    ("discover", &[]),
    ("trace", &[]),
    ("filter", &["trace"]),
    ("drain", &["wire", "trace"]),
    ("engine", &["wire", "discover"]),
    ("inject", &["wire", "discover"]),
    ("control", &["wire", "agent", "discover", "engine", "inject", "drain", "trace", "filter"]),
    ("hub", &["wire", "discover", "engine", "filter", "trace", "inject", "control"]),
    ("live", &["wire", "discover", "engine"]),
    ("sledge", &["discover", "engine", "filter", "live"]),
    ("c", &["sledge"]),
    ("analyse", &["trace", "filter", "discover"]),
    ("export", &["trace", "analyse"]),
    ("tracefs", &[]),
    ("mount", &["wire", "discover", "drain", "trace", "control", "tracefs"]),
    (
        "cli",
        &[
            "mount", "agent", "discover", "filter", "trace", "drain", "control", "analyse",
            "export", "hub",
        ],
    ),
];

/// Looked at from outside: they may use whatever they need.
const OUTSIDE: [&str; 4] = ["xtask", "sledge-tests", "sledge-soak", "sledge-fuzz"];

/// Dependencies that go against the direction.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    let inside = packages.iter().filter(|package| !OUTSIDE.contains(&package.name.as_str()));
    inside.flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<String> {
    let short = short_name(&package.name);
    let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| Some(*name) == short) else {
        return vec![format!(
            "{}: not in the table of xtask/src/tidy/dependencies.rs",
            package.name
        )];
    };
    let ours = package.needs.iter().filter_map(|name| short_name(name));
    let wrong = ours.filter(|name| !allowed.contains(name));
    wrong.map(|name| format!("{}: may not depend on {OURS}{name}", package.name)).collect()
}

/// The library goes by the name of the whole.
fn short_name(name: &str) -> Option<&str> {
    if name == "sledge" { Some(name) } else { name.strip_prefix(OURS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, needs: &[&str]) -> Package {
        Package { name: name.into(), needs: needs.iter().map(|need| (*need).into()).collect() }
    }

    #[test]
    fn only_the_direction_of_the_data_path_is_accepted() {
        let good = package("sledge-drain", &["sledge-wire", "sledge-trace", "memmap2"]);
        let upward = package("sledge-trace", &["sledge-filter"]);
        let around = package("sledge-cli", &["sledge-engine"]);
        let unknown = package("sledge-extra", &[]);
        assert!(check(&[good]).is_empty());
        assert_eq!(check(&[upward]), ["sledge-trace: may not depend on sledge-filter"]);
        assert_eq!(check(&[around]), ["sledge-cli: may not depend on sledge-engine"]);
        assert_eq!(check(&[unknown]).len(), 1);
    }

    #[test]
    fn no_crate_is_allowed_one_that_comes_after_it() {
        for (index, (name, allowed)) in DIRECTION.iter().enumerate() {
            let before = &DIRECTION[..index];
            let known = |other: &&str| before.iter().any(|(earlier, _)| earlier == other);
            assert!(allowed.iter().all(known), "{name}");
        }
    }
}
