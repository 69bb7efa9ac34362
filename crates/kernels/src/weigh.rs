//! Weights of tokens from logits. The formula uses no fused operation, so that every instruction set gives the same bits.

/// Below this the weight is 0; the exponential is a normal number down to it.
pub(crate) const SMALLEST: f32 = -87.0;
/// Adding this rounds to an integer that the low bits of the sum hold.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// The natural logarithm of 2 in two parts, the first exact in products with small integers.
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// The exponential's series from the eighth coefficient down.
pub(crate) const SERIES: [f32; 8] =
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// `exp(x)` for `x <= 0`, to 2 units in the last place; 0 below -87. Not for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; a polynomial for `exp(r)`, then `n` goes into the exponent bits.
pub fn weight(x: f32) -> f32 {
    let clamped = if x > SMALLEST { x } else { SMALLEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let [mut p, rest @ ..] = SERIES;
    for coefficient in rest {
        p = p * r + coefficient;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x > SMALLEST { p * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_within_two_units_in_the_last_place() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(weight(x)) - exact).abs() / exact;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}): relative error {error:e}");
        }
        assert_eq!(weight(0.0), 1.0);
        assert_eq!(weight(-1e30), 0.0);
        assert_eq!(weight(f32::NEG_INFINITY), 0.0);
    }
}
