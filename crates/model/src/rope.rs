//! Rotary positions: the frequencies and how a longer context stretches them.

use std::f32::consts::PI;
use std::f64::consts::TAU;

/// Rotary position embedding: pairs of the first `rotary_dim` elements of each head are turned, the `i`-th of them by
/// `position * inv_freq[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of wavelengths.
    pub theta: f32,
    /// Leading elements of each head that are turned; even.
    pub rotary_dim: u32,
    /// Pair `i` is elements `2 i` and `2 i + 1`; otherwise `i` and `i + rotary_dim / 2`.
    pub interleaved: bool,
    /// Correction for contexts longer than the first training.
    pub scaling: RopeScaling,
}

/// Correction of the frequencies for contexts longer than the first training.
///
/// The kind called "dynamic" is none of these: it corrects only beyond the context that the model was made for, which is
/// as long as a sequence can be.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// At least 1.
        factor: f32,
        /// Wavelengths above `original_max_position / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original_max_position / high_freq_factor` are kept; above `low_freq_factor`.
        high_freq_factor: f32,
        /// Context of the first training.
        original_max_position: u32,
    },
    /// As [`Llama3`](Self::Llama3), with a ramp over the index of the pair (Peng et al., "YaRN", 2023).
    Yarn {
        /// At least 1.
        factor: f32,
        /// Pairs that turn more often than this within the first context are kept.
        beta_fast: f32,
        /// Pairs that turn less often than this are divided.
        beta_slow: f32,
        /// The ends of the ramp are rounded to whole pairs.
        truncate: bool,
        /// Context of the first training.
        original_max_position: u32,
        /// Factor on cosines and sines.
        amplitude: f32,
    },
    /// A divisor for each pair (Ding et al., "LongRoPE", 2024): `short` where the longest sequence is no longer than the first
    /// training's, else `long`. One set for all sequences, since a cached key is turned once.
    LongRope {
        /// `[rotary_dim / 2]`
        short: Box<[f32]>,
        /// `[rotary_dim / 2]`
        long: Box<[f32]>,
        /// Context of the first training.
        original_max_position: u32,
        /// Factor on cosines and sines.
        amplitude: f32,
    },
}

impl RopeSpec {
    /// Radians per position of each of the `rotary_dim / 2` pairs, for sequences of at most `longest` tokens.
    ///
    /// Rounds to f32 where the reference implementation does, so that angles agree at large positions.
    pub fn inv_freq(&self, longest: u32) -> Vec<f32> {
        let pairs = 0..self.rotary_dim / 2;
        match &self.scaling {
            RopeScaling::None => pairs.map(|pair| self.unscaled(pair)).collect(),
            RopeScaling::Linear { factor } => pairs.map(|pair| self.unscaled(pair) / factor).collect(),
            RopeScaling::Llama3 { .. } => pairs.map(|pair| self.llama3(self.unscaled(pair))).collect(),
            RopeScaling::Yarn { .. } => self.yarn(),
            RopeScaling::LongRope { short, long, original_max_position, .. } => {
                let factors = if longest > *original_max_position { long } else { short };
                pairs.zip(factors).map(|(pair, factor)| 1.0 / (factor * self.wavelength(pair))).collect()
            }
        }
    }

    /// Context that the stretch reaches, where it is told by a factor that users set to go beyond what config.json calls the
    /// longest.
    pub(crate) fn reach(&self) -> Option<u32> {
        match self.scaling {
            RopeScaling::Yarn { factor, original_max_position, .. } => {
                Some((f64::from(factor) * f64::from(original_max_position)) as u32)
            }
            _ => None,
        }
    }

    /// Factor on cosines and sines.
    pub fn amplitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { amplitude, .. } | RopeScaling::LongRope { amplitude, .. } => amplitude,
            _ => 1.0,
        }
    }

    /// Wavelength of a pair in units of 2 π.
    fn wavelength(&self, pair: u32) -> f32 {
        let exponent = (2 * pair) as f32 / self.rotary_dim as f32;
        // One rounding of the exact power: libraries differ in the last bit of an f32 power.
        f64::from(self.theta).powf(f64::from(exponent)) as f32
    }

    fn unscaled(&self, pair: u32) -> f32 {
        1.0 / self.wavelength(pair)
    }

    fn llama3(&self, freq: f32) -> f32 {
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } =
            self.scaling
        else {
            return freq;
        };
        let original = original_max_position as f32;
        let wavelength = 2.0 * PI / freq;
        if wavelength > original / low_freq_factor {
            freq / factor
        } else if wavelength < original / high_freq_factor {
            freq
        } else {
            let keep = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - keep) * freq / factor + keep * freq
        }
    }

    fn yarn(&self) -> Vec<f32> {
        let RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original_max_position, .. } =
            self.scaling
        else {
            return Vec::new();
        };
        let dim = f64::from(self.rotary_dim);
        // The pair, not always whole, that turns `turns` times within the first context.
        let pair_of = |turns: f32| {
            let wavelength = f64::from(original_max_position) / (f64::from(turns) * TAU);
            dim * wavelength.ln() / (2.0 * f64::from(self.theta).ln())
        };
        let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0) as f32, high.min(dim - 1.0) as f32);
        if low == high {
            high += 0.001;
        }
        let scaled = |pair: u32| {
            let keep = 1.0 - ((pair as f32 - low) / (high - low)).clamp(0.0, 1.0);
            let wavelength = self.wavelength(pair);
            1.0 / (factor * wavelength) * (1.0 - keep) + 1.0 / wavelength * keep
        };
        (0..self.rotary_dim / 2).map(scaled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longrope_chooses_by_the_longest_sequence() {
        let scaling = RopeScaling::LongRope {
            short: [1.0, 1.0].into(),
            long: [1.0, 8.0].into(),
            original_max_position: 100,
            amplitude: 1.25,
        };
        let rope = RopeSpec { theta: 100.0, rotary_dim: 4, interleaved: false, scaling };
        assert_eq!(rope.inv_freq(100), [1.0, 0.1]);
        assert_eq!(rope.inv_freq(101), [1.0, 1.0 / 80.0]);
        assert_eq!(rope.amplitude(), 1.25);
    }

    #[test]
    fn yarn_keeps_short_wavelengths_and_divides_long_ones() {
        let yarn = |truncate| {
            let scaling = RopeScaling::Yarn {
                factor: 4.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                truncate,
                original_max_position: 2048,
                amplitude: 1.0,
            };
            RopeSpec { theta: 10_000.0, rotary_dim: 64, interleaved: false, scaling }.inv_freq(8192)
        };
        let plain =
            RopeSpec { theta: 10_000.0, rotary_dim: 64, interleaved: false, scaling: RopeScaling::None };
        let (plain, whole, exact) = (plain.inv_freq(8192), yarn(true), yarn(false));
        assert_eq!(whole[..5], plain[..5]);
        assert!(whole.iter().zip(&plain).skip(26).all(|(stretched, plain)| *stretched == plain / 4.0));
        assert!(
            whole
                .iter()
                .zip(&plain)
                .all(|(stretched, plain)| stretched <= plain && 4.01 * stretched >= *plain)
        );
        assert_ne!(whole, exact);
    }
}
