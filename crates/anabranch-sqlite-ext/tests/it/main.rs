//! The built extension, from outside: what the library holds and shows, and hosts that
//! load it.
//!
//! Hosts are programs of the machine. One that cannot be had is told on stderr, and in the
//! file that `ANABRANCH_SKIPS` names, which CI counts as a failure.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;

mod hosts;
mod library;
mod shim;
mod transcript;

/// Tells that a test, or a part of one, cannot run.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(file) = std::env::var_os("ANABRANCH_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "anabranch-sqlite-ext: {reason}").unwrap();
    }
}
