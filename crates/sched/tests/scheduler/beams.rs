//! Beam search through the scheduler and the fake executor, beside the plain way.

use crate::bench::{Bench, End, request};
use pagoda_sched::{
    BeamSearch, CompletionReason, DeadlineKind, Deadlines, EarlyStopping, EnqueueError, Failure, LengthKind,
    Priority, Request, RequestId, SampleIndex, SamplingParams, SchedulerConfig, TokenId,
};
use std::time::Duration;

/// A search of `width` beams that returns all of them.
fn searched(prompt: &[TokenId], max_tokens: u32, width: u16) -> Request {
    let beam = BeamSearch { width, length_penalty: 1.0, early_stopping: EarlyStopping::No };
    let sampling = SamplingParams { beam: Some(beam), ..SamplingParams::greedy() };
    Request { samples: width, sampling: sampling.into(), ..request(prompt, max_tokens) }
}

/// Every output is what the plain way finds.
fn assert_found(bench: &Bench, id: RequestId, asked: &Request) {
    let answers = bench.executor.model().beam_answers(&asked.prompt, &asked.sampling, asked.max_tokens);
    for (sample, answer) in (0..asked.samples).zip(&answers) {
        assert_eq!(bench.output(id, sample), answer.tokens, "output {sample}");
        let reason = if answer.stopped { CompletionReason::Eos } else { CompletionReason::MaxTokens };
        assert_eq!(bench.reason(id, sample), Some(reason), "output {sample}");
    }
}

#[test]
fn a_search_finds_what_the_plain_way_finds() {
    for width in 1..=6 {
        for (early_stopping, stops) in
            [(EarlyStopping::No, 0), (EarlyStopping::Yes, 400), (EarlyStopping::Never, 50)]
        {
            let mut bench = Bench::new(256, 4);
            let mut asked = searched(&[1, 2, 3, 4, 5, 6], 15, width);
            let beam = BeamSearch { width, length_penalty: 0.8, early_stopping };
            let stop_ids = (0..stops).collect();
            asked.sampling =
                SamplingParams { beam: Some(beam), stop_ids, min_tokens: 3, ..SamplingParams::greedy() }
                    .into();
            let id = bench.submit(asked.clone());
            bench.run();
            assert_found(&bench, id, &asked);
            assert!(bench.scheduler.is_idle());
            assert_eq!(bench.scheduler.pool().held(), 0);
        }
    }
}

#[test]
fn beams_share_the_blocks_of_the_prompt() {
    let mut bench = Bench::new(64, 4);
    let id = bench.submit(searched(&[1; 10], 20, 4));
    bench.step();
    assert_eq!(bench.scheduler.batch().len(), 4);
    assert_eq!(bench.scheduler.batch().rows(), 4);
    assert_eq!(bench.scheduler.pool().held(), 3, "all beams share the three blocks of the prompt");
    bench.step();
    let held = bench.scheduler.pool().held();
    assert!((3..=6).contains(&held), "{held} blocks: at most three beams copied the partial one");
    bench.run();
    assert_eq!(bench.output(id, 0).len(), 20);
    assert_eq!(bench.scheduler.pool().held(), 0);
}

#[test]
fn nothing_is_reported_before_the_end_and_then_the_best_first() {
    let mut bench = Bench::new(64, 4);
    let asked = Request { samples: 2, ..searched(&[5, 6, 7], 6, 3) };
    let id = bench.submit(asked.clone());
    for _ in 0..5 {
        bench.step();
        assert_eq!((bench.output(id, 0), bench.end(id, 0)), (&[][..], None));
    }
    bench.step();
    assert_found(&bench, id, &asked);
    assert_eq!(bench.end(id, 2), None, "only what was asked for is returned");
    assert_eq!(bench.stats(id, 0).generated_tokens, 6);
    assert_eq!(bench.scheduler.counters().generated_tokens, 12);
}

