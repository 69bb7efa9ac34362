//! A failed step and a row without finite logits end what they concern and nothing else.

use crate::bench::{Bench, End, request};
use pagoda_sched::{
    CompletionReason, ConstraintFault, Failure, Request, SampleIndex, SamplingParams, SchedulerConfig,
    SharedConstraint, TokenConstraint, TokenId,
};
use std::sync::Arc;

#[test]
fn a_failed_step_ends_its_rows_and_publishes_nothing() {
    let config = SchedulerConfig { max_num_seqs: 2, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    let asked = Request { samples: 2, ..request(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 5) };
    let id = bench.submit(asked);
    let waiting = request(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 5);
    let other = bench.submit(waiting.clone());
    bench.executor.control().fail_next();
    bench.step();
    for sample in 0..2 {
        assert!(
            matches!(bench.end(id, sample), Some(End::Failed(Failure::Step(message))) if !message.is_empty())
        );
    }
    let pool = bench.scheduler.pool();
    assert_eq!((pool.held(), pool.cached()), (0, 0));
    bench.run();
    assert_eq!(bench.reason(other, 0), Some(CompletionReason::MaxTokens));
    assert_eq!(bench.output(other, 0), bench.answer(&waiting, 0, 5));
    assert_eq!(bench.stats(other, 0).cached_tokens, 0);
}

#[test]
fn work_of_earlier_steps_survives_a_failed_one() {
    let config = SchedulerConfig { max_prefill_chunk: 8, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    let prompt: Vec<u32> = (0..20).collect();
    bench.submit(request(&prompt, 5));
    bench.step();
    bench.executor.control().fail_next();
    bench.step();
    assert_eq!(bench.scheduler.pool().cached(), 2, "the first chunk is still good");
    let again = bench.submit(request(&prompt, 5));
    bench.run();
    assert_eq!(bench.stats(again, 0).cached_tokens, 8);
}

/// The oracle makes what the failing step wrote unreadable, so a later hit on it would panic.
#[test]
fn what_led_to_non_finite_logits_is_never_cached() {
    for (samples, steps) in [(1, 0), (1, 6), (3, 0), (3, 6)] {
        let mut bench = Bench::new(64, 4);
        let asked = Request { samples, ..request(&[1, 2, 3, 4, 5, 6, 7, 8], 20) };
        let id = bench.submit(asked.clone());
        let neighbour = request(&[9, 9, 9, 9, 9], 20);
        let other = bench.submit(neighbour.clone());
        (0..steps).for_each(|_| {
            bench.step();
        });
        bench.executor.control().set_nan_rows(1_000_000, 0);
        bench.scheduler.cancel(other);
        bench.step();
        bench.executor.control().set_nan_rows(0, 0);
        for sample in 0..samples {
            let position = 8 + bench.output(id, sample).len() as u32;
            let failure = Failure::NonFiniteLogits { position };
            assert_eq!(bench.end(id, sample), Some(&End::Failed(failure)));
        }
        assert_eq!(bench.scheduler.pool().held(), 0);
        let again = bench.submit(Request { id: pagoda_sched::RequestId::new(), ..asked.clone() });
        bench.run();
        assert_eq!(bench.stats(again, 0).cached_tokens, 0, "its own blocks left the cache");
        assert_eq!(bench.output(again, 0), bench.answer(&asked, 0, 20));
    }
}

#[test]
fn blocks_taken_from_the_cache_stay_there_when_their_taker_fails() {
    let mut bench = Bench::new(64, 4);
    let prompt: Vec<u32> = (0..12).collect();
    bench.submit(request(&prompt, 2));
    bench.run();
    bench.submit(request(&prompt, 9));
    bench.step();
    bench.executor.control().set_nan_rows(1_000_000, 0);
    bench.step();
    bench.executor.control().set_nan_rows(0, 0);
    let id = bench.submit(request(&prompt, 2));
    bench.run();
    assert_eq!(bench.stats(id, 0).cached_tokens, 8);
}

/// Allows even ids, and nothing after so many tokens.
#[derive(Debug)]
struct Even(u32);

impl TokenConstraint for Even {
    fn allowed(&self, _: SampleIndex, generated: u32, words: &mut Vec<u32>) -> Result<(), ConstraintFault> {
        words.clear();
        words.resize(64, 0x5555_5555);
        if generated < self.0 { Ok(()) } else { Err(ConstraintFault) }
    }

    fn chosen(&self, _: SampleIndex, _: u32, token: TokenId) {
        assert_eq!(token % 2, 0);
    }
}

#[test]
fn a_constraint_without_a_way_on_ends_its_request_and_its_blocks_stay_good() {
    let mut bench = Bench::new(64, 4);
    let prompt: Vec<u32> = (0..8).collect();
    let constraint = Some(SharedConstraint(Arc::new(Even(5))));
    let asked = request(&prompt, 20);
    let sampling = Arc::new(SamplingParams { constraint, ..(*asked.sampling).clone() });
    let id = bench.submit(Request { sampling, ..asked.clone() });
    let neighbour = request(&[9, 9, 9, 9, 9], 20);
    let other = bench.submit(neighbour.clone());
    bench.run();
    assert_eq!(bench.end(id, 0), Some(&End::Failed(Failure::Constraint { position: 13 })));
    assert_eq!(bench.output(id, 0).len(), 5);
    assert_eq!(bench.output(other, 0), bench.answer(&neighbour, 0, 20));
    let again = bench.submit(Request { id: pagoda_sched::RequestId::new(), ..asked });
    bench.run();
    assert!(bench.stats(again, 0).cached_tokens > 0);
}
