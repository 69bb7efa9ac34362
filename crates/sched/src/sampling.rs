//! How a token is chosen from logits. Data only; the arithmetic is the executor's.

use crate::{BeamSearch, PromptReport, SharedConstraint, TokenId};

/// Resolved sampling parameters: every default is filled in and every value is finite and in range.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set with at least this probability mass, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens with at least `min_p` times the highest probability, in [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from each token that occurs in the output; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted once per occurrence in the output; 0 is off.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Box<[(TokenId, f32)]>,
    /// Seed of the counter-based generator, keyed further by sample and position.
    pub seed: u64,
    /// Ids that end generation, ascending; empty when the end-of-sequence ids are ignored and no other is asked.
    pub stop_ids: Box<[TokenId]>,
    /// Stop ids are masked until this many tokens have been generated.
    pub min_tokens: u32,
    /// `Some(k)`: report the log-probability of the chosen token and of the `k` most likely ones.
    pub logprobs: Option<u8>,
    /// Search for the likeliest outputs instead of drawing them. What changes or draws from logits then has no effect,
    /// and `min_tokens` and `stop_ids` are the scheduler's to obey.
    pub beam: Option<BeamSearch>,
    /// Says which tokens may come next; the others have no chance, and log-probabilities are reported as if they had.
    pub constraint: Option<SharedConstraint>,
    /// What is reported of the prompt itself.
    pub report: PromptReport,
}

impl SamplingParams {
    /// The most likely token at each step, no penalties, no stop ids.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Box::default(),
            seed: 0,
            stop_ids: Box::default(),
            min_tokens: 0,
            logprobs: None,
            beam: None,
            constraint: None,
            report: PromptReport::Nothing,
        }
    }

    /// How many of the most likely tokens the executor reports with each token, its own log-probability included; `None` is
    /// no log-probability at all. A beam search needs `width` continuations of each beam and, since stop ids are none,
    /// one more for each of those.
    pub fn reported(&self) -> Option<usize> {
        let asked = self.logprobs.map(usize::from);
        let needed = self.beam.map(|beam| usize::from(beam.width) + self.stop_ids.len());
        asked.max(needed)
    }

    /// Whether choosing a token needs the tokens before it.
    pub fn needs_history(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}
