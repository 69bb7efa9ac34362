//! One call while it is being answered: its sessions as one sequence of parts, and its token counts.

use crate::access::Note;
use crate::error::ApiError;
use crate::finish::{self, Ending};
use crate::logprobs::Names;
use crate::reasoning::ReasoningCounter;
use crate::said::{Reader, Said, Speech};
use crate::wire::common::{CompletionDetails, Delivery, Shown, Usage};
use crate::wire::prompt_logprobs::PromptLogprobs;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use pagoda_engine::{PromptResult, RequestResult, ServedModel, Session, SessionEvent, TokenInfo};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What the events and the body of one call have in common.
pub(crate) struct Call {
    /// `cmpl-…`, `chatcmpl-…` and so on.
    pub(crate) id: String,
    /// The same as the header `x-request-id` has it, unless the client gave its own.
    pub(crate) request_id: String,
    /// Seconds since the Unix epoch.
    pub(crate) created: u64,
    pub(crate) model: Arc<ServedModel>,
    /// The adapter that the model is changed by.
    pub(crate) adapter: Option<Arc<str>>,
    pub(crate) delivery: Delivery,
    pub(crate) shown: Shown,
    /// Stop ids of the request itself.
    pub(crate) stop_ids: Vec<u32>,
    /// Text to repeat before each choice; empty unless asked for.
    pub(crate) echo: Vec<String>,
    /// Number of sessions: prompts × samples. In a stream each is a choice.
    pub(crate) choices: usize,
    /// Samples of each prompt.
    pub(crate) samples: usize,
    /// The best of them, which one body has as choices.
    pub(crate) returned: usize,
    /// Tokens of all prompts.
    pub(crate) prompt_tokens: u64,
    /// How the text is to be read.
    pub(crate) speech: Speech,
    /// What the answer repeats of the request.
    pub(crate) repeated: Value,
}

impl Call {
    /// The model as answers name it.
    pub(crate) fn model_name(&self) -> &str {
        self.adapter.as_deref().unwrap_or(self.model.name())
    }

    /// How tokens are named beside their numbers.
    pub(crate) fn names(&self) -> Names<'_> {
        let Shown { tokens_as_ids: as_ids, skip_special, .. } = self.shown;
        Names { tokenizer: &self.model.tokenizer, as_ids, skip_special }
    }

    /// What was found in a prompt in vLLM's shape, if that was asked for.
    pub(crate) fn prompt_logprobs(&self, found: Option<&Arc<PromptResult>>) -> Option<PromptLogprobs> {
        let (most, found) = (self.shown.prompt_logprobs?, Arc::clone(found?));
        Some(PromptLogprobs { model: Arc::clone(&self.model), found, most })
    }

    /// How the ending of a choice looks to the client.
    ///
    /// # Errors
    /// For endings that are none of the answer's own.
    pub(crate) fn ending(&self, result: &RequestResult) -> Result<Ending, ApiError> {
        finish::ending(result, &self.stop_ids)
    }
}

/// What one session said, with the index of its choice.
pub(crate) enum Part {
    Prompt { choice: usize, found: Arc<PromptResult> },
    Delta { choice: usize, text: String, tokens: Vec<TokenInfo> },
    Finished { choice: usize, result: Box<RequestResult> },
    Failed(ApiError),
}

/// The parts of all choices in the order in which they arrive.
pub(crate) type Merged = SelectAll<BoxStream<'static, Part>>;

/// Reads all sessions at once. Dropping the stream drops them.
pub(crate) fn merge(sessions: Vec<Session>) -> Merged {
    let parts = sessions.into_iter().enumerate();
    let parts = parts.map(|(choice, session)| session.map(move |event| part(choice, event)).boxed());
    stream::select_all(parts)
}

fn part(choice: usize, event: SessionEvent) -> Part {
    match event {
        SessionEvent::Prompt(found) => Part::Prompt { choice, found },
        SessionEvent::Delta { text, tokens } => Part::Delta { choice, text, tokens },
        SessionEvent::Finished(result) => Part::Finished { choice, result },
        SessionEvent::Failed(error) => Part::Failed(error.into()),
    }
}

/// Counts tokens while they arrive; agrees with the results once they are there.
pub(crate) struct Tally {
    usage: Usage,
    /// Count reasoning, one per choice where there may be some.
    counters: Vec<ReasoningCounter>,
    /// Tokens counted per choice.
    counted: Vec<u64>,
    note: Note,
}

impl Tally {
    pub(crate) fn new(call: &Call) -> Self {
        let speech = &call.speech;
        let counter = |asked| ReasoningCounter::new(asked, &call.model, &speech.kept);
        let counters = speech.reasoning.map(|asked| (0..call.choices).map(|_| counter(asked)).collect());
        let note = Note::current();
        note.began(call.model_name(), call.prompt_tokens);
        Self {
            usage: Usage::of_prompt(call.prompt_tokens),
            counters: counters.unwrap_or_default(),
            counted: vec![0; call.choices],
            note,
        }
    }

