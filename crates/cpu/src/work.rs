//! How much arithmetic a step is.

use pagoda_model::{DecoderSpec, Role};
use pagoda_sched::{Row, StepInput};

/// Multiplications by what causes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// In the linear operations of all layers, for a token.
    token: u64,
    /// In attention of all layers, for a token and one token that it sees.
    pair: u64,
    /// In the head, for a row that samples.
    logits: u64,
}

impl Work {
    pub(crate) fn new(spec: &DecoderSpec) -> Self {
        let elements = |role: Role| role.shape(spec).into_iter().product::<u64>();
        Self {
            token: Role::all(spec).filter(|role| matches!(role, Role::Layer(..))).map(elements).sum(),
            pair: 2 * u64::from(spec.q_width()) * spec.layers.len() as u64,
            logits: elements(Role::Head),
        }
    }

    /// Multiplications of a step, as if no window cut its contexts.
    pub(crate) fn of(&self, input: &StepInput) -> u64 {
        let row = |row: &Row| {
            let tokens = u64::from(row.tokens.end - row.tokens.start);
            let logits = if row.sampling.is_some() { self.logits } else { 0 };
            tokens * (self.token + self.pair * u64::from(row.context)) + logits
        };
        input.rows.iter().map(row).sum()
    }
}
