//! Chunks, budgets, admission and progress under pressure.

use crate::bench::{Bench, request};
use pagoda_sched::{CompletionReason, Request, SchedulerConfig};

fn tokens(count: u32) -> Vec<u32> {
    (0..count).collect()
}

/// Sizes of the rows of the next step, in order of admission. The step is not run.
fn planned(bench: &mut Bench) -> Vec<u32> {
    let input = bench.scheduler.plan(bench.now).expect("a row runs");
    input.rows.iter().map(|row| row.tokens.end - row.tokens.start).collect()
}

#[test]
fn decode_rows_always_run_and_prefill_gets_the_rest_in_whole_blocks() {
    let config =
        SchedulerConfig { max_num_seqs: 4, max_num_batched_tokens: 16, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    bench.submit(request(&[1], 50));
    bench.submit(request(&[2], 50));
    bench.step();
    bench.submit(request(&tokens(40), 5));
    bench.submit(request(&[3, 4], 5));
    assert_eq!(
        planned(&mut bench),
        [1, 1, 12, 2],
        "14 are left, of which whole blocks go to the long prompt"
    );
}

#[test]
fn chunks_smaller_than_a_block_end_at_its_boundary() {
    let config = SchedulerConfig { max_prefill_chunk: 7, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 16, config);
    let id = bench.submit(request(&tokens(40), 1));
    let mut computed = Vec::new();
    while bench.step() {
        computed.extend(bench.scheduler.batch().iter().map(|sequence| sequence.computed()));
    }
    assert_eq!(computed, [7, 14, 16, 23, 30, 32, 39]);
    assert_eq!(bench.output(id, 0), bench.answer(&request(&tokens(40), 1), 0, 1));
}

#[test]
fn prefill_advances_even_if_decode_rows_leave_less_than_a_block() {
    let config = SchedulerConfig { max_num_seqs: 4, max_num_batched_tokens: 4, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 16, config);
    (1..4).for_each(|token| {
        bench.submit(request(&[token], 200));
    });
    bench.step();
    let id = bench.submit(request(&tokens(20), 1));
    for step in 0..20 {
        assert_eq!(bench.end(id, 0), None, "step {step}");
        bench.step();
    }
    assert!(bench.end(id, 0).is_some());
}

#[test]
fn the_answer_does_not_depend_on_the_chunk() {
    let asked = request(&tokens(61), 20);
    for chunk in [1, 2, 7, 16, 64] {
        let config = SchedulerConfig { max_prefill_chunk: chunk, ..SchedulerConfig::default() };
        let mut bench = Bench::with(64, 4, config);
        let id = bench.submit(asked.clone());
        bench.run();
        assert_eq!(bench.output(id, 0), bench.answer(&asked, 0, 20));
    }
}

/// Every sample is a row from admission on, though they share one until the first token.
#[test]
fn samples_count_as_rows_at_admission() {
    let config = SchedulerConfig { max_num_seqs: 4, max_prefill_chunk: 4, ..SchedulerConfig::default() };
    let mut bench = Bench::with(64, 4, config);
    let wide = bench.submit(Request { samples: 3, ..request(&tokens(12), 5) });
    let pair = bench.submit(Request { samples: 2, ..request(&[1, 2], 5) });
    let single = bench.submit(request(&[3], 5));
    bench.step();
    assert!(bench.is_running(wide) && !bench.is_running(pair));
    assert!(bench.is_running(single), "there is one row left");
    bench.run();
    assert_eq!(bench.reason(pair, 1), Some(CompletionReason::MaxTokens));
}

#[test]
fn admission_leaves_a_block_per_row_and_the_watermark() {
    let config = SchedulerConfig { watermark_percent: 20, prefix_cache: false, ..SchedulerConfig::default() };
    let mut bench = Bench::with(20, 4, config);
    bench.submit(request(&tokens(32), 40));
    let fits = bench.submit(request(&[1; 24], 40));
    let does_not = bench.submit(request(&[2; 4], 40));
    bench.step();
    // 20 blocks: 8 and 6 for prompts, 2 for two rows, 4 of watermark.
    assert!(bench.is_running(fits));
    assert!(!bench.is_running(does_not));
    let mut bench = Bench::with(20, 4, config);
    bench.submit(request(&tokens(32), 40));
    let too_long = bench.submit(request(&[1; 25], 40));
    bench.step();
    assert!(!bench.is_running(too_long), "one block more and the watermark would be touched");
}

/// Nothing is left free that nobody can ever need.
#[test]
fn what_is_certain_to_fit_is_admitted() {
    let config = SchedulerConfig { watermark_percent: 20, prefix_cache: false, ..SchedulerConfig::default() };
    let mut bench = Bench::with(20, 4, config);
    let ids: Vec<_> = (0..4).map(|token| bench.submit(request(&[token; 12], 8))).collect();
    let more = bench.submit(request(&[9; 4], 1));
    bench.step();
    assert!(ids.iter().all(|&id| bench.is_running(id)), "4 of 5 blocks each are all 20");
    assert!(!bench.is_running(more) && bench.end(more, 0).is_none());
    bench.run();
    assert_eq!(bench.scheduler.counters().preemptions, 0);
}

#[test]
fn admission_expects_outputs_as_long_as_those_before() {
    let config = SchedulerConfig { watermark_percent: 0, prefix_cache: false, ..SchedulerConfig::default() };
    let admitted = |warm: bool| {
        let mut bench = Bench::with(32, 4, config);
        if warm {
            bench.submit(request(&[1; 4], 64));
            bench.run();
        }
        (0..6).for_each(|_| {
            bench.submit(request(&[2; 4], 64));
        });
        bench.step();
        bench.scheduler.batch().len()
    };
    assert_eq!(admitted(false), 6, "nothing was observed, so nothing is expected");
    assert_eq!(admitted(true), 3, "16 blocks of growth each, half of it kept free");
}

#[test]
fn a_shared_prefix_needs_no_blocks_of_its_own() {
    let mut bench =
        Bench::with(16, 4, SchedulerConfig { watermark_percent: 0, ..SchedulerConfig::default() });
    bench.submit(request(&tokens(41), 4));
    bench.step();
    let same = bench.submit(request(&tokens(41), 4));
    bench.step();
    assert!(bench.is_running(same));
    assert_eq!(bench.scheduler.pool().held(), 12, "ten shared blocks and the last one of each");
}

/// R4: at twice what the pool holds, nobody is preempted again and again and little is computed twice.
#[test]
fn twice_the_load_means_few_preemptions() {
    for prefix_cache in [true, false] {
        let config = SchedulerConfig { max_num_seqs: 16, prefix_cache, ..SchedulerConfig::default() };
        let mut bench = Bench::with(64, 4, config);
        // Each ends at 16 blocks, so eight of the sixteen fit.
        let ids: Vec<_> = (0..48).map(|token| bench.submit(request(&[token; 24], 40))).collect();
        bench.run();
        for id in ids {
            assert_eq!(bench.reason(id, 0), Some(CompletionReason::MaxTokens));
            assert!(bench.stats(id, 0).preemptions <= 8);
        }
        let counters = bench.scheduler.counters();
        assert!(4 * counters.recomputed_tokens <= counters.computed_tokens, "{counters:?}");
    }
}

#[test]
fn one_giant_and_many_small_all_end() {
    let mut bench = Bench::with(32, 4, SchedulerConfig { max_num_seqs: 8, ..SchedulerConfig::default() });
    let giant = bench.submit(request(&tokens(120), 8));
    let small: Vec<_> = (0..40).map(|token| bench.submit(request(&[token; 5], 12))).collect();
    bench.run();
    for id in small.into_iter().chain([giant]) {
        assert_eq!(bench.reason(id, 0), Some(CompletionReason::MaxTokens));
    }
}
