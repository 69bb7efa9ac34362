//! The model without arithmetic: the next token is a hash of the tokens before it.

use crate::{AdapterId, SampleIndex, SamplingParams, TokenId, TokenLogprob};
use std::sync::Arc;

/// Knows every answer of a [`FakeExecutor`](super::FakeExecutor) in closed form.
#[derive(Clone, Debug)]
pub struct FakeModel {
    vocab_size: u32,
    script: Option<Arc<[TokenId]>>,
    adapter: AdapterId,
}

impl FakeModel {
    /// The model over ids below `vocab_size`.
    pub fn new(vocab_size: u32) -> Self {
        Self { vocab_size, script: None, adapter: AdapterId::NONE }
    }

    /// The model whose every answer is `script`, then its last token for ever.
    pub fn with_script(mut self, script: impl Into<Arc<[TokenId]>>) -> Self {
        self.script = Some(script.into()).filter(|script| !script.is_empty());
        self
    }

    /// The model changed by `adapter`, which answers differently.
    pub fn with_adapter(&self, adapter: AdapterId) -> Self {
        Self { adapter, ..self.clone() }
    }

    /// The first `count` tokens that sample `sample` of `prompt` generates, without stop ids to mask.
    pub fn answer(&self, prompt: &[TokenId], sample: SampleIndex, count: usize) -> Vec<TokenId> {
        let mut prefix = self.prefix_of(prompt);
        let step = |generated: usize| {
            let token = self.unmasked(prefix, sample, generated);
            prefix = Self::extend(prefix, token);
            token
        };
        (0..count).map(step).collect()
    }

    /// Hash of no tokens, another one for each adapter.
    pub(crate) fn empty_prefix(adapter: AdapterId) -> u64 {
        0x243f_6a88_85a3_08d3 ^ u64::from(adapter.0).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
    }

    /// Hash of all tokens of a prompt.
    pub(crate) fn prefix_of(&self, prompt: &[TokenId]) -> u64 {
        prompt.iter().fold(Self::empty_prefix(self.adapter), |prefix, &token| Self::extend(prefix, token))
    }

    /// Hash of no tokens.
    pub(super) fn start(&self) -> u64 {
        Self::empty_prefix(self.adapter)
    }

    /// Hash of a prefix and the token after it.
    pub(crate) fn extend(prefix: u64, token: TokenId) -> u64 {
        mix(prefix ^ u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The token that follows `prefix` when `generated` were generated: not a stop id while `min_tokens` are
    /// outstanding.
    pub(crate) fn next(
        &self,
        prefix: u64,
        sample: SampleIndex,
        params: &SamplingParams,
        generated: u32,
    ) -> TokenId {
        let mut token = self.unmasked(prefix, sample, generated as usize);
        if generated < params.min_tokens {
            for _ in 0..params.stop_ids.len() {
                if params.stop_ids.contains(&token) {
                    token = (token + 1) % self.vocab_size;
                }
            }
        }
        token
    }

    /// The `count` most likely tokens after `prefix`, most likely first and the lowest id among equals. Their
    /// log-probabilities are coarse, so that sums are exact and often equal.
    pub(crate) fn candidates(&self, prefix: u64, generated: u32, count: usize) -> Vec<TokenLogprob> {
        let scripted =
            self.script.as_ref().map(|_| self.unmasked(prefix, SampleIndex(0), generated as usize));
        let logprob = |token: TokenId| match scripted {
            // The token of the script, then its neighbours in the vocabulary, ever less likely.
            Some(first) => -0.25 - ((token + self.vocab_size - first) % self.vocab_size) as f32,
            None => self.logprob(prefix, token),
        };
        let mut all: Vec<_> =
            (0..self.vocab_size).map(|token| TokenLogprob { token, logprob: logprob(token) }).collect();
        all.sort_by(|one, other| other.logprob.total_cmp(&one.logprob));
        all.truncate(count);
        all
    }

    /// Log-probability that is reported with a generated token.
    pub(crate) fn logprob(&self, prefix: u64, token: TokenId) -> f32 {
        match self.script {
            Some(_) => -0.25,
            None => Self::unscripted_logprob(prefix, token),
        }
    }

    /// Log-probability of a token where no script says which one comes.
    pub(super) fn unscripted_logprob(prefix: u64, token: TokenId) -> f32 {
        -0.25 - (mix(Self::extend(prefix, token)) % 1024) as f32 / 128.0
    }

    pub(super) fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    fn unmasked(&self, prefix: u64, sample: SampleIndex, generated: usize) -> TokenId {
        match &self.script {
            Some(script) => script[generated.min(script.len() - 1)],
            None => {
                (mix(prefix.rotate_left(17) ^ u64::from(sample.0)) % u64::from(self.vocab_size)) as TokenId
            }
        }
    }
}

/// Spreads every input bit over the word.
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}
