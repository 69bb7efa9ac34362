//! Completions as llama.cpp's server writes them.

use super::{End, Piece, Shape};
use crate::answer::{Answer, Call, Spent};
use crate::error::ApiError;
use crate::finish::{Ending, StopReason};
use crate::logprobs;
use crate::routes::tokenize::write;
use crate::sse::event;
use crate::wire::common::Usage;
use axum::body::Bytes;
use pagoda_engine::TokenInfo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// Writes completions.
pub(crate) struct LlamaShape;

impl Shape for LlamaShape {
    fn new(_: &Call) -> Self {
        Self
    }

    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>) {
        if piece.said.content.is_empty() && piece.tokens.is_empty() {
            return;
        }
        let tokens: Vec<u32> = piece.tokens.iter().map(|info| info.token).collect();
        let mut more = json!({
            "index": piece.choice,
            "content": piece.said.content,
            "tokens": tokens,
            "stop": false,
            "id_slot": -1,
            "tokens_evaluated": call.prompt_tokens,
        });
        add_probabilities(&mut more, call, piece.tokens);
        out.push_back(event(&more));
    }

    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>) {
        out.push_back(event(&last(call, end.choice, &end.said.content, &end.ending, end.spent)));
    }

    /// The last event of each choice says that it is the last.
    fn end(&mut self, _: &Call, _: Usage, _: &mut VecDeque<Bytes>) {}

    fn fail(&mut self, _: &Call, error: &ApiError, out: &mut VecDeque<Bytes>) {
        out.push_back(event(&error.body()));
    }

    fn whole(call: &Call, answers: Vec<Answer>, _: Usage) -> Result<Vec<u8>, ApiError> {
        let one = |(choice, answer): (usize, Answer)| {
            let mut whole = last(call, choice, &answer.said.content, &answer.ending, answer.spent);
            let tokens: Vec<&TokenInfo> = answer.deltas.iter().flat_map(|(_, tokens)| tokens).collect();
            add_probabilities(&mut whole, call, tokens);
            whole
        };
        let mut all: Vec<Value> = answers.into_iter().enumerate().map(one).collect();
        if all.len() == 1 { write(&all.remove(0)) } else { write(&all) }
    }
}

fn last(call: &Call, choice: usize, content: &str, ending: &Ending, spent: Spent) -> Value {
    let (stop_type, word) = match (ending.finish_reason, &ending.stop_reason) {
        ("stop", Some(StopReason::Text(text))) => ("word", text.as_str()),
        ("stop", _) => ("eos", ""),
        _ => ("limit", ""),
    };
    let mut last = json!({
        "index": choice,
        "content": content,
        "tokens": [],
        "id_slot": -1,
        "stop": true,
        "model": call.model_name(),
        "tokens_predicted": spent.generated,
        "tokens_evaluated": spent.prompt_tokens,
        "tokens_cached": spent.cached_tokens,
        "generation_settings": call.repeated["generation_settings"],
        "has_new_line": content.contains('\n'),
        "truncated": false,
        "stop_type": stop_type,
        "stopping_word": word,
        "timings": timings(spent),
    });
    if !call.repeated["prompt"].is_null() {
        last["prompt"] = call.repeated["prompt"].clone();
    }
    last
}

/// The numbers of each token, if they were asked for.
fn add_probabilities<'a>(to: &mut Value, call: &Call, tokens: impl IntoIterator<Item = &'a TokenInfo>) {
    if call.shown.logprobs.is_none() {
        return;
    }
    let one = |token: u32, logprob: f32| {
        json!({
            "id": token,
            "token": logprobs::text(&call.model.tokenizer, token),
            "bytes": call.model.tokenizer.token_bytes(token),
            "logprob": logprobs::finite(logprob),
        })
    };
    let tokens = tokens.into_iter().map(|info| {
        let mut own = one(info.token, info.logprob);
        own["top_logprobs"] = info.top.iter().map(|top| one(top.token, top.logprob)).collect();
        own
    });
    to["completion_probabilities"] = tokens.collect();
}

/// Milliseconds and rates; the prompt's time ends with the first token.
fn timings(spent: Spent) -> Value {
    let prompt = spent.first_token.saturating_sub(spent.queue);
    let predicted = spent.total.saturating_sub(spent.first_token);
    let computed = spent.prompt_tokens.saturating_sub(spent.cached_tokens);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let per_token = |time: Duration, tokens: u32| ms(time) / f64::from(tokens.max(1));
    let rate = |time: Duration, tokens: u32| f64::from(tokens) / time.as_secs_f64().max(1e-9);
    json!({
        "cache_n": spent.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": ms(prompt),
        "prompt_per_token_ms": per_token(prompt, computed),
        "prompt_per_second": rate(prompt, computed),
        "predicted_n": spent.generated,
        "predicted_ms": ms(predicted),
        "predicted_per_token_ms": per_token(predicted, spent.generated),
        "predicted_per_second": rate(predicted, spent.generated),
    })
}
