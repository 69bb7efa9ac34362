//! Plain completions.

use super::{End, FINGERPRINT, Piece, Shape};
use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::logprobs::{self, Offsets};
use crate::routes::tokenize::write;
use crate::sse::{DONE, event};
use crate::wire::common::Usage;
use crate::wire::completions::{Completion, CompletionChoice, CompletionChunk, CompletionLogprobs};
use axum::body::Bytes;
use pagoda_engine::PromptResult;
use std::collections::VecDeque;
use std::sync::Arc;

/// Writes plain completions.
pub(crate) struct CompletionShape {
    choices: Vec<Progress>,
}

/// How far the stream of one choice is.
#[derive(Clone, Default)]
struct Progress {
    /// Whether what is to be told of the prompt has been.
    opened: bool,
    /// Where its tokens are, from the first of them on.
    offsets: Option<Offsets>,
    /// What was found in the prompt, until then.
    found: Option<Arc<PromptResult>>,
}

impl CompletionShape {
    fn open(&mut self, call: &Call, choice: usize, usage: Option<Usage>, out: &mut VecDeque<Bytes>) {
        let progress = &mut self.choices[choice];
        if std::mem::replace(&mut progress.opened, true) {
            return;
        }
        let found = progress.found.take();
        let (echo, prompt_logprobs) = (call.echo.get(choice), call.prompt_logprobs(found.as_ref()));
        if echo.is_none() && prompt_logprobs.is_none() {
            return;
        }
        let logprobs = echo.and_then(|prompt| {
            progress.offsets = Some(Offsets::after(prompt, call.names()));
            echoed(call, prompt, found.as_deref())
        });
        let first = CompletionChoice {
            prompt_logprobs,
            ..going_on(choice, echo.cloned().unwrap_or_default(), logprobs)
        };
        out.push_back(chunk(call, &[first], usage));
    }
}

impl Shape for CompletionShape {
    fn new(call: &Call) -> Self {
        Self { choices: vec![Progress::default(); call.choices] }
    }

    fn prompt(&mut self, choice: usize, found: Arc<PromptResult>) {
        self.choices[choice].found = Some(found);
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        self.open(call, piece.choice, piece.usage, out);
        let progress = &mut self.choices[piece.choice];
        let logprobs = call.shown.logprobs.map(|_| {
            let mut logprobs = CompletionLogprobs::default();
            let offsets = progress.offsets.get_or_insert_with(|| Offsets::after("", call.names()));
            logprobs::completion(call.names(), piece.tokens, offsets, &mut logprobs);
            logprobs
        });
        let text = piece.said.content;
        if text.is_empty() && logprobs.is_none() {
            return;
        }
        out.push_back(chunk(call, &[going_on(piece.choice, text, logprobs)], piece.usage));
    }

    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>) {
        let End { choice, ending, usage, .. } = end;
        self.open(call, choice, usage, out);
        let last = CompletionChoice {
            finish_reason: Some(ending.finish_reason),
            stop_reason: ending.stop_reason,
            ..going_on(choice, String::new(), None)
        };
        out.push_back(chunk(call, &[last], usage));
    }

    fn end(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>) {
        out.extend(call.delivery.include_usage.then(|| chunk(call, &[], Some(usage))));
        out.push_back(DONE);
    }

    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError> {
        let choice = |(index, answer): (usize, Answer)| {
            let echo = call.echo.get(index).map(String::as_str);
            CompletionChoice {
                index,
                logprobs: call.shown.logprobs.map(|_| collect_logprobs(call, echo, &answer)),
                prompt_logprobs: call.prompt_logprobs(answer.prompt.as_ref()),
                text: [echo.unwrap_or(""), &answer.said.content].concat(),
                finish_reason: Some(answer.ending.finish_reason),
                stop_reason: answer.ending.stop_reason,
            }
        };
        write(&Completion {
            id: &call.id,
            object: "text_completion",
            created: call.created,
            model: call.model_name(),
            system_fingerprint: FINGERPRINT,
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage,
        })
    }
}

/// Numbers of a prompt that begins a choice's text, if they were asked for.
fn echoed(call: &Call, prompt: &str, found: Option<&PromptResult>) -> Option<CompletionLogprobs> {
    Some(logprobs::echo(call.names(), prompt, found?, call.shown.logprobs?))
}

/// Numbers of the whole text of a choice, after the prompt that it begins with.
fn collect_logprobs(call: &Call, echo: Option<&str>, answer: &Answer) -> CompletionLogprobs {
    let prompt = echo.unwrap_or("");
    let mut logprobs = echo.and_then(|_| echoed(call, prompt, answer.prompt.as_deref())).unwrap_or_default();
    let mut offsets = Offsets::after(prompt, call.names());
    for (_, tokens) in &answer.deltas {
        logprobs::completion(call.names(), tokens, &mut offsets, &mut logprobs);
    }
    logprobs
}

fn going_on(index: usize, text: String, logprobs: Option<CompletionLogprobs>) -> CompletionChoice {
    CompletionChoice { index, text, logprobs, prompt_logprobs: None, finish_reason: None, stop_reason: None }
}

fn chunk(call: &Call, choices: &[CompletionChoice], usage: Option<Usage>) -> Bytes {
    event(&CompletionChunk {
        id: &call.id,
        object: "text_completion",
        created: call.created,
        model: call.model_name(),
        system_fingerprint: FINGERPRINT,
        choices,
        usage,
    })
}
