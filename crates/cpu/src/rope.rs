//! Cosines and sines of rotary positions.

use pagoda_model::RopeSpec;

/// Positions whose rows are kept. Those beyond are computed in each step, which costs a long context less than a
/// thousandth of its time and saves a table of the model's whole context.
const KEPT: usize = 4096;

/// Angles by position. Rows of the first positions are computed when they are first seen and kept; the room for them
/// is reserved at the start, so that a step allocates nothing and a short run touches little memory.
#[derive(Debug)]
pub(crate) struct RopeTable {
    inv_freq: Vec<f32>,
    /// Factor on all cosines and sines.
    amplitude: f32,
    /// `[positions up to KEPT][pairs]`
    cos: Vec<f32>,
    /// `[positions up to KEPT][pairs]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// A table for sequences of at most `longest` tokens.
    pub(crate) fn new(spec: &RopeSpec, longest: u32) -> Self {
        let (inv_freq, amplitude) = (spec.inv_freq(longest), spec.amplitude());
        let room = kept(longest) * inv_freq.len();
        Self { cos: Vec::with_capacity(room), sin: Vec::with_capacity(room), inv_freq, amplitude }
    }

    /// Bytes of a full table.
    pub(crate) fn bytes(spec: &RopeSpec, longest: u32) -> u64 {
        let pairs = u64::from(spec.rotary_dim / 2);
        (2 * kept(longest) as u64 + 1) * pairs * size_of::<f32>() as u64
    }

    /// Bytes reserved.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        ((self.cos.capacity() + self.sin.capacity() + self.inv_freq.len()) * size_of::<f32>()) as u64
    }

    /// Pairs of elements that are turned.
    pub(crate) fn pairs(&self) -> usize {
        self.inv_freq.len()
    }

    /// Fills `cos` and `sin`, `[positions.len()][pairs]`, for the tokens of one step.
    pub(crate) fn gather(&mut self, positions: &[u32], cos: &mut [f32], sin: &mut [f32]) {
        let pairs = self.pairs();
        if let Some(&last) = positions.iter().max() {
            self.extend((last as usize + 1).min(self.cos.capacity() / pairs));
        }
        let rows = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
        for (&position, (cos, sin)) in positions.iter().zip(rows) {
            let from = position as usize * pairs;
            if let Some(kept) = self.cos.get(from..from + pairs) {
                cos.copy_from_slice(kept);
                sin.copy_from_slice(&self.sin[from..from + pairs]);
                continue;
            }
            for ((cos, sin), &frequency) in cos.iter_mut().zip(sin).zip(&self.inv_freq) {
                (*cos, *sin) = turn(position, frequency, self.amplitude);
            }
        }
    }

    /// Computes the kept rows up to `positions`.
    fn extend(&mut self, positions: usize) {
        for position in self.cos.len() / self.pairs()..positions {
            for &frequency in &self.inv_freq {
                let (cos, sin) = turn(position as u32, frequency, self.amplitude);
                self.cos.push(cos);
                self.sin.push(sin);
            }
        }
    }
}

/// Rows that are kept for sequences of this length.
fn kept(longest: u32) -> usize {
    (longest as usize).min(KEPT)
}

/// Cosine and sine of a position at one frequency, `amplitude` times.
fn turn(position: u32, frequency: f32, amplitude: f32) -> (f32, f32) {
    // The angle is rounded to f32, as the reference implementation rounds it.
    let angle = f64::from(position as f32 * frequency);
    (angle.cos() as f32 * amplitude, angle.sin() as f32 * amplitude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_model::RopeScaling;

    #[test]
    fn angles_are_those_of_the_position_in_any_order_and_nothing_is_reallocated() {
        let spec =
            RopeSpec { theta: 10_000.0, rotary_dim: 8, interleaved: false, scaling: RopeScaling::None };
        let mut table = RopeTable::new(&spec, 10_000);
        let reserved = table.reserved_bytes();
        assert_eq!(reserved, RopeTable::bytes(&spec, 10_000));
        let positions = [5, 4_096, 0, 4_095, 9_999, 6];
        let (mut cos, mut sin) = (vec![0.0; 24], vec![0.0; 24]);
        table.gather(&positions, &mut cos, &mut sin);
        for (row, &position) in positions.iter().enumerate() {
            for (pair, frequency) in spec.inv_freq(10_000).into_iter().enumerate() {
                let angle = f64::from(position as f32 * frequency);
                assert_eq!(cos[row * 4 + pair], angle.cos() as f32);
                assert_eq!(sin[row * 4 + pair], angle.sin() as f32);
            }
        }
        assert_eq!(table.reserved_bytes(), reserved);
    }
}
