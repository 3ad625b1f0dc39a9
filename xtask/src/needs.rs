//! What tests need beyond Rust: the `sqlite3` program, a Python whose `sqlite3` can load
//! extensions, and better-sqlite3 for Node.js. Installs it, says so, and names what it
//! could not have.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run::{answers, run, target_dir};

/// The version that works on Node.js 20; 13 needs 22.
const BETTER_SQLITE3: &str = "better-sqlite3@12";

/// A local S3 server: a mock that keeps objects in memory.
const MOTO: &str = "moto[server]==5.2";

/// Where npm packages for tests are kept: outside the sources, kept between runs.
pub(crate) fn node_modules() -> PathBuf {
    target_dir().join("npm").join("node_modules")
}

/// Installs what is missing; returns what could not be had, by name.
pub(crate) fn setup() -> Result<Vec<String>> {
    let mut missing = Vec::new();
    debian(&mut missing);
    node(&mut missing)?;
    moto(&mut missing);
    for what in &missing {
        eprintln!("could not be had: {what}");
    }
    Ok(missing)
}

fn debian(missing: &mut Vec<String>) {
    let wanted: Vec<&str> = [("sqlite3", "sqlite3"), ("/usr/bin/python3", "python3")]
        .into_iter()
        .filter(|(program, _)| !answers(program, "--version"))
        .map(|(_, package)| package)
        .collect();
    if wanted.is_empty() {
        return;
    }
    eprintln!("installing Debian packages: {}", wanted.join(" "));
    let update = run(Command::new("apt-get").args(["-q", "update"]));
    let install = update.and_then(|()| {
        run(Command::new("apt-get")
            .args(["-q", "-y", "--no-install-recommends", "install"])
            .args(&wanted)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    });
    if let Err(error) = install {
        missing.push(format!("Debian packages {}: {error:#}", wanted.join(" ")));
    }
}

fn node(missing: &mut Vec<String>) -> Result<()> {
    if !answers("node", "--version") || !answers("npm", "--version") {
        missing.push("Node.js and npm (tests of the extension in better-sqlite3)".into());
        return Ok(());
    }
    if is_better_sqlite3_usable() {
        return Ok(());
    }
    let folder = target_dir().join("npm");
    std::fs::create_dir_all(&folder)?;
    eprintln!("installing the npm package {BETTER_SQLITE3} into the target folder");
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
    install.arg(BETTER_SQLITE3);
    if let Some(headers) = node_headers() {
        // Without it the package's build downloads Node's headers.
        install.env("npm_config_nodedir", headers);
    }
    if let Err(error) = run(&mut install) {
        missing.push(format!("{BETTER_SQLITE3}: {error:#}"));
    } else if !is_better_sqlite3_usable() {
        missing.push(format!("{BETTER_SQLITE3}: installed, but does not open a database"));
    }
    Ok(())
}

/// What a relay is measured against: the newest that runs on Node.js 20; version 4 needs 22.
const HOCUSPOCUS: [&str; 4] =
    ["@hocuspocus/server@3.4.4", "@hocuspocus/provider@3.4.4", "yjs@13", "ws@8"];

/// Installs Hocuspocus and its client in the target folder, unless they are there; their
/// `node_modules`.
pub(crate) fn hocuspocus() -> Result<PathBuf> {
    let folder = target_dir().join("hocuspocus");
    let modules = folder.join("node_modules");
    if !modules.join("@hocuspocus/server").is_dir() {
        std::fs::create_dir_all(&folder)?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        run(install.args(HOCUSPOCUS))?;
    }
    Ok(modules)
}

/// A local S3 server, in a Python environment of its own in the target folder.
fn moto(missing: &mut Vec<String>) {
    let folder = target_dir().join("moto");
    if folder.join("bin/moto_server").is_file() {
        return;
    }
    eprintln!("installing the Python package {MOTO} into the target folder");
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    let installed = made.and_then(|()| {
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", MOTO]))
    });
    if let Err(error) = installed {
        missing.push(format!("{MOTO} (sync with a bucket): {error:#}"));
    }
}

/// The folder above `include/node/node.h` of the Node.js on the path.
fn node_headers() -> Option<PathBuf> {
    let output = Command::new("node").args(["-p", "process.execPath"]).output().ok()?;
    let program = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let folder = program.parent()?.parent()?;
    folder.join("include/node/node.h").exists().then(|| folder.to_owned())
}

fn is_better_sqlite3_usable() -> bool {
    let script = "const D = require('better-sqlite3'); new D(':memory:').close()";
    Command::new("node")
        .args(["-e", script])
        .env("NODE_PATH", node_modules())
        .output()
        .is_ok_and(|output| output.status.success())
}
