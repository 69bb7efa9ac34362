//! Operations on single elements, and what the sampler asks of a row of logits.

/// Activation of a unit of an MLP, gated or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Glu {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + exp(-alpha x))` of a gate `x` of at most `limit`, times one more than what it lets through, which is held
    /// between `-limit` and `limit`; both are positive.
    ClampedSwish {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Bound of both inputs.
        limit: f32,
    },
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Map {
    /// An activation.
    Activate(Glu),
    /// `x * factor`.
    Scale(f32),
    /// `cap * tanh(x / cap)`, `cap` above 0.
    Softcap(f32),
}

/// `sqrt(2 / pi)`.
pub(crate) const GELU_SCALE: f32 = 0.797_884_6;
/// Cubic coefficient of the tanh form of GELU.
pub(crate) const GELU_CUBIC: f32 = 0.044_715;

/// What a sampler needs to know of a row of logits first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStats {
    /// Largest element; negative infinity of an empty row, unspecified where one is NaN.
    pub max: f32,
    /// First place where it stands; unspecified where one is NaN or all are negative infinity.
    pub argmax: usize,
    /// Whether no element is NaN or infinite.
    pub finite: bool,
}
