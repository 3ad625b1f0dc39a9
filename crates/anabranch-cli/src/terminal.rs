//! What is at the other end: a terminal of some width and colours, or a pipe.
//!
//! Invariant: nothing but text and line feeds goes into a pipe, and no colour goes to a
//! terminal whose user set `NO_COLOR` (no-color.org) or whose `TERM` is `dumb`.

use std::io::IsTerminal;

/// Columns assumed where no terminal tells.
pub(crate) const DEFAULT_WIDTH: usize = 80;
/// Narrower terminals are treated as this wide: a table needs room for its marks.
const MIN_WIDTH: usize = 20;

/// Standard output, looked at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// `None` in a pipe or file.
    width: Option<usize>,
    has_colour: bool,
}

/// How a word stands out where there are colours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// Headings.
    Bold,
    /// Rules and remarks.
    Dim,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
}

impl Terminal {
    /// Looks at standard output.
    pub(crate) fn stdout() -> Terminal {
        if !std::io::stdout().is_terminal() {
            return Terminal { width: None, has_colour: false };
        }
        let width = terminal_size::terminal_size()
            .map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0).max(MIN_WIDTH));
        Terminal { width: Some(width), has_colour: wants_colour() }
    }

    /// Columns of the terminal; `None` in a pipe, where nothing is cut.
    pub(crate) fn width(self) -> Option<usize> {
        self.width
    }

    /// The same output, cut at `width` columns even in a pipe, unless a terminal says
    /// otherwise.
    pub(crate) fn or_width(self, width: usize) -> Terminal {
        Terminal { width: self.width.or(Some(width)), ..self }
    }

    /// Whether a person looks on.
    pub(crate) fn is_terminal(self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// The text in a style, or as it is.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.has_colour || text.is_empty() {
            return text.to_string();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn wants_colour() -> bool {
    let is_unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    is_unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether progress may be drawn: only where a person sees standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}
