//! Faults: of a row, of a step, of the backend, of the whole engine.

use crate::common::{CONTEXT, Setup, VOCAB, metric, prompt_for, served_model};
use pagoda_engine::{
    Engine, EngineConfig, EngineError, EngineState, RequestError, Session, SessionEvent, SubmitError,
};
use pagoda_sched::fake::FakeExecutor;
use pagoda_sched::{CompletionReason, ExecError, Executor, Failure, KvCapacity, StepInput, StepOutput};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn only_failure(mut session: Session) -> RequestError {
    loop {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Prompt(_) => panic!("nothing was asked of the prompt"),
            SessionEvent::Delta { .. } => {}
            SessionEvent::Failed(error) => {
                assert_eq!(session.next_blocking(), None);
                return error;
            }
            SessionEvent::Finished(result) => panic!("finished: {result:?}"),
        }
    }
}

#[test]
fn a_row_without_finite_logits_fails_alone() {
    let engine = Setup::default().start();
    engine.control.set_nan_rows(1_000_000, 7);
    let error = only_failure(engine.session(prompt_for("poisoned", 5)));
    assert_eq!(error, RequestError::Model(Failure::NonFiniteLogits { position: 8 }));
    engine.control.set_nan_rows(0, 7);
    let result = engine.session(prompt_for("poisoned", 5)).result_blocking().unwrap();
    assert_eq!(result.reason, CompletionReason::MaxTokens);
    let page = engine.handle.metrics_text();
    assert_eq!(metric(&page, "vllm:request_success_total", "\"error\""), 1.0);
    engine.finish();
}

#[test]
fn a_failed_step_ends_its_rows_and_nothing_else() {
    let (engine, gate) = Setup::default().start_gated();
    let first = engine.session(prompt_for("in the step", 9));
    let second = engine.session(prompt_for("in the step too", 9));
    gate.steps(2);
    gate.wait();
    let outside = engine.session(prompt_for("in the inbox", 9));
    engine.control.fail_next();
    drop(gate);
    for session in [first, second] {
        let error = only_failure(session);
        assert!(matches!(&error, RequestError::Model(Failure::Step(_))), "{error}");
        assert!(error.to_string().contains("was told to fail"), "{error}");
    }
    assert_eq!(outside.result_blocking().unwrap().tokens_generated, 9);
    assert!(engine.handle.health().is_ready());
    assert_eq!(metric(&engine.handle.metrics_text(), "pagoda_steps_failed_total", ""), 1.0);
    engine.finish();
}

#[test]
fn an_engine_that_hangs_is_given_up_and_nobody_waits_for_it() {
    let mut setup = Setup::default();
    (setup.config.stall_after, setup.config.give_up_after) =
        (Duration::from_millis(50), Duration::from_millis(300));
    let (engine, gate) = setup.start_gated();
    let running = engine.session(prompt_for("in the step", 9));
    gate.steps(2);
    gate.wait();
    let queued = engine.session(prompt_for("in the inbox", 9));
    for session in [running, queued] {
        assert_eq!(only_failure(session), RequestError::EngineFailed);
    }
    let health = engine.handle.health();
    assert_eq!((health.state, health.is_live()), (EngineState::Failed, false));
    let handle = engine.handle.clone();
    let error = engine.engine.join().unwrap_err();
    assert!(error.to_string().contains("the engine thread hangs"), "{error}");
    // What hung may go on after all: it finds that it is no longer needed.
    drop(gate);
    assert_eq!(handle.state(), EngineState::Failed);
}

#[test]
fn an_engine_that_sleeps_or_pauses_is_not_given_up() {
    let mut setup = Setup::default();
    setup.config.give_up_after = Duration::from_millis(1_200);
    let engine = setup.start();
    engine.handle.pause();
    std::thread::sleep(Duration::from_millis(2_000));
    assert!(engine.handle.health().is_ready());
    engine.handle.resume();
    assert_eq!(engine.session(prompt_for("after", 3)).result_blocking().unwrap().tokens_generated, 3);
    engine.finish();
}

