//! Rotary positions: the frequencies and how a longer context stretches them.

use std::f32::consts::PI;

/// Rotary position embedding in the half-split ("NeoX") layout: element `i` of a head is paired with element
/// `i + rotary_dim / 2`, and the pair is turned by `position * inv_freq[i]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of wavelengths.
    pub theta: f32,
    /// Leading elements of each head that are turned; even.
    pub rotary_dim: u32,
    /// Correction for contexts longer than the first training.
    pub scaling: RopeScaling,
}

/// Correction of the frequencies for contexts longer than the first training.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

impl RopeSpec {
    /// Radians per position of each of the `rotary_dim / 2` pairs.
    ///
    /// Rounds to f32 where the reference implementation does, so that angles agree at large positions.
    pub fn inv_freq(&self) -> Vec<f32> {
        (0..self.rotary_dim / 2).map(|pair| self.scale(self.unscaled(pair))).collect()
    }

    fn unscaled(&self, pair: u32) -> f32 {
        let exponent = (2 * pair) as f32 / self.rotary_dim as f32;
        // One rounding of the exact power: libraries differ in the last bit of an f32 power.
        1.0 / f64::from(self.theta).powf(f64::from(exponent)) as f32
    }

    fn scale(&self, freq: f32) -> f32 {
        match self.scaling {
            RopeScaling::None => freq,
            RopeScaling::Linear { factor } => freq / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => {
                let original = original_max_position as f32;
                let wavelength = 2.0 * PI / freq;
                if wavelength > original / low_freq_factor {
                    freq / factor
                } else if wavelength < original / high_freq_factor {
                    freq
                } else {
                    let keep =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - keep) * freq / factor + keep * freq
                }
            }
        }
    }
}
