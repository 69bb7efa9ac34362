//! What the sessions of one request share, and how a request is found by its id.

use crate::cancel::CancelFlag;
use crate::event::Event;
use crate::responder::ProgressCell;
use crate::shared::Shared;
use crate::{RequestBrief, RequestError};
use pagoda_sched::{Deadlines, Request, RequestId, SampleIndex, TenantId};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::mpsc::{Sender, WeakSender};

/// A request that clients still hold sessions of.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: RequestId,
    pub(crate) prompt_tokens: u32,
    pub(crate) accepted_at: Instant,
    pub(crate) tenant: TenantId,
    /// Time limits in force.
    pub(crate) deadlines: Deadlines,
    /// Those that the request itself asked for.
    pub(crate) asked: Deadlines,
    samples: Box<[SampleCell]>,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct SampleCell {
    cancel: CancelFlag,
    progress: Arc<ProgressCell>,
    /// Where the session listens, for an end that the engine thread cannot send.
    events: OnceLock<WeakSender<Event>>,
}

impl Ticket {
    /// Enters a request that `asked` for these time limits, or returns `None` if its id is taken.
    pub(crate) fn open(shared: &Arc<Shared>, request: &Request, asked: Deadlines) -> Option<Arc<Self>> {
        shared.tickets.enter(request.id, || Self {
            id: request.id,
            prompt_tokens: request.prompt.len() as u32,
            accepted_at: request.enqueued_at,
            tenant: request.tenant.id,
            deadlines: request.deadlines,
            asked,
            samples: (0..request.samples).map(|_| SampleCell::default()).collect(),
            shared: Arc::clone(shared),
        })
    }

    pub(crate) fn progress(&self, sample: SampleIndex) -> &Arc<ProgressCell> {
        &self.samples[usize::from(sample.0)].progress
    }

    /// Lets [`end_all`](Self::end_all) reach the session of a sample.
    pub(crate) fn listen(&self, sample: SampleIndex, events: &Sender<Event>) {
        let first = self.samples[usize::from(sample.0)].events.set(events.downgrade());
        first.expect("a sample has one session");
    }

    /// Ends all samples whose end the engine thread has not sent, with `error`.
    pub(crate) fn end_all(&self, error: &RequestError) {
        let senders = self.samples.iter().filter_map(|cell| cell.events.get()?.upgrade());
        for sender in senders {
            // There is room for it; without a session there is nobody to tell.
            let _ = sender.try_send(Event::Ended(Box::new(Err(error.clone()))));
        }
    }

    /// Tells the engine to end a sample; more than once is the same as once. Returns whether it was still
    /// running.
    pub(crate) fn cancel(&self, sample: SampleIndex) -> bool {
        let cell = &self.samples[usize::from(sample.0)];
        if cell.progress.read().completed {
            return false;
        }
        if cell.cancel.set() {
            self.shared.cancels.push(self.id, sample);
            self.shared.inbox.wake();
        }
        true
    }

    /// Cancels all samples; whether any was still running.
    pub(crate) fn cancel_all(&self) -> bool {
        let cancelled = (0..self.samples.len()).filter(|&index| self.cancel(SampleIndex(index as u16)));
        cancelled.count() > 0
    }
}

impl Ticket {
    /// What can be told without asking the engine thread.
    pub(crate) fn brief(&self, now: Instant) -> RequestBrief {
        let progress = self.samples.iter().map(|cell| cell.progress.read());
        let (mut samples, mut generated) = (0, 0);
        for sample in progress {
            samples += u16::from(!sample.completed);
            generated += u64::from(sample.generated);
        }
        RequestBrief {
            id: self.id,
            tenant: self.tenant,
            prompt_tokens: self.prompt_tokens,
            samples,
            generated,
            age: now.saturating_duration_since(self.accepted_at),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.tickets.leave(self.id);
    }
}

/// Requests by id. Touched once at submit and once at the end, by clients only.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<FxHashMap<RequestId, Weak<Ticket>>>);

impl Tickets {
    fn enter(&self, id: RequestId, make: impl FnOnce() -> Ticket) -> Option<Arc<Ticket>> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Vacant(entry) = tickets.entry(id) else { return None };
        let ticket = Arc::new(make());
        entry.insert(Arc::downgrade(&ticket));
        Some(ticket)
    }

    fn leave(&self, id: RequestId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The request of that id, unless its last session is gone.
    pub(crate) fn find(&self, id: RequestId) -> Option<Arc<Ticket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id)?.upgrade()
    }

    /// All requests that somebody still holds a session of. The lock is let go before any of them can be the last
    /// reference, whose end takes it.
    pub(crate) fn all(&self) -> Vec<Arc<Ticket>> {
        let tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(tickets.len());
        all.extend(tickets.values().filter_map(Weak::upgrade));
        drop(tickets);
        all
    }
}
