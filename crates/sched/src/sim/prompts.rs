//! What was reported of a prompt, beside what should have been.

use crate::fake::FakeModel;
use crate::{Effects, PromptLogprob, PromptReport, Request, TokenLogprob};
use std::ops::Range;

/// All reports on one prompt.
#[derive(Debug, Default)]
pub(super) struct PromptLedger {
    logprobs: Vec<PromptLogprob>,
    top: Vec<TokenLogprob>,
    hidden: Vec<f64>,
    /// End of the positions reported.
    read: Option<u32>,
}

impl PromptLedger {
    /// Adds a report.
    pub(super) fn book(
        &mut self,
        positions: &Range<u32>,
        effects: &Effects,
        (logprobs, top, hidden): (&Range<u32>, &Range<u32>, &Range<u32>),
    ) {
        assert!(positions.start == self.read.unwrap_or(positions.start) && positions.start < positions.end);
        self.read = Some(positions.end);
        self.logprobs.extend(&effects.prompt[logprobs.start as usize..logprobs.end as usize]);
        self.top.extend(&effects.top[top.start as usize..top.end as usize]);
        let sum = &effects.hidden[hidden.start as usize..hidden.end as usize];
        self.hidden.resize(self.hidden.len().max(sum.len()), 0.0);
        self.hidden.iter_mut().zip(sum).for_each(|(all, more)| *all += more);
    }

    /// Checks that each position was reported once, with the numbers of the closed form.
    pub(super) fn check(&self, request: &Request, model: &FakeModel) {
        let (id, report) = (request.id, request.sampling.report);
        let model = model.with_adapter(request.adapter);
        let (mut logprobs, mut top, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        match report {
            PromptReport::Nothing => {}
            PromptReport::Logprobs { top: most } => {
                for (place, likely) in model.prompt_logprobs(&request.prompt, usize::from(most)) {
                    logprobs.push(place);
                    top.extend(likely);
                }
            }
            PromptReport::Hidden(_) => hidden = model.prompt_hidden(&request.prompt, report).to_vec(),
        }
        assert_eq!(self.logprobs, logprobs, "likelihoods of the prompt of {id}");
        assert_eq!(self.top, top, "most likely tokens of the prompt of {id}");
        assert_eq!(self.hidden, hidden, "hidden states of the prompt of {id}");
    }
}
