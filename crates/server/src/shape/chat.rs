//! Chat completions.

use super::{End, FINGERPRINT, Piece, Shape};
use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::logprobs;
use crate::routes::tokenize::write;
use crate::said::Said;
use crate::sse::{DONE, event};
use crate::wire::chat::{
    ChatCall, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
};
use crate::wire::common::Usage;
use crate::wire::prompt_logprobs::PromptLogprobs;
use axum::body::Bytes;
use pagoda_engine::PromptResult;
use std::collections::VecDeque;
use std::sync::Arc;

const ASSISTANT: &str = "assistant";

/// Writes chat completions.
pub(crate) struct ChatShape {
    /// Which choices have said who speaks.
    opened: Vec<bool>,
    /// What was found in the prompt, until it is told.
    found: Option<Arc<PromptResult>>,
}

impl ChatShape {
    /// The first chunk of a choice says who speaks. It goes out with the first token and not before, because
    /// clients take the time to the first token from it.
    fn open(&mut self, call: &Call, choice: usize, usage: Option<Usage>, out: &mut VecDeque<Bytes>) {
        if !std::mem::replace(&mut self.opened[choice], true) {
            let delta =
                ChatDelta { role: Some(ASSISTANT), content: Some(String::new()), ..ChatDelta::default() };
            let prompt_logprobs = call.prompt_logprobs(self.found.take().as_ref());
            out.push_back(first_chunk(call, &[going_on(choice, delta, None)], usage, prompt_logprobs));
        }
    }
}

impl Shape for ChatShape {
    fn new(call: &Call) -> Self {
        Self { opened: vec![false; call.choices], found: None }
    }

    fn prompt(&mut self, _: usize, found: Arc<PromptResult>) {
        self.found = Some(found);
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.open(call, piece.choice, piece.usage, out);
        let logprobs = call.shown.logprobs.map(|_| logprobs::chat(call.names(), piece.tokens));
        let Said { reasoning, content, .. } = piece.said;
        let mut deltas = Vec::with_capacity(2);
        if !reasoning.is_empty() {
            deltas.push(ChatDelta::reasoning(reasoning));
        }
        if !content.is_empty() || (deltas.is_empty() && logprobs.is_some()) {
            deltas.push(ChatDelta { content: Some(content), ..ChatDelta::default() });
        }
        let mut logprobs = logprobs;
        for delta in deltas {
            out.push_back(chunk(call, &[going_on(piece.choice, delta, logprobs.take())], piece.usage));
        }
    }

    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>) {
        let End { choice, said: Said { reasoning, content, calls }, ending, usage, .. } = end;
        self.open(call, choice, usage, out);
        let mut deltas = Vec::new();
        if !reasoning.is_empty() {
            deltas.push(ChatDelta::reasoning(reasoning));
        }
        if !content.is_empty() {
            deltas.push(ChatDelta { content: Some(content), ..ChatDelta::default() });
        }
        deltas.extend(calls.into_iter().enumerate().map(|(index, tool_call)| ChatDelta {
            tool_calls: vec![ChatCall::new(tool_call, Some(index))],
            ..ChatDelta::default()
        }));
        out.extend(deltas.into_iter().map(|delta| chunk(call, &[going_on(choice, delta, None)], usage)));
        let last = ChatChunkChoice {
            index: choice,
            delta: ChatDelta::default(),
            logprobs: None,
            finish_reason: Some(ending.finish_reason),
            stop_reason: ending.stop_reason,
        };
        out.push_back(chunk(call, &[last], usage));
    }

    fn end(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>) {
        out.extend(call.delivery.include_usage.then(|| chunk(call, &[], Some(usage))));
        out.push_back(DONE);
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError> {
        let prompt_logprobs = call.prompt_logprobs(answers.first().and_then(|answer| answer.prompt.as_ref()));
        let choice = |(index, answer): (usize, Answer)| {
            let tokens = answer.deltas.iter().flat_map(|(_, tokens)| tokens);
            ChatChoice {
                index,
                logprobs: call.shown.logprobs.map(|_| logprobs::chat(call.names(), tokens)),
                message: message(answer.said),
                finish_reason: answer.ending.finish_reason,
                stop_reason: answer.ending.stop_reason,
            }
        };
        write(&ChatCompletion {
            id: &call.id,
            object: "chat.completion",
            created: call.created,
            model: call.model_name(),
            system_fingerprint: FINGERPRINT,
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
            prompt_logprobs,
        })
    }
}

fn message(said: Said) -> ChatMessage {
    let only_called = said.content.is_empty() && !said.calls.is_empty();
    let reasoning = Some(said.reasoning).filter(|text| !text.is_empty());
    ChatMessage {
        role: ASSISTANT,
        content: (!only_called).then_some(said.content),
        reasoning_content: reasoning.clone(),
        reasoning,
        tool_calls: said.calls.into_iter().map(|call| ChatCall::new(call, None)).collect(),
    }
}

fn going_on(index: usize, delta: ChatDelta, logprobs: Option<ChatLogprobs>) -> ChatChunkChoice {
    ChatChunkChoice { index, delta, logprobs, finish_reason: None, stop_reason: None }
}

fn chunk(call: &Call, choices: &[ChatChunkChoice], usage: Option<Usage>) -> Bytes {
    first_chunk(call, choices, usage, None)
}

/// A chunk that may tell of the prompt too.
fn first_chunk(
    call: &Call,
    choices: &[ChatChunkChoice],
    usage: Option<Usage>,
    prompt_logprobs: Option<PromptLogprobs>,
) -> Bytes {
    event(&ChatChunk {
        id: &call.id,
        object: "chat.completion.chunk",
        created: call.created,
        model: call.model_name(),
        system_fingerprint: FINGERPRINT,
        choices,
        usage,
        prompt_logprobs,
    })
}
