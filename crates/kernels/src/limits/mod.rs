//! What this machine can do at most, measured: streaming reads and the peak of each arithmetic unit.
//!
//! Every speed of a kernel is a share of one of these. They are short measurements (tens of milliseconds each) of loops
//! that do nothing else; on a shared machine they vary by the minute, so measure them beside what they are compared with.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::{Buffer, OutOfMemory, WorkerPool};
use std::fmt;
use std::hint::black_box;
use std::time::Instant;

/// An arithmetic unit that some kernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Fused multiply-add of f32, in the widest registers.
    F32,
    /// Dot product of pairs of bf16 (VDPBF16PS).
    Bf16Dot,
    /// Dot product of pairs of 16-bit integers (VPDPWSSD).
    Int16Dot,
    /// Dot product of four 8-bit integers (VPDPBUSD).
    Int8Dot,
    /// Products of tiles of bf16 (TDPBF16PS).
    AmxBf16,
    /// Products of tiles of 8-bit integers (TDPBSUD).
    AmxInt8,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Unit; 6] =
        [Unit::F32, Unit::Bf16Dot, Unit::Int16Dot, Unit::Int8Dot, Unit::AmxBf16, Unit::AmxInt8];

    /// Name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Unit::F32 => "f32 multiply-add",
            Unit::Bf16Dot => "bf16 dot",
            Unit::Int16Dot => "int16 dot",
            Unit::Int8Dot => "int8 dot",
            Unit::AmxBf16 => "amx bf16",
            Unit::AmxInt8 => "amx int8",
        }
    }

    /// The loop that keeps the unit busy; `None` where the machine lacks it.
    fn spin(self) -> Option<Spin> {
        #[cfg(target_arch = "x86_64")]
        return x86::spin(self);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A loop over independent chains of one instruction.
#[derive(Clone, Copy)]
struct Spin {
    /// Runs the loop so many rounds.
    run: fn(usize),
    /// Operations of a round, a multiplication and an addition counting as two.
    operations: usize,
}

/// Chains under way at once: more than latency times throughput of any unit.
const CHAINS: usize = 12;

/// Rounds of a measurement.
const ROUNDS: usize = 1 << 20;

/// Measurements of which the median counts.
const TIMES: usize = 5;

/// Operations per second of `unit` on all workers of `pool` together, in 10⁹; `None` where the machine lacks the unit.
pub fn peak(unit: Unit, pool: &WorkerPool) -> Option<f64> {
    let spin = unit.spin()?;
    let seconds = median(|| pool.run(&|_| (spin.run)(ROUNDS)));
    Some(1e-9 * (ROUNDS * spin.operations * pool.threads()) as f64 / seconds)
}

/// Bytes per second that all workers of `pool` together read from a buffer of `bytes`, in 10⁹: of memory if it is
/// larger than the caches, 256 MiB or more on a server.
///
/// # Errors
///
/// When there is no memory for the buffer.
pub fn read_bandwidth(bytes: usize, pool: &WorkerPool) -> Result<f64, OutOfMemory> {
    let words = (bytes / 4).next_multiple_of(pool.threads());
    let mut memory = Buffer::<f32>::zeroed(words)?;
    // A page that was never written is one page of zeros for all.
    memory.fill(1.0);
    let part = words / pool.threads();
    let seconds =
        median(|| pool.run(&|worker| _ = black_box(sum(&memory[worker * part..(worker + 1) * part]))));
    Ok(4e-9 * words as f64 / seconds)
}

/// Median time of a call in seconds, after one that warms up.
fn median(call: impl Fn()) -> f64 {
    call();
    let mut seconds = [0.0; TIMES];
    for seconds in &mut seconds {
        let start = Instant::now();
        call();
        *seconds = start.elapsed().as_secs_f64();
    }
    seconds.sort_by(f64::total_cmp);
    seconds[TIMES / 2]
}

fn sum(x: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(sum) = x86::sum() {
        return sum(x);
    }
    plain_sum(x)
}

#[inline(always)]
fn plain_sum(x: &[f32]) -> f32 {
    let mut sums = [0f32; 128];
    for x in x.as_chunks::<128>().0 {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive_numbers() {
        let pool = WorkerPool::new(2).unwrap();
        assert!(read_bandwidth(1 << 20, &pool).unwrap() > 0.0);
        for unit in Unit::ALL {
            assert!(peak(unit, &pool).is_none_or(|peak| peak > 0.0 && peak.is_finite()), "{unit}");
        }
    }
}
