//! `ana sql` with a person at the other end: lines, history, errors that do not end it.

use std::path::{Path, PathBuf};

use anabranch::Store;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::{dot, runner::Runner};
use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::script;

/// Lines of history kept between sessions.
const MAX_HISTORY: usize = 2000;

/// Talks until the person leaves.
pub(super) fn run(
    store: &Store,
    path: &Path,
    runner: &mut Runner<'_>,
    console: &mut Console,
) -> Result<()> {
    let config = rustyline::Config::builder()
        .max_history_size(MAX_HISTORY)
        .and_then(|builder| builder.history_ignore_dups(true))
        .map_err(broken)?
        .build();
    let mut editor = DefaultEditor::with_config(config).map_err(broken)?;
    let history = history_file();
    if let Some(file) = &history {
        // The first session has none; one that cannot be read costs old lines only.
        let _ = editor.load_history(file);
    }
    let tables = store.tables()?.len() as u64;
    let tables = crate::output::count(tables, "conflict-free table");
    console.line(format!("{}: {tables}. .help helps, .quit leaves.", path.display()))?;
    console.finish()?;
    runner.is_typed = true;
    talk(&mut editor, runner, console)?;
    if let Some(file) = &history {
        if let Some(folder) = file.parent() {
            // Without the folder, saving fails below, and only history is lost.
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.save_history(file);
    }
    Ok(())
}

fn talk(editor: &mut DefaultEditor, runner: &mut Runner<'_>, console: &mut Console) -> Result<()> {
    let mut text = String::new();
    loop {
        let prompt = match (text.is_empty(), runner.connection.is_autocommit()) {
            (true, true) => "ana> ",
            (true, false) => "ana*> ",
            (false, _) => "...> ",
        };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(broken(error)),
        };
        if text.is_empty() && line.trim_start().starts_with('.') {
            let _ = editor.add_history_entry(line.trim());
            match dot::run(line.trim(), runner, console) {
                Ok(flow) if flow.is_break() => return Ok(()),
                Ok(_) => {}
                Err(failure) => failure.report(false),
            }
            continue;
        }
        text.push_str(&line);
        text.push('\n');
        let script = script::split(&text);
        if script.statements.is_empty() && script.rest.is_empty() {
            text.clear();
        } else if script.rest.is_empty() {
            // One entry for the whole statement, so that one key brings it back.
            let _ = editor.add_history_entry(text.trim());
            runner.run_all(&text, console).unwrap_or_else(|failure| failure.report(false));
            console.finish()?;
            text.clear();
        }
    }
}

/// `$ANA_HISTORY`, or a file under `$XDG_STATE_HOME` or `~/.local/state`; none if it is
/// set and empty, or there is no home.
fn history_file() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("ANA_HISTORY") {
        return Some(PathBuf::from(file)).filter(|file| !file.as_os_str().is_empty());
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("anabranch/history"))
}

fn broken(error: ReadlineError) -> Failure {
    Failure::new(Exit::Io, format!("the terminal cannot be read: {error}"))
}
