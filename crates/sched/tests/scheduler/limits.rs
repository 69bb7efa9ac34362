//! What is refused at the door, and how lengths end a request.

use crate::bench::{Bench, request};
use pagoda_sched::{
    CompletionReason, ConfigError, Effects, EnqueueError, LengthKind, Request, RequestId, Sampled,
    SamplingParams, Scheduler, SchedulerConfig, StepOutput, fake::FakeExecutor,
};
use std::time::Duration;

fn refusal(bench: &mut Bench, request: Request) -> Option<EnqueueError> {
    bench.scheduler.enqueue(request, bench.now).err()
}

#[test]
fn what_can_never_fit_is_refused() {
    let config = SchedulerConfig { max_num_seqs: 4, max_model_len: 40, ..SchedulerConfig::default() };
    let mut bench = Bench::with(8, 4, config);
    let prompt = |tokens: u32| (0..tokens).collect::<Vec<_>>();
    assert_eq!(
        refusal(&mut bench, request(&prompt(33), 1)),
        Some(EnqueueError::NeverFits { needed_blocks: 9, pool_blocks: 8 })
    );
    assert_eq!(
        refusal(&mut bench, request(&prompt(40), 1)),
        Some(EnqueueError::TooLong { tokens: 40, max_model_len: 40 })
    );
    let samples = |samples| Request { samples, ..request(&[1], 1) };
    assert_eq!(
        refusal(&mut bench, samples(5)),
        Some(EnqueueError::TooManySamples { samples: 5, max_num_seqs: 4 })
    );
    assert_eq!(refusal(&mut bench, samples(0)), Some(EnqueueError::Empty { field: "samples" }));
    assert_eq!(refusal(&mut bench, request(&[], 1)), Some(EnqueueError::Empty { field: "prompt" }));
    assert_eq!(refusal(&mut bench, request(&prompt(32), 1)), None, "a prompt that fills the pool fits");
    assert_eq!(refusal(&mut bench, samples(4)), None);
    assert_eq!(bench.scheduler.counters().refused, 5);
}

#[test]
fn an_id_is_known_until_its_last_sample_has_ended() {
    let mut bench = Bench::new(64, 4);
    let asked = Request { samples: 2, ..request(&[1, 2], 3) };
    bench.submit(asked.clone());
    while bench.ends.is_empty() {
        assert_eq!(refusal(&mut bench, asked.clone()), Some(EnqueueError::DuplicateId(asked.id)));
        bench.step();
    }
    bench.run();
    assert_eq!(refusal(&mut bench, asked), None);
}

#[test]
fn the_queue_is_bounded_by_requests_and_by_tokens() {
    let config =
        SchedulerConfig { max_waiting_requests: 3, max_waiting_tokens: 20, ..SchedulerConfig::default() };
    let fresh = |tokens: u32| request(&(0..tokens).collect::<Vec<_>>(), 1);
    let mut bench = Bench::with(64, 4, config);
    (0..3).for_each(|_| {
        bench.submit(fresh(2));
    });
    let full = |requests, tokens, seconds| {
        Some(EnqueueError::QueueFull { requests, tokens, retry_after: Duration::from_secs(seconds) })
    };
    assert_eq!(refusal(&mut bench, fresh(2)), full(3, 6, 1));
    let mut bench = Bench::with(64, 4, config);
    bench.submit(fresh(10));
    assert_eq!(refusal(&mut bench, fresh(11)), full(1, 10, 1));
    assert_eq!(refusal(&mut bench, fresh(10)), None);
    bench.run();
    assert_eq!(refusal(&mut bench, fresh(30)), None, "an empty queue takes any prompt");
}

#[test]
fn the_retry_hint_follows_the_measured_rate() {
    let config = SchedulerConfig { max_num_seqs: 1, max_waiting_requests: 1, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    // One request per four seconds for long enough to measure.
    for _ in 0..40 {
        bench.submit(request(&[1, 2], 1));
        bench.run();
        bench.advance(Duration::from_secs(4));
    }
    bench.submit(request(&[1, 2], 1));
    match refusal(&mut bench, request(&[1, 2], 1)) {
        Some(EnqueueError::QueueFull { retry_after, .. }) => {
            assert!((3.0..6.0).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lengths_end_a_request_at_the_token_that_fills_them() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_model_len: 12, ..SchedulerConfig::default() });
    let id = bench.submit(request(&[1, 2, 3, 4, 5], 100));
    bench.run();
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::LengthLimit(LengthKind::Context)));
    assert_eq!(bench.output(id, 0).len(), 7);
}