    pub(crate) fn delta(&mut self, choice: usize, tokens: &[TokenInfo]) {
        self.counted[choice] += tokens.len() as u64;
        self.usage.generated(tokens.len() as u64);
        if let Some(counter) = self.counters.get_mut(choice) {
            tokens.iter().for_each(|info| counter.push(info.token));
        }
    }

    pub(crate) fn finished(&mut self, choice: usize, result: &RequestResult) {
        self.note.finished(result);
        let rest = u64::from(result.tokens_generated).saturating_sub(self.counted[choice]);
        self.counted[choice] += rest;
        self.usage.generated(rest);
        self.usage.finished(result);
    }

    pub(crate) fn usage(&self) -> Usage {
        let reasoning_tokens = self.counters.iter().map(ReasoningCounter::count).sum();
        Usage { completion_tokens_details: CompletionDetails { reasoning_tokens }, ..self.usage }
    }
}

/// Where the time of one choice went, and what it was spent on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) total: Duration,
    pub(crate) queue: Duration,
    /// From its acceptance to the first token.
    pub(crate) first_token: Duration,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) generated: u32,
}

impl Spent {
    pub(crate) fn of(result: &RequestResult) -> Self {
        let total = result.processing_time;
        Self {
            total,
            queue: result.queue_time.unwrap_or_default(),
            first_token: result.time_to_first_token.unwrap_or(total),
            prompt_tokens: result.prompt_tokens,
            cached_tokens: result.cached_tokens,
            generated: result.tokens_generated,
        }
    }
}

/// An answer that ended by itself with calls waits for what they bring.
pub(crate) fn called(ending: Ending, said: &Said) -> Ending {
    match ending.finish_reason {
        "stop" if !said.calls.is_empty() => Ending { finish_reason: "tool_calls", ..ending },
        _ => ending,
    }
}

/// One choice, complete.
pub(crate) struct Answer {
    pub(crate) said: Said,
    pub(crate) spent: Spent,
    /// What was found in the prompt, if it was asked for.
    pub(crate) prompt: Option<Arc<PromptResult>>,
    pub(crate) ending: Ending,
    /// The deltas, if log-probabilities were asked for.
    pub(crate) deltas: Vec<(String, Vec<TokenInfo>)>,
    /// Mean log-probability per token, where samples compete by it.
    merit: f64,
}

/// Waits for all sessions and keeps the best of each prompt. The usage counts all of them.
///
/// # Errors
/// The first failure; the other choices are cancelled.
pub(crate) async fn collect(call: &Call, sessions: Vec<Session>) -> Result<(Vec<Answer>, Usage), ApiError> {
    let mut parts = merge(sessions);
    let mut tally = Tally::new(call);
    let mut deltas: Vec<Vec<_>> = (0..call.choices).map(|_| Vec::new()).collect();
    let mut prompts: Vec<Option<_>> = vec![None; call.choices];
    let mut answers: Vec<Option<Answer>> = (0..call.choices).map(|_| None).collect();
    while let Some(part) = parts.next().await {
        match part {
            Part::Prompt { choice, found } => prompts[choice] = Some(found),
            Part::Delta { choice, text, tokens } => {
                tally.delta(choice, &tokens);
                if call.shown.logprobs.is_some() {
                    deltas[choice].push((text, tokens));
                }
            }
            Part::Finished { choice, result } => {
                tally.finished(choice, &result);
                let (ending, deltas) = (call.ending(&result)?, std::mem::take(&mut deltas[choice]));
                let merit = result.mean_logprob();
                let prompt = prompts[choice].take();
                let spent = Spent::of(&result);
                let said = Reader::read(&call.speech, result.text);
                let ending = called(ending, &said);
                answers[choice] = Some(Answer { said, spent, prompt, ending, deltas, merit });
            }
            Part::Failed(error) => return Err(error),
        }
    }
    let answers: Option<Vec<_>> = answers.into_iter().collect();
    match answers {
        Some(answers) => Ok((best(call, answers), tally.usage())),
        None => Err(ApiError::internal(&"a session ended without a result")),
    }
}

/// The best answers of each prompt, best first, if fewer than there are were asked for; else all as they are.
fn best(call: &Call, mut answers: Vec<Answer>) -> Vec<Answer> {
    if call.returned == call.samples {
        return answers;
    }
    let mut best = Vec::with_capacity(answers.len() / call.samples * call.returned);
    while !answers.is_empty() {
        let rest = answers.split_off(call.samples.min(answers.len()));
        answers.sort_by(|one, other| other.merit.total_cmp(&one.merit));
        best.extend(answers.into_iter().take(call.returned));
        answers = rest;
    }
    best
}
