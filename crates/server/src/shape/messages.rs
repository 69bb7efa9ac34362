//! Anthropic's messages.

use super::{End, Piece, Shape, only};
use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::error_shape::anthropic;
use crate::finish::{Ending, StopReason};
use crate::routes::tokenize::write;
use crate::said::Said;
use crate::sse::named_event;
use crate::tool_calls::ToolCall;
use crate::wire::common::Usage;
use axum::body::Bytes;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// What a block of content holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Thinking,
    Text,
}

/// Writes messages.
pub(crate) struct MessagesShape {
    /// Blocks that have been begun.
    blocks: usize,
    /// The last of them, if it goes on.
    open: Option<Kind>,
    ending: Option<Ending>,
}

impl MessagesShape {
    /// More of a block, which is begun if the last one is of another kind.
    fn add(&mut self, kind: Kind, text: &str, out: &mut VecDeque<Bytes>) {
        if self.open != Some(kind) {
            self.begin_block(&empty(kind), out);
            self.open = Some(kind);
        }
        if text.is_empty() {
            return;
        }
        let delta = match kind {
            Kind::Thinking => json!({"type": "thinking_delta", "thinking": text}),
            Kind::Text => json!({"type": "text_delta", "text": text}),
        };
        self.delta_block(&delta, out);
    }

    fn add_said(&mut self, said: &Said, out: &mut VecDeque<Bytes>) {
        for (kind, text) in [(Kind::Thinking, &said.reasoning), (Kind::Text, &said.content)] {
            if !text.is_empty() {
                self.add(kind, text, out);
            }
        }
        for call in &said.calls {
            self.begin_block(&tool_use(call, Map::new()), out);
            self.delta_block(&json!({"type": "input_json_delta", "partial_json": call.arguments}), out);
            self.end_block(out);
        }
    }

    fn begin_block(&mut self, block: &Value, out: &mut VecDeque<Bytes>) {
        if self.open.is_some() {
            self.end_block(out);
        }
        self.blocks += 1;
        let index = self.blocks - 1;
        out.push_back(event(&json!({"type": "content_block_start", "index": index, "content_block": block})));
    }

    fn delta_block(&self, delta: &Value, out: &mut VecDeque<Bytes>) {
        let index = self.blocks.saturating_sub(1);
        out.push_back(event(&json!({"type": "content_block_delta", "index": index, "delta": delta})));
    }

    fn end_block(&mut self, out: &mut VecDeque<Bytes>) {
        if self.open.take() == Some(Kind::Thinking) {
            self.delta_block(&json!({"type": "signature_delta", "signature": ""}), out);
        }
        let index = self.blocks.saturating_sub(1);
        out.push_back(event(&json!({"type": "content_block_stop", "index": index})));
    }
}

impl Shape for MessagesShape {
    const KEEP_ALIVE: &'static [u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

    fn new(_: &Call) -> Self {
        Self { blocks: 0, open: None, ending: None }
    }

    fn begin(&mut self, call: &Call, out: &mut VecDeque<Bytes>) {
        let message = message(call, Vec::new(), None, Usage::of_prompt(call.prompt_tokens));
        out.push_back(event(&json!({"type": "message_start", "message": message})));
    }

    fn delta(&mut self, _: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.add_said(&piece.said, out);
    }

    fn finished(&mut self, _: &Call, end: End, out: &mut VecDeque<Bytes>) {
        self.add_said(&end.said, out);
        let says_nothing = self.blocks == 0 || self.open == Some(Kind::Thinking);
        if says_nothing && end.said.calls.is_empty() {
            self.add(Kind::Text, "", out);
        }
        if self.open.is_some() {
            self.end_block(out);
        }
        self.ending = Some(end.ending);
    }

    fn end(&mut self, _: &Call, total: Usage, out: &mut VecDeque<Bytes>) {
        let (stop_reason, stop_sequence) = stopped(self.ending.as_ref());
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        out.push_back(event(&json!({"type": "message_delta", "delta": delta, "usage": usage(total)})));
        out.push_back(event(&json!({"type": "message_stop"})));
    }

    fn fail(&mut self, call: &Call, error: &ApiError, out: &mut VecDeque<Bytes>) {
        out.push_back(event(&anthropic(error, Some(&call.request_id))));
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError> {
        let Answer { said, ending, .. } = only(answers)?;
        let mut content = Vec::new();
        if !said.reasoning.is_empty() {
            content.push(json!({"type": "thinking", "thinking": said.reasoning, "signature": ""}));
        }
        if !said.content.is_empty() || said.calls.is_empty() {
            content.push(json!({"type": "text", "text": said.content}));
        }
        let input = |call: &ToolCall| serde_json::from_str(&call.arguments).unwrap_or_default();
        content.extend(said.calls.iter().map(|call| tool_use(call, input(call))));
        write(&message(call, content, Some(&ending), usage))
    }
}

fn message(call: &Call, content: Vec<Value>, ending: Option<&Ending>, total: Usage) -> Value {
    let (stop_reason, stop_sequence) = stopped(ending);
    json!({
        "id": call.id,
        "type": "message",
        "role": "assistant",
        "model": call.model_name(),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage(total),
    })
}

/// `stop_reason` and `stop_sequence`; nothing while it goes on.
fn stopped(ending: Option<&Ending>) -> (Option<&'static str>, Option<&str>) {
    let Some(Ending { finish_reason, stop_reason }) = ending else { return (None, None) };
    match (*finish_reason, stop_reason) {
        ("tool_calls", _) => (Some("tool_use"), None),
        ("stop", Some(StopReason::Text(text))) => (Some("stop_sequence"), Some(text)),
        ("stop", _) => (Some("end_turn"), None),
        _ => (Some("max_tokens"), None),
    }
}

/// The counts, of which `input_tokens` are those that were not cached.
fn usage(total: Usage) -> Value {
    let cached = total.prompt_tokens_details.cached_tokens;
    json!({
        "input_tokens": total.prompt_tokens.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": total.completion_tokens,
    })
}

fn empty(kind: Kind) -> Value {
    match kind {
        Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Kind::Text => json!({"type": "text", "text": ""}),
    }
}

fn tool_use(call: &ToolCall, input: Map<String, Value>) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
}

/// An event under the name that it has inside.
fn event(body: &Value) -> Bytes {
    named_event(body["type"].as_str().unwrap_or_default(), body)
}