#[test]
fn beams_count_as_rows_at_admission() {
    let mut bench = Bench::with(64, 4, SchedulerConfig { max_num_seqs: 4, ..SchedulerConfig::default() });
    let wide = Request { samples: 1, ..searched(&[1, 2, 3], 8, 3) };
    let first = bench.submit(wide.clone());
    let second = bench.submit(Request { id: RequestId::new(), ..wide.clone() });
    let single = bench.submit(request(&[4, 5], 3));
    bench.step();
    let running = [first, second, single].map(|id| bench.is_running(id));
    assert_eq!(running, [true, false, true], "there is one row beside three beams");
    bench.run();
    assert_found(&bench, second, &wide);
    let refused = bench.scheduler.enqueue(searched(&[1], 1, 5), bench.now);
    assert_eq!(refused, Err(EnqueueError::TooManySamples { samples: 5, max_num_seqs: 4 }));
}

#[test]
fn more_outputs_than_beams_are_refused() {
    let mut bench = Bench::new(64, 4);
    let asked = Request { samples: 3, ..searched(&[1], 1, 2) };
    let refusal = bench.scheduler.enqueue(asked, bench.now);
    assert_eq!(refusal, Err(EnqueueError::NarrowBeam { samples: 3, width: 2 }));
    let refusal = bench.scheduler.enqueue(Request { samples: 1, ..searched(&[1], 1, 0) }, bench.now);
    assert_eq!(refusal, Err(EnqueueError::Empty { field: "beam.width" }));
}

/// A pool that cannot hold all searches together, with the prefix cache and without.
#[test]
fn preempted_beams_go_on_where_they_were() {
    let mut preemptions = 0;
    for prefix_cache in [true, false] {
        for blocks in 12..40 {
            let config = SchedulerConfig { prefix_cache, watermark_percent: 0, ..SchedulerConfig::default() };
            let mut bench = Bench::with(blocks, 3, config);
            let asked: Vec<_> = (1..5_u16).map(|width| searched(&[u32::from(width); 7], 12, width)).collect();
            let ids: Vec<_> = asked.iter().map(|asked| bench.submit(asked.clone())).collect();
            bench.run();
            for (asked, &id) in asked.iter().zip(&ids) {
                match bench.reason(id, 0) {
                    Some(CompletionReason::LengthLimit(LengthKind::Pool)) => {
                        assert!(blocks < 22, "{blocks} blocks are enough for one search");
                    }
                    _ => assert_found(&bench, id, asked),
                }
            }
            preemptions += bench.scheduler.counters().preemptions;
        }
    }
    assert!(preemptions > 20, "{preemptions} preemptions");
}

/// Whenever a higher class comes, the beams lose their blocks; what they find is the same.
#[test]
fn beams_are_preempted_at_any_length() {
    for prefix_cache in [true, false] {
        for steps in 1..12 {
            let config = SchedulerConfig {
                prefix_cache,
                max_num_batched_tokens: 8,
                max_num_seqs: 8,
                ..SchedulerConfig::default()
            };
            let mut bench = Bench::with(30, 2, config);
            let asked = Request { priority: Priority::Low, ..searched(&[1, 2, 3], 12, 4) };
            let id = bench.submit(asked.clone());
            (0..steps).for_each(|_| assert!(bench.step()));
            let urgent = bench.submit(Request { priority: Priority::Urgent, ..request(&[9; 40], 4) });
            bench.step();
            assert!(bench.is_running(urgent) && !bench.is_running(id), "after {steps} steps");
            bench.run();
            assert_found(&bench, id, &asked);
            assert_eq!(bench.stats(id, 0).preemptions, 1);
        }
    }
}

#[test]
fn a_search_that_fills_the_pool_alone_ends_there() {
    let mut bench = Bench::new(9, 2);
    let asked = searched(&[1, 2, 3], 100, 3);
    let id = bench.submit(asked.clone());
    bench.run();
    for sample in 0..3 {
        assert_eq!(bench.reason(id, sample), Some(CompletionReason::LengthLimit(LengthKind::Pool)));
    }
    let length = bench.output(id, 0).len() as u32;
    let answers = bench.executor.model().beam_answers(&asked.prompt, &asked.sampling, length);
    assert!((0..3).all(|sample| bench.output(id, sample) == answers[usize::from(sample)].tokens));
    assert_eq!(bench.scheduler.pool().held(), 0);
}

