//! Ends that come from outside a step: cancellation and deadlines.

use super::Scheduler;
use crate::batch::RowKey;
use crate::{
    CompletionReason, DeadlineKind, Effect, Failure, RequestId, RequestStats, SampleIndex, Sequence,
    SequenceId,
};
use std::time::Instant;

/// Where a live sample is.
enum Place {
    Running(RowKey),
    Waiting(SequenceId),
}

/// The first deadline that can still pass, and which it is.
pub(super) fn next_deadline(sequence: &Sequence) -> Option<(Instant, DeadlineKind)> {
    let limits = sequence.request.deadlines;
    let queue = limits.queue.filter(|_| sequence.first_scheduled.is_never());
    let first_token = limits.first_token.filter(|_| sequence.first_token.is_never());
    let kinds = [
        (queue, DeadlineKind::Queue),
        (first_token, DeadlineKind::FirstToken),
        (limits.total, DeadlineKind::Total),
    ];
    let due = kinds.into_iter().filter_map(|(limit, kind)| {
        // A limit beyond the end of time is no limit.
        Some((sequence.request.enqueued_at.checked_add(limit?)?, kind))
    });
    due.min_by_key(|&(due, _)| due)
}

impl Scheduler {
    /// Cancels all samples of a request; their ends come out of the next [`reap`](Self::reap) or
    /// [`commit`](Self::commit). Returns whether the request was live and not cancelled before.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let Some(tracked) = self.requests.get_mut(&id).filter(|tracked| !tracked.cancelled) else {
            return false;
        };
        tracked.cancelled = true;
        self.deferred.push((id, None));
        true
    }

    /// Cancels one sample, like [`cancel`](Self::cancel); the others go on. Returns whether it was live.
    pub fn cancel_sample(&mut self, id: RequestId, sample: SampleIndex) -> bool {
        let live = self.locate(SequenceId { request: id, sample }).is_some();
        if live {
            self.deferred.push((id, Some(sample)));
        }
        live
    }

    /// Applies deferred cancellations and deadlines, unless a step is in flight.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.step.in_flight {
            return;
        }
        self.pool.advance(now);
        for (id, sample) in std::mem::take(&mut self.deferred) {
            match sample {
                None => self.end_request(id, &CompletionReason::Cancelled, now),
                Some(sample) => {
                    self.end_sample(SequenceId { request: id, sample }, CompletionReason::Cancelled, now);
                }
            }
        }
        let mut fired = std::mem::take(&mut self.fired);
        self.deadlines.advance(now, &mut fired);
        for id in fired.drain(..) {
            self.timer_fired(id, now);
        }
        self.fired = fired;
    }

    /// Ends the request if a deadline has passed; else the timer was for one that was met, and the next is armed.
    fn timer_fired(&mut self, id: RequestId, now: Instant) {
        let samples = self.requests[&id].samples;
        let place =
            (0..samples).find_map(|i| self.locate(SequenceId { request: id, sample: SampleIndex(i) }));
        let sequence = match place.expect("a known request has a live sample") {
            Place::Running(key) => Some(self.batch.at(key)),
            Place::Waiting(id) => self.queue.get(id),
        };
        let next = next_deadline(sequence.expect("a located sample has a sequence"));
        let tracked = self.requests.get_mut(&id).expect("a timer belongs to a known request");
        tracked.timer = None;
        match next {
            Some((due, kind)) if due <= now => self.end_request(id, &CompletionReason::Timeout(kind), now),
            Some((due, _)) => tracked.timer = Some(self.deadlines.arm(now, due, id)),
            None => {}
        }
    }

    /// Ends every live sample of a request, if it is known.
    fn end_request(&mut self, id: RequestId, reason: &CompletionReason, now: Instant) {
        let samples = self.requests.get(&id).map_or(0, |tracked| tracked.samples);
        for sample in (0..samples).map(SampleIndex) {
            self.end_sample(SequenceId { request: id, sample }, reason.clone(), now);
        }
    }

    /// Ends one sample, running or waiting. Returns whether it was live.
    fn end_sample(&mut self, id: SequenceId, reason: CompletionReason, now: Instant) -> bool {
        let Some(place) = self.locate(id) else { return false };
        if self.is_beam_search(id.request) {
            self.end_beam_output(id, reason, now);
            return true;
        }
        let stats = match place {
            Place::Running(key) if self.batch.at(key).rows() > 1 => {
                self.batch.change_rows(key, |leader| leader.drop_sample(id.sample));
                self.batch.at(key).stats(now)
            }
            Place::Running(key) => {
                let mut sequence = self.batch.remove_key(key);
                self.pool.release_table(&mut sequence.table);
                self.observe_output(&sequence);
                sequence.stats(now)
            }
            Place::Waiting(key) => {
                let sequence = self.queue.get_mut(key).expect("a located sequence waits");
                let stats = sequence.stats(now);
                if sequence.rows() > 1 {
                    sequence.drop_sample(id.sample);
                } else {
                    self.queue.remove(key);
                }
                stats
            }
        };
        self.finished(id, reason, stats);
        true
    }

    /// The sequence that is, or before the fork stands for, a live sample. Of a beam search it is that of the best beam.
    fn locate(&self, id: SequenceId) -> Option<Place> {
        if let Some(search) = self.searches.get(&id.request) {
            let best = SequenceId { sample: search.best_slot(), ..id };
            let place = self.batch.key(best).map_or(Place::Waiting(best), Place::Running);
            return search.wants(id.sample).then_some(place);
        }
        let at = |name: SequenceId| {
            if let Some(key) = self.batch.key(name) {
                return self.batch.at(key).covers(id.sample).then_some(Place::Running(key));
            }
            self.queue.get(name).filter(|waiting| waiting.covers(id.sample)).map(|_| Place::Waiting(name))
        };
        at(id).or_else(|| at(SequenceId { sample: SampleIndex(0), ..id }))
    }

    pub(super) fn observe_output(&mut self, sequence: &Sequence) {
        if !sequence.output.is_empty() {
            self.medians[sequence.priority().index()].observe(sequence.generated());
        }
    }

    /// Reports the end of a sample that ran as asked.
    pub(super) fn finished(&mut self, id: SequenceId, reason: CompletionReason, stats: RequestStats) {
        self.counters.finished += 1;
        self.untrack(id.request);
        self.out.events.push(Effect::Finished { id: id.request, sample: id.sample, reason, stats });
    }

    /// Reports the end of a sample by a fault.
    pub(super) fn failed(&mut self, id: SequenceId, failure: Failure, stats: RequestStats) {
        self.counters.failed += 1;
        self.untrack(id.request);
        self.out.events.push(Effect::Failed { id: id.request, sample: id.sample, failure, stats });
    }

    /// One sample less; with the last one the request is forgotten.
    fn untrack(&mut self, id: RequestId) {
        let tracked = self.requests.get_mut(&id).expect("a sample that ends belongs to a known request");
        tracked.live -= 1;
        if tracked.live > 0 {
            return;
        }
        if let Some(timer) = tracked.timer.take() {
            self.deadlines.disarm(timer);
        }
        self.queue.close(tracked.account);
        self.requests.remove(&id);
    }
}
