//! `cargo xtask licences`: every package that we build on may be used as we use it.
//!
//! A package states an SPDX expression (<https://spdx.github.io/spdx-spec/v2.3>, annex D; an old
//! form has `/` for `OR`). It passes if what it demands can be met by licences of the list;
//! another one needs an exception by name, with its reason. All features and all targets count.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::run::{cargo, run_lines};

/// Permissive licences: they ask for no more than that their text is kept.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that are taken although: name, the expression that it states, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "webpki-root-certs",
    "CDLA-Permissive-2.0",
    "a list of root certificates is data, and this the permissive licence for data; Android only",
)];

/// Looks at every package of the lock; fails with all that are not allowed.
pub(crate) fn licences() -> Result<()> {
    let mut packages: BTreeMap<String, String> = BTreeMap::new();
    let list = ["tree", "--workspace", "--all-features", "--target", "all"];
    let form = ["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"];
    let is_done = run_lines(cargo().args(list).args(form), |line| {
        if let Some((package, licence)) = line.split_once('|') {
            let mut words = package.split(' ');
            let name = format!("{} {}", words.next().unwrap_or(""), words.next().unwrap_or(""));
            // A package whose dependencies stood there before.
            let licence = licence.trim().trim_end_matches("(*)").trim_end();
            packages.insert(name, licence.to_owned());
        }
    })?;
    if !is_done || packages.is_empty() {
        bail!("cargo tree listed no packages");
    }
    let refused: Vec<String> = packages
        .iter()
        .filter(|(package, licence)| !is_allowed(licence) && !is_excepted(package, licence))
        .map(|(package, licence)| format!("{package}: {licence:?}"))
        .collect();
    if refused.is_empty() {
        println!("the licences of {} packages are permissive", packages.len());
        return Ok(());
    }
    bail!("licences that are not allowed, see xtask/src/licences.rs:\n{}", refused.join("\n"))
}

fn is_excepted(package: &str, licence: &str) -> bool {
    let name = package.split(' ').next();
    EXCEPTIONS.iter().any(|(known, stated, _)| Some(*known) == name && *stated == licence)
}

/// Whether an expression can be met; none, or one that cannot be read, cannot.
fn is_allowed(licence: &str) -> bool {
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any_of(&mut words).is_some_and(|is_met| is_met && words.is_empty())
}

/// `all {OR all}`; the next word is the last of `words`. `None`: not an expression.
fn any_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut is_met = all_of(words)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        is_met |= all_of(words)?;
    }
    Some(is_met)
}

/// `one {AND one}`.
fn all_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut is_met = one(words)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        is_met &= one(words)?;
    }
    Some(is_met)
}

/// `( any )`, or a licence, maybe `WITH` an exception.
fn one(words: &mut Vec<&str>) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let is_met = any_of(words)?;
        return words.pop_if(|word| *word == ")").map(|_| is_met);
    }
    if matches!(word, ")" | "OR" | "AND" | "WITH") {
        return None;
    }
    if words.pop_if(|word| *word == "WITH").is_none() {
        return Some(ALLOWED.contains(&word));
    }
    let with = format!("{word} WITH {}", words.pop()?);
    Some(ALLOWED.contains(&with.as_str()))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        for (licence, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT AND ISC", true),
            ("(MIT OR GPL-3.0-only) AND ISC", true),
            ("(MIT OR Apache-2.0) AND MPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0-only WITH Classpath-exception-2.0", false),
            ("MIT WITH LLVM-exception", false),
            ("", false),
            ("(MIT", false),
            ("MIT)", false),
            ("MIT OR", false),
            ("OR MIT", false),
            ("MIT ISC", false),
        ] {
            assert_eq!(is_allowed(licence), expected, "{licence}");
        }
    }
}
