//! Taking the results of a step in.

use super::Scheduler;
use super::report::{Report, Reports};
use crate::batch::RowKey;
use crate::{
    CompletionReason, Effect, Effects, ExecError, Failure, LengthKind, Retention, RowFault, SampleIndex,
    Sampled, Sequence, SequenceId, StepOutput, TokenId,
};
use std::time::{Duration, Instant};

impl Scheduler {
    /// Takes in what the executor answered to the planned step, ends what was cancelled or has expired meanwhile, and hands
    /// over all effects so far.
    ///
    /// A failed step ends every row that was in it and publishes nothing.
    ///
    /// # Panics
    /// If no step is in flight, or if the number of samples is not the one that was asked for.
    pub fn commit(&mut self, result: Result<&StepOutput, &ExecError>, now: Instant, effects: &mut Effects) {
        assert!(self.step.in_flight, "commit was called without a planned step");
        self.step.in_flight = false;
        self.counters.steps += 1;
        let planned_at = self.step.planned_at.unwrap_or(now);
        self.step.duration = now.saturating_duration_since(planned_at);
        let keys = std::mem::take(&mut self.step.keys);
        match result {
            Ok(output) => {
                self.learn();
                self.commit_rows(&keys, output, now);
            }
            Err(error) => self.fail_rows(&keys, error, now),
        }
        self.step.keys = keys;
        self.settle(now);
        self.deliver(effects);
    }

    /// Learns what steps cost from the one that ran; not from one that reports on prompts, which costs more than its tokens tell.
    fn learn(&mut self) {
        if self.step.input.rows.iter().any(|row| row.report.is_some()) {
            return;
        }
        let took = self.step.duration;
        let outcome = self.pace.observe(&self.step.load, took);
        let micros = |time: Duration| time.as_micros() as u64;
        self.counters.paced_steps += u64::from(outcome.paced);
        self.counters.late_steps += u64::from(outcome.late);
        self.counters.step_micros += micros(took);
        self.counters.misjudged_micros += micros(took.abs_diff(outcome.predicted));
    }

    fn commit_rows(&mut self, keys: &[RowKey], output: &StepOutput, now: Instant) {
        let asked = |scheduler: &Self, row: usize| -> usize {
            scheduler.step.input.rows[row].sampling.as_ref().map_or(0, |request| usize::from(request.count))
        };
        let total: usize = (0..keys.len()).map(|row| asked(self, row)).sum();
        let answered = output.samples.len();
        assert_eq!(
            answered, total,
            "the executor answered {answered} samples to a step that asked for {total}"
        );
        let mut rest = output.samples.as_slice();
        let mut reports = Reports::new(&self.step.input.rows, output);
        for (row, &key) in keys.iter().enumerate() {
            let (drawn, after) = rest.split_at(asked(self, row));
            rest = after;
            let report = self.step.input.rows[row].report.as_ref().map(|asked| reports.take(asked));
            self.commit_row(key, drawn, report, output, now);
        }
    }

    fn commit_row(
        &mut self,
        key: RowKey,
        drawn: &[Sampled],
        report: Option<Report<'_>>,
        output: &StepOutput,
        now: Instant,
    ) {
        let sequence = self.batch.at_mut(key);
        let tokens = std::mem::take(&mut sequence.scheduled);
        let decode = u32::from(!sequence.output.is_empty() && sequence.gap() == 1);
        self.queue.charge(sequence.account, tokens - decode, decode);
        sequence.computed += tokens;
        self.counters.computed_tokens += u64::from(tokens);
        let is_sound = report.as_ref().is_none_or(Report::is_finite);
        if is_sound && drawn.iter().all(|sampled| sampled.token.is_ok()) {
            self.publish(key);
            self.retain(key, tokens);
        }
        if let Some(report) = report {
            if !is_sound {
                return self.fail_prompt(key, now);
            }
            self.deliver_report(key, &report);
        }
        if self.batch.at(key).is_complete() {
            return self.end_prompt(key, now);
        }
        if self.batch.at(key).beams > 0 {
            self.commit_beam(key, drawn.first(), output, now);
        } else if drawn.len() > 1 {
            self.fork(key, drawn, output, now);
        } else if let Some(sampled) = drawn.first() {
            self.accept(key, sampled, output, now);
        }
    }

    /// Makes the blocks that this step completed visible to others.
    fn publish(&mut self, key: RowKey) {
        if !self.config.prefix_cache {
            return;
        }
        let size = self.layout.block_size;
        let sequence = self.batch.at_mut(key);
        while (sequence.cache.published + 1) * size <= sequence.computed {
            let index = sequence.cache.published as usize;
            let block = sequence.table.get(index).expect("a computed token has a block");
            let tokens = sequence.tokens().block(index, size);
            sequence.cache.chain = self.pool.publish(block, sequence.cache.chain, tokens);
            sequence.cache.published += 1;
        }
    }

