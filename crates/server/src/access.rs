//! One log line for each call that has ended: who asked for what, how it ended and what it took. No text of a prompt or an
//! answer is ever in it.

use crate::request_id::X_REQUEST_ID;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use pagoda_engine::RequestResult;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The tracing target of the lines: `access=warn` in a filter leaves them out, `access=debug` shows probes too.
const TARGET: &str = "access";

/// Longest path that is shown, bytes.
const LONGEST_PATH: usize = 128;

/// Status in the log of a call whose client went away.
const CLIENT_CLOSED: u16 = 499;

/// Paths that machines ask for all day.
const PROBES: [&str; 7] = ["/health", "/v1/health", "/healthz", "/ready", "/live", "/ping", "/metrics"];

/// Where a client is, as logs show it.
#[derive(Clone, Debug)]
pub(crate) struct ClientAddress(pub(crate) Arc<str>);

tokio::task_local! {
    static CURRENT: Note;
}

/// What routes tell of a call; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Facts>>);

#[derive(Clone, Debug, Default)]
struct Facts {
    model: Option<String>,
    prompt_tokens: Option<u64>,
    cached_tokens: u64,
    output_tokens: u64,
    preemptions: u64,
    finish_reason: Option<&'static str>,
    /// Of the sample that took longest.
    queue: Option<Duration>,
    first_token: Option<Duration>,
    per_token: Option<Duration>,
    longest: Duration,
}

impl Note {
    /// That of the call which is being answered; outside of one, nobody reads it.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// A model begins to answer prompts of so many tokens.
    pub(crate) fn began(&self, model: &str, prompt_tokens: u64) {
        let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        facts.model = Some(model.to_owned());
        facts.prompt_tokens = Some(prompt_tokens);
    }

    /// A sample has ended.
    pub(crate) fn finished(&self, result: &RequestResult) {
        let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        facts.cached_tokens += u64::from(result.cached_tokens);
        facts.output_tokens += u64::from(result.tokens_generated);
        facts.preemptions += u64::from(result.preemptions);
        if result.processing_time < facts.longest {
            return;
        }
        facts.longest = result.processing_time;
        facts.finish_reason = Some(result.reason.name());
        (facts.queue, facts.first_token) = (result.queue_time, result.time_to_first_token);
        let gaps = result.tokens_generated.checked_sub(1).filter(|gaps| *gaps > 0);
        let decoding = result.time_to_first_token.map(|first| result.processing_time.saturating_sub(first));
        facts.per_token = decoding.zip(gaps).map(|(time, gaps)| time / gaps);
    }
}

/// Answers the request and logs it when the answer has been sent or given up.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let mut line = Line::begin(&request);
    let response = CURRENT.scope(line.note.clone(), next.run(request)).await;
    line.answered(&response);
    response.map(|body| Body::new(Logged { body, line }))
}

/// A line that is written when it is dropped.
struct Line {
    note: Note,
    begun: Instant,
    method: Method,
    path: String,
    client: Option<ClientAddress>,
    trace: Option<TraceParent>,
    id: Option<String>,
    status: u16,
    /// Whether the answer was sent to its end.
    complete: bool,
}

impl Line {
    fn begin(request: &Request) -> Self {
        let path = request.uri().path();
        let end =
            (0..=LONGEST_PATH.min(path.len())).rev().find(|end| path.is_char_boundary(*end)).unwrap_or(0);
        Self {
            note: Note::default(),
            begun: Instant::now(),
            method: request.method().clone(),
            path: path[..end].to_owned(),
            client: request.extensions().get::<ClientAddress>().cloned(),
            trace: TraceParent::of(request.headers()),
            id: None,
            status: CLIENT_CLOSED,
            complete: false,
        }
    }

    fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        self.id = response.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let status = if self.complete { self.status } else { CLIENT_CLOSED };
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let total_ms = milliseconds(self.begun.elapsed());
        let (id, route, client) =
            (self.id.as_deref(), &*self.path, self.client.as_ref().map(|client| &*client.0));
        let method = self.method.as_str();
        if PROBES.contains(&route) {
            tracing::debug!(target: TARGET, id, method, route, status, total_ms, client);
            return;
        }
        let facts = self.note.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Of a call that no model answered there are no tokens to tell.
        let ran = |count: u64| facts.prompt_tokens.map(|_| count);
        tracing::info!(
            target: TARGET,
            id,
            method,
            route,
            model = facts.model.as_deref(),
            status,
            finish_reason = facts.finish_reason,
            prompt_tokens = facts.prompt_tokens,
            cached_tokens = ran(facts.cached_tokens),
            output_tokens = ran(facts.output_tokens),
            queue_ms = facts.queue.map(milliseconds),
            ttft_ms = facts.first_token.map(milliseconds),
            tpot_ms = facts.per_token.map(milliseconds),
            total_ms,
            preemptions = ran(facts.preemptions),
            client,
            trace_id = self.trace.as_ref().map(|trace| trace.trace.as_str()),
            parent_id = self.trace.as_ref().map(|trace| trace.parent.as_str()),
        );
    }
}

/// The call of another service that this one belongs to (W3C Trace Context, level 1).
#[derive(Debug, PartialEq)]
struct TraceParent {
    trace: String,
    parent: String,
}

impl TraceParent {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("traceparent")?.to_str().ok()?)
    }

    /// `version-trace-parent-flags` of 2, 32, 16 and 2 lower-case hexadecimal digits; later versions may have more behind.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut digits = |count: usize| {
            let part = parts.next()?;
            let hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (part.len() == count && hex).then_some(part)
        };
        let (version, trace, parent, _) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        (known && !is_zero(trace) && !is_zero(parent))
            .then(|| Self { trace: trace.to_owned(), parent: parent.to_owned() })
    }
}

/// A body that ends the line of its call.
struct Logged {
    body: Body,
    line: Line,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.line.complete |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.line.complete |= self.body.is_end_stream();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_only_in_its_form() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parsed = Some(TraceParent { trace: trace.to_owned(), parent: parent.to_owned() });
        assert_eq!(TraceParent::parse(&format!("00-{trace}-{parent}-01")), parsed);
        assert_eq!(TraceParent::parse(&format!("01-{trace}-{parent}-01-more")), parsed);
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}0-{parent}-01"),
            format!("00-{trace}-{parent}-zz"),
        ] {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
    }
}