#[test]
fn cancelling_one_output_leaves_the_others_and_cancelling_all_ends_the_search() {
    for steps in [0, 1, 5] {
        let mut bench = Bench::new(64, 4);
        let asked = searched(&[1, 2, 3, 4, 5], 9, 3);
        let id = bench.submit(asked.clone());
        (0..steps).for_each(|_| assert!(bench.step()));
        assert!(bench.scheduler.cancel_sample(id, SampleIndex(1)));
        assert!(!bench.scheduler.cancel_sample(id, SampleIndex(3)), "there is no fourth output");
        bench.run();
        assert_eq!(bench.reason(id, 1), Some(CompletionReason::Cancelled));
        let answers = bench.executor.model().beam_answers(&asked.prompt, &asked.sampling, 9);
        assert_eq!(
            [0, 2].map(|sample| bench.output(id, sample).to_vec()),
            [&answers[0], &answers[2]].map(|a| a.tokens.clone())
        );

        let id = bench.submit(Request { id: RequestId::new(), ..asked });
        (0..steps).for_each(|_| assert!(bench.step()));
        assert!(bench.scheduler.cancel(id));
        bench.reap();
        assert!((0..3).all(|sample| bench.reason(id, sample) == Some(CompletionReason::Cancelled)));
        assert_eq!((bench.scheduler.pool().held(), bench.scheduler.batch().rows()), (0, 0));
    }
}

#[test]
fn a_deadline_ends_every_output() {
    let mut bench = Bench::new(64, 4);
    let deadlines = Deadlines { total: Some(Duration::from_secs(1)), ..Deadlines::default() };
    let id = bench.submit(Request { deadlines, ..searched(&[1, 2, 3], 50, 2) });
    (0..3).for_each(|_| assert!(bench.step()));
    bench.advance(Duration::from_secs(2));
    bench.reap();
    let timeout = Some(CompletionReason::Timeout(DeadlineKind::Total));
    assert!((0..2).all(|sample| bench.reason(id, sample) == timeout));
    assert_eq!(bench.scheduler.pool().held(), 0);
}

#[test]
fn a_fault_in_one_beam_ends_the_search_and_what_it_computed_is_not_cached() {
    let mut bench = Bench::new(64, 4);
    let asked = searched(&[1, 2, 3, 4, 5, 6, 7, 8], 20, 3);
    let id = bench.submit(asked.clone());
    (0..4).for_each(|_| assert!(bench.step()));
    bench.executor.control().set_nan_rows(1_000_000, 1);
    bench.step();
    for sample in 0..3 {
        let end = bench.end(id, sample);
        assert!(matches!(end, Some(End::Failed(Failure::NonFiniteLogits { position: 12 }))), "{end:?}");
    }
    assert_eq!((bench.scheduler.pool().held(), bench.scheduler.pool().cached()), (0, 0));
    bench.executor.control().set_nan_rows(0, 0);
    let id = bench.submit(Request { id: RequestId::new(), ..asked.clone() });
    bench.run();
    assert_found(&bench, id, &asked);
    assert_eq!(bench.stats(id, 0).cached_tokens, 0);
}

#[test]
fn a_failed_step_ends_every_output_once() {
    for steps in [0, 1, 4] {
        let mut bench = Bench::new(64, 4);
        let id = bench.submit(searched(&[1, 2, 3, 4], 20, 3));
        (0..steps).for_each(|_| assert!(bench.step()));
        bench.executor.control().fail_next();
        bench.step();
        let failed = |sample| matches!(bench.end(id, sample), Some(End::Failed(Failure::Step(_))));
        assert!((0..3).all(failed));
        assert!(bench.scheduler.is_idle() && bench.scheduler.pool().held() == 0);
    }
}

/// Two of five tokens end an output, so that beams are few at first.
#[test]
fn a_small_vocabulary_has_fewer_beams() {
    let capacity = pagoda_sched::fake::FakeExecutor::capacity_of(65, 4, 64, 5);
    let mut bench = Bench::new(64, 4);
    bench.executor = pagoda_sched::fake::FakeExecutor::new(capacity);
    let mut asked = searched(&[1, 2, 3], 4, 8);
    let beam = asked.sampling.beam;
    asked.sampling = SamplingParams { beam, stop_ids: [1, 3].into(), ..SamplingParams::greedy() }.into();
    let id = bench.submit(asked.clone());
    bench.step();
    assert_eq!((bench.scheduler.batch().len(), bench.scheduler.batch().rows()), (3, 8));
    bench.run();
    assert_found(&bench, id, &asked);
}
