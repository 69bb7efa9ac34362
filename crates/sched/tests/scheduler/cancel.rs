//! Cancellation in every state, once and twice.

use crate::bench::{Bench, End, request};
use pagoda_sched::{
    CompletionReason, Effects, Executor, Priority, Request, RequestId, SampleIndex, StepOutput,
};

/// States in which a request can be when it is cancelled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unknown,
    Queued,
    Prefill,
    Decode,
    Forked,
    Preempted,
    InFlight,
    FinishingThisStep,
    Finished,
}

const STATES: [State; 9] = [
    State::Unknown,
    State::Queued,
    State::Prefill,
    State::Decode,
    State::Forked,
    State::Preempted,
    State::InFlight,
    State::FinishingThisStep,
    State::Finished,
];

/// A bench in which a request is in `state`. In the two states within a step, the step is planned only.
fn bench_in(state: State) -> (Bench, RequestId, StepOutput) {
    let mut config = pagoda_sched::SchedulerConfig { max_num_seqs: 4, ..Default::default() };
    config.max_prefill_chunk = 4;
    let mut bench = Bench::with(16, 4, config);
    let mut output = StepOutput::default();
    if state == State::Unknown {
        return (bench, RequestId::new(), output);
    }
    let samples = if state == State::Forked { 2 } else { 1 };
    let last = matches!(state, State::FinishingThisStep | State::Finished);
    let prompt: Vec<u32> = (0..10).collect();
    let id = bench.submit(Request {
        samples,
        priority: Priority::Low,
        ..request(&prompt, if last { 1 } else { 40 })
    });
    let steps = match state {
        State::Unknown | State::Queued => 0,
        State::Prefill => 1,
        State::FinishingThisStep | State::InFlight => 2,
        State::Decode | State::Forked | State::Preempted | State::Finished => 4,
    };
    (0..steps).for_each(|_| {
        bench.step();
    });
    if state == State::Preempted {
        let urgent: Vec<u32> = (100..150).collect();
        bench.submit(Request { priority: Priority::Urgent, ..request(&urgent, 10) });
        bench.step();
        assert!(bench.scheduler.queue().iter().any(|waiting| waiting.id().request == id));
    }
    if matches!(state, State::InFlight | State::FinishingThisStep) {
        let input = bench.scheduler.plan(bench.now).expect("the step runs");
        bench.executor.execute(input, &mut output).expect("the step runs");
    }
    (bench, id, output)
}

#[test]
fn cancelling_is_total_and_idempotent() {
    for state in STATES {
        for times in [1, 2] {
            let (mut bench, id, output) = bench_in(state);
            let live = !matches!(state, State::Unknown | State::Finished);
            for time in 0..times {
                assert_eq!(bench.scheduler.cancel(id), live && time == 0, "{state:?}");
            }
            if bench.scheduler.in_flight() {
                let mut effects = Effects::default();
                bench.scheduler.commit(Ok(&output), bench.now, &mut effects);
                bench.apply(effects);
            }
            bench.reap();
            let reason = match state {
                State::Unknown => None,
                State::FinishingThisStep | State::Finished => Some(CompletionReason::MaxTokens),
                _ => Some(CompletionReason::Cancelled),
            };
            for sample in 0..if state == State::Forked { 2 } else { 1 } {
                assert_eq!(bench.reason(id, sample), reason, "{state:?}");
            }
            bench.run();
            assert!(bench.scheduler.is_idle() && bench.scheduler.pool().held() == 0, "{state:?}");
        }
    }
}

#[test]
fn cancelling_one_sample_is_total_and_idempotent() {
    for state in STATES {
        for sample in 0..3 {
            let (mut bench, id, output) = bench_in(state);
            let live = !matches!(state, State::Unknown | State::Finished);
            let exists = live && sample < if state == State::Forked { 2 } else { 1 };
            assert_eq!(bench.scheduler.cancel_sample(id, SampleIndex(sample)), exists, "{state:?} {sample}");
            if bench.scheduler.in_flight() {
                let mut effects = Effects::default();
                bench.scheduler.commit(Ok(&output), bench.now, &mut effects);
                bench.apply(effects);
            }
            bench.reap();
            assert!(!bench.scheduler.cancel_sample(id, SampleIndex(sample)));
            let cancelled = Some(&End::Finished(CompletionReason::Cancelled));
            let expected = exists && state != State::FinishingThisStep;
            assert_eq!(bench.end(id, sample) == cancelled, expected, "{state:?} {sample}");
            bench.run();
            assert!(bench.scheduler.is_idle() && bench.scheduler.pool().held() == 0, "{state:?}");
        }
    }
}

#[test]
fn blocks_come_back_with_the_next_reap() {
    let (mut bench, id, _) = bench_in(State::Decode);
    assert!(bench.scheduler.pool().held() > 0);
    bench.scheduler.cancel(id);
    assert!(bench.scheduler.next_deadline() <= Some(bench.now), "the engine is told not to sleep");
    bench.reap();
    assert_eq!(bench.scheduler.pool().held(), 0);
}

/// A look between plan and commit takes nothing back and forgets nothing.
#[test]
fn a_cancellation_waits_for_the_step_in_flight() {
    let (mut bench, id, output) = bench_in(State::InFlight);
    assert!(bench.scheduler.cancel(id));
    bench.reap();
    assert!(bench.ends.is_empty() && bench.is_running(id));
    let mut effects = Effects::default();
    bench.scheduler.commit(Ok(&output), bench.now, &mut effects);
    bench.apply(effects);
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Cancelled));
}
