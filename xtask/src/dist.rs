//! `cargo xtask dist`: the extension under the names its users load.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{cargo, run, target_dir};

/// Builds `libanabranch.*` and `crsqlite.*` into `target/dist-out`.
pub(crate) fn dist() -> Result<()> {
    run(cargo().args(["build", "--package", "anabranch-sqlite-ext", "--profile", "dist"]))?;
    let built = library(&target_dir().join("dist"));
    let out = target_dir().join("dist-out");
    std::fs::create_dir_all(&out)?;
    let extension = built.extension().context("a library has an extension")?.to_owned();
    for name in ["libanabranch", "crsqlite"] {
        let to = out.join(name).with_extension(&extension);
        std::fs::copy(&built, &to)
            .with_context(|| format!("cannot copy {} to {}", built.display(), to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

/// What cargo calls the extension in a profile's folder.
fn library(folder: &Path) -> PathBuf {
    let prefix = std::env::consts::DLL_PREFIX;
    let suffix = std::env::consts::DLL_SUFFIX;
    folder.join(format!("{prefix}anabranch_ext{suffix}"))
}
