//! Server-sent events: framing, keep-alive, and the one loop that turns sessions into a stream.

use crate::answer::{Call, Merged, Part, Spent, Tally, called, merge};
use crate::error::ApiError;
use crate::said::Reader;
use crate::shape::{End, Piece, Shape};
use crate::state::InFlight;
use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use pagoda_engine::{RequestResult, Session, TokenInfo};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// What OpenAI's streams end with.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One event: a line of JSON after `data: `, then an empty line. Line feeds only, no other fields.
pub(crate) fn event(json: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    match serde_json::to_writer(&mut bytes, json) {
        Ok(()) => bytes.extend_from_slice(b"\n\n"),
        Err(error) => return event(&ApiError::internal(&error).body()),
    }
    Bytes::from(bytes)
}

/// The same with a name, for clients that tell events by it.
pub(crate) fn named_event(name: &str, json: &impl Serialize) -> Bytes {
    Bytes::from([format!("event: {name}\n").as_bytes(), &event(json)].concat())
}

/// Answers with a stream, which begins with `comment`. The head goes out at once; dropping the body drops the sessions, which cancels them.
pub(crate) fn respond<S: Shape>(
    call: Call,
    sessions: Vec<Session>,
    (comment, keep_alive): (Option<Bytes>, Option<Duration>),
    in_flight: InFlight,
) -> Response {
    let mut shape = S::new(&call);
    let mut ready: VecDeque<Bytes> = comment.into_iter().collect();
    shape.begin(&call, &mut ready);
    let driver = Driver {
        parts: merge(sessions),
        shape,
        readers: (0..call.choices).map(|_| Reader::new(&call.speech)).collect(),
        tally: Tally::new(&call),
        call,
        ready,
        ended: false,
        keep_alive,
        _in_flight: in_flight,
    };
    let events = stream::unfold(driver, |mut driver| async move {
        let event = driver.next_contained().await?;
        Some((Ok::<_, Infallible>(event), driver))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(S::CONTENT_TYPE)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONNECTION, HeaderValue::from_static("keep-alive")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// Everything that a stream owns.
struct Driver<S> {
    call: Call,
    parts: Merged,
    shape: S,
    /// One per choice.
    readers: Vec<Reader>,
    tally: Tally,
    /// Events that are to go out, one write each.
    ready: VecDeque<Bytes>,
    ended: bool,
    keep_alive: Option<Duration>,
    _in_flight: InFlight,
}

impl<S: Shape> Driver<S> {
    /// The next event. A defect in making it ends this stream with an error, and the connection goes on.
    async fn next_contained(&mut self) -> Option<Bytes> {
        match AssertUnwindSafe(self.next()).catch_unwind().await {
            Ok(event) => event,
            Err(_) => {
                self.ready.clear();
                self.fail(&ApiError::internal(&"a stream panicked"));
                self.ready.pop_front()
            }
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let waited = match self.keep_alive {
                Some(interval) => tokio::time::timeout(interval, self.parts.next()).await,
                None => Ok(self.parts.next().await),
            };
            match waited {
                Err(_) => return Some(Bytes::from_static(S::KEEP_ALIVE)),
                Ok(Some(Part::Prompt { choice, found })) => self.shape.prompt(choice, found),
                Ok(Some(Part::Delta { choice, text, tokens })) => self.delta(choice, text, &tokens),
                Ok(Some(Part::Finished { choice, result })) => self.finished(choice, &result),
                Ok(Some(Part::Failed(error))) => self.fail(&error),
                Ok(None) => self.end(),
            }
        }
    }

    fn delta(&mut self, choice: usize, text: String, tokens: &[TokenInfo]) {
        self.tally.delta(choice, tokens);
        let usage = self.call.delivery.continuous_usage.then(|| self.tally.usage());
        let said = self.readers[choice].push(text);
        self.shape.delta(&self.call, Piece { choice, said, tokens, usage }, &mut self.ready);
    }

    fn finished(&mut self, choice: usize, result: &RequestResult) {
        self.tally.finished(choice, result);
        match self.call.ending(result) {
            Ok(ending) => {
                let usage = self.call.delivery.continuous_usage.then(|| self.tally.usage());
                let said = self.readers[choice].finish();
                let (ending, spent) = (called(ending, &said), Spent::of(result));
                let end = End { choice, said, ending, usage, spent };
                self.shape.finished(&self.call, end, &mut self.ready);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        // Those that are still running have nobody left to answer.
        self.parts.clear();
        self.shape.fail(&self.call, error, &mut self.ready);
        self.ended = true;
    }

    fn end(&mut self) {
        self.shape.end(&self.call, self.tally.usage(), &mut self.ready);
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let json = serde_json::json!({"text": "a\nb\r\n\u{2028}é"});
        assert_eq!(event(&json), Bytes::from("data: {\"text\":\"a\\nb\\r\\n\u{2028}é\"}\n\n"));
    }
}
