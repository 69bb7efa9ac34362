//! Running the beams of a search: who continues whom, over which blocks, and what comes out at the end.
//!
//! A search is one sequence until its first token and then one per live beam. Invariants:
//! - The beams run or wait together, and the last token of each runs in the same step. A beam that lacks more than its
//!   last token is computed up to it first, one beam after another; meanwhile the others are held.
//! - Beams share every full block of the tokens that they have in common; a partial one is copied when it is first
//!   written.
//! - A search that is preempted waits as the sequence of its best beam, in slot 0. When that is admitted, the blocks of all beams
//!   are taken at once, so that none has to wait for another request in between.
//! - Tokens are reported at the end, because until then each of them may be given up.

mod resume;

use super::Scheduler;
use crate::batch::RowKey;
use crate::beam::{Beams, Hypothesis, Limits};
use crate::{
    BeamSearch, CompletionReason, Effect, Failure, LengthKind, Request, RequestId, RequestStats, SampleIndex,
    Sampled, SequenceId, StepOutput,
};
use std::sync::Arc;
use std::time::Instant;

/// A search that has not ended.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) beams: Beams,
    /// Which outputs have not been cancelled.
    wanted: Box<[bool]>,
    /// Leading live beams that lack nothing but their last token, while the others are held.
    caught_up: usize,
    /// Blocks of all beams, while they wait.
    blocks: u32,
    /// Beams whose logits were not finite in the step that is being committed.
    faulty: Vec<SampleIndex>,
}

impl Search {
    pub(super) fn new(search: BeamSearch, request: &Request) -> Self {
        let reported = request.sampling.logprobs.map_or(0, usize::from);
        Self {
            beams: Beams::new(search, reported),
            wanted: vec![true; usize::from(request.samples)].into(),
            caught_up: 0,
            blocks: 0,
            faulty: Vec::new(),
        }
    }

    /// Slot of the best beam, which stands for all while the search waits.
    pub(super) fn best_slot(&self) -> SampleIndex {
        self.beams.live()[0].slot
    }

    /// Whether an output is still to be reported.
    pub(super) fn wants(&self, output: SampleIndex) -> bool {
        self.wanted.get(usize::from(output.0)).is_some_and(|&wanted| wanted)
    }

    fn outputs(&self) -> impl Iterator<Item = SampleIndex> {
        (0..).zip(&self.wanted).filter(|(_, wanted)| **wanted).map(|(index, _)| SampleIndex(index))
    }
}

impl Scheduler {
    pub(super) fn is_beam_search(&self, id: RequestId) -> bool {
        self.searches.contains_key(&id)
    }

    fn take_search(&mut self, id: RequestId) -> Box<Search> {
        self.searches.remove(&id).expect("a beam belongs to a search")
    }

    fn put_search(&mut self, id: RequestId, search: Box<Search>) {
        self.searches.insert(id, search);
    }

    /// Takes in what a step computed for a beam: some of its tokens, or candidates for its next one.
    pub(super) fn commit_beam(
        &mut self,
        key: RowKey,
        drawn: Option<&Sampled>,
        output: &StepOutput,
        now: Instant,
    ) {
        let sequence = self.batch.at(key);
        let (SequenceId { request: id, sample: slot }, prompt) =
            (sequence.id(), sequence.request.prompt.len() as u32);
        let params = Arc::clone(&sequence.request.sampling);
        let (max_tokens, resumes) = (sequence.request.max_tokens, sequence.waits_for_beams());
        let mut search = self.take_search(id);
        let Some(sampled) = drawn else {
            if resumes {
                self.catch_up(id, &mut search);
            }
            return self.put_search(id, search);
        };
        let room = self.config.max_model_len - prompt;
        let limits = Limits {
            stop_ids: &params.stop_ids,
            min_tokens: params.min_tokens,
            longest: max_tokens.min(room),
            at_longest: if max_tokens <= room {
                CompletionReason::MaxTokens
            } else {
                CompletionReason::LengthLimit(LengthKind::Context)
            },
        };
        if sampled.token.is_err() {
            search.faulty.push(slot);
        }
        let top = &output.top[sampled.top.start as usize..sampled.top.end as usize];
        search.beams.offer(slot, top, &limits);
        if !search.beams.is_complete() {
            return self.put_search(id, search);
        }
        if !search.faulty.is_empty() {
            self.put_search(id, search);
            let failure = Failure::NonFiniteLogits { position: self.batch.at(key).computed };
            self.fail_beams(key, &failure, now);
        } else if search.beams.choose(&limits) {
            self.finish_search(id, &search, now);
        } else {
            self.seat_beams(id, &search, now);
            self.put_search(id, search);
        }
    }

    /// Gives each live beam its sequence: its parent's, that of a beam that has ended, or one more.
    fn seat_beams(&mut self, id: RequestId, search: &Search, now: Instant) {
        let (live, before) = (search.beams.live(), search.beams.before());
        let of = |sample| SequenceId { request: id, sample };
        for beam in live {
            let parent = before[usize::from(beam.parent)].slot;
            if parent != beam.slot {
                self.fork_beam(of(parent), of(beam.slot));
            }
        }
        for ended in before.iter().filter(|old| live.iter().all(|beam| beam.slot != old.slot)) {
            let mut sequence = self.batch.remove(of(ended.slot)).expect("a live beam runs");
            self.pool.release_table(&mut sequence.table);
        }
        let spare = search.beams.width() - live.len() as u16;
        for (rank, beam) in live.iter().enumerate() {
            let token = search.beams.last(rank).token;
            let rows = if rank == 0 { 1 + spare } else { 1 };
            let key = self.batch.key(of(beam.slot)).expect("each live beam has a sequence");
            self.batch.change_rows(key, |sequence| {
                sequence.beams = rows;
                sequence.push(token, now);
            });
        }
    }

