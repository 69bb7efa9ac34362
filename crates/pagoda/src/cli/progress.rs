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

/// Shows how far a download is, from any thread.
#[cfg(feature = "hub")]
pub(crate) struct DownloadBar {
    bar: ProgressBar,
    shown_tenths: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "hub")]
impl Default for DownloadBar {
    fn default() -> Self {
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        let style = style.expect("the template is well-formed");
        Self { bar: ProgressBar::new(0).with_style(style), shown_tenths: 0.into() }
    }
}

#[cfg(feature = "hub")]
impl DownloadBar {
    /// Takes note that `done` of `total` bytes are there.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if std::io::stderr().is_terminal() {
            self.bar.set_length(total);
            self.bar.set_position(done);
            return;
        }
        let tenths = (u128::from(done) * 10 / u128::from(total.max(1))) as u64;
        if tenths > self.shown_tenths.fetch_max(tenths, std::sync::atomic::Ordering::Relaxed) {
            eprintln!("{}% of {} MiB", tenths * 10, total >> 20);
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("loading weights {bar:30} {percent}% {eta}")
        .expect("the template is well-formed")
}
