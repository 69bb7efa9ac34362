//! Quantised activations.

use crate::quant::Activations;
use crate::quantize::MAX_GROUP;

/// Groups whose elements are all smaller in magnitude count as 0, since the inverse of their scale could overflow.
pub(crate) const TINY: f32 = f32::from_bits(27 << 23); // 2^-100

/// One group of a row: `x = q * scale`.
pub(crate) struct QuantizedGroup {
    pub(crate) scale: f32,
    /// What is beyond the group is 0.
    pub(crate) q: [i16; MAX_GROUP],
    /// Sum of `q`.
    pub(crate) sum: i32,
}

/// Rounds the elements of a group to integers, ties to even. With an element that is NaN or infinite the scale is NaN.
pub(crate) fn quantize(x: &[f32], activations: Activations) -> QuantizedGroup {
    let mut group = QuantizedGroup { scale: 0.0, q: [0; MAX_GROUP], sum: 0 };
    if !x.iter().all(|x| x.is_finite()) {
        group.scale = f32::NAN;
        return group;
    }
    let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    if largest < TINY {
        return group;
    }
    let factor = activations.max() / largest;
    group.scale = largest / activations.max();
    for (q, x) in group.q.iter_mut().zip(x) {
        *q = (x * factor).round_ties_even() as i16;
        group.sum += i32::from(*q);
    }
    group
}
