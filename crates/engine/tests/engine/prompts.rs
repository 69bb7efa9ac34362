//! What is found in prompts comes first, once and whole.

use crate::common::{CONTEXT, Running, Setup, bytes, metric, prompt, prompt_for};
use pagoda_engine::{
    CompletionReason, GenerateParams, InvalidCode, Pooling, PromptResult, RequestResult, Session,
    SessionEvent,
};
use pagoda_sched::PromptReport;
use std::sync::Arc;

/// What a session says of its prompt, and how it ends.
fn read(mut session: Session) -> (Arc<PromptResult>, RequestResult) {
    let Some(SessionEvent::Prompt(found)) = session.next_blocking() else { panic!("the prompt comes first") };
    loop {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Prompt(_) => panic!("the prompt comes once"),
            SessionEvent::Delta { .. } => {}
            SessionEvent::Finished(result) => return (found, *result),
            SessionEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn with_logprobs(text: &str, top: u32, max_tokens: u32) -> GenerateParams {
    GenerateParams { prompt_logprobs: Some(top), ..prompt_for(text, max_tokens) }
}

/// Compares with the closed form.
fn check(engine: &Running, text: &str, top: usize, found: &PromptResult) {
    let expected = engine.fake.prompt_logprobs(&bytes(text), top);
    assert_eq!(found.prompt(), bytes(text));
    assert_eq!(found.tokens().len(), expected.len());
    for (at, (token, (place, likely))) in found.tokens().zip(&expected).enumerate() {
        assert_eq!(token.token, bytes(text)[at + 1]);
        assert_eq!((token.logprob, token.rank, token.top), (place.logprob, place.rank, &likely[..]));
    }
}

#[test]
fn log_probabilities_of_the_prompt_come_before_the_text() {
    let engine = Setup::default().start();
    let long = "a prompt of several blocks ".repeat(7);
    for (text, top) in [("x", 3), ("two", 0), ("a prompt of several blocks", 2), (&long, 5)] {
        for max_tokens in [0, 1, 4] {
            let (found, result) = read(engine.session(with_logprobs(text, top, max_tokens)));
            check(&engine, text, top as usize, &found);
            assert_eq!((result.tokens_generated, result.cached_tokens), (max_tokens, 0));
            assert_eq!(result.reason, CompletionReason::MaxTokens);
        }
    }
    engine.finish();
}

#[test]
fn samples_share_what_was_found() {
    let engine = Setup::default().start();
    let params = GenerateParams { n: Some(3), ..with_logprobs("shared by three", 2, 5) };
    let found: Vec<_> = engine.sessions(params).into_iter().map(|session| read(session).0).collect();
    assert!(found.iter().all(|other| Arc::ptr_eq(other, &found[0])));
    check(&engine, "shared by three", 2, &found[0]);
    engine.finish();
}

#[test]
fn the_text_of_a_generation_has_the_same_numbers_as_a_prompt() {
    let engine = Setup::default().start();
    let mut session = engine.session(GenerateParams { logprobs: Some(0), ..prompt_for("Once", 12) });
    let mut generated = Vec::new();
    while let Some(event) = session.next_blocking() {
        if let SessionEvent::Delta { tokens, .. } = event {
            generated.extend(tokens);
        }
    }
    let whole: Vec<_> = bytes("Once").into_iter().chain(generated.iter().map(|info| info.token)).collect();
    let again = GenerateParams { prompt_tokens: whole, prompt_logprobs: Some(0), ..prompt_for("", 0) };
    let (found, _) = read(engine.session(again));
    let scored: Vec<_> = found.tokens().skip(3).map(|token| (token.token, token.logprob.to_bits())).collect();
    let expected: Vec<_> = generated.iter().map(|info| (info.token, info.logprob.to_bits())).collect();
    assert_eq!(scored, expected);
    engine.finish();
}

#[test]
fn hidden_states_become_unit_vectors() {
    let engine = Setup::default().start();
    for pooling in [Pooling::Mean, Pooling::Last] {
        for text in ["x", "some words to embed", &"words ".repeat(40)] {
            let (found, result) =
                read(engine.session(GenerateParams { pooling: Some(pooling), ..prompt(text) }));
            let sum = engine.fake.prompt_hidden(&bytes(text), PromptReport::Hidden(pooling));
            let length = sum.iter().map(|element| element * element).sum::<f64>().sqrt();
            let expected: Vec<f32> = sum.iter().map(|element| (element * (1.0 / length)) as f32).collect();
            assert_eq!(found.embedding(100), expected);
            assert_eq!((found.tokens().len(), result.tokens_generated), (0, 0));
        }
    }
    engine.finish();
}

#[test]
fn a_prompt_that_is_cancelled_says_nothing() {
    let (engine, gate) = Setup::default().start_gated();
    let mut session = engine.session(with_logprobs(&"long ".repeat(40), 1, 3));
    gate.wait();
    session.cancel();
    gate.release();
    drop(gate);
    match session.next_blocking() {
        Some(SessionEvent::Finished(result)) => assert_eq!(result.reason, CompletionReason::Cancelled),
        other => panic!("{other:?}"),
    }
    engine.finish();
}

#[test]
fn prompts_without_an_answer_are_counted() {
    let engine = Setup::default().start();
    read(engine.session(with_logprobs("seven b", 1, 0)));
    let page = engine.handle.metrics_text();
    assert_eq!(metric(&page, "vllm:prompt_tokens_total", ""), 7.0);
    assert_eq!(metric(&page, "vllm:generation_tokens_total", ""), 0.0);
    engine.finish();
}

#[test]
fn a_prompt_alone_may_fill_the_context() {
    let engine = Setup::default().start();
    let full = "x".repeat(CONTEXT as usize);
    let (found, _) = read(engine.session(with_logprobs(&full, 0, 0)));
    check(&engine, &full, 0, &found);
    let longer = GenerateParams { prompt_tokens: bytes(&(full + "x")), ..with_logprobs("", 0, 0) };
    let error = engine.handle.model().validate(longer).expect_err("one token too many");
    assert_eq!(
        error.code,
        InvalidCode::ContextLengthExceeded { prompt_tokens: CONTEXT + 1, context: CONTEXT }
    );
    engine.finish();
}

#[test]
fn what_excludes_each_other_is_named() {
    let engine = Setup::default().start();
    let refused = |params| engine.handle.model().validate(params).expect_err("a contradiction").param;
    let both = GenerateParams { pooling: Some(Pooling::Mean), ..with_logprobs("x", 1, 0) };
    assert_eq!(refused(both), "prompt_logprobs");
    let search = GenerateParams { use_beam_search: true, ..with_logprobs("x", 1, 0) };
    assert_eq!(refused(search), "max_tokens");
    engine.finish();
}
