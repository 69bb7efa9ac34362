//! The limits of this machine, as a report holds them.

use pagoda_kernels::limits::{Unit, peak, read_bandwidth};
use pagoda_kernels::{WeightFormat, WorkerPool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Read bandwidth and the peak of each arithmetic unit, of all workers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineLimits {
    /// Workers.
    pub threads: usize,
    /// Reads from memory, in GB/s.
    pub read_gbs: f64,
    /// Peak by name of the unit, in 10⁹ operations per second; units that the machine lacks are absent.
    pub peak_gops: BTreeMap<String, f64>,
}

/// More than the caches of any one socket that this is likely to run on hold for one process.
const READ_BYTES: usize = 256 << 20;

/// Larger than the second-level cache, and quick; for machines with little memory and for tests.
const SMALL_READ_BYTES: usize = 32 << 20;

impl MachineLimits {
    /// Measures with the workers of `pool`; takes about a second. `None` when the memory does not suffice.
    pub fn measure(pool: &WorkerPool) -> Option<Self> {
        let free = crate::memory::available_bytes().unwrap_or(u64::MAX);
        let bytes = if free > 4 * READ_BYTES as u64 { READ_BYTES } else { SMALL_READ_BYTES };
        let read_gbs = read_bandwidth(bytes, pool).ok()?;
        let named = |unit: Unit| Some((unit.name().to_owned(), peak(unit, pool)?));
        let peak_gops = Unit::ALL.into_iter().filter_map(named).collect();
        Some(Self { threads: pool.threads(), read_gbs, peak_gops })
    }

    /// Peak of `unit` in 10⁹ operations per second.
    pub fn peak(&self, unit: Unit) -> Option<f64> {
        self.peak_gops.get(unit.name()).copied()
    }

    /// The highest peak of the units that can compute with weights of `format`.
    pub fn best_peak(&self, format: WeightFormat) -> f64 {
        units(format).iter().filter_map(|unit| self.peak(*unit)).fold(0.0, f64::max)
    }

    /// The highest peak of the units that take keys and values, which are bf16 or f32.
    pub fn attention_peak(&self) -> f64 {
        self.best_peak(WeightFormat::Bf16)
    }

    /// The higher of each limit, as two measurements of one machine are to be joined: what it could do at best.
    #[must_use]
    pub fn best_of(&self, other: &Self) -> Self {
        let mut best = self.clone();
        best.read_gbs = best.read_gbs.max(other.read_gbs);
        for (unit, peak) in &other.peak_gops {
            let entry = best.peak_gops.entry(unit.clone()).or_insert(0.0);
            *entry = entry.max(*peak);
        }
        best
    }
}

/// Units that can do the arithmetic of a format.
fn units(format: WeightFormat) -> &'static [Unit] {
    match format {
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Fp8 => &[Unit::F32],
        WeightFormat::Bf16 => &[Unit::F32, Unit::Bf16Dot, Unit::AmxBf16],
        // Activations of 8 bits reach the highest peak, so it is the limit for those of 16 bits too.
        WeightFormat::Quantized(_) | WeightFormat::Blocks(..) => {
            &[Unit::Int8Dot, Unit::Int16Dot, Unit::AmxInt8]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(read_gbs: f64, peaks: &[(Unit, f64)]) -> MachineLimits {
        let peak_gops = peaks.iter().map(|(unit, peak)| (unit.name().to_owned(), *peak)).collect();
        MachineLimits { threads: 2, read_gbs, peak_gops }
    }

    #[test]
    fn the_best_unit_of_a_format_counts() {
        let machine = limits(30.0, &[(Unit::F32, 290.0), (Unit::Bf16Dot, 156.0)]);
        assert_eq!(machine.best_peak(WeightFormat::Bf16), 290.0);
        assert_eq!(limits(30.0, &[]).best_peak(WeightFormat::F32), 0.0);
    }

    #[test]
    fn two_measurements_join_to_the_better_of_each() {
        let joined = limits(30.0, &[(Unit::F32, 100.0)])
            .best_of(&limits(20.0, &[(Unit::F32, 120.0), (Unit::Int8Dot, 9.0)]));
        assert_eq!(joined, limits(30.0, &[(Unit::F32, 120.0), (Unit::Int8Dot, 9.0)]));
    }
}
