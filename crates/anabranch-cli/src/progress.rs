//! What long work says while it runs: on standard error, where a person sees it, only.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::bytes;
use crate::terminal;

/// A line that tells the present step; nothing in a pipe.
pub(crate) struct Progress {
    bar: ProgressBar,
    total: u64,
}

impl Progress {
    /// Begins.
    pub(crate) fn new(step: impl Into<Cow<'static, str>>) -> Progress {
        let target = if terminal::is_watched() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}").expect("the template is constant"),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.set_message(step);
        Progress { bar, total: 0 }
    }

    /// Tells the next step.
    pub(crate) fn step(&self, step: impl Into<Cow<'static, str>>) {
        self.bar.set_message(step);
    }

    /// Tells how many bytes more are done of what `step` names.
    pub(crate) fn advance(&mut self, step: &str, n_bytes: u64) {
        self.total += n_bytes;
        self.bar.set_message(format!("{step}: {}", bytes(self.total)));
    }

    /// Prints something that stays, above the line.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Clears the line.
    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }
}
