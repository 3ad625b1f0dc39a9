//! The relay's log: text for people, or one JSON object a line for programs.
//!
//! It tells of stores, connections and subjects, never of what is in a store.

use std::io::{self, IsTerminal, Write};

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
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    // An error says that a log was started before.
    let _ = match format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            let writer = move || OneLine { to: std::io::stderr(), is_colored: is_terminal };
            let log = log.with_ansi(is_terminal).with_writer(writer);
            tracing::subscriber::set_global_default(log.finish())
        }
        LogFormat::Json => {
            let log = log.with_writer(std::io::stderr).json().flatten_event(true);
            tracing::subscriber::set_global_default(log.finish())
        }
    };
}

/// Writes each event as one line, whatever a subject or a path has in it: what breaks lines, or
/// speaks to terminals, is escaped. Each call is given one event.
struct OneLine<W> {
    to: W,
    /// Whether the event has colors, which begin with an escape.
    is_colored: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        let mut escaped = String::with_capacity(line.len());
        for letter in line.chars() {
            match letter {
                '\u{1b}' if self.is_colored => escaped.push(letter),
                '\u{2028}' | '\u{2029}' => escaped.extend(letter.escape_default()),
                letter if letter.is_control() => escaped.extend(letter.escape_default()),
                letter => escaped.push(letter),
            }
        }
        escaped.push_str(end);
        self.to.write_all(escaped.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A subject is what a token says: it makes no line of its own.
    #[test]
    fn an_event_is_one_line() {
        let kept = Kept::default();
        let to = kept.clone();
        let writer = move || OneLine { to: to.clone(), is_colored: false };
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(log, || {
            let subject = "ann\r\n2026-11-26 INFO root deleted\u{2028}\u{1b}[2J\u{85}";
            tracing::info!(%subject, "export");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.contains("ann\\r\\n2026"), "{text}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    }
}