/// A sequence that alone outgrows the pool ends; it is not preempted and resumed for ever.
#[test]
fn a_lone_sequence_ends_when_the_pool_is_full() {
    for samples in [1, 3] {
        let mut bench = Bench::new(4, 4);
        let id = bench.submit(Request { samples, ..request(&[1, 2, 3, 4, 5], 100) });
        bench.run();
        for sample in 0..samples {
            assert_eq!(bench.reason(id, sample), Some(CompletionReason::LengthLimit(LengthKind::Pool)));
            assert_eq!(
                bench.output(id, sample).len(),
                12,
                "16 slots hold the prompt and all but the last token"
            );
            assert!(samples > 1 || bench.stats(id, sample).preemptions == 0);
        }
        assert_eq!(bench.scheduler.pool().held(), 0);
    }
}

#[test]
fn stop_ids_end_a_request_once_min_tokens_are_out() {
    let mut bench = Bench::new(64, 4);
    bench.executor =
        FakeExecutor::new(FakeExecutor::capacity_of(65, 4, 4096, 1000)).with_script([7, 7, 7, 9]);
    let sampling = SamplingParams { stop_ids: [7].into(), min_tokens: 2, ..SamplingParams::greedy() };
    let id = bench.submit(Request { sampling: sampling.into(), ..request(&[1, 2, 3], 50) });
    bench.run();
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Eos));
    assert_eq!(bench.output(id, 0), [8, 8, 7], "two masked stop ids, then the one that counts");
}

/// Executors mask stop ids until then; one that does not is no reason to stop early.
#[test]
fn a_stop_id_within_min_tokens_does_not_count() {
    let mut bench = Bench::new(64, 4);
    let sampling = SamplingParams { stop_ids: [7].into(), min_tokens: 2, ..SamplingParams::greedy() };
    let id = bench.submit(Request { sampling: sampling.into(), ..request(&[1, 2, 3], 50) });
    for generated in 1..=3 {
        assert!(bench.scheduler.plan(bench.now).is_some() && bench.end(id, 0).is_none(), "after {generated}");
        let samples = vec![Sampled { token: Ok(7), logprob: 0.0, top: 0..0 }];
        let mut effects = Effects::default();
        bench.scheduler.commit(Ok(&StepOutput { samples, ..StepOutput::default() }), bench.now, &mut effects);
        bench.apply(effects);
    }
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Eos));
    assert_eq!(bench.output(id, 0), [7, 7, 7]);
}

#[test]
fn contradicting_limits_are_refused() {
    let capacity = FakeExecutor::capacity_of(65, 4, 4096, 1000);
    let error = |config| Scheduler::new(config, capacity).err();
    let base = SchedulerConfig::default();
    assert_eq!(error(base), None);
    assert_eq!(
        error(SchedulerConfig { max_num_batched_tokens: 255, ..base }),
        Some(ConfigError::TokensBelowSeqs { max_num_batched_tokens: 255, max_num_seqs: 256 })
    );
    assert_eq!(
        error(SchedulerConfig { max_num_seqs: 0, ..base }),
        Some(ConfigError::Zero { field: "max_num_seqs" })
    );
    assert_eq!(
        error(SchedulerConfig { watermark_percent: 51, ..base }),
        Some(ConfigError::Watermark { percent: 51 })
    );
    let empty = FakeExecutor::capacity_of(1, 4, 4096, 1000);
    assert_eq!(Scheduler::new(base, empty).err(), Some(ConfigError::EmptyPool { blocks: 1 }));
    let scheduler = Scheduler::new(base, capacity).unwrap();
    assert_eq!(scheduler.config().max_model_len, 4096, "the executor's context is the longest sequence");
    assert!(!scheduler.in_flight() && scheduler.is_idle());
    assert_eq!(RequestId::default(), RequestId::EMPTY);
}
