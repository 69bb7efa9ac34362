//! Requests with adapters: whose blocks they share, and what is left of an adapter that has gone.

use crate::bench::{Bench, request};
use pagoda_sched::{
    AdapterId, BeamSearch, EarlyStopping, Executor, Request, Retention, SamplingParams, SchedulerConfig,
};

const PROMPT: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// A bench whose executor has adapters 1 and 2.
fn bench(config: SchedulerConfig) -> Bench {
    let mut bench = Bench::with(64, 4, config);
    for id in 1..=2 {
        bench.executor.attach(AdapterId(id), Box::new(())).expect("the fake executor takes any adapter");
    }
    bench
}

fn with_adapter(adapter: u32, max_tokens: u32) -> Request {
    Request { adapter: AdapterId(adapter), ..request(&PROMPT, max_tokens) }
}

/// The oracle would find keys and values of another adapter.
#[test]
fn prefixes_are_shared_within_an_adapter_and_never_across() {
    let mut bench = bench(SchedulerConfig::default());
    for (adapter, cached) in [(0, 0), (1, 0), (2, 0), (1, 4), (0, 4), (2, 4)] {
        let asked = with_adapter(adapter, 3);
        let id = bench.submit(asked.clone());
        bench.run();
        assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 3), "adapter {adapter}");
        assert_eq!(bench.stats(id, 0).cached_tokens, cached, "adapter {adapter}");
    }
}

#[test]
fn rows_of_several_adapters_run_in_one_step() {
    let mut bench = bench(SchedulerConfig::default());
    let asked: Vec<_> = [0, 1, 2, 1].map(|adapter| with_adapter(adapter, 5)).into();
    let ids: Vec<_> = asked.iter().map(|asked| bench.submit(asked.clone())).collect();
    let steps = bench.run();
    assert!(steps <= 8, "{steps} steps: the requests did not share them");
    for (id, asked) in ids.into_iter().zip(&asked) {
        assert_eq!(bench.output(id, 0), bench.answer(asked, 0, 5));
    }
}

#[test]
fn samples_beams_and_preempted_sequences_keep_their_adapter() {
    let mut bench = Bench::with(9, 4, SchedulerConfig::default());
    bench.executor.attach(AdapterId(1), Box::new(())).expect("the fake executor takes any adapter");
    let sampled = Request { samples: 3, ..with_adapter(1, 6) };
    let id = bench.submit(sampled.clone());
    let other = bench.submit(Request { adapter: AdapterId(1), ..request(&[9, 9, 9], 12) });
    bench.run();
    for sample in 0..3 {
        assert_eq!(bench.output(id, sample), bench.answer(&sampled, sample, 6), "sample {sample}");
    }
    assert_eq!(bench.output(other, 0).len(), 12);
    assert!(bench.scheduler.counters().preemptions > 0, "the pool was large enough for all");
    let beam = BeamSearch { width: 2, length_penalty: 1.0, early_stopping: EarlyStopping::No };
    let sampling = SamplingParams { beam: Some(beam), ..SamplingParams::greedy() };
    let searched = Request { sampling: sampling.into(), ..with_adapter(1, 4) };
    let id = bench.submit(searched.clone());
    bench.run();
    let model = bench.executor.model().with_adapter(AdapterId(1));
    let answers = model.beam_answers(&PROMPT, &searched.sampling, 4);
    assert_eq!(bench.output(id, 0), answers[0].tokens);
}

#[test]
fn what_an_adapter_computed_is_forgotten_with_it_pinned_or_not() {
    let mut bench = bench(SchedulerConfig { max_pinned_blocks: 8, ..SchedulerConfig::default() });
    let pinned = Request { retention: Retention::PINNED, ..with_adapter(1, 9) };
    for asked in [pinned, with_adapter(2, 3), with_adapter(0, 3)] {
        bench.submit(asked);
        bench.run();
    }
    let pool = bench.scheduler.pool();
    let (cached, available) = (pool.cached() + pool.pinned(), pool.available());
    let pins = pool.pinned();
    assert!(pins >= 2);
    let forgotten = bench.scheduler.forget_adapter(AdapterId(1));
    bench.scheduler.check_invariants();
    let pool = bench.scheduler.pool();
    assert!(forgotten >= 4, "{forgotten} blocks: the prompt and most of the output");
    assert_eq!((pool.pinned(), pool.cached()), (0, cached - forgotten));
    assert_eq!(pool.available(), available + pins);
    for (adapter, cached) in [(2, 4), (0, 4)] {
        let id = bench.submit(with_adapter(adapter, 3));
        bench.run();
        assert_eq!(bench.stats(id, 0).cached_tokens, cached, "adapter {adapter} lost nothing");
    }
    assert_eq!(bench.scheduler.forget_adapter(AdapterId(1)), 0);
}
