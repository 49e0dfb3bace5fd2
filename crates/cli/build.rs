//! Builds the agent as a `cdylib` and tells `record.rs` where it is, to be embedded.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::path::{Path, PathBuf};
use std::{env, process::Command};

/// What the outer cargo or the user set for the CLI and the agent must not get.
const OURS: [&str; 8] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_BUILD_DIR",
    "MAKEFLAGS",
];

/// Settings of the agent's build; profiles cannot hold them for one package.
const PROFILE: [&str; 5] =
    ["panic='abort'", "lto='fat'", "codegen-units=1", "debug=false", "strip='debuginfo'"];

/// No libc and no symbol left open; never unmapped; its constructor before all others.
const LINK: [&str; 4] = [
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-Wl,-z,defs,-z,nodelete,-z,now,-z,initfirst",
    "-Clink-arg=-Wl,-soname,libsledge-agent.so",
    "-Clink-arg=-Wl,--build-id=sha1",
];

fn main() {
    println!("cargo::rerun-if-env-changed=SLEDGE_AGENT_SO");
    let so = match env::var_os("SLEDGE_AGENT_SO").map(PathBuf::from) {
        Some(prebuilt) => {
            println!("cargo::rerun-if-changed={}", prebuilt.display());
            prebuilt
        }
        None => build_agent(Path::new(sledge_agent::MANIFEST_DIR)),
    };
    println!("cargo::rustc-env=SLEDGE_AGENT_SO={}", so.display());
}

fn build_agent(source: &Path) -> PathBuf {
    // What only `inject` compiles is named here; the rest is a build-dependency of this script.
    println!("cargo::rerun-if-changed={}", source.join("src").display());
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets it");
    // Its own directory: the outer cargo holds the lock of the usual one.
    let built = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("agent");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(source);
    cargo.args(["rustc", "--lib", "--crate-type=cdylib", "--features=inject", "--release"]);
    cargo.args(["--target", &target]).arg("--target-dir").arg(&built);
    for setting in PROFILE {
        cargo.args(["--config", &format!("profile.release.{setting}")]);
    }
    cargo.arg("--").args(LINK);
    for key in OURS {
        cargo.env_remove(key);
    }
    let status = cargo.status().expect("cargo starts");
    assert!(status.success(), "the agent did not build: {cargo:?}");
    built.join(target).join("release").join("libsledge_agent.so")
}
