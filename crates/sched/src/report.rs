//! What a request wants to know of its prompt itself, beside what is generated after it.

use crate::TokenId;
use std::ops::Range;

/// What is reported of a prompt, once, while it is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptReport {
    /// Nothing.
    #[default]
    Nothing,
    /// How likely each token but the first is after those before it.
    Logprobs {
        /// Most likely tokens reported for each place; at most the size of the vocabulary.
        top: u8,
    },
    /// Hidden states after the last norm, summed.
    Hidden(Pooling),
}

/// Which tokens' hidden states stand for a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Those of all tokens.
    #[default]
    Mean,
    /// That of the last token.
    Last,
}

impl PromptReport {
    /// Positions whose outputs are read, of a prompt of `tokens` tokens. They are read in order, each once, and computed for
    /// that: nothing is known of the outputs of a token that comes out of the prefix cache.
    pub fn positions(self, tokens: u32) -> Range<u32> {
        match self {
            Self::Nothing => 0..0,
            // The outputs of a token tell how likely the next one is.
            Self::Logprobs { .. } => 0..tokens.saturating_sub(1),
            Self::Hidden(Pooling::Mean) => 0..tokens,
            Self::Hidden(Pooling::Last) => tokens.saturating_sub(1)..tokens,
        }
    }
}

/// How likely a token of a prompt is after those before it, under the raw logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptLogprob {
    /// Its natural log-probability; NaN where a logit was NaN or infinite, which ends the request.
    pub logprob: f32,
    /// Its place among all tokens by likelihood, from 1; equal ones by id.
    pub rank: u32,
}

/// What is read of the outputs of a row, beside what is sampled after its last token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReport {
    /// Range of [`StepInput::tokens`](crate::StepInput::tokens), within the row's; not empty.
    pub tokens: Range<u32>,
    /// What of them.
    pub readout: Readout,
}

/// What is read of the outputs of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readout {
    /// How likely the token after each is: one [`PromptLogprob`] for each.
    Logprobs {
        /// Most likely tokens for each place, exactly so many; at most the size of the vocabulary.
        top: u8,
        /// Range of [`StepInput::next`](crate::StepInput::next): the token after each.
        next: Range<u32>,
    },
    /// The sum of their hidden states after the last norm.
    Hidden,
}

impl RowReport {
    /// What a row is to report that computes the positions `computed` of `prompt`, of which those in `unread` are to be read, the
    /// first of them as token `start` of the step. Appends to `next`.
    pub(crate) fn of(
        (report, prompt): (PromptReport, &[TokenId]),
        unread: Range<u32>,
        computed: Range<u32>,
        start: u32,
        next: &mut Vec<TokenId>,
    ) -> Option<Self> {
        let (from, to) = (unread.start.max(computed.start), unread.end.min(computed.end));
        if from >= to {
            return None;
        }
        let tokens = start + from - computed.start..start + to - computed.start;
        let readout = match report {
            PromptReport::Nothing => return None,
            PromptReport::Hidden(_) => Readout::Hidden,
            PromptReport::Logprobs { top } => {
                let first = next.len() as u32;
                next.extend_from_slice(&prompt[from as usize + 1..to as usize + 1]);
                Readout::Logprobs { top, next: first..next.len() as u32 }
            }
        };
        Some(Self { tokens, readout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reports_what_of_its_tokens_has_not_been_read() {
        let (prompt, report) = ([10, 11, 12, 13, 14, 15], PromptReport::Logprobs { top: 2 });
        let mut next = vec![99];
        let of = |unread, computed, next: &mut Vec<u32>| {
            RowReport::of((report, &prompt), unread, computed, 7, next)
        };
        let all = report.positions(6);
        assert_eq!(all, 0..5);
        let first = of(all.clone(), 0..4, &mut next).unwrap();
        assert_eq!(first.tokens, 7..11);
        assert_eq!(
            (first.readout, &next[..]),
            (Readout::Logprobs { top: 2, next: 1..5 }, &[99, 11, 12, 13, 14][..])
        );
        // Computed again after a preemption: what has been read is not reported again.
        let rest = of(4..5, 2..6, &mut next).unwrap();
        assert_eq!((rest.tokens, next[5..].to_vec()), (9..10, vec![15]));
        assert_eq!(of(5..5, 2..6, &mut next), None);
        assert_eq!(of(4..5, 0..4, &mut next), None);
    }

    #[test]
    fn the_last_token_stands_for_all_or_all_do() {
        assert_eq!(PromptReport::Hidden(Pooling::Last).positions(6), 5..6);
        assert_eq!(PromptReport::Hidden(Pooling::Mean).positions(6), 0..6);
        assert_eq!(PromptReport::Logprobs { top: 0 }.positions(1), 0..0);
        assert_eq!(PromptReport::Nothing.positions(6), 0..0);
    }
}
