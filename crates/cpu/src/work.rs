//! How much arithmetic a step is.

use pagoda_model::{DecoderSpec, LayerRole, Role};
use pagoda_sched::{Readout, Row, RowReport, StepInput};

/// Multiplications by what causes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// In the linear operations of all layers, for a token.
    token: u64,
    /// In attention of all layers, for a token and one token that it sees.
    pair: u64,
    /// In the head, for a token whose logits are asked for.
    logits: u64,
}

/// Tokens of a row whose logits are asked for.
pub(crate) fn row_logits(row: &Row) -> u64 {
    let reported = match &row.report {
        Some(RowReport { tokens, readout: Readout::Logprobs { .. } }) => tokens.len() as u64,
        Some(RowReport { readout: Readout::Hidden, .. }) | None => 0,
    };
    reported + u64::from(row.sampling.is_some())
}

/// Whether every token meets as much as the tensor of `role`: all of a layer, but as many experts as a token passes.
fn passed_by_all(role: Role, spec: &DecoderSpec) -> bool {
    let Role::Layer(layer, role) = role else { return false };
    let LayerRole::Expert(expert, _) = role else { return true };
    spec.layers[layer as usize].mlp.experts().is_some_and(|experts| expert < experts.per_token)
}

impl Work {
    pub(crate) fn new(spec: &DecoderSpec) -> Self {
        let elements = |role: Role| role.shape(spec).into_iter().product::<u64>();
        Self {
            token: Role::all(spec).filter(|role| passed_by_all(*role, spec)).map(elements).sum(),
            pair: 2 * u64::from(spec.q_width()) * spec.layers.len() as u64,
            logits: elements(Role::Head),
        }
    }

    /// Multiplications of a step, as if no window cut its contexts.
    pub(crate) fn of(&self, input: &StepInput) -> u64 {
        let row = |row: &Row| {
            let tokens = u64::from(row.tokens.end - row.tokens.start);
            tokens * (self.token + self.pair * u64::from(row.context)) + self.logits * row_logits(row)
        };
        input.rows.iter().map(row).sum()
    }
}
