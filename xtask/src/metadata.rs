//! What cargo knows of the workspace.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// The workspace, as `cargo metadata` tells it.
pub(crate) struct Workspace {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// Its packages.
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
pub(crate) struct Package {
    /// Its name in `Cargo.toml`.
    pub(crate) name: String,
    /// The packages that it needs to be built; those of its tests are left out.
    pub(crate) needs: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .context("cargo metadata does not start")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata failed: {complaint}");
        Self::parse(&serde_json::from_slice(&output.stdout)?)
    }

    fn parse(metadata: &Value) -> Result<Self> {
        let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
        Ok(Self {
            root: text(&metadata["workspace_root"])?.into(),
            target: text(&metadata["target_directory"])?.into(),
            packages: packages.iter().map(Package::parse).collect::<Result<_>>()?,
        })
    }
}

impl Package {
    fn parse(package: &Value) -> Result<Self> {
        let all = package["dependencies"].as_array().context("cargo metadata: no dependencies")?;
        let built = all.iter().filter(|dependency| dependency["kind"] != "dev");
        let needs = built.map(|dependency| text(&dependency["name"])).collect::<Result<_>>()?;
        Ok(Self { name: text(&package["name"])?, needs })
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("cargo metadata: not a string")?.to_owned())
}