/// A backend that never works.
struct Broken;

impl Executor for Broken {
    fn capacity(&self) -> KvCapacity {
        FakeExecutor::capacity_of(64, 4, CONTEXT, VOCAB)
    }

    fn execute(&mut self, _: &StepInput, _: &mut StepOutput) -> Result<(), ExecError> {
        Err(ExecError { message: "the device is gone".to_owned() })
    }
}

#[test]
fn a_backend_that_keeps_failing_ends_the_engine() {
    let config = EngineConfig { step_error_limit: 3, ..EngineConfig::default() };
    let engine = Engine::start(Arc::new(served_model()), Broken, config).unwrap();
    for attempt in 0..3 {
        let request = engine.handle().model().validate(prompt_for("try", 5)).unwrap();
        let session = engine.handle().submit(request).unwrap().remove(0);
        let error = only_failure(session);
        assert_eq!(error, RequestError::Model(Failure::Step("the device is gone".to_owned())), "{attempt}");
    }
    let handle = engine.handle().clone();
    let error = engine.join().unwrap_err();
    let EngineError::Failed(message) = error else { panic!("{error}") };
    assert!(
        message.contains("3 model steps failed in a row") && message.contains("the device is gone"),
        "{message}"
    );
    assert_eq!(handle.state(), EngineState::Failed);
}

#[test]
fn a_panic_ends_every_stream_and_is_reported() {
    let (engine, gate) = Setup::default().start_gated();
    let running = engine.session(prompt_for("running", 9));
    gate.steps(2);
    gate.wait();
    let in_inbox =
        engine.sessions(pagoda_engine::GenerateParams { n: Some(2), ..prompt_for("in the inbox", 9) });
    engine.control.panic_next();
    drop(gate);
    assert_eq!(only_failure(running), RequestError::EngineFailed);
    for session in in_inbox {
        assert!(session.progress().completed);
        assert_eq!(only_failure(session), RequestError::EngineFailed);
    }
    let health = engine.handle.health();
    assert_eq!((health.state, health.is_ready(), health.is_live()), (EngineState::Failed, false, false));
    assert!(health.failure.unwrap().contains("was told to panic"));
    let late = engine.handle.model().validate(prompt_for("late", 1)).unwrap();
    assert_eq!(engine.handle.submit(late).unwrap_err(), SubmitError::Failed);
    let error = engine.engine.join().unwrap_err();
    assert!(error.to_string().contains("panic in the engine thread: step 2 was told to panic"), "{error}");
}

#[test]
fn who_hears_of_a_panic_finds_the_engine_failed() {
    let engine = Setup::default().start();
    engine.control.panic_next();
    let error = only_failure(engine.session(prompt_for("first", 9)));
    assert_eq!(error, RequestError::EngineFailed);
    assert_eq!(engine.handle.state(), EngineState::Failed);
    assert!(engine.engine.failed().is_some());
}

#[test]
fn submissions_that_race_with_a_panic_are_refused_or_end() {
    for round in 0..20 {
        let engine = Setup::default().start();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..3 {
                let (engine, over) = (&engine, &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let request = engine.handle.model().validate(prompt_for("race", 3)).unwrap();
                        match engine.handle.submit(request) {
                            // Every accepted request ends, whichever way.
                            Ok(sessions) => {
                                sessions.into_iter().for_each(|session| drop(session.result_blocking()))
                            }
                            Err(SubmitError::Failed) => over.store(true, Ordering::Relaxed),
                            Err(other) => panic!("client {client}: {other}"),
                        }
                    }
                });
            }
            for _ in 0..round * 100 {
                std::thread::yield_now();
            }
            engine.control.panic_next();
        });
        engine.engine.join().unwrap_err();
    }
}
