//! Plain completions.

use super::{FINGERPRINT, Piece, Shape};
use crate::answer::{Answer, Call};
use crate::finish::Ending;
use crate::logprobs;
use crate::sse::event;
use crate::wire::common::Usage;
use crate::wire::completions::{Completion, CompletionChoice, CompletionChunk, CompletionLogprobs};
use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;

/// Writes plain completions.
pub(crate) struct CompletionShape {
    choices: Vec<Progress>,
}

/// How far the stream of one choice is.
#[derive(Clone, Default)]
struct Progress {
    /// Whether the prompt has been repeated, if it was to be.
    opened: bool,
    /// Characters of the choice's text so far.
    chars: usize,
}

impl CompletionShape {
    fn open(&mut self, call: &Call, choice: usize, usage: Option<Usage>, out: &mut VecDeque<Bytes>) {
        let progress = &mut self.choices[choice];
        if std::mem::replace(&mut progress.opened, true) {
            return;
        }
        if let Some(prompt) = call.echo.get(choice) {
            progress.chars = prompt.chars().count();
            out.push_back(chunk(call, &[going_on(choice, prompt.clone(), None)], usage));
        }
    }
}

impl Shape for CompletionShape {
    fn new(call: &Call) -> Self {
        Self { choices: vec![Progress::default(); call.choices] }
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.open(call, piece.choice, piece.usage, out);
        let progress = &mut self.choices[piece.choice];
        let logprobs = call.logprobs.then(|| {
            let mut logprobs = CompletionLogprobs::default();
            let delta = (piece.text.as_str(), piece.tokens);
            progress.chars =
                logprobs::completion(&call.model.tokenizer, delta, progress.chars, &mut logprobs);
            logprobs
        });
        if piece.text.is_empty() && logprobs.is_none() {
            return;
        }
        out.push_back(chunk(call, &[going_on(piece.choice, piece.text, logprobs)], piece.usage));
    }

    fn finished(
        &mut self,
        call: &Call,
        choice: usize,
        (ending, usage): (Ending, Option<Usage>),
        out: &mut VecDeque<Bytes>,
    ) {
        self.open(call, choice, usage, out);
        let last = CompletionChoice {
            finish_reason: Some(ending.finish_reason),
            stop_reason: ending.stop_reason,
            ..going_on(choice, String::new(), None)
        };
        out.push_back(chunk(call, &[last], usage));
    }

    fn usage(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>) {
        out.push_back(chunk(call, &[], Some(usage)));
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Response {
        let choice = |(index, answer): (usize, Answer)| {
            let logprobs = call.logprobs.then(|| collect_logprobs(call, &answer));
            let prompt = call.echo.get(index).map_or("", String::as_str);
            CompletionChoice {
                index,
                text: [prompt, &answer.text].concat(),
                logprobs,
                finish_reason: Some(answer.ending.finish_reason),
                stop_reason: answer.ending.stop_reason,
            }
        };
        Json(Completion {
            id: &call.id,
            object: "text_completion",
            created: call.created,
            model: call.model.name(),
            system_fingerprint: FINGERPRINT,
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
        })
        .into_response()
    }
}

fn collect_logprobs(call: &Call, answer: &Answer) -> CompletionLogprobs {
    let mut logprobs = CompletionLogprobs::default();
    let mut chars = 0;
    for (text, tokens) in &answer.deltas {
        chars = logprobs::completion(&call.model.tokenizer, (text, tokens), chars, &mut logprobs);
    }
    logprobs
}

fn going_on(index: usize, text: String, logprobs: Option<CompletionLogprobs>) -> CompletionChoice {
    CompletionChoice { index, text, logprobs, finish_reason: None, stop_reason: None }
}

fn chunk(call: &Call, choices: &[CompletionChoice], usage: Option<Usage>) -> Bytes {
    event(&CompletionChunk {
        id: &call.id,
        object: "text_completion",
        created: call.created,
        model: call.model.name(),
        system_fingerprint: FINGERPRINT,
        choices,
        usage,
    })
}