    /// Makes the sequence `slot` one that continues from the tokens of `parent`. All blocks are shared.
    fn fork_beam(&mut self, parent: SequenceId, slot: SequenceId) {
        let parent = self.batch.key(parent).expect("a live beam runs");
        if let Some(ended) = self.batch.key(slot) {
            let mut table = std::mem::take(&mut self.batch.at_mut(ended).table);
            self.pool.release_table(&mut table);
            self.pool.share_into(&self.batch.at(parent).table, &mut table);
            let (parent, ended) = self.batch.pair_mut(parent, ended);
            ended.follow(parent, table);
            return;
        }
        let parent = self.batch.at(parent);
        let mut fork = parent.fork(slot.sample, self.pool.share_table(&parent.table));
        fork.output.extend_from_slice(&parent.output);
        fork.beams = 1;
        fork.reserve(self.config.max_model_len, self.layout.block_size);
        self.batch.insert(fork);
    }

    /// Reports the best outputs and gives all blocks back.
    fn finish_search(&mut self, id: RequestId, search: &Search, now: Instant) {
        let stats = self.dismiss(id, search, now);
        let stats = RequestStats {
            time_to_first_token: stats.time_to_first_token.or(Some(stats.processing_time)),
            ..stats
        };
        for output in search.outputs() {
            let name = SequenceId { request: id, sample: output };
            match search.beams.kept().get(usize::from(output.0)) {
                Some(kept) => {
                    self.report(name, &search.beams, kept);
                    let stats = RequestStats { generated_tokens: kept.length, ..stats };
                    self.finished(name, kept.reason.clone(), stats);
                }
                // The vocabulary allows fewer outputs than were asked for, and none goes on.
                None => self.finished(name, CompletionReason::Eos, without_tokens(stats)),
            }
        }
    }

    /// Reports the tokens of one output.
    fn report(&mut self, name: SequenceId, beams: &Beams, kept: &Hypothesis) {
        self.counters.generated_tokens += u64::from(kept.length);
        for node in beams.output(kept) {
            let start = self.out.top.len() as u32;
            self.out.top.extend_from_slice(beams.top(node));
            self.out.events.push(Effect::Token {
                id: name.request,
                sample: name.sample,
                token: node.token,
                logprob: node.logprob,
                top: start..self.out.top.len() as u32,
            });
        }
    }

    /// Ends all outputs of the search that runs in `key` by a fault.
    pub(super) fn fail_beams(&mut self, key: RowKey, failure: &Failure, now: Instant) {
        let id = self.batch.at(key).request.id;
        let search = self.take_search(id);
        let stats = without_tokens(self.dismiss(id, &search, now));
        for output in search.outputs() {
            self.failed(SequenceId { request: id, sample: output }, failure.clone(), stats);
        }
    }

    /// Ends all outputs of a search whose prompt gave non-finite numbers in the sequence `key`.
    pub(super) fn fail_beam_prompt(&mut self, key: RowKey, failure: &Failure, now: Instant) {
        let SequenceId { request, sample } = self.batch.at(key).id();
        let mut search = self.take_search(request);
        search.faulty.push(sample);
        self.put_search(request, search);
        self.fail_beams(key, failure, now);
    }

    /// Ends one output without tokens; with the last one the search is over.
    pub(super) fn end_beam_output(&mut self, id: SequenceId, reason: CompletionReason, now: Instant) {
        let mut search = self.take_search(id.request);
        search.wanted[usize::from(id.sample.0)] = false;
        let best = SequenceId { sample: search.best_slot(), ..id };
        let stats = if search.outputs().next().is_none() {
            self.dismiss(id.request, &search, now)
        } else {
            let sequence = self.batch.get(best).or_else(|| self.queue.get(best));
            let stats = sequence.expect("the best beam runs or waits").stats(now);
            self.put_search(id.request, search);
            stats
        };
        self.finished(id, reason, without_tokens(stats));
    }

    /// Takes the sequences of a search out of batch and queue and gives their blocks back. What those computed whose
    /// logits were not finite leaves the cache. Returns what was measured.
    fn dismiss(&mut self, id: RequestId, search: &Search, now: Instant) -> RequestStats {
        let mut stats = None;
        for sample in (0..search.beams.width()).map(SampleIndex) {
            let name = SequenceId { request: id, sample };
            if let Some(mut sequence) = self.batch.remove(name) {
                self.step.budget += sequence.scheduled;
                if search.faulty.contains(&sample) {
                    self.pool.discard_table(&mut sequence.table, sequence.cache.taken as usize);
                }
                self.pool.release_table(&mut sequence.table);
                stats.get_or_insert((sequence.stats(now), sequence.priority().index()));
            } else if let Some(sequence) = self.queue.remove(name) {
                stats.get_or_insert((sequence.stats(now), sequence.priority().index()));
            }
        }
        let (stats, class) = stats.expect("a search has a sequence");
        if let Some(best) = search.beams.kept().first() {
            self.medians[class].observe(best.length);
        }
        stats
    }
}

/// What was measured of an output that is reported without tokens.
fn without_tokens(stats: RequestStats) -> RequestStats {
    RequestStats { generated_tokens: 0, time_to_first_token: None, ..stats }
}
