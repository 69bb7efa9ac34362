//! What the benches share: time, numbers, checksums.

use std::time::Instant;

/// Least time of a call in seconds, after one that warms up.
pub(crate) fn best(times: usize, mut call: impl FnMut()) -> f64 {
    call();
    let timed = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(timed).fold(f64::INFINITY, f64::min)
}

/// A number in -1..1 that looks random.
pub(crate) fn noise(i: usize) -> f32 {
    let hash = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash ^ (hash >> 29)) & 0xffff) as f32 / 32768.0 - 1.0
}

/// A number that changes when a bit of `x` does.
pub(crate) fn checksum(x: &[f32]) -> u64 {
    x.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3))
}
