//! OpenAI's responses.

use super::{End, Piece, Shape, only};
use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::finish::Ending;
use crate::routes::tokenize::write;
use crate::said::Said;
use crate::sse::named_event;
use crate::tool_calls::ToolCall;
use crate::wire::common::Usage;
use axum::body::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;

const DONE: &str = "completed";
const CUT: &str = "incomplete";
const OPEN: &str = "in_progress";

/// What an item holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

impl Kind {
    fn id(self, call: &Call) -> String {
        let prefix = if self == Self::Reasoning { "rs_" } else { "msg_" };
        format!("{prefix}{}", digits(call))
    }

    /// The one part of the item.
    fn part(self, text: &str) -> Value {
        match self {
            Self::Reasoning => json!({"type": "reasoning_text", "text": text}),
            Self::Message => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
        }
    }

    fn item(self, call: &Call, parts: Vec<Value>, status: &str) -> Value {
        match self {
            Self::Reasoning => {
                json!({"id": self.id(call), "type": "reasoning", "summary": [], "content": parts, "status": status})
            }
            Self::Message => {
                json!({"id": self.id(call), "type": "message", "status": status, "role": "assistant",
                "content": parts})
            }
        }
    }

    fn event(self, ending: &str) -> String {
        let of = if self == Self::Reasoning { "reasoning_text" } else { "output_text" };
        format!("response.{of}.{ending}")
    }
}

/// Writes responses.
pub(crate) struct ResponsesShape {
    sequence: u64,
    /// Items that are complete.
    output: Vec<Value>,
    /// The item that goes on, with its text so far.
    open: Option<(Kind, String)>,
    ending: Option<Ending>,
}

impl ResponsesShape {
    fn send(&mut self, name: &str, mut fields: Value, out: &mut VecDeque<Bytes>) {
        let mut body = json!({"type": name, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Some(body), Some(fields)) = (body.as_object_mut(), fields.as_object_mut()) {
            body.append(fields);
        }
        out.push_back(named_event(name, &body));
    }

    fn add(&mut self, call: &Call, kind: Kind, text: &str, out: &mut VecDeque<Bytes>) {
        if self.open.as_ref().is_none_or(|(open, _)| *open != kind) {
            self.close(call, DONE, out);
            self.open = Some((kind, String::new()));
            self.add_item(&kind.item(call, Vec::new(), OPEN), out);
            let mut begun = self.place(kind, call);
            begun["part"] = kind.part("");
            self.send("response.content_part.added", begun, out);
        }
        if text.is_empty() {
            return;
        }
        if let Some((_, so_far)) = &mut self.open {
            so_far.push_str(text);
        }
        let mut more = self.place(kind, call);
        more["delta"] = text.into();
        if kind == Kind::Message {
            more["logprobs"] = json!([]);
        }
        self.send(&kind.event("delta"), more, out);
    }

    fn add_said(&mut self, call: &Call, said: &Said, out: &mut VecDeque<Bytes>) {
        for (kind, text) in [(Kind::Reasoning, &said.reasoning), (Kind::Message, &said.content)] {
            if !text.is_empty() {
                self.add(call, kind, text, out);
            }
        }
        for (index, tool_call) in said.calls.iter().enumerate() {
            self.close(call, DONE, out);
            self.add_call(call, index, tool_call, out);
        }
    }

    fn add_call(&mut self, call: &Call, index: usize, tool_call: &ToolCall, out: &mut VecDeque<Bytes>) {
        let begun = function_call(call, index, tool_call, "", OPEN);
        let place = json!({"item_id": begun["id"], "output_index": self.output.len()});
        self.add_item(&begun, out);
        let with = |name: &str| {
            let mut fields = place.clone();
            fields[name] = tool_call.arguments.clone().into();
            fields
        };
        self.send("response.function_call_arguments.delta", with("delta"), out);
        let mut done = with("arguments");
        done["name"] = tool_call.name.clone().into();
        self.send("response.function_call_arguments.done", done, out);
        self.finish_item(function_call(call, index, tool_call, &tool_call.arguments, DONE), out);
    }

    fn add_item(&mut self, item: &Value, out: &mut VecDeque<Bytes>) {
        let fields = json!({"output_index": self.output.len(), "item": item});
        self.send("response.output_item.added", fields, out);
    }

    fn finish_item(&mut self, item: Value, out: &mut VecDeque<Bytes>) {
        let fields = json!({"output_index": self.output.len(), "item": item});
        self.output.push(item);
        self.send("response.output_item.done", fields, out);
    }

    /// Ends the item that goes on, if there is one.
    fn close(&mut self, call: &Call, status: &str, out: &mut VecDeque<Bytes>) {
        let Some((kind, text)) = self.open.take() else { return };
        let mut whole = self.place(kind, call);
        whole["text"] = text.as_str().into();
        if kind == Kind::Message {
            whole["logprobs"] = json!([]);
        }
        self.send(&kind.event("done"), whole, out);
        let mut done = self.place(kind, call);
        done["part"] = kind.part(&text);
        self.send("response.content_part.done", done, out);
        self.finish_item(kind.item(call, vec![kind.part(&text)], status), out);
    }

    fn place(&self, kind: Kind, call: &Call) -> Value {
        json!({"item_id": kind.id(call), "output_index": self.output.len(), "content_index": 0})
    }
}

impl Shape for ResponsesShape {
    fn new(_: &Call) -> Self {
        Self { sequence: 0, output: Vec::new(), open: None, ending: None }
    }

