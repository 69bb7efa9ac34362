//! The engine's end of one conversation.

use crate::event::{Ending, Event};
use crate::{PromptResult, RequestError, TokenInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;

/// What a sample has done so far, written by the engine thread and read by anyone.
#[derive(Debug, Default)]
pub(crate) struct ProgressCell {
    generated: AtomicU32,
    completed: AtomicBool,
    /// Bytes of tokens that the session has not taken in.
    unread: AtomicUsize,
}

/// A look at a running sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tokens generated so far.
    pub generated: u32,
    /// Whether the engine has finished with the sample.
    pub completed: bool,
}

impl ProgressCell {
    pub(crate) fn read(&self) -> Progress {
        let completed = self.completed.load(Ordering::Acquire);
        Progress { generated: self.generated.load(Ordering::Relaxed), completed }
    }

    /// The session has taken in a token.
    pub(crate) fn taken(&self, info: &TokenInfo) {
        self.unread.fetch_sub(held_by(info), Ordering::Relaxed);
    }
}

/// Memory of a token that waits for its session, bytes.
fn held_by(info: &TokenInfo) -> usize {
    size_of::<Event>() + size_of_val(&*info.top)
}

/// The sending half of a session. [`Responder::finish`] consumes it; dropping it unfinished closes the channel,
/// which the session reports as a failure. So a client hears exactly one end.
#[derive(Debug)]
pub(crate) struct Responder {
    events: mpsc::Sender<Event>,
    progress: Arc<ProgressCell>,
    /// Bytes of tokens that may wait for the session.
    max_unread: Option<usize>,
    too_slow: bool,
    pub(crate) last_token: Option<Instant>,
}

impl Responder {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        progress: Arc<ProgressCell>,
        max_unread: Option<usize>,
    ) -> Self {
        Self { events, progress, max_unread, too_slow: false, last_token: None }
    }

    /// Sends what was found in the prompt. Never waits: it comes first, and the channel has room for it.
    pub(crate) fn prompt(&self, result: Arc<PromptResult>) {
        // A client that has gone away needs none.
        let _ = self.events.try_send(Event::Prompt(result));
    }

    /// Sends a token. Never waits: the channel has room for every token that the request may generate, and a
    /// client that has gone away needs none. Returns whether this is the token that there is too much of unread, from which on
    /// none is sent: then the sample is to be cancelled.
    #[must_use]
    pub(crate) fn token(&mut self, info: TokenInfo) -> bool {
        self.progress.generated.fetch_add(1, Ordering::Relaxed);
        if self.too_slow {
            return false;
        }
        let bytes = held_by(&info);
        let unread = self.progress.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.max_unread.is_some_and(|most| unread > most) {
            self.too_slow = true;
            return true;
        }
        let sent = self.events.try_send(Event::Token(info));
        let full = matches!(sent, Err(mpsc::error::TrySendError::Full(_)));
        assert!(!full, "a sample got more tokens than its max_tokens");
        false
    }

    /// Sends the end.
    pub(crate) fn finish(self, end: Result<Ending, RequestError>) {
        self.progress.completed.store(true, Ordering::Release);
        let end = if self.too_slow { Err(RequestError::TooSlow) } else { end };
        // There is room for the end; the only other outcome is that the client has gone away.
        let _ = self.events.try_send(Event::Ended(Box::new(end)));
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.progress.completed.store(true, Ordering::Release);
    }
}
