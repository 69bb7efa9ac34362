//! Random elements by index: counter-based, so that any part can be made alone and on any thread.

use half::bf16;
use std::thread;

/// Step of the counter in front of the mixing, an odd number near 2^64 / golden ratio (Steele et al., "Fast splittable
/// pseudorandom number generators", 2014).
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
/// Values that the sum of four bytes takes.
const SUMS: usize = 4 * 255 + 1;
/// Standard deviation of the sum of four random bytes.
const DEVIATION: f32 = 147.801_22;
/// Elements that one thread makes at least.
const GRAIN: usize = 1 << 18;
/// Most threads that make one tensor.
const MAX_THREADS: usize = 16;

/// The elements of one tensor: `mean + deviation * x`, with `x` close to normal, rounded to bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generator {
    pub(crate) key: u64,
    pub(crate) mean: f32,
    pub(crate) deviation: f32,
}

impl Generator {
    /// The generator of the tensor called `name` in the model of `seed`.
    pub(crate) fn new(seed: u64, name: &str, mean: f32, deviation: f32) -> Self {
        let key = name.bytes().fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        Self { key, mean, deviation }
    }

    /// Elements `0..len`.
    pub(crate) fn elements(&self, len: usize) -> Vec<bf16> {
        let mut out: Vec<bf16> = bytemuck::allocation::zeroed_vec(len);
        let table = self.table();
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        let parts = (len / GRAIN).clamp(1, cores.min(MAX_THREADS));
        let each = len.div_ceil(parts).next_multiple_of(2).max(2);
        thread::scope(|scope| {
            let mut parts = out.chunks_mut(each).enumerate();
            let first = parts.next();
            for (index, part) in parts {
                let table = &table;
                scope.spawn(move || self.fill(index * each, table, part));
            }
            if let Some((_, part)) = first {
                self.fill(0, &table, part);
            }
        });
        out
    }

    /// The value of each sum of four bytes, which are close to normal together.
    fn table(&self) -> [bf16; SUMS] {
        let middle = (SUMS / 2) as f32;
        std::array::from_fn(|sum| {
            bf16::from_f32(self.mean + self.deviation * ((sum as f32 - middle) / DEVIATION))
        })
    }

    /// Makes the elements from `first`, an even index, on.
    fn fill(&self, first: usize, table: &[bf16; SUMS], out: &mut [bf16]) {
        const LOW_BYTES: u64 = 0x00FF_00FF_00FF_00FF;
        const SUM: u64 = 0x3FF;
        let mut counter = self.key.wrapping_add((first as u64 / 2).wrapping_mul(GAMMA));
        for pair in out.chunks_mut(2) {
            let bits = mix(counter);
            counter = counter.wrapping_add(GAMMA);
            let pairs = (bits & LOW_BYTES) + (bits >> 8 & LOW_BYTES);
            let sums = pairs + (pairs >> 16);
            for (lane, element) in pair.iter_mut().enumerate() {
                *element = table[(sums >> (32 * lane) & SUM) as usize % SUMS];
            }
        }
    }
}

/// A permutation of 64 bits after which each bit depends on all (the finaliser of MurmurHash3, variant 13).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_normal_and_a_function_of_seed_tensor_and_index() {
        let generator = Generator::new(7, "a", 0.5, 2.0);
        // More than one thread's share, and odd.
        let long = generator.elements(2 * GRAIN + 3);
        assert_eq!(generator.elements(1_001), long[..1_001]);
        assert_ne!(Generator::new(8, "a", 0.5, 2.0).elements(1_001), long[..1_001]);
        assert_ne!(Generator::new(7, "b", 0.5, 2.0).elements(1_001), long[..1_001]);
        let count = long.len() as f64;
        let mean = long.iter().map(|x| x.to_f64()).sum::<f64>() / count;
        let variance = long.iter().map(|x| (x.to_f64() - mean).powi(2)).sum::<f64>() / count;
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
        assert!((variance - 4.0).abs() < 0.05, "variance {variance}");
        let neighbours = long.windows(2).map(|x| (x[0].to_f64() - 0.5) * (x[1].to_f64() - 0.5)).sum::<f64>();
        assert!((neighbours / count).abs() < 0.03, "neighbours are independent: {}", neighbours / count);
        assert!(generator.elements(0).is_empty());
    }
}
