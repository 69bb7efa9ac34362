//! Ollama's chats and generations: a line of JSON for every event.

use super::{End, Piece, Shape, only};
use crate::answer::{Answer, Call, Spent};
use crate::error::ApiError;
use crate::finish::Ending;
use crate::said::Said;
use crate::wire::common::Usage;
use axum::body::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

/// Where the text of an answer stands.
pub(crate) trait Place: Send + 'static {
    /// The field, and what it holds of this part.
    fn put(said: &Said, into: &mut Value);
}

/// Of `/api/chat`.
pub(crate) struct InMessage;

/// Of `/api/generate`.
pub(crate) struct InResponse;

impl Place for InMessage {
    fn put(said: &Said, into: &mut Value) {
        let mut message = json!({"role": "assistant", "content": said.content});
        if !said.reasoning.is_empty() {
            message["thinking"] = said.reasoning.as_str().into();
        }
        if !said.calls.is_empty() {
            let call = |call: &crate::tool_calls::ToolCall| {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
                json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
            };
            message["tool_calls"] = said.calls.iter().map(call).collect();
        }
        into["message"] = message;
    }
}

impl Place for InResponse {
    fn put(said: &Said, into: &mut Value) {
        into["response"] = said.content.as_str().into();
        if !said.reasoning.is_empty() {
            into["thinking"] = said.reasoning.as_str().into();
        }
    }
}

/// Writes answers.
pub(crate) struct OllamaShape<P>(PhantomData<P>);

impl<P: Place> OllamaShape<P> {
    fn part(call: &Call, said: &Said, done: bool) -> Value {
        let mut part = json!({"model": call.model_name(), "created_at": now()});
        P::put(said, &mut part);
        part["done"] = done.into();
        part
    }

    fn last(call: &Call, said: &Said, ending: &Ending, spent: Spent) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut last = Self::part(call, said, true);
        let counts = json!({
            "done_reason": if ending.finish_reason == "length" { "length" } else { "stop" },
            "total_duration": nanos(spent.total),
            "load_duration": 0,
            "prompt_eval_count": spent.prompt_tokens,
            "prompt_eval_duration": nanos(spent.first_token.saturating_sub(spent.queue)),
            "eval_count": spent.generated,
            "eval_duration": nanos(spent.total.saturating_sub(spent.first_token)),
        });
        if let (Some(last), Value::Object(counts)) = (last.as_object_mut(), counts) {
            last.extend(counts);
        }
        last
    }
}

impl<P: Place> Shape for OllamaShape<P> {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";

    /// White space before a line is a part of it; an empty line is no JSON.
    const KEEP_ALIVE: &'static [u8] = b" ";

    fn new(_: &Call) -> Self {
        Self(PhantomData)
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        if piece.said != Said::default() {
            out.push_back(line(&Self::part(call, &piece.said, false)));
        }
    }

    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>) {
        if end.said != Said::default() {
            out.push_back(line(&Self::part(call, &end.said, false)));
        }
        out.push_back(line(&Self::last(call, &Said::default(), &end.ending, end.spent)));
    }

    /// The last line says that it is the last.
    fn end(&mut self, _: &Call, _: Usage, _: &mut VecDeque<Bytes>) {}

    fn fail(&mut self, _: &Call, error: &ApiError, out: &mut VecDeque<Bytes>) {
        out.push_back(line(&json!({"error": error.to_string()})));
    }

    fn whole(call: &Call, answers: Vec<Answer>, _: Usage) -> Result<Vec<u8>, ApiError> {
        let Answer { said, ending, spent, .. } = only(answers)?;
        Ok(line(&Self::last(call, &said, &ending, spent)).to_vec())
    }
}

fn line(body: &Value) -> Bytes {
    Bytes::from(format!("{body}\n"))
}

/// The time as clients read it.
pub(crate) fn now() -> String {
    pagoda_text::utc(SystemTime::now())
}
