//! What steps find out of prompts, handed on to those who asked.

use super::Scheduler;
use crate::batch::RowKey;
use crate::{
    CompletionReason, Effect, Failure, PromptLogprob, Readout, Row, RowReport, SampleIndex, Sequence,
    SequenceId, StepOutput, TokenLogprob,
};
use std::time::Instant;

/// What one row reports.
pub(super) enum Report<'a> {
    /// Likelihoods, and the most likely tokens place after place.
    Logprobs(&'a [PromptLogprob], &'a [TokenLogprob]),
    /// A sum of hidden states.
    Hidden(&'a [f64]),
}

impl Report<'_> {
    /// Whether the model's numbers were all finite.
    pub(super) fn is_finite(&self) -> bool {
        match self {
            Self::Logprobs(logprobs, _) => logprobs.iter().all(|entry| !entry.logprob.is_nan()),
            Self::Hidden(sums) => sums.iter().all(|sum| sum.is_finite()),
        }
    }
}

/// What the rows of a step report that have not been looked at.
pub(super) struct Reports<'a> {
    logprobs: &'a [PromptLogprob],
    top: &'a [TokenLogprob],
    hidden: &'a [f64],
    /// Elements of a hidden state; 0 if no row reports any.
    width: usize,
}

impl<'a> Reports<'a> {
    /// All of them.
    ///
    /// # Panics
    /// If the executor answered another number of them than `rows` ask for.
    pub(super) fn new(rows: &[Row], output: &'a StepOutput) -> Self {
        let (mut logprobs, mut top, mut hidden) = (0, 0, 0);
        for report in rows.iter().filter_map(|row| row.report.as_ref()) {
            match report.readout {
                Readout::Logprobs { top: most, .. } => {
                    logprobs += report.tokens.len();
                    top += report.tokens.len() * usize::from(most);
                }
                Readout::Hidden => hidden += 1,
            }
        }
        let answered = (output.prompt.len(), output.prompt_top.len());
        assert_eq!(answered, (logprobs, top), "likelihoods of prompt tokens, and most likely ones");
        let width = output.hidden.len().checked_div(hidden).unwrap_or(0);
        assert_eq!(output.hidden.len(), width * hidden, "hidden states of {hidden} rows");
        Self { logprobs: &output.prompt, top: &output.prompt_top, hidden: &output.hidden, width }
    }

    /// That of the next row, which asked for it.
    pub(super) fn take(&mut self, asked: &RowReport) -> Report<'a> {
        match asked.readout {
            Readout::Logprobs { top, .. } => {
                let (logprobs, rest) = self.logprobs.split_at(asked.tokens.len());
                self.logprobs = rest;
                let (top, rest) = self.top.split_at(asked.tokens.len() * usize::from(top));
                self.top = rest;
                Report::Logprobs(logprobs, top)
            }
            Readout::Hidden => {
                let (sums, rest) = self.hidden.split_at(self.width);
                self.hidden = rest;
                Report::Hidden(sums)
            }
        }
    }
}

impl Scheduler {
    /// Hands on what a row that was computed reports, and notes how far its prompt has been read.
    pub(super) fn deliver_report(&mut self, key: RowKey, report: &Report<'_>) {
        let sequence = self.batch.at_mut(key);
        let first = sequence.read;
        sequence.read = sequence.unread().end.min(sequence.computed);
        let positions = first..sequence.read;
        let id = sequence.request.id;
        let (prompt, top, sums) = (self.out.prompt.len(), self.out.top.len(), self.out.hidden.len());
        match report {
            Report::Logprobs(logprobs, most_likely) => {
                self.out.prompt.extend_from_slice(logprobs);
                self.out.top.extend_from_slice(most_likely);
            }
            Report::Hidden(sum) => self.out.hidden.extend_from_slice(sum),
        }
        self.out.events.push(Effect::Prompt {
            id,
            positions,
            logprobs: prompt as u32..self.out.prompt.len() as u32,
            top: top as u32..self.out.top.len() as u32,
            hidden: sums as u32..self.out.hidden.len() as u32,
        });
    }

    /// Ends a sequence whose prompt is computed and after which nothing is to be generated, for all samples that it stands for.
    pub(super) fn end_prompt(&mut self, key: RowKey, now: Instant) {
        let mut sequence = self.batch.remove_key(key);
        self.pool.release_table(&mut sequence.table);
        let stats = sequence.stats(now);
        for id in samples(&sequence) {
            self.finished(id, CompletionReason::MaxTokens, stats);
        }
    }

    /// Ends a sequence whose prompt gave numbers that are not finite. What it computed is not to be trusted, so it leaves the
    /// cache.
    pub(super) fn fail_prompt(&mut self, key: RowKey, now: Instant) {
        let failure = Failure::NonFiniteLogits { position: self.batch.at(key).computed };
        if self.batch.at(key).beams > 0 {
            return self.fail_beam_prompt(key, &failure, now);
        }
        let mut sequence = self.batch.remove_key(key);
        self.pool.discard_table(&mut sequence.table, sequence.cache.taken as usize);
        let stats = sequence.stats(now);
        for id in samples(&sequence) {
            self.failed(id, failure.clone(), stats);
        }
    }
}

/// Those that a sequence stands for.
fn samples(sequence: &Sequence) -> impl Iterator<Item = SequenceId> {
    let all = (0..sequence.request.samples).map(SampleIndex);
    let request = sequence.request.id;
    all.filter(|&sample| sequence.covers(sample)).map(move |sample| SequenceId { request, sample })
}
