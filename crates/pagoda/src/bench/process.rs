//! What this process and the others took of the machine during a measurement.

use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Instant;

/// Ticks per second in `/proc`; fixed by the kernel's interface on every architecture that we build for.
const TICKS: f64 = 100.0;

/// Starts a new peak of resident memory. Returns whether the system does that.
pub fn reset_peak_rss() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Peak of resident memory in bytes, since the start or the last [`reset_peak_rss`]; `None` where the system does not
/// tell.
pub fn peak_rss_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Resident memory in bytes; `None` where the system does not tell.
pub fn rss_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// A field of the process's status in bytes; `None` where the system does not tell.
pub(super) fn status_bytes(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A look at the processor time used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    at: Instant,
    /// Ticks of the whole machine, without idle ones.
    busy: f64,
    /// Ticks that the host took away.
    stolen: f64,
    /// Ticks of this process.
    own: f64,
}

/// Cores in use during a measurement, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// By this process.
    pub own_cores: f64,
    /// By other processes.
    pub other_cores: f64,
    /// Taken by the host.
    pub steal_cores: f64,
}

impl Usage {
    /// Looks now; `None` where the system does not tell.
    pub fn look() -> Option<Self> {
        let (busy, stolen) = machine_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let own = own_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { at: Instant::now(), busy, stolen, own })
    }

    /// What was used since `self`.
    pub fn until_now(&self) -> Option<Disturbance> {
        let after = Self::look()?;
        let ticks = TICKS * (after.at - self.at).as_secs_f64().max(1e-3);
        let own = after.own - self.own;
        Some(Disturbance {
            own_cores: own / ticks,
            other_cores: ((after.busy - self.busy - own) / ticks).max(0.0),
            steal_cores: (after.stolen - self.stolen) / ticks,
        })
    }
}

/// Busy ticks and stolen ticks: user, nice, system, interrupts; steal.
fn machine_ticks(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let field = |index: usize| fields.get(index).copied();
    Some((field(0)? + field(1)? + field(2)? + field(5)? + field(6)?, field(7).unwrap_or(0.0)))
}

/// User and system ticks. The name of the process, in parentheses, may hold spaces.
fn own_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read() {
        assert_eq!(machine_ticks("cpu  10 20 30 400 5 6 7 8 0 0\ncpu0 1"), Some((73.0, 8.0)));
        assert_eq!(machine_ticks("nothing"), None);
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(own_ticks(stat), Some(300.0));
    }
}
