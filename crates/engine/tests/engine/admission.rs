//! Refusals: immediate, exact and with a hint.

use crate::common::{CONTEXT, Setup, prompt, prompt_for};
use pagoda_engine::{GenerateParams, SubmitError};
use pagoda_sched::{CompletionReason, RequestId};
use std::time::Duration;

fn with_queue(requests: u32, tokens: u64) -> Setup {
    let mut setup = Setup::default();
    setup.config.scheduler.max_waiting_requests = requests;
    setup.config.scheduler.max_waiting_tokens = tokens;
    setup
}

#[test]
fn the_queue_is_bounded_by_requests_even_while_the_engine_is_in_a_step() {
    let (engine, gate) = with_queue(2, 1000).start_gated();
    let busy = engine.session(prompt_for("busy", 1));
    gate.wait();
    let waiting = [engine.session(prompt_for("one", 1)), engine.session(prompt_for("two", 1))];
    let refused = engine.handle.model().validate(prompt_for("three", 1)).unwrap();
    let error = engine.handle.submit(refused).unwrap_err();
    let SubmitError::QueueFull { requests, tokens, retry_after } = error else { panic!("{error}") };
    assert_eq!((requests, tokens), (2, 6));
    assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&retry_after));
    drop(gate);
    for session in waiting.into_iter().chain([busy]) {
        assert_eq!(session.result_blocking().unwrap().reason, CompletionReason::MaxTokens);
    }
    engine.session(prompt_for("there is room again", 1)).result_blocking().unwrap();
    engine.finish();
}

#[test]
fn the_queue_is_bounded_by_prompt_tokens() {
    let engine = with_queue(100, 20).start();
    engine.handle.pause();
    let fits = engine.session(prompt_for("0123456789", 1));
    let also = engine.session(prompt_for("0123456789", 1));
    let refused = engine.handle.model().validate(prompt_for("x", 1)).unwrap();
    assert!(matches!(engine.handle.submit(refused).unwrap_err(), SubmitError::QueueFull { tokens: 20, .. }));
    drop(also);
    fits.cancel();
    fits.result_blocking().unwrap();
    // The cancelled one is out of the books when its client hears of it.
    let room = engine.session(prompt_for("0123456789", 1));
    engine.handle.resume();
    room.result_blocking().unwrap();
    engine.finish();
}

#[test]
fn a_prompt_above_the_token_bound_is_let_in_when_nothing_waits() {
    let engine = with_queue(100, 5).start();
    let result = engine.session(prompt_for("longer than the bound", 2)).result_blocking().unwrap();
    assert_eq!(result.reason, CompletionReason::MaxTokens);
    engine.finish();
}

#[test]
fn a_prompt_larger_than_the_pool_is_refused() {
    let engine = Setup::with_blocks(4).start();
    let session = |text: &str| engine.handle.submit(engine.handle.model().validate(prompt(text)).unwrap());
    let error = session("thirteen toks").unwrap_err();
    assert_eq!(error, SubmitError::NeverFits { needed_blocks: 4, pool_blocks: 3 });
    assert_eq!(engine.handle.snapshot().waiting, 0);
    drop(session("twelve token").unwrap());
    engine.finish();
}

#[test]
fn a_prompt_beyond_the_backends_context_is_refused() {
    let mut setup = Setup::default();
    setup.model.max_model_len = CONTEXT + 10;
    let engine = setup.start();
    let submit = |length: u32| {
        let params = GenerateParams { prompt_tokens: vec![1; length as usize], ..prompt_for("", 1) };
        engine.handle.submit(engine.handle.model().validate(params).unwrap())
    };
    let error = submit(CONTEXT).unwrap_err();
    assert_eq!(error, SubmitError::TooLong { tokens: CONTEXT, context: CONTEXT });
    let result = submit(CONTEXT - 1).unwrap().remove(0).result_blocking().unwrap();
    assert_eq!(result.tokens_generated, 1);
    engine.finish();
}

#[test]
fn more_samples_than_rows_are_refused() {
    let mut setup = Setup::default();
    setup.config.scheduler.max_num_seqs = 2;
    let engine = setup.start();
    let ask =
        |n| engine.handle.model().validate(GenerateParams { n: Some(n), ..prompt_for("x", 1) }).unwrap();
    let error = engine.handle.submit(ask(3)).unwrap_err();
    assert_eq!(error, SubmitError::TooManySamples { samples: 3, rows: 2 });
    for session in engine.handle.submit(ask(2)).unwrap() {
        session.result_blocking().unwrap();
    }
    engine.finish();
}

#[test]
fn an_id_is_taken_until_its_last_session_is_gone() {
    let engine = Setup::default().start();
    let id = RequestId::new();
    let ask =
        || engine.handle.model().validate(GenerateParams { id: Some(id), ..prompt_for("named", 2) }).unwrap();
    let mut first = engine.handle.submit(ask()).unwrap();
    assert_eq!(engine.handle.submit(ask()).unwrap_err(), SubmitError::DuplicateId(id));
    assert_eq!(
        engine.handle.submit(ask()).unwrap_err(),
        SubmitError::DuplicateId(id),
        "a refusal frees nothing"
    );
    first.remove(0).result_blocking().unwrap();
    engine.handle.submit(ask()).unwrap().remove(0).result_blocking().unwrap();
    engine.finish();
}