    /// Keeps the full blocks of a prompt as the request asks, when a step of `tokens` has completed it.
    fn retain(&mut self, key: RowKey, tokens: u32) {
        let sequence = self.batch.at(key);
        let (retention, prompt) = (sequence.request.retention, sequence.request.prompt.len() as u32);
        let completes = sequence.computed - tokens < prompt && sequence.computed >= prompt;
        if completes && retention != Retention::ORDINARY {
            let blocks = (prompt / self.layout.block_size).min(sequence.cache.published);
            self.pool.retain_prefix(&sequence.table, blocks as usize, retention);
        }
    }

    /// Splits the samples of a request at their first token. All blocks are shared; a partial one is copied when it
    /// is first written.
    fn fork(&mut self, key: RowKey, drawn: &[Sampled], output: &StepOutput, now: Instant) {
        for (sampled, index) in drawn.iter().zip(0..).skip(1) {
            let sample = SampleIndex(index);
            let leader = self.batch.at(key);
            if !leader.covers(sample) {
                continue;
            }
            let mut fork = leader.fork(sample, self.pool.share_table(&leader.table));
            fork.reserve(self.config.max_model_len, self.layout.block_size);
            let fork = self.batch.insert(fork);
            self.accept(fork, sampled, output, now);
        }
        if self.batch.at(key).covers(SampleIndex(0)) {
            self.accept(key, &drawn[0], output, now);
        } else {
            let mut leader = self.batch.remove_key(key);
            self.pool.release_table(&mut leader.table);
        }
    }

    /// Appends one sampled token and ends the sequence where a limit says so.
    fn accept(&mut self, key: RowKey, sampled: &Sampled, output: &StepOutput, now: Instant) {
        let token = match sampled.token {
            Ok(token) => token,
            Err(fault) => return self.fail_row(key, fault, now),
        };
        if self.batch.at(key).output.is_empty() {
            self.batch.change_rows(key, |sequence| sequence.push(token, now));
        } else {
            self.batch.at_mut(key).push(token, now);
        }
        let sequence = self.batch.at(key);
        self.counters.generated_tokens += 1;
        let start = self.out.top.len() as u32;
        if !sampled.top.is_empty() {
            let top = sampled.top.start as usize..sampled.top.end as usize;
            self.out.top.extend_from_slice(&output.top[top]);
        }
        self.out.events.push(Effect::Token {
            id: sequence.request.id,
            sample: sequence.sample,
            token,
            logprob: sampled.logprob,
            top: start..self.out.top.len() as u32,
        });
        if let Some(reason) = stop_reason(sequence, token, self.config.max_model_len) {
            self.end_row(key, reason, now);
        }
    }

    /// Ends a sequence at a fault. Where its logits were not finite, what it computed is not to be trusted, so it leaves the
    /// cache.
    fn fail_row(&mut self, key: RowKey, fault: RowFault, now: Instant) {
        let mut sequence = self.batch.remove_key(key);
        let position = sequence.computed;
        let failure = match fault {
            RowFault::NonFiniteLogits => {
                self.pool.discard_table(&mut sequence.table, sequence.cache.taken as usize);
                Failure::NonFiniteLogits { position }
            }
            RowFault::Constraint => {
                self.pool.release_table(&mut sequence.table);
                Failure::Constraint { position }
            }
        };
        self.failed(sequence.id(), failure, sequence.stats(now));
    }

    fn fail_rows(&mut self, keys: &[RowKey], error: &ExecError, now: Instant) {
        self.counters.failed_steps += 1;
        for &key in keys {
            // The beams of a search end together.
            if !self.batch.holds(key) {
                continue;
            }
            if self.batch.at(key).beams > 0 {
                self.fail_beams(key, &Failure::Step(error.message.clone()), now);
                continue;
            }
            let mut sequence = self.batch.remove_key(key);
            self.pool.release_table(&mut sequence.table);
            let stats = sequence.stats(now);
            for sample in
                (0..sequence.request.samples).map(SampleIndex).filter(|&sample| sequence.covers(sample))
            {
                let id = SequenceId { request: sequence.request.id, sample };
                self.failed(id, Failure::Step(error.message.clone()), stats);
            }
        }
    }
}

/// Why a sequence ends after `token`, its last one; a stop id goes before a length.
fn stop_reason(sequence: &Sequence, token: TokenId, max_model_len: u32) -> Option<CompletionReason> {
    let params = &sequence.request.sampling;
    let generated = sequence.generated();
    if generated > params.min_tokens && params.stop_ids.binary_search(&token).is_ok() {
        Some(CompletionReason::Eos)
    } else if generated >= sequence.request.max_tokens {
        Some(CompletionReason::MaxTokens)
    } else if sequence.total() >= max_model_len {
        Some(CompletionReason::LengthLimit(LengthKind::Context))
    } else {
        None
    }
}
