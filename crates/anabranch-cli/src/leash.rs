//! A process that must not outlive whoever started it.
//!
//! The starter holds the other end of standard input. However it ends, with `kill -9` too,
//! the operating system closes that end, and this process goes.

use std::io;

/// Ends this process when standard input ends. What it acknowledged is on disk, so it needs
/// no farewell.
pub(crate) fn end_with_stdin() {
    std::thread::spawn(|| {
        // An input that cannot be read has ended as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
