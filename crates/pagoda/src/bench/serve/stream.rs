//! One request of a load: sent, and its stream timed.

use crate::client::{Client, ClientError};
use hyper::body::Bytes;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// What came of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Why it failed; `None` is a success.
    pub error: Option<String>,
    /// Whether no connection could be made.
    pub unreachable: bool,
    /// Tokens of the prompt: the server's count, or else the client's.
    pub prompt_tokens: u32,
    /// Tokens of the answer: the server's count, or else the number of pieces.
    pub output_tokens: u32,
    /// When it was sent, in seconds since the start of the load.
    pub start: f64,
    /// Seconds that it waited for `--max-concurrency` before it was sent.
    pub queued: f64,
    /// Seconds from sending to the first piece; 0 if there was none.
    pub ttft: f64,
    /// Seconds between pieces.
    pub itl: Vec<f64>,
    /// Seconds from sending to the last piece.
    pub latency: f64,
    /// The text.
    pub text: String,
}

impl Outcome {
    /// Whether the answer came to its end.
    pub fn succeeded(&self) -> bool {
        self.error.is_none()
    }
}

/// A piece of an answer as OpenAI-compatible servers send it. Fields may be absent or null.
#[derive(Debug, Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

/// Times the pieces of one stream.
#[derive(Debug)]
pub(crate) struct StreamTimer {
    sent: Instant,
    last: Instant,
    pieces: u32,
    usage_tokens: Option<u32>,
    ended: bool,
    outcome: Outcome,
}

impl StreamTimer {
    /// A stream whose request is sent at `sent` with a prompt of `prompt_tokens`.
    pub(crate) fn new(sent: Instant, prompt_tokens: u32) -> Self {
        let outcome = Outcome { prompt_tokens, ..Outcome::default() };
        Self { sent, last: sent, pieces: 0, usage_tokens: None, ended: false, outcome }
    }

    /// Takes the data of an event that arrived at `now`.
    pub(crate) fn event(&mut self, data: &str, now: Instant) -> Result<(), ClientError> {
        if data.trim() == "[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| {
            let start: String = data.chars().take(120).collect();
            ClientError::Answer(format!("{error} in {start:?}"))
        })?;
        if let Some(error) = chunk.error {
            return Err(ClientError::Answer(format!("it reports {error}")));
        }
        for choice in chunk.choices.into_iter().flatten() {
            self.choice(choice, now);
        }
        if let Some(usage) = chunk.usage {
            self.outcome.prompt_tokens = usage.prompt_tokens.unwrap_or(self.outcome.prompt_tokens);
            self.usage_tokens = usage.completion_tokens.or(self.usage_tokens);
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice, now: Instant) {
        let ends = choice.finish_reason.is_some();
        let (text, counts) = match (choice.text, choice.delta) {
            // A token whose text is not whole yet comes as an empty piece; so does the end, which is no token.
            (Some(text), _) => (text, !ends),
            (None, Some(delta)) => {
                let calls = delta.tool_calls.is_some();
                let parts = [delta.reasoning_content.or(delta.reasoning), delta.content];
                // A delta that only names the role announces the answer and is no token.
                (parts.into_iter().flatten().collect(), calls)
            }
            (None, None) => (String::new(), false),
        };
        self.ended |= ends;
        if text.is_empty() && !counts {
            return;
        }
        let gap = (now - self.last).as_secs_f64();
        if self.pieces == 0 {
            self.outcome.ttft = gap
        } else {
            self.outcome.itl.push(gap)
        }
        self.last = now;
        self.pieces += 1;
        self.outcome.text += &text;
    }

    /// The stream is over; `failure` says if it broke.
    pub(crate) fn finish(mut self, failure: Option<&ClientError>) -> Outcome {
        self.outcome.output_tokens = self.usage_tokens.unwrap_or(self.pieces);
        self.outcome.latency = (self.last - self.sent).as_secs_f64();
        self.outcome.unreachable = matches!(failure, Some(ClientError::Connect { .. }));
        let failure = failure.map(ToString::to_string);
        self.outcome.error = failure.or_else(|| match self.pieces {
            _ if !self.ended => Some(format!("the stream broke off after {} pieces", self.pieces)),
            0 => Some("the answer has no text".to_owned()),
            _ => None,
        });
        self.outcome
    }
}

/// Sends one request and times its answer, within `limit`.
pub(crate) async fn run(
    client: &Client,
    endpoint: &str,
    body: Bytes,
    prompt_tokens: u32,
    limit: Duration,
) -> Outcome {
    let mut timer = StreamTimer::new(Instant::now(), prompt_tokens);
    let read = read_stream(client, endpoint, body, &mut timer);
    let failure = match tokio::time::timeout(limit, read).await {
        Ok(done) => done.err(),
        Err(_) => Some(ClientError::Timeout { seconds: limit.as_secs() }),
    };
    timer.finish(failure.as_ref())
}

async fn read_stream(
    client: &Client,
    endpoint: &str,
    body: Bytes,
    timer: &mut StreamTimer,
) -> Result<(), ClientError> {
    let mut events = client.post_events(endpoint, body).await?;
    while let Some(data) = events.next().await? {
        timer.event(&data, Instant::now())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(events: &[&str]) -> Outcome {
        let start = Instant::now();
        let mut timer = StreamTimer::new(start, 7);
        let mut failure = None;
        for (i, event) in events.iter().enumerate() {
            let now = start + Duration::from_millis(10 * (i as u64 + 1));
            failure = failure.or(timer.event(event, now).err());
        }
        timer.finish(failure.as_ref())
    }

    #[test]
    fn completions_are_timed_and_counted_by_the_server() {
        let outcome = time(&[
            r#"{"choices":[{"text":"a","finish_reason":null,"logprobs":null}],"usage":null}"#,
            r#"{"choices":[{"text":"","finish_reason":null}]}"#,
            r#"{"choices":[{"text":"b"}]}"#,
            r#"{"choices":[{"text":"","finish_reason":"length"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#,
            "[DONE]",
        ]);
        assert!(outcome.succeeded(), "{outcome:?}");
        assert_eq!((outcome.prompt_tokens, outcome.output_tokens), (9, 4));
        assert_eq!((outcome.itl.len(), outcome.text.as_str()), (2, "ab"));
        assert!((outcome.ttft - 0.01).abs() < 1e-9 && (outcome.latency - 0.03).abs() < 1e-9);
    }

    #[test]
    fn a_role_alone_is_no_token_and_without_usage_pieces_are_counted() {
        let outcome = time(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm","content":null}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        ]);
        assert!(outcome.succeeded(), "{outcome:?}");
        assert_eq!((outcome.prompt_tokens, outcome.output_tokens, outcome.text.as_str()), (7, 2, "hma"));
        assert!((outcome.ttft - 0.02).abs() < 1e-9);
    }

    #[test]
    fn broken_streams_fail_and_keep_what_there_is() {
        for (events, expected) in [
            (&[r#"{"choices":[{"text":"a"}]}"#][..], "broke off after 1"),
            (&["[DONE]"], "no text"),
            (&[r#"{"choices":[{"text":"a"}]}"#, r#"{"error":{"message":"full"}}"#], "full"),
            (&["{oops"], "oops"),
        ] {
            let outcome = time(events);
            let error = outcome.error.expect("a failure");
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(time(&[r#"{"choices":[{"text":"a"}]}"#, "{oops"]).text, "a");
    }
}
