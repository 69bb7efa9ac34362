//! Progress of a load on stderr: a bar on a terminal, one line per tenth elsewhere, nothing when it is quick.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Loads that end sooner than this show nothing.
const QUIET: Duration = Duration::from_millis(500);

/// Resolution of the bar.
const TICKS: u64 = 1000;

/// Shows how far a load is.
pub(crate) struct LoadBar {
    bar: Option<ProgressBar>,
    started: Instant,
    shown_tenths: u64,
}

impl LoadBar {
    /// A bar that appears once the load has taken half a second.
    pub(crate) fn new() -> Self {
        Self { bar: None, started: Instant::now(), shown_tenths: 0 }
    }

    /// Takes note that `fraction`, from 0 to 1, of the weights is in place.
    pub(crate) fn show(&mut self, fraction: f32) {
        if self.bar.is_none() && self.started.elapsed() < QUIET {
            return;
        }
        let ticks = (f64::from(fraction.clamp(0.0, 1.0)) * TICKS as f64) as u64;
        if !std::io::stderr().is_terminal() {
            return self.line(ticks * 10 / TICKS);
        }
        let bar = self.bar.get_or_insert_with(|| ProgressBar::new(TICKS).with_style(style()));
        bar.set_position(ticks);
        if ticks == TICKS {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, tenths: u64) {
        if tenths > self.shown_tenths {
            self.shown_tenths = tenths;
            eprintln!("loading weights {}%", tenths * 10);
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("loading weights {bar:30} {percent}% {eta}")
        .expect("the template is well-formed")
}
