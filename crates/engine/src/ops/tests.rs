//! The kernel's rules one by one, the listings, and random operations against a simple model.

mod exclusive;
mod listing;
mod model;
mod random;
mod rules;
mod tracee;

use super::*;

/// A function with a site that can give all registers.
fn function(name: &str, site: u32) -> FunctionInfo {
    let site = Some(SiteIndex(site));
    FunctionInfo { names: vec![name.to_owned()], site, regs_supported: true, exit_supported: true }
}

/// A registry with the program `app` and its functions f, g, h at the sites 0, 1, 2.
fn program() -> Registry {
    let mut registry = Registry::new();
    let functions = vec![function("f", 0), function("g", 1), function("h", 2)];
    let info = ObjectInfo { module: "app".into(), program: true, functions };
    assert!(registry.add_object(ObjectKey(0), info).unwrap().is_empty());
    registry
}

/// A library with the one function at the site.
fn library(name: &str, site: u32) -> ObjectInfo {
    ObjectInfo { module: "lib".into(), program: false, functions: vec![function(name, site)] }
}

/// An ops with these flags that wants the functions of these names.
fn spec(flags: Flags, names: &[&str]) -> OpsSpec {
    OpsSpec { flags, filter: patterns(names), ..OpsSpec::default() }
}

fn patterns(names: &[&str]) -> Vec<Pattern> {
    names.iter().map(|name| Pattern::exact(name)).collect()
}

/// The numbers of the sites, and of the ops that run there.
fn armed(registry: &Registry) -> Vec<(u32, Vec<u64>)> {
    let sites = (0..100).filter_map(|site| Some((site, registry.set_at(SiteIndex(site))?)));
    let ops = |set| registry.set(set).unwrap().ops.iter().map(|ops| ops.get()).collect();
    sites.map(|(site, set)| (site, ops(set))).collect()
}

fn sites(list: &[SiteIndex]) -> Vec<u32> {
    list.iter().map(|site| site.0).collect()
}

const NONE: Flags = Flags::NONE;
