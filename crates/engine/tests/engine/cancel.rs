//! Cancellation and deadlines in every state of a request, and exactly one end.

use crate::common::{Gate, Running, Setup, bytes, metric, prompt_for};
use pagoda_engine::{GenerateParams, RequestResult, Session, SessionEvent};
use pagoda_sched::{CompletionReason, DeadlineKind, Deadlines, RequestId, SampleIndex};
use std::time::Duration;

/// How a request is called off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Session,
    Id,
    Drop,
}

const ALL: [How; 3] = [How::Session, How::Id, How::Drop];

/// Cancels, once or twice, and gives back the session if it was not dropped.
fn call_off(engine: &Running, session: Session, how: How, times: u32) -> Option<Session> {
    for _ in 0..times {
        match how {
            How::Session => session.cancel(),
            How::Id => assert!(engine.handle.cancel(session.id()), "the request runs"),
            How::Drop => return None,
        }
    }
    Some(session)
}

/// The end, after which there is nothing.
fn only_end(mut session: Session) -> RequestResult {
    loop {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Prompt(_) => panic!("nothing was asked of the prompt"),
            SessionEvent::Delta { .. } => {}
            SessionEvent::Finished(result) => {
                assert_eq!(session.next_blocking(), None);
                assert_eq!(session.next_blocking(), None);
                return *result;
            }
            SessionEvent::Failed(error) => panic!("{error}"),
        }
    }
}

/// Runs `reach` to bring a request into a state, cancels it there in every way, and checks the books.
fn in_every_way(setup: impl Fn() -> Setup, reach: impl Fn(&Running, &Gate) -> Session, generated: u32) {
    for how in ALL {
        for times in [1, 2] {
            let (engine, gate) = setup().start_gated();
            let session = reach(&engine, &gate);
            let left = call_off(&engine, session, how, times);
            drop(gate);
            if let Some(session) = left {
                let result = only_end(session);
                assert_eq!(result.reason, CompletionReason::Cancelled, "{how:?} {times}");
                assert_eq!(result.tokens_generated, generated, "{how:?} {times}");
            }
            let page = engine.handle.metrics_text();
            assert_eq!(metric(&page, "vllm:request_success_total", "\"abort\""), 1.0, "{how:?} {times}");
            let handle = engine.handle.clone();
            engine.finish();
            assert_eq!(handle.snapshot().generated_tokens, u64::from(generated), "{how:?} {times}");
        }
    }
}

#[test]
fn while_it_waits() {
    let reach = |engine: &Running, _: &Gate| {
        engine.handle.pause();
        engine.session(prompt_for("waits", 5))
    };
    in_every_way(Setup::default, reach, 0);
}

#[test]
fn while_it_is_still_in_the_inbox() {
    let (engine, gate) = Setup::default().start_gated();
    let first = engine.session(prompt_for("keeps the engine busy", 1));
    gate.wait();
    let second = engine.session(prompt_for("not seen yet", 5));
    second.cancel();
    drop(gate);
    assert_eq!(only_end(first).reason, CompletionReason::MaxTokens);
    assert_eq!(only_end(second).reason, CompletionReason::Cancelled);
    engine.finish();
}

#[test]
fn while_its_prompt_is_computed() {
    let setup = || {
        let mut setup = Setup::default();
        setup.config.scheduler.max_prefill_chunk = 4;
        setup
    };
    let reach = |engine: &Running, gate: &Gate| {
        let session = engine.session(prompt_for("a prompt of several chunks", 5));
        gate.steps(2);
        gate.wait();
        session
    };
    in_every_way(setup, reach, 0);
}

#[test]
fn while_it_generates() {
    let reach = |engine: &Running, gate: &Gate| {
        let session = engine.session(prompt_for("short", 50));
        gate.steps(3);
        gate.wait();
        session
    };
    // The step in flight still delivers its token.
    in_every_way(Setup::default, reach, 4);
}

#[test]
fn while_it_is_preempted() {
    // Two sequences of up to 60 tokens share 64 places, so that one must yield.
    let (engine, gate) = Setup::with_blocks(17).start_gated();
    let sessions = [engine.session(prompt_for("first", 55)), engine.session(prompt_for("other", 55))];
    let preemptions = || metric(&engine.handle.metrics_text(), "vllm:num_preemptions_total", "");
    while preemptions() == 0.0 {
        gate.steps(1);
    }
    gate.wait();
    assert_eq!(engine.handle.snapshot().waiting, 1);
    for session in &sessions {
        session.cancel();
    }
    drop(gate);
    for session in sessions {
        assert_eq!(only_end(session).reason, CompletionReason::Cancelled);
    }
    engine.finish();
}

