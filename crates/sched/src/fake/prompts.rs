//! What the model without arithmetic finds in prompts, in closed form. No script has a part in it.

use super::FakeModel;
use super::model::mix;
use crate::{PromptLogprob, PromptReport, TokenId, TokenLogprob};
use std::cmp::Ordering;

impl FakeModel {
    /// Elements of a hidden state.
    pub const WIDTH: usize = 8;

    /// How likely each token of `prompt` but the first is after those before it, each with the `top` most likely tokens in its
    /// place.
    pub fn prompt_logprobs(&self, prompt: &[TokenId], top: usize) -> Vec<(PromptLogprob, Vec<TokenLogprob>)> {
        let mut prefix = self.start();
        let place = |pair: &[TokenId]| {
            prefix = Self::extend(prefix, pair[0]);
            (self.prompt_logprob(prefix, pair[1]), self.prompt_top(prefix, top))
        };
        prompt.windows(2).map(place).collect()
    }

    /// Sum of the hidden states that `report` reads of `prompt`.
    pub fn prompt_hidden(&self, prompt: &[TokenId], report: PromptReport) -> [f64; Self::WIDTH] {
        let read = report.positions(prompt.len() as u32);
        let (mut prefix, mut sum) = (self.start(), [0.0; Self::WIDTH]);
        for (position, &token) in (0..).zip(prompt) {
            prefix = Self::extend(prefix, token);
            if read.contains(&position) {
                let hidden = Self::hidden(prefix);
                sum = std::array::from_fn(|at| sum[at] + hidden[at]);
            }
        }
        sum
    }

    /// How likely `token` is after `prefix`.
    pub(super) fn prompt_logprob(&self, prefix: u64, token: TokenId) -> PromptLogprob {
        let own = likelihood(prefix, token);
        let before = |&other: &TokenId| order((other, likelihood(prefix, other)), (token, own)).is_lt();
        let rank = 1 + (0..self.vocab_size()).filter(before).count() as u32;
        PromptLogprob { logprob: own, rank }
    }

    /// The `count` most likely tokens after `prefix`, most likely first and the lowest id among equals.
    pub(super) fn prompt_top(&self, prefix: u64, count: usize) -> Vec<TokenLogprob> {
        if count == 0 {
            return Vec::new();
        }
        let mut all: Vec<_> =
            (0..self.vocab_size()).map(|token| (token, likelihood(prefix, token))).collect();
        all.sort_unstable_by(|&one, &other| order(one, other));
        all.truncate(count);
        all.into_iter().map(|(token, logprob)| TokenLogprob { token, logprob }).collect()
    }

    /// Final hidden state of the last token of `prefix`: small fractions of two, so that sums are exact.
    pub(super) fn hidden(prefix: u64) -> [f64; Self::WIDTH] {
        std::array::from_fn(|at| {
            let word = mix(prefix ^ (at as u64 + 1).wrapping_mul(0xd6e8_feb8_6659_fd93));
            (word % 2001) as f64 / 64.0 - 15.625
        })
    }
}

/// The same as is reported with a token that was generated without a script.
fn likelihood(prefix: u64, token: TokenId) -> f32 {
    FakeModel::unscripted_logprob(prefix, token)
}

fn order((id, one): (TokenId, f32), (other_id, other): (TokenId, f32)) -> Ordering {
    other.total_cmp(&one).then(id.cmp(&other_id))
}
