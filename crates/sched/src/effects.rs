//! What a step did to the requests, for the engine to pass on.

use crate::{
    CompletionReason, Failure, PromptLogprob, RequestId, RequestStats, SampleIndex, TokenId, TokenLogprob,
};
use std::ops::Range;

/// Effects of one or several calls, in order. Reused: the reader clears it.
#[derive(Debug, Default)]
pub struct Effects {
    /// What happened.
    pub events: Vec<Effect>,
    /// Most likely tokens; [`Effect::Token::top`] and [`Effect::Prompt::top`] are ranges of it.
    pub top: Vec<TokenLogprob>,
    /// Likelihoods of prompt tokens; [`Effect::Prompt::logprobs`] is a range of it.
    pub prompt: Vec<PromptLogprob>,
    /// Sums of hidden states; [`Effect::Prompt::hidden`] is a range of it.
    pub hidden: Vec<f64>,
}

impl Effects {
    /// Empties all arrays and keeps their memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.top.clear();
        self.prompt.clear();
        self.hidden.clear();
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.top.is_empty() && self.prompt.is_empty() && self.hidden.is_empty()
    }

    /// Moves the effects of `other` behind these.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        let moved =
            |range: &mut Range<u32>, by: usize| *range = range.start + by as u32..range.end + by as u32;
        let (tops, prompts, sums) = (self.top.len(), self.prompt.len(), self.hidden.len());
        self.top.append(&mut other.top);
        self.prompt.append(&mut other.prompt);
        self.hidden.append(&mut other.hidden);
        self.events.extend(other.events.drain(..).map(|mut event| {
            match &mut event {
                Effect::Token { top, .. } => moved(top, tops),
                Effect::Prompt { logprobs, top, hidden, .. } => {
                    moved(logprobs, prompts);
                    moved(top, tops);
                    moved(hidden, sums);
                }
                Effect::Finished { .. } | Effect::Failed { .. } => {}
            }
            event
        }));
    }
}

/// One thing that happened to one sample of a request, or to its prompt.
///
/// Every sample of an accepted request ends with exactly one `Finished` or `Failed`, and nothing follows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// More of the prompt was read as [`SamplingParams::report`](crate::SamplingParams::report) asks: the positions after those of earlier
    /// reports. All of them come before the first token and before the end of a sample that ended as asked.
    Prompt {
        /// The request.
        id: RequestId,
        /// The positions; never empty.
        positions: Range<u32>,
        /// Range of [`Effects::prompt`]: one entry for the token after each position.
        logprobs: Range<u32>,
        /// Range of [`Effects::top`]: the most likely tokens at each of those places, place after place.
        top: Range<u32>,
        /// Range of [`Effects::hidden`], `[width]`: the sum over the positions, to be added to those of earlier reports.
        hidden: Range<u32>,
    },
    /// A token was generated. A stop id is reported like any other token, before its `Finished`.
    Token {
        /// The request.
        id: RequestId,
        /// The sample.
        sample: SampleIndex,
        /// The token.
        token: TokenId,
        /// Its log-probability under the raw logits; 0 unless asked for.
        logprob: f32,
        /// Range of [`Effects::top`], most likely first.
        top: Range<u32>,
    },
    /// The sample ended as asked.
    Finished {
        /// The request.
        id: RequestId,
        /// The sample.
        sample: SampleIndex,
        /// Why.
        reason: CompletionReason,
        /// What was measured.
        stats: RequestStats,
    },
    /// A fault ended the sample.
    Failed {
        /// The request.
        id: RequestId,
        /// The sample.
        sample: SampleIndex,
        /// Which fault.
        failure: Failure,
        /// What was measured.
        stats: RequestStats,
    },
}
