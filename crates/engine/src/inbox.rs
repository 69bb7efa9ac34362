//! The bounded way in to the engine thread.

use crate::accounts::Account;
use crate::adapters::AdapterUse;
use crate::placement::Placement;
use crate::responder::Responder;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pagoda_sched::{AdapterId, AdapterWeights, Explanation, Request, RequestId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// What arrives through the inbox. Orders that must never be refused (cancel, pause, drain, shut down) are state
/// that the engine reads when it wakes, so that a full inbox cannot lose one.
#[derive(Debug)]
pub(crate) enum Command {
    /// A request to enqueue.
    Submit(Box<Submission>),
    /// Say where a request stands, if it is known.
    Explain(RequestId, oneshot::Sender<Option<Explanation>>),
    /// Empty the prefix cache and say how many blocks were forgotten.
    ClearCache(oneshot::Sender<u32>),
    /// Take an adapter in.
    Attach(Arrival),
    /// Let an adapter go once its requests have ended, and hand its weights back to be freed elsewhere.
    Detach(AdapterId, oneshot::Sender<Option<AdapterWeights>>),
    /// Look at the cancel list and at the orders.
    Wake,
}

/// An adapter that was read.
pub(crate) struct Arrival {
    pub(crate) id: AdapterId,
    pub(crate) weights: AdapterWeights,
    /// Whom to tell what became of it; the reason if it was not taken.
    pub(crate) answer: oneshot::Sender<Result<(), String>>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A request and the ends that answer it, one per sample.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) responders: Vec<Responder>,
    /// Where the tenant's use is counted.
    pub(crate) account: Arc<Account>,
    /// Whom to tell where in the queue the request is, once it is there.
    pub(crate) placed: Option<oneshot::Sender<Placement>>,
    /// Its use of an adapter.
    pub(crate) adapter: Option<AdapterUse>,
}

/// How far the engine has been told to stop; never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum StopOrder {
    /// Serve.
    None,
    /// End when all accepted requests have ended.
    Drain,
    /// End after the running step.
    Shutdown,
}

/// The inbox with both ends. A receiver stays with the senders so that whoever finds the engine gone can
/// answer what was left in it; see [`Inbox::sweep`].
#[derive(Debug)]
pub(crate) struct Inbox {
    sender: Sender<Command>,
    receiver: Receiver<Command>,
    wake_sent: AtomicBool,
    paused: AtomicBool,
    stop: AtomicU8,
}

impl Inbox {
    /// An inbox for `capacity` submissions.
    pub(crate) fn new(capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity + 1);
        Self {
            sender,
            receiver,
            wake_sent: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stop: AtomicU8::new(StopOrder::None as u8),
        }
    }

    /// Hands over a submission, or gives it back when the inbox is full.
    pub(crate) fn submit(&self, submission: Box<Submission>) -> Result<(), Box<Submission>> {
        match self.sender.try_send(Command::Submit(submission)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => match command {
                Command::Submit(submission) => Err(submission),
                _ => unreachable!("a submission was sent"),
            },
        }
    }

    /// Hands over any other command; `false` when the inbox is full.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.sender.try_send(command).is_ok()
    }

    /// Makes the engine look at the state that the caller has just changed. One wake-up is in flight at a time;
    /// if the inbox is full the engine is about to look anyway.
    pub(crate) fn wake(&self) {
        if !self.wake_sent.swap(true, Ordering::AcqRel) {
            // A full inbox is no loss: the engine does not sleep on an inbox with something in it.
            let _ = self.sender.try_send(Command::Wake);
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self, order: StopOrder) {
        self.stop.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    pub(crate) fn stop_order(&self) -> StopOrder {
        match self.stop.load(Ordering::Acquire) {
            0 => StopOrder::None,
            1 => StopOrder::Drain,
            _ => StopOrder::Shutdown,
        }
    }

    /// Engine side: later changes will wake again. Call before reading the state that wakes announce.
    pub(crate) fn rearm(&self) {
        self.wake_sent.swap(false, Ordering::AcqRel);
    }

    /// Engine side: how many commands there are to receive.
    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Engine side: the next command, if any.
    pub(crate) fn try_receive(&self) -> Option<Command> {
        self.receiver.try_recv().ok()
    }

    /// Engine side: sleeps until a command arrives or `timeout` has passed.
    pub(crate) fn receive(&self, timeout: Duration) -> Option<Command> {
        self.receiver.recv_timeout(timeout).ok()
    }

    /// Drops everything in the inbox, whereupon its responders answer. Called by the engine after it has
    /// announced its end, and by a submitter that sees that announcement after it has sent.
    pub(crate) fn sweep(&self) {
        while self.receiver.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wake_up_is_in_flight_at_a_time() {
        let inbox = Inbox::new(1);
        for _ in 0..10 {
            inbox.wake();
        }
        assert_eq!(inbox.len(), 1);
        assert!(matches!(inbox.try_receive(), Some(Command::Wake)));
        inbox.wake();
        assert_eq!(inbox.len(), 0, "the engine is still to look");
        inbox.rearm();
        inbox.wake();
        assert_eq!(inbox.len(), 1);
    }

    #[test]
    fn orders_survive_a_full_inbox_and_never_go_back() {
        let inbox = Inbox::new(0);
        inbox.wake();
        inbox.rearm();
        inbox.stop(StopOrder::Shutdown);
        inbox.stop(StopOrder::Drain);
        inbox.pause(true);
        assert_eq!(inbox.len(), 1, "the inbox is full");
        assert_eq!(inbox.stop_order(), StopOrder::Shutdown);
        assert!(inbox.is_paused());
    }
}
