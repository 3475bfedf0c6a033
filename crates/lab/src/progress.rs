//! What the user sees while something takes long.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps faster than this are not worth a line in a log.
const WORTH_A_LINE: Duration = Duration::from_secs(2);

/// Where progress goes: bars on a terminal, one plain line for each long step otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Terminal,
    Plain,
    Silent,
}

impl Progress {
    /// On standard error, as it is.
    #[must_use]
    pub fn stderr() -> Self {
        Self { mode: if std::io::stderr().is_terminal() { Mode::Terminal } else { Mode::Plain } }
    }

    /// Nothing is shown.
    #[must_use]
    pub const fn silent() -> Self {
        Self { mode: Mode::Silent }
    }

    /// Shows that something is under way until the returned value is dropped: a spinner on a terminal, one line elsewhere.
    #[must_use]
    pub fn watch(self, what: impl Into<String>) -> Watch {
        let what = what.into();
        match self.mode {
            Mode::Terminal => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_style(style("{spinner} {msg} ({elapsed})"));
                bar.set_message(what);
                bar.enable_steady_tick(Duration::from_millis(100));
                Watch { bar: Some(bar) }
            }
            Mode::Plain => {
                eprintln!("lab: {what} ...");
                Watch { bar: None }
            }
            Mode::Silent => Watch { bar: None },
        }
    }

    /// Begins a step, which ends when the returned value is dropped.
    pub(crate) fn step(self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = match self.mode {
            Mode::Terminal => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_style(style("{spinner} {msg} ({elapsed})"));
                bar.set_message(what.clone());
                Some(bar)
            }
            Mode::Plain | Mode::Silent => None,
        };
        Step { bar, plain: self.mode == Mode::Plain, what, begun: Instant::now(), said: Cell::new(false) }
    }
}

/// The templates are constants of this file; should one be wrong, a plain bar is shown.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What [`Progress::watch`] shows.
#[derive(Debug)]
pub struct Watch {
    bar: Option<ProgressBar>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A step that is under way.
#[derive(Debug)]
pub(crate) struct Step {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    begun: Instant,
    said: Cell<bool>,
}

impl Step {
    /// Says how many bytes there are to fetch, once that is known.
    pub(crate) fn expect_bytes(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left"));
        }
    }

    /// Says how many bytes are there.
    pub(crate) fn at_bytes(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// To be called often: moves the spinner, or writes the step's line when it has become a long one.
    pub(crate) fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.tick();
        } else if self.plain && !self.said.get() && self.begun.elapsed() >= WORTH_A_LINE {
            self.said.set(true);
            eprintln!("lab: {} ...", self.what);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
