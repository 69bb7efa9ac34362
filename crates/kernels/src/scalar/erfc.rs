//! The complementary error function.

use std::f64::consts::PI;

/// Where the series gives way to the continued fraction.
const FAR: f64 = 2.0;
/// Steps of either, more than f64 needs on its side of [`FAR`].
const STEPS: u32 = 60;

/// `1 - erf(x)` with a relative error below 1e-12 (Abramowitz and Stegun, 7.1.6 and 7.1.14).
pub(super) fn erfc(x: f64) -> f64 {
    let size = x.abs();
    let right = if size < FAR {
        let mut term = size;
        let mut sum = size;
        for n in 1..STEPS {
            term *= 2.0 * size * size / f64::from(2 * n + 1);
            sum += term;
        }
        1.0 - 2.0 / PI.sqrt() * (-size * size).exp() * sum
    } else {
        let fraction = (1..STEPS).rev().fold(size, |rest, n| size + f64::from(n) / 2.0 / rest);
        (-size * size).exp() / (PI.sqrt() * fraction)
    };
    if x < 0.0 { 2.0 - right } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let known = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.999, 0.004_698_443_348_629_488),
            (2.0, 0.004_677_734_981_047_266),
            (5.0, 1.537_459_794_428_035e-12),
            (-1.0, 1.842_700_792_949_715),
        ];
        for (x, want) in known {
            assert!((erfc(x) - want).abs() <= 1e-12 * want, "erfc({x}) = {} for {want}", erfc(x));
        }
        assert!(erfc(f64::NAN).is_nan());
        assert_eq!((erfc(f64::INFINITY), erfc(1e200), erfc(-1e200)), (0.0, 0.0, 2.0));
    }
}
