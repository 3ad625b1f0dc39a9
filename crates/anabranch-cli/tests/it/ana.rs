//! Runs `ana` in a folder of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder, and the program to run in it.
pub(crate) struct Ana {
    folder: TempDir,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    /// Standard output, byte for byte.
    pub(crate) bytes: Vec<u8>,
}

impl Ana {
    pub(crate) fn new() -> Ana {
        Ana { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with a store `a.db` that has a conflict-free table `note(id, body)`.
    pub(crate) fn with_notes() -> Ana {
        let ana = Ana::new();
        ana.ok(&["init", "a.db"]);
        ana.ok(&["sql", "a.db", "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT)"]);
        ana.ok(&["crr", "a.db", "note"]);
        ana
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that was made by other means.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ana"));
        command.args(args).current_dir(self.folder.path());
        command.env("NO_COLOR", "").env_remove("ANA_HISTORY").env("LC_ALL", "C.UTF-8");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, b"")
    }

    /// Runs with bytes on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Run {
        run(&mut self.command(args), input)
    }

    /// Runs what must succeed; its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{args:?}: {}", run.out);
        run.out
    }

    /// The answer of a statement with one row and one column.
    pub(crate) fn one(&self, db: &str, sql: &str) -> String {
        let csv = self.ok(&["sql", db, "--output", "csv", sql]);
        csv.lines().nth(1).unwrap_or_default().to_string()
    }

    /// The six words of a database.
    pub(crate) fn words(&self, db: &str) -> String {
        self.one(db, "SELECT ana_words(ana_digest())")
    }
}

/// Runs a command with bytes on standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read its input closes it: no reason to fail.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&stdout), text(&stderr));
    Run { status: status.code().unwrap_or(-1), out, err, bytes: stdout }
}

/// All files of a folder and their bytes, to see that nothing changed.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