    fn begin(&mut self, call: &Call, out: &mut VecDeque<Bytes>) {
        for name in ["response.created", "response.in_progress"] {
            self.send(name, json!({"response": response(call, OPEN, Vec::new(), None)}), out);
        }
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.add_said(call, &piece.said, out);
    }

    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>) {
        self.add_said(call, &end.said, out);
        let has_message = matches!(self.open, Some((Kind::Message, _)));
        if !has_message && end.said.calls.is_empty() {
            self.add(call, Kind::Message, "", out);
        }
        self.close(call, status(&end.ending), out);
        self.ending = Some(end.ending);
    }

    fn end(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>) {
        let status = self.ending.as_ref().map_or(DONE, status);
        let output = std::mem::take(&mut self.output);
        let fields = json!({"response": response(call, status, output, Some(usage))});
        self.send(&format!("response.{status}"), fields, out);
    }

    fn fail(&mut self, call: &Call, error: &ApiError, out: &mut VecDeque<Bytes>) {
        let told = error.body()["error"].take();
        let fields = json!({"code": told["code"], "message": told["message"], "param": told["param"]});
        self.send("error", fields, out);
        let output = std::mem::take(&mut self.output);
        let mut failed = response(call, "failed", output, None);
        failed["error"] = json!({"code": "server_error", "message": told["message"]});
        self.send("response.failed", json!({"response": failed}), out);
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError> {
        let Answer { said, ending, .. } = only(answers)?;
        let (status, calls) = (status(&ending), &said.calls);
        let mut output = Vec::new();
        if !said.reasoning.is_empty() {
            let parts = vec![Kind::Reasoning.part(&said.reasoning)];
            output.push(Kind::Reasoning.item(call, parts, DONE));
        }
        if !said.content.is_empty() || calls.is_empty() {
            let own = if calls.is_empty() { status } else { DONE };
            output.push(Kind::Message.item(call, vec![Kind::Message.part(&said.content)], own));
        }
        let of_call = |(index, tool_call): (usize, &ToolCall)| {
            function_call(call, index, tool_call, &tool_call.arguments, DONE)
        };
        output.extend(calls.iter().enumerate().map(of_call));
        write(&response(call, status, output, Some(usage)))
    }
}

fn status(ending: &Ending) -> &'static str {
    if ending.finish_reason == "length" { CUT } else { DONE }
}

fn response(call: &Call, status: &str, output: Vec<Value>, usage: Option<Usage>) -> Value {
    let cut = (status == CUT).then(|| json!({"reason": "max_output_tokens"}));
    let mut response = json!({
        "id": call.id,
        "object": "response",
        "created_at": call.created,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": cut,
        "model": call.model_name(),
        "output": output,
        "usage": usage.map(counts),
    });
    if let (Some(response), Some(repeated)) = (response.as_object_mut(), call.repeated.as_object()) {
        response.extend(repeated.clone());
    }
    response
}

fn counts(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.prompt_tokens_details.cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.completion_tokens_details.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    })
}

fn function_call(call: &Call, index: usize, tool_call: &ToolCall, arguments: &str, status: &str) -> Value {
    json!({
        "id": format!("fc_{}_{index}", digits(call)),
        "type": "function_call",
        "status": status,
        "call_id": tool_call.id,
        "name": tool_call.name,
        "arguments": arguments,
    })
}

/// What the id of a call has behind its prefix.
fn digits(call: &Call) -> &str {
    call.id.rsplit('_').next().unwrap_or(&call.id)
}
