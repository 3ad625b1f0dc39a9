//! `cargo xtask tidy`: what rustfmt and clippy do not see.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::root;

/// Longest line of a Rust file, in characters.
const MAX_WIDTH: usize = 100;

/// Looks at every source and document; fails with all that it found.
pub(crate) fn tidy() -> Result<()> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    collect(&root(), &mut files)?;
    for file in &files {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let name = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => rust(&name, &text, &mut found),
            Some("md") => links(&name, file, &text, &mut found),
            _ => {}
        }
    }
    crates_are_described(&mut found)?;
    if found.is_empty() {
        return Ok(());
    }
    for line in &found {
        eprintln!("{line}");
    }
    bail!("tidy found {} thing(s)", found.len())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" && name != "node_modules" {
                collect(&entry.path(), files)?;
            }
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn rust(name: &str, text: &str, found: &mut Vec<String>) {
    if !text.starts_with("//!") && !text.starts_with("#!") {
        found.push(format!("{name}: does not open with a `//!` comment"));
    }
    // Written apart so that this file does not find itself.
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:")];
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        if width(line) > MAX_WIDTH {
            found.push(format!("{place}: wider than {MAX_WIDTH}"));
        }
        if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
            found.push(format!("{place}: {mark} left"));
        }
    }
}

/// Characters of a line, without a string literal or address that cannot be broken.
fn width(line: &str) -> usize {
    let is_unbreakable = line.contains("http");
    let literal = match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) if last > first => line[first..=last].chars().count(),
        _ => 0,
    };
    if is_unbreakable { 0 } else { line.chars().count() - literal }
}

/// Relative links of a document lead somewhere.
fn links(name: &str, file: &Path, text: &str, found: &mut Vec<String>) {
    let folder = file.parent().unwrap_or(file);
    for piece in text.split("](").skip(1) {
        let Some(target) = piece.split([')', '#', ' ']).next() else { continue };
        let is_relative = !target.is_empty() && !target.contains("://") && !target.contains('\n');
        if is_relative && !folder.join(target).exists() {
            found.push(format!("{name}: link to {target}, which is not there"));
        }
    }
}

/// Every crate stands in the code map.
fn crates_are_described(found: &mut Vec<String>) -> Result<()> {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap_or_default();
    for entry in std::fs::read_dir(root().join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !map.contains(&format!("`{name}`")) {
            found.push(format!("ARCHITECTURE.md: says nothing of `{name}`"));
        }
    }
    Ok(())
}
