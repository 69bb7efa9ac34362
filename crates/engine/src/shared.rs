//! What the engine thread and its clients share, all of it.

use crate::adapters::Adapters;
use crate::admission::{Admission, Waiting};
use crate::cancel::CancelList;
use crate::health::{EngineState, Pulse};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::ticket::Tickets;
use crate::{EngineConfig, RequestError, ServedModel};
use pagoda_sched::KvCapacity;
use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub(crate) struct Shared {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) config: EngineConfig,
    pub(crate) inbox: Inbox,
    pub(crate) cancels: CancelList,
    pub(crate) admission: Admission,
    pub(crate) tickets: Tickets,
    pub(crate) adapters: Adapters,
    pub(crate) pulse: Pulse,
    pub(crate) metrics: Metrics,
    /// Known once the backend is loaded.
    pub(crate) capacity: OnceLock<KvCapacity>,
}

impl Shared {
    pub(crate) fn new(model: Arc<ServedModel>, config: EngineConfig) -> Self {
        let limit = Waiting {
            requests: u64::from(config.scheduler.max_waiting_requests),
            tokens: config.scheduler.max_waiting_tokens,
        };
        Self {
            inbox: Inbox::new(config.scheduler.max_waiting_requests as usize),
            cancels: CancelList::default(),
            admission: Admission::new(limit),
            tickets: Tickets::default(),
            adapters: Adapters::default(),
            pulse: Pulse::new(Instant::now()),
            metrics: Metrics::new(model.name()),
            capacity: OnceLock::new(),
            model,
            config,
        }
    }

    /// Announces the end of the engine, then answers what was left in the inbox.
    pub(crate) fn end(&self, failure: Option<String>) {
        match failure {
            Some(message) => self.pulse.fail(message),
            None => self.pulse.advance(EngineState::Stopped),
        }
        self.sweep_if_ended();
    }

    /// Ends the engine without its thread, which hangs: every client hears of it, those whose requests the thread holds too.
    pub(crate) fn give_up(&self) {
        let silence = self.pulse.health(Instant::now(), self.config.stall_after, false).since_progress;
        let message = format!("no progress for {:.1} s; the engine thread hangs", silence.as_secs_f64());
        tracing::error!(%message, "the engine is given up; every request is ended");
        self.pulse.give_up(message);
        self.sweep_if_ended();
        for ticket in self.tickets.all() {
            ticket.end_all(&self.lost());
        }
    }

    /// Answers what is in the inbox if nobody else will. A submitter calls it after sending: either it sees the
    /// end here, or the engine's own call sees the submission.
    pub(crate) fn sweep_if_ended(&self) {
        fence(Ordering::SeqCst);
        if self.pulse.state().has_ended() {
            self.inbox.sweep();
        }
    }

    /// What a client is told whose request the engine let go of.
    pub(crate) fn lost(&self) -> RequestError {
        match self.pulse.state() {
            EngineState::Failed => RequestError::EngineFailed,
            _ => RequestError::Shutdown,
        }
    }
}

/// Short, because every session leads here.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, state) = (self.model.name(), self.pulse.state());
        f.debug_struct("Shared").field("model", &model).field("state", &state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::StopOrder;

    #[test]
    fn what_arrives_after_the_end_is_swept_by_the_sender() {
        let files = pagoda_text::TokenizerFiles {
            origin: "empty",
            tokenizer_json:
                br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#,
            ..pagoda_text::TokenizerFiles::default()
        };
        let tokenizer = pagoda_text::Tokenizer::from_files(&files).unwrap();
        let model = ServedModel::new("empty", Arc::new(tokenizer), 16);
        let shared = Shared::new(Arc::new(model), EngineConfig::default());
        shared.inbox.wake();
        shared.sweep_if_ended();
        assert_eq!(shared.inbox.len(), 1, "the engine is to come");
        shared.end(None);
        assert_eq!(shared.inbox.len(), 0, "the engine sweeps what it finds at its end");
        shared.inbox.rearm();
        shared.inbox.stop(StopOrder::Drain);
        shared.sweep_if_ended();
        assert_eq!(shared.inbox.len(), 0, "the sender sweeps what came later");
    }
}
