//! Requests through the scheduler and the fake executor, to their ends.

use crate::bench::{Bench, request};
use pagoda_sched::{CacheSalt, CompletionReason, Request, SampleIndex};

#[test]
fn a_request_generates_the_tokens_that_follow_from_its_prompt() {
    let mut bench = Bench::new(64, 4);
    let asked = request(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 10);
    let id = bench.submit(asked.clone());
    bench.run();
    assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 10));
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::MaxTokens));
    assert!(bench.scheduler.is_idle());
}

#[test]
fn samples_share_the_prompt_and_part_at_the_first_token() {
    let mut bench = Bench::new(64, 4);
    let mut asked = request(&[1, 2, 3, 4, 5, 6], 12);
    asked.samples = 3;
    let id = bench.submit(asked.clone());
    bench.step();
    assert_eq!(bench.scheduler.batch().len(), 3);
    assert_eq!(bench.scheduler.pool().held(), 2, "the samples share both blocks of the prompt");
    bench.step();
    assert_eq!(bench.scheduler.pool().held(), 4, "two samples copied the partial block, the third kept it");
    bench.run();
    for sample in 0..3 {
        assert_eq!(bench.output(id, sample), bench.answer(&asked, sample, 12));
        assert_eq!(bench.reason(id, sample), Some(CompletionReason::MaxTokens));
    }
    let outputs = [0, 1, 2].map(|sample| bench.output(id, sample).to_vec());
    assert!(outputs[0] != outputs[1] && outputs[1] != outputs[2]);
}

#[test]
fn a_dropped_sample_ends_at_once_and_the_others_are_unchanged() {
    for dropped in [0, 1] {
        let mut bench = Bench::new(64, 4);
        let mut asked = request(&[1, 2, 3, 4, 5, 6], 5);
        asked.samples = 2;
        let id = bench.submit(asked.clone());
        assert!(bench.scheduler.cancel_sample(id, SampleIndex(dropped)));
        bench.run();
        assert_eq!(bench.reason(id, dropped), Some(CompletionReason::Cancelled));
        assert_eq!(bench.output(id, dropped), []);
        assert_eq!(bench.output(id, 1 - dropped), bench.answer(&asked, 1 - dropped, 5));
    }
}

#[test]
fn a_second_request_takes_the_prefix_from_the_cache() {
    let mut bench = Bench::new(64, 4);
    let first = request(&[1, 2, 3, 4, 5, 6, 7, 8], 3);
    bench.submit(first);
    bench.run();
    let asked = request(&[1, 2, 3, 4, 5, 6, 7, 8], 3);
    let id = bench.submit(asked.clone());
    bench.run();
    assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 3));
    assert_eq!(bench.stats(id, 0).cached_tokens, 4, "the last token has to run, so one whole block does");
    let counters = bench.scheduler.stats(bench.now).counters;
    assert_eq!((counters.prefix_queries, counters.prefix_hits), (16, 4));
}

/// The oracle checks the salt of every position that a request reads.
#[test]
fn requests_of_different_salts_share_nothing() {
    let mut bench = Bench::new(64, 4);
    let asked = request(&[1, 2, 3, 4, 5, 6, 7, 8], 3);
    bench.submit(asked.clone());
    bench.run();
    for (salt, cached) in [(1, 0), (0, 4), (1, 4)] {
        let id = bench.submit(Request { salt: CacheSalt(salt), ..request(&asked.prompt, 3) });
        bench.run();
        assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 3));
        assert_eq!(bench.stats(id, 0).cached_tokens, cached, "salt {salt}");
    }
}
