//! Answers, pause, drain, shutdown, loading and health.

use crate::common::{CONTEXT, Setup, VOCAB, bytes, decode, prompt_for, served_model};
use futures_util::StreamExt;
use pagoda_engine::{
    Engine, EngineConfig, EngineError, EngineState, GenerateParams, RequestError, SessionEvent, SubmitError,
};
use pagoda_sched::fake::FakeExecutor;
use pagoda_sched::{CompletionReason, SampleIndex};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[test]
fn an_answer_is_what_the_model_generates() {
    let engine = Setup::default().start();
    let session = engine.session(prompt_for("Once upon", 20));
    let id = session.id();
    let result = session.result_blocking().unwrap();
    let expected = engine.fake.answer(&bytes("Once upon"), SampleIndex(0), 20);
    assert_eq!(result.token_ids, expected);
    assert_eq!(result.text, decode(&expected));
    assert_eq!((result.id, result.sample, result.reason), (id, SampleIndex(0), CompletionReason::MaxTokens));
    assert_eq!((result.tokens_generated, result.prompt_tokens, result.cached_tokens), (20, 9, 0));
    assert!(result.queue_time.unwrap() <= result.time_to_first_token.unwrap());
    assert!(result.time_to_first_token.unwrap() <= result.processing_time);
    engine.finish();
}

#[test]
fn a_repeated_prompt_reports_its_cached_tokens() {
    let engine = Setup::default().start();
    let ask = || engine.session(prompt_for("a prompt of many blocks", 3)).result_blocking().unwrap();
    assert_eq!(ask().cached_tokens, 0);
    assert_eq!(ask().cached_tokens, 20, "five whole blocks of four tokens precede the last token");
    engine.finish();
}

#[test]
fn samples_of_one_request_have_sessions_of_their_own() {
    let engine = Setup::default().start();
    let sessions = engine.sessions(GenerateParams { n: Some(4), ..prompt_for("four ways", 12) });
    assert_eq!(sessions.len(), 4);
    for (sample, session) in (0..4).map(SampleIndex).zip(sessions) {
        assert_eq!(session.sample(), sample);
        let result = session.result_blocking().unwrap();
        assert_eq!(result.token_ids, engine.fake.answer(&bytes("four ways"), sample, 12));
    }
    engine.finish();
}

#[tokio::test]
async fn a_session_can_be_awaited_and_streamed() {
    let engine = Setup::saying("abcdefgh").start();
    let result = engine.session(prompt_for("x", 8)).result().await.unwrap();
    assert_eq!(result.text, "abcdefgh");
    let events: Vec<_> = engine.session(prompt_for("x", 8)).collect().await;
    let (last, deltas) = events.split_last().unwrap();
    assert!(matches!(last, SessionEvent::Finished(result) if result.text == "abcdefgh"));
    let text: String = deltas
        .iter()
        .map(|event| match event {
            SessionEvent::Delta { text, .. } => text.as_str(),
            other => panic!("{other:?} before the end"),
        })
        .collect();
    assert_eq!(text, "abcdefgh");
    engine.handle.drain();
    assert_eq!(engine.handle.ended().await, EngineState::Stopped);
}

#[test]
fn progress_can_be_read_without_taking_events() {
    let (engine, gate) = Setup::default().start_gated();
    let session = engine.session(prompt_for("progress", 3));
    gate.steps(2);
    gate.wait();
    assert_eq!((session.progress().generated, session.progress().completed), (2, false));
    gate.release();
    engine.handle.drain();
    engine.engine.join().unwrap();
    assert_eq!((session.progress().generated, session.progress().completed), (3, true));
    assert_eq!(session.result_blocking().unwrap().tokens_generated, 3);
}

#[test]
fn a_paused_engine_takes_no_step_but_still_hears_its_clients() {
    let engine = Setup::default().start();
    engine.handle.pause();
    let waiting = engine.session(prompt_for("waits", 2));
    let cancelled = engine.session(prompt_for("goes", 2));
    cancelled.cancel();
    assert_eq!(cancelled.result_blocking().unwrap().reason, CompletionReason::Cancelled);
    assert_eq!(engine.control.steps(), 0, "the engine has gone round without a step");
    assert!(engine.handle.health().paused);
    engine.handle.resume();
    assert_eq!(waiting.result_blocking().unwrap().reason, CompletionReason::MaxTokens);
    engine.finish();
}

#[test]
fn draining_finishes_what_was_accepted_and_refuses_the_rest() {
    let (engine, gate) = Setup::default().start_gated();
    let session = engine.session(prompt_for("accepted", 5));
    gate.wait();
    engine.handle.drain();
    let late = engine.handle.model().validate(prompt_for("late", 1)).unwrap();
    assert_eq!(engine.handle.submit(late).unwrap_err(), SubmitError::Draining);
    assert!(!engine.handle.health().is_ready());
    gate.release();
    drop(gate);
    assert_eq!(session.result_blocking().unwrap().reason, CompletionReason::MaxTokens);
    engine.engine.join().unwrap();
    assert_eq!(engine.handle.state(), EngineState::Stopped);
    let late = engine.handle.model().validate(prompt_for("late", 1)).unwrap();
    assert_eq!(engine.handle.submit(late).unwrap_err(), SubmitError::Stopped);
}

