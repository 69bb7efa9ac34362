//! What a step did to the requests, for the engine to pass on.

use crate::{CompletionReason, Failure, RequestId, RequestStats, SampleIndex, TokenId, TokenLogprob};
use std::ops::Range;

/// Effects of one or several calls, in order. Reused: the reader clears it.
#[derive(Debug, Default)]
pub struct Effects {
    /// What happened.
    pub events: Vec<Effect>,
    /// Most likely tokens; [`Effect::Token::top`] is a range of it.
    pub top: Vec<TokenLogprob>,
}

impl Effects {
    /// Empties both arrays and keeps their memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.top.clear();
    }

    /// Moves the effects of `other` behind these.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        let shift = self.top.len() as u32;
        self.top.append(&mut other.top);
        self.events.extend(other.events.drain(..).map(|mut event| {
            if let Effect::Token { top, .. } = &mut event {
                *top = top.start + shift..top.end + shift;
            }
            event
        }));
    }
}

/// One thing that happened to one sample of a request.
///
/// Every sample of an accepted request ends with exactly one `Finished` or `Failed`, and nothing follows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
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
