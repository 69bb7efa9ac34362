//! What was found in a prompt, for those who asked.

use pagoda_sched::{Effects, PromptLogprob, PromptReport, Request, TokenId, TokenLogprob};
use std::ops::Range;
use std::sync::Arc;

/// What was computed of a prompt itself, as [`GenerateParams::prompt_logprobs`](crate::GenerateParams::prompt_logprobs) or
/// [`GenerateParams::pooling`](crate::GenerateParams::pooling) asked.
///
/// Takes 8 bytes for each token of the prompt and as many for each of the most likely tokens in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptResult {
    prompt: Arc<[TokenId]>,
    report: PromptReport,
    /// End of the positions that were read.
    read: u32,
    /// `[prompt - 1]`
    logprobs: Vec<PromptLogprob>,
    /// `[prompt - 1, top]`
    top: Vec<TokenLogprob>,
    /// `[width]`
    hidden: Vec<f64>,
}

/// One token of a prompt, given those before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptToken<'a> {
    /// The token.
    pub token: TokenId,
    /// Its natural log-probability under the raw logits.
    pub logprob: f32,
    /// Its place among all tokens by likelihood, from 1.
    pub rank: u32,
    /// The most likely tokens in its place, most likely first.
    pub top: &'a [TokenLogprob],
}

impl PromptResult {
    /// Nothing yet of the prompt of `request`; `None` if it asks for nothing.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let report = request.sampling.report;
        (report != PromptReport::Nothing).then(|| Self {
            prompt: Arc::clone(&request.prompt),
            report,
            read: report.positions(request.prompt.len() as u32).start,
            logprobs: Vec::new(),
            top: Vec::new(),
            hidden: Vec::new(),
        })
    }

    /// Adds what a step found up to position `read`.
    pub(crate) fn add(
        &mut self,
        read: u32,
        effects: &Effects,
        (logprobs, top, hidden): (&Range<u32>, &Range<u32>, &Range<u32>),
    ) {
        self.read = read;
        let of = |range: &Range<u32>| range.start as usize..range.end as usize;
        self.logprobs.extend_from_slice(&effects.prompt[of(logprobs)]);
        self.top.extend_from_slice(&effects.top[of(top)]);
        let sum = &effects.hidden[of(hidden)];
        self.hidden.resize(self.hidden.len().max(sum.len()), 0.0);
        self.hidden.iter_mut().zip(sum).for_each(|(all, more)| *all += more);
    }

    /// Whether all that was asked for is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.read == self.report.positions(self.prompt.len() as u32).end
    }

    /// The prompt.
    pub fn prompt(&self) -> &[TokenId] {
        &self.prompt
    }

    /// The tokens after the first, of which nothing can be said; empty unless log-probabilities were asked for.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = PromptToken<'_>> {
        let each = match self.report {
            PromptReport::Logprobs { top } => usize::from(top),
            PromptReport::Nothing | PromptReport::Hidden(_) => 0,
        };
        self.logprobs.iter().enumerate().map(move |(at, place)| PromptToken {
            token: self.prompt[at + 1],
            logprob: place.logprob,
            rank: place.rank,
            top: &self.top[at * each..(at + 1) * each],
        })
    }

    /// The first `dimensions` elements of the hidden states that were asked for, added up and scaled to unit length, which makes
    /// their sum and their mean the same. Fewer if there are fewer; all zero if they are.
    pub fn embedding(&self, dimensions: usize) -> Vec<f32> {
        let kept = &self.hidden[..self.hidden.len().min(dimensions)];
        let length = kept.iter().map(|element| element * element).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        kept.iter().map(|element| (element * scale) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_sched::Pooling;

    fn embedding(hidden: &[f64], dimensions: usize) -> Vec<f32> {
        let result = PromptResult {
            prompt: [1].into(),
            report: PromptReport::Hidden(Pooling::Mean),
            read: 1,
            logprobs: Vec::new(),
            top: Vec::new(),
            hidden: hidden.to_vec(),
        };
        result.embedding(dimensions)
    }

    #[test]
    fn embeddings_have_unit_length_however_many_elements_are_kept() {
        assert_eq!(embedding(&[3.0, 4.0, 12.0], 3), [3.0 / 13.0, 4.0 / 13.0, 12.0 / 13.0]);
        assert_eq!(embedding(&[3.0, 4.0, 12.0], 2), [0.6, 0.8]);
        assert_eq!(embedding(&[3.0, 4.0], 9), [0.6, 0.8]);
        assert_eq!(embedding(&[0.0, 0.0], 2), [0.0, 0.0]);
    }
}
