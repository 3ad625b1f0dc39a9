//! The relay's log: text for people, or one JSON object a line for programs.
//!
//! It tells of stores, connections and subjects, never of what is in a store.

use tracing::level_filters::LevelFilter;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends the log of this process to standard error from here on; once, later calls do
/// nothing.
pub fn start_log(format: LogFormat, level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let log = log.with_target(false);
    // An error says that a log was started before.
    let _ = match format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            let is_terminal = std::io::stderr().is_terminal();
            tracing::subscriber::set_global_default(log.with_ansi(is_terminal).finish())
        }
        LogFormat::Json => {
            tracing::subscriber::set_global_default(log.json().flatten_event(true).finish())
        }
    };
}