#[test]
fn in_the_step_that_ends_it() {
    let (engine, gate) = Setup::default().start_gated();
    let session = engine.session(prompt_for("ends", 2));
    gate.steps(1);
    gate.wait();
    session.cancel();
    drop(gate);
    let result = only_end(session);
    assert_eq!(result.tokens_generated, 2);
    assert!(matches!(result.reason, CompletionReason::MaxTokens | CompletionReason::Cancelled), "{result:?}");
    engine.finish();
}

#[test]
fn after_its_end_and_for_an_id_that_never_was() {
    let engine = Setup::default().start();
    let mut session = engine.session(prompt_for("done", 2));
    while !matches!(session.next_blocking().unwrap(), SessionEvent::Finished(_)) {}
    assert!(!engine.handle.cancel(session.id()), "it has ended");
    session.cancel();
    assert_eq!(session.next_blocking(), None);
    assert!(!engine.handle.cancel(RequestId::new()), "it never was");
    engine.finish();
}

#[test]
fn one_sample_leaves_the_others_alone() {
    let (engine, gate) = Setup::default().start_gated();
    let mut sessions = engine.sessions(GenerateParams { n: Some(3), ..prompt_for("thrice", 10) });
    gate.steps(2);
    gate.wait();
    drop(sessions.remove(1));
    drop(gate);
    for (session, sample) in sessions.into_iter().zip([0, 2]) {
        let result = only_end(session);
        assert_eq!(result.token_ids, engine.fake.answer(&bytes("thrice"), SampleIndex(sample), 10));
    }
    engine.finish();
}

#[test]
fn an_id_cancels_all_samples() {
    let (engine, gate) = Setup::default().start_gated();
    let sessions = engine.sessions(GenerateParams { n: Some(3), ..prompt_for("thrice", 10) });
    gate.steps(2);
    gate.wait();
    assert!(engine.handle.cancel(sessions[0].id()));
    drop(gate);
    for session in sessions {
        assert_eq!(only_end(session).reason, CompletionReason::Cancelled);
    }
    engine.finish();
}

#[test]
fn a_deadline_in_the_queue() {
    let (engine, gate) = Setup::default().start_gated();
    let busy = engine.session(prompt_for("busy", 2));
    gate.wait();
    let deadlines = Deadlines { queue: Some(Duration::ZERO), ..Deadlines::default() };
    let late = engine.session(GenerateParams { deadlines, ..prompt_for("late", 2) });
    drop(gate);
    let result = only_end(late);
    assert_eq!(result.reason, CompletionReason::Timeout(DeadlineKind::Queue));
    assert_eq!((result.queue_time, result.tokens_generated), (None, 0));
    assert_eq!(only_end(busy).reason, CompletionReason::MaxTokens);
    engine.finish();
}

#[test]
fn a_deadline_while_it_runs() {
    let setup = Setup::default();
    // All its tokens would take ten times as long as the deadline allows.
    setup.executor.control().set_delay(Duration::from_millis(10));
    let engine = setup.start();
    let deadlines = Deadlines { total: Some(Duration::from_millis(200)), ..Deadlines::default() };
    let result = only_end(engine.session(GenerateParams { deadlines, ..prompt_for("slow", 200) }));
    assert_eq!(result.reason, CompletionReason::Timeout(DeadlineKind::Total));
    assert!(result.tokens_generated < 200);
    engine.finish();
}

#[test]
fn a_deadline_while_the_engine_sleeps() {
    let engine = Setup::default().start();
    engine.handle.pause();
    let deadlines = Deadlines { first_token: Some(Duration::from_millis(20)), ..Deadlines::default() };
    let session = engine.session(GenerateParams { deadlines, ..prompt_for("paused", 2) });
    assert_eq!(only_end(session).reason, CompletionReason::Timeout(DeadlineKind::FirstToken));
    engine.finish();
}

#[test]
fn the_engines_own_deadline_can_only_be_shortened() {
    let mut setup = Setup::default();
    setup.config.deadlines.queue = Some(Duration::ZERO);
    let (engine, gate) = setup.start_gated();
    let deadlines = Deadlines { queue: Some(Duration::from_secs(3600)), ..Deadlines::default() };
    let session = engine.session(GenerateParams { deadlines, ..prompt_for("patient", 2) });
    drop(gate);
    assert_eq!(only_end(session).reason, CompletionReason::Timeout(DeadlineKind::Queue));
    engine.finish();
}
