//! Chat completions.

use super::{FINGERPRINT, Piece, Shape};
use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::finish::Ending;
use crate::logprobs;
use crate::routes::tokenize::write;
use crate::sse::event;
use crate::tool_calls::{Reading, ToolReader};
use crate::wire::chat::{
    ChatCall, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
};
use crate::wire::common::Usage;
use axum::body::Bytes;
use pagoda_engine::PromptResult;
use std::collections::VecDeque;
use std::sync::Arc;

const ASSISTANT: &str = "assistant";

/// Writes chat completions.
pub(crate) struct ChatShape {
    /// Which choices have said who speaks.
    opened: Vec<bool>,
    /// Readers of the choices, where there are functions to call.
    readers: Vec<ToolReader>,
}

impl ChatShape {
    /// The first chunk of a choice says who speaks. It goes out with the first token and not before, because
    /// clients take the time to the first token from it.
    fn open(&mut self, call: &Call, choice: usize, usage: Option<Usage>, out: &mut VecDeque<Bytes>) {
        if !std::mem::replace(&mut self.opened[choice], true) {
            let delta =
                ChatDelta { role: Some(ASSISTANT), content: Some(String::new()), ..ChatDelta::default() };
            out.push_back(chunk(call, &[going_on(choice, delta, None)], usage));
        }
    }
}

impl Shape for ChatShape {
    fn new(call: &Call) -> Self {
        let reader = |tools| (0..call.choices).map(|_| ToolReader::new(tools)).collect();
        Self {
            opened: vec![false; call.choices],
            readers: call.tools.as_ref().map(reader).unwrap_or_default(),
        }
    }

    /// Not shown in a stream.
    fn prompt(&mut self, _: usize, _: Arc<PromptResult>) {}

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.open(call, piece.choice, piece.usage, out);
        let logprobs = call.shown.logprobs.map(|_| logprobs::chat(call.names(), piece.tokens));
        let text = match self.readers.get_mut(piece.choice) {
            Some(reader) => reader.push(&piece.text),
            None => piece.text,
        };
        if text.is_empty() && logprobs.is_none() {
            return;
        }
        let delta = ChatDelta { content: Some(text), ..ChatDelta::default() };
        out.push_back(chunk(call, &[going_on(piece.choice, delta, logprobs)], piece.usage));
    }

    fn finished(
        &mut self,
        call: &Call,
        choice: usize,
        (ending, usage): (Ending, Option<Usage>),
        out: &mut VecDeque<Bytes>,
    ) {
        self.open(call, choice, usage, out);
        let Reading { content, calls } =
            self.readers.get_mut(choice).map(ToolReader::finish).unwrap_or_default();
        if !content.is_empty() {
            let delta = ChatDelta { content: Some(content), ..ChatDelta::default() };
            out.push_back(chunk(call, &[going_on(choice, delta, None)], usage));
        }
        let ending = called(ending, calls.len());
        for (index, tool_call) in calls.into_iter().enumerate() {
            let delta =
                ChatDelta { tool_calls: vec![ChatCall::new(tool_call, Some(index))], ..ChatDelta::default() };
            out.push_back(chunk(call, &[going_on(choice, delta, None)], usage));
        }
        let last = ChatChunkChoice {
            index: choice,
            delta: ChatDelta::default(),
            logprobs: None,
            finish_reason: Some(ending.finish_reason),
            stop_reason: ending.stop_reason,
        };
        out.push_back(chunk(call, &[last], usage));
    }

    fn usage(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>) {
        out.push_back(chunk(call, &[], Some(usage)));
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError> {
        let prompt_logprobs = call.prompt_logprobs(answers.first().and_then(|answer| answer.prompt.as_ref()));
        let choice = |(index, answer): (usize, Answer)| {
            let tokens = answer.deltas.iter().flat_map(|(_, tokens)| tokens);
            let Reading { content, calls } = match &call.tools {
                Some(tools) => ToolReader::read(tools, &answer.text),
                None => Reading { content: answer.text, ..Reading::default() },
            };
            let ending = called(answer.ending, calls.len());
            let only_called = content.is_empty() && !calls.is_empty();
            let tool_calls = calls.into_iter().map(|call| ChatCall::new(call, None)).collect();
            ChatChoice {
                index,
                logprobs: call.shown.logprobs.map(|_| logprobs::chat(call.names(), tokens)),
                message: ChatMessage {
                    role: ASSISTANT,
                    content: (!only_called).then_some(content),
                    tool_calls,
                },
                finish_reason: ending.finish_reason,
                stop_reason: ending.stop_reason,
            }
        };
        write(&ChatCompletion {
            id: &call.id,
            object: "chat.completion",
            created: call.created,
            model: call.model.name(),
            system_fingerprint: FINGERPRINT,
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
            prompt_logprobs,
        })
    }
}

/// An answer that ended by itself with calls waits for what they bring.
fn called(ending: Ending, calls: usize) -> Ending {
    match ending.finish_reason {
        "stop" if calls > 0 => Ending { finish_reason: "tool_calls", ..ending },
        _ => ending,
    }
}

fn going_on(index: usize, delta: ChatDelta, logprobs: Option<ChatLogprobs>) -> ChatChunkChoice {
    ChatChunkChoice { index, delta, logprobs, finish_reason: None, stop_reason: None }
}

fn chunk(call: &Call, choices: &[ChatChunkChoice], usage: Option<Usage>) -> Bytes {
    event(&ChatChunk {
        id: &call.id,
        object: "chat.completion.chunk",
        created: call.created,
        model: call.model.name(),
        system_fingerprint: FINGERPRINT,
        choices,
        usage,
    })
}