#[test]
fn draining_ends_a_pause() {
    let engine = Setup::default().start();
    engine.handle.pause();
    let session = engine.session(prompt_for("held", 4));
    engine.handle.drain();
    assert_eq!(session.result_blocking().unwrap().reason, CompletionReason::MaxTokens);
    engine.engine.join().unwrap();
}

#[test]
fn shutdown_ends_what_runs_what_waits_and_what_is_in_the_inbox() {
    let (engine, gate) = Setup::default().start_gated();
    let running = engine.session(prompt_for("running", 50));
    gate.wait();
    let in_inbox = engine.session(prompt_for("not even seen", 50));
    engine.handle.shutdown();
    drop(gate);
    assert_eq!(running.result_blocking().unwrap_err(), RequestError::Shutdown);
    assert_eq!(in_inbox.result_blocking().unwrap_err(), RequestError::Shutdown);
    engine.engine.join().unwrap();
}

#[test]
fn dropping_the_engine_shuts_it_down() {
    let engine = Setup::default().start();
    engine.handle.pause();
    let session = engine.session(prompt_for("orphan", 50));
    drop(engine.engine);
    assert_eq!(session.result_blocking().unwrap_err(), RequestError::Shutdown);
    assert_eq!(engine.handle.state(), EngineState::Stopped);
    assert_eq!(engine.handle.health().failure, None);
}

#[test]
fn an_engine_without_work_keeps_its_heart_beating_and_a_silent_one_is_stalled() {
    let engine = Setup::default().start();
    engine.session(prompt_for("hello", 1)).result_blocking().unwrap();
    let health = engine.handle.health_at(Instant::now());
    assert!(health.is_ready() && health.is_live() && !health.stalled, "{health:?}");
    let later = Instant::now() + EngineConfig::default().stall_after + Duration::from_secs(1);
    let health = engine.handle.health_at(later);
    assert!(health.stalled && !health.is_ready() && !health.is_live(), "{health:?}");
    engine.finish();
}

#[tokio::test]
async fn health_answers_while_the_model_loads() {
    let (go, wait) = channel::<()>();
    let (reported, seen) = channel::<()>();
    let model = Arc::new(served_model());
    let engine = Engine::load(Arc::clone(&model), EngineConfig::default(), move |report| {
        report(0.5);
        reported.send(()).unwrap();
        wait.recv().map_err(|error| error.to_string())?;
        Ok(FakeExecutor::new(FakeExecutor::capacity_of(64, 4, CONTEXT, VOCAB)))
    })
    .unwrap();
    seen.recv().unwrap();
    let health = engine.handle().health();
    assert_eq!((health.state, health.loaded, health.is_ready()), (EngineState::Loading, 0.5, false));
    assert!(health.is_live());
    let early = model.validate(prompt_for("early", 1)).unwrap();
    assert_eq!(engine.handle().submit(early).unwrap_err(), SubmitError::Loading);
    go.send(()).unwrap();
    assert_eq!(engine.handle().ready().await, EngineState::Ready);
    let request = model.validate(prompt_for("served", 2)).unwrap();
    let session = engine.handle().submit(request).unwrap().remove(0);
    assert_eq!(session.result().await.unwrap().tokens_generated, 2);
}

#[test]
fn a_failed_load_fails_the_engine() {
    let load = |loader: fn() -> Result<FakeExecutor, String>| {
        Engine::load(Arc::new(served_model()), EngineConfig::default(), move |_| loader()).unwrap()
    };
    let engine = load(|| Err("weights.safetensors: truncated".to_owned()));
    let handle = engine.handle().clone();
    let error = engine.join().unwrap_err();
    assert_eq!(error, EngineError::Failed("weights.safetensors: truncated".to_owned()));
    assert_eq!(handle.state(), EngineState::Failed);
    assert_eq!(handle.health().failure.unwrap(), "weights.safetensors: truncated");
    assert_eq!(load(|| panic!("no memory")).join().unwrap_err(), EngineError::Failed("no memory".to_owned()));
}

#[test]
fn unusable_settings_are_refused_at_the_start() {
    let mut setup = Setup::default();
    setup.config.scheduler.max_num_batched_tokens = 1;
    let executor = setup.executor;
    let error = Engine::start(Arc::new(setup.model), executor, setup.config).unwrap_err();
    assert!(matches!(error, EngineError::Config(_)), "{error}");
    let executor = FakeExecutor::new(FakeExecutor::capacity_of(64, 4, CONTEXT, VOCAB - 1));
    let error = Engine::start(Arc::new(served_model()), executor, EngineConfig::default()).unwrap_err();
    assert_eq!(error, EngineError::Vocabulary { model: VOCAB, backend: VOCAB - 1 });
}

#[test]
fn an_itl_target_below_the_cost_of_a_row_is_refused_at_the_start() {
    let start = |target| {
        let mut setup = Setup::default();
        setup.config.scheduler.itl_target = Some(target);
        Engine::start(Arc::new(setup.model), setup.executor, setup.config).map(drop)
    };
    let target = Duration::from_nanos(1);
    let error = start(target).unwrap_err();
    assert!(
        matches!(error, EngineError::ItlTarget { target: given, row } if given == target && row > target),
        "{error}"
    );
    start(Duration::from_secs(3600)).unwrap();
}
