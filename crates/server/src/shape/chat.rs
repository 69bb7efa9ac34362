//! Chat completions.

use super::{FINGERPRINT, Piece, Shape};
use crate::answer::{Answer, Call};
use crate::finish::Ending;
use crate::logprobs;
use crate::sse::event;
use crate::wire::chat::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
};
use crate::wire::common::Usage;
use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;

const ASSISTANT: &str = "assistant";

/// Writes chat completions.
pub(crate) struct ChatShape {
    /// Which choices have said who speaks.
    opened: Vec<bool>,
}

impl ChatShape {
    /// The first chunk of a choice says who speaks. It goes out with the first token and not before, because
    /// clients take the time to the first token from it.
    fn open(&mut self, call: &Call, choice: usize, usage: Option<Usage>, out: &mut VecDeque<Bytes>) {
        if !std::mem::replace(&mut self.opened[choice], true) {
            let delta = ChatDelta { role: Some(ASSISTANT), content: Some(String::new()) };
            out.push_back(chunk(call, &[going_on(choice, delta, None)], usage));
        }
    }
}

impl Shape for ChatShape {
    fn new(call: &Call) -> Self {
        Self { opened: vec![false; call.choices] }
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.open(call, piece.choice, piece.usage, out);
        let logprobs = call.logprobs.then(|| logprobs::chat(&call.model.tokenizer, piece.tokens));
        if piece.text.is_empty() && logprobs.is_none() {
            return;
        }
        let delta = ChatDelta { role: None, content: Some(piece.text) };
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

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Response {
        let choice = |(index, answer): (usize, Answer)| {
            let tokens = answer.deltas.iter().flat_map(|(_, tokens)| tokens);
            ChatChoice {
                index,
                logprobs: call.logprobs.then(|| logprobs::chat(&call.model.tokenizer, tokens)),
                message: ChatMessage { role: ASSISTANT, content: answer.text },
                finish_reason: answer.ending.finish_reason,
                stop_reason: answer.ending.stop_reason,
            }
        };
        Json(ChatCompletion {
            id: &call.id,
            object: "chat.completion",
            created: call.created,
            model: call.model.name(),
            system_fingerprint: FINGERPRINT,
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
        })
        .into_response()
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
