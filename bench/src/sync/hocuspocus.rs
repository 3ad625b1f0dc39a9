//! The same load on Hocuspocus: its own server and its own clients, each in a Node.js of
//! their own.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::options::Options;
use super::usage::{Process, TICK_S};

/// Edits on their way at a time, as many as ours has changes.
const WINDOW: usize = 64;

/// What was measured of it.
pub struct Measured {
    /// What it was, with the version of each package.
    pub versions: String,
    /// Deliveries a second.
    pub per_second: f64,
    /// Deliveries for a second of the server's processor time.
    pub per_cpu_second: f64,
}

/// One writer, so many readers, small edits of a text as fast as they are followed; `None`
/// without the packages. Once: it takes longer than all of ours.
///
/// # Errors
/// The packages are there and do not work.
pub fn measure(options: &Options, n_readers: usize) -> Result<Option<Measured>> {
    let Some(modules) = &options.node_modules else { return Ok(None) };
    let Some(versions) = versions(modules) else { return Ok(None) };
    let n_edits = options.size(600, 20);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sync/hocuspocus");
    let mut server = Node::start(&folder.join("server.cjs"), modules, &[])?;
    let port = server.line()?["port"].to_string();
    let numbers = [n_readers, n_edits, WINDOW].map(|n| n.to_string());
    let [readers, edits, window] = &numbers;
    let mut load =
        Node::start(&folder.join("load.cjs"), modules, &[&port, readers, edits, window])?;
    load.line()?;
    let process = Process(server.child.id());
    let before = process.cpu()?;
    let came = load.line()?;
    let cpu = process.cpu()?.saturating_sub(before).as_secs_f64();
    ensure!(came["isWhole"] == true, "a reader of Hocuspocus lacks text: {came}");
    let n = came["deliveries"].as_f64().context("no number of deliveries")?;
    let seconds = came["seconds"].as_f64().context("no time")?;
    Ok(Some(Measured { versions, per_second: n / seconds, per_cpu_second: n / cpu.max(TICK_S) }))
}

/// What is installed, by name and version; `None` if something is missing.
fn versions(modules: &Path) -> Option<String> {
    let version = |package: &str| {
        let text = std::fs::read_to_string(modules.join(package).join("package.json")).ok()?;
        let json: Value = serde_json::from_str(&text).ok()?;
        Some(format!("{package} {}", json["version"].as_str()?))
    };
    let packages = ["@hocuspocus/server", "@hocuspocus/provider", "yjs", "ws"];
    let packages = packages.into_iter().map(version).collect::<Option<Vec<String>>>()?;
    let node = Command::new("node").arg("--version").output().ok()?;
    let node = String::from_utf8(node.stdout).ok()?;
    Some(format!("{}, Node.js {}", packages.join(", "), node.trim()))
}

/// A program of Node.js that prints a line of JSON now and then.
struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(script: &Path, modules: &Path, args: &[&str]) -> Result<Node> {
        let mut command = Command::new("node");
        command.arg(script).arg(modules).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("standard output is piped")?;
        Ok(Node { child, lines: BufReader::new(out).lines() })
    }

    fn line(&mut self) -> Result<Value> {
        let line = self.lines.next().context("a program of Node.js ended")??;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
