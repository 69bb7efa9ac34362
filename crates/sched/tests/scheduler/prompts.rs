//! What is reported of prompts: every position once, whatever the chunks, the cache and preemption.

use crate::bench::{Bench, End, PromptReading, request};
use pagoda_sched::fake::FakeModel;
use pagoda_sched::{
    BeamSearch, CompletionReason, EarlyStopping, EnqueueError, Failure, Pooling, Priority, PromptReport,
    Request, RequestId, SampleIndex, SamplingParams, SchedulerConfig,
};

const LOGPROBS: PromptReport = PromptReport::Logprobs { top: 2 };
const MEAN: PromptReport = PromptReport::Hidden(Pooling::Mean);
const LAST: PromptReport = PromptReport::Hidden(Pooling::Last);

fn reading(report: PromptReport, prompt: &[u32], max_tokens: u32) -> Request {
    let sampling = SamplingParams { report, ..SamplingParams::greedy() };
    Request { sampling: sampling.into(), ..request(prompt, max_tokens) }
}

fn prompt(length: u32, family: u32) -> Vec<u32> {
    (0..length).map(|place| (place * 7 + family * 101) % 1000).collect()
}

/// What should be reported, without the number of reports.
fn expected(model: &FakeModel, request: &Request) -> PromptReading {
    let mut expected = PromptReading::default();
    match request.sampling.report {
        PromptReport::Nothing => {}
        PromptReport::Logprobs { top } => {
            for (place, likely) in model.prompt_logprobs(&request.prompt, usize::from(top)) {
                expected.logprobs.push(place);
                expected.top.extend(likely);
            }
        }
        PromptReport::Hidden(_) => {
            expected.hidden = model.prompt_hidden(&request.prompt, request.sampling.report)
        }
    }
    expected
}

fn check(bench: &Bench, request: &Request, id: RequestId) {
    let found = bench.reports.get(&id).cloned().unwrap_or_default();
    assert_eq!(
        PromptReading { reports: 0, ..found },
        expected(bench.executor.model(), request),
        "{request:?}"
    );
}

fn chunks_of(max_prefill_chunk: u32) -> SchedulerConfig {
    SchedulerConfig { max_prefill_chunk, max_num_seqs: 8, max_num_batched_tokens: 64, ..Default::default() }
}

#[test]
fn every_position_is_reported_once_whatever_the_chunks() {
    for chunk in [1, 3, 4, 7, 16, 64] {
        let mut bench = Bench::with(64, 4, chunks_of(chunk));
        let asked: Vec<Request> = [LOGPROBS, MEAN, LAST, PromptReport::Nothing]
            .into_iter()
            .flat_map(|report| [1, 2, 5, 8, 23].map(|length| reading(report, &prompt(length, length), 3)))
            .collect();
        let ids: Vec<_> = asked.iter().map(|request| bench.submit(request.clone())).collect();
        bench.run();
        for (request, &id) in asked.iter().zip(&ids) {
            check(&bench, request, id);
            assert_eq!(bench.output(id, 0), bench.answer(request, 0, 3), "the answer is what it is without");
        }
        if chunk == 4 {
            assert_eq!(bench.reports[&ids[4]].reports, 6, "a report for each chunk of four of 22 positions");
        }
    }
}

#[test]
fn what_is_cached_is_computed_again_for_a_report() {
    let mut bench = Bench::new(64, 4);
    let tokens = prompt(30, 1);
    let first = bench.submit(request(&tokens, 1));
    bench.run();
    assert_eq!(bench.stats(first, 0).cached_tokens, 0);
    for (report, cached) in [(PromptReport::Nothing, 28), (LOGPROBS, 0), (MEAN, 0), (LAST, 28)] {
        let asked = reading(report, &tokens, 1);
        let id = bench.submit(asked.clone());
        bench.run();
        check(&bench, &asked, id);
        assert_eq!(bench.stats(id, 0).cached_tokens, cached, "{report:?}");
    }
}

/// What a step reported stays reported: after a preemption the same positions may come out of the cache.
#[test]
fn preempted_prompts_go_on_where_they_were() {
    for prefix_cache in [true, false] {
        let config = SchedulerConfig { prefix_cache, watermark_percent: 0, ..chunks_of(4) };
        let mut bench = Bench::with(12, 4, config);
        let mut asked = Vec::new();
        for report in [LOGPROBS, MEAN] {
            let low = Request { priority: Priority::Low, ..reading(report, &prompt(40, 3), 2) };
            let id = bench.submit(low.clone());
            asked.push((low, id));
            (0..5).for_each(|_| {
                bench.step();
            });
            let urgent = Request { priority: Priority::Urgent, ..reading(report, &prompt(20, 4), 2) };
            let id = bench.submit(urgent.clone());
            asked.push((urgent, id));
            bench.run();
        }
        for (request, id) in &asked {
            check(&bench, request, *id);
        }
        let preempted = bench.scheduler.counters().preemptions;
        assert_eq!(preempted, 2, "both low ones were displaced in the middle of their prompts");
    }
}

#[test]
fn samples_and_beams_share_one_reading_of_their_prompt() {
    let mut bench = Bench::with(64, 4, chunks_of(5));
    let samples = Request { samples: 4, ..reading(LOGPROBS, &prompt(18, 1), 3) };
    let beam = BeamSearch { width: 3, length_penalty: 1.0, early_stopping: EarlyStopping::No };
    let sampling = SamplingParams { beam: Some(beam), report: LOGPROBS, ..SamplingParams::greedy() };
    let beams = Request { samples: 2, sampling: sampling.into(), ..request(&prompt(19, 2), 3) };
    for asked in [samples, beams] {
        let id = bench.submit(asked.clone());
        bench.run();
        check(&bench, &asked, id);
        assert_eq!(bench.reason(id, asked.samples - 1), Some(CompletionReason::MaxTokens));
    }
    assert_eq!(bench.scheduler.counters().computed_tokens, 18 + 4 * 2 + 19 + 3 * 2, "each prompt once");
}

#[test]
fn without_tokens_to_generate_a_request_ends_with_its_prompt() {
    let mut bench = Bench::with(8, 4, SchedulerConfig { max_model_len: 24, ..chunks_of(6) });
    for report in [PromptReport::Nothing, LOGPROBS, MEAN, LAST] {
        for (length, samples) in [(1, 1), (4, 3), (24, 2)] {
            let asked = Request { samples, ..reading(report, &prompt(length, 5), 0) };
            let id = bench.submit(asked.clone());
            bench.run();
            check(&bench, &asked, id);
            for sample in 0..samples {
                assert_eq!(bench.reason(id, sample), Some(CompletionReason::MaxTokens));
                assert_eq!(
                    (bench.output(id, sample), bench.stats(id, sample).generated_tokens),
                    (&[][..], 0)
                );
            }
        }
    }
    assert_eq!(bench.scheduler.pool().held(), 0);
    let refused = |bench: &mut Bench, asked: Request| bench.scheduler.enqueue(asked, bench.now).err();
    let too_long = EnqueueError::TooLong { tokens: 25, max_model_len: 24 };
    assert_eq!(refused(&mut bench, request(&prompt(25, 5), 0)), Some(too_long));
    let beam = BeamSearch { width: 2, length_penalty: 1.0, early_stopping: EarlyStopping::No };
    let sampling = SamplingParams { beam: Some(beam), ..SamplingParams::greedy() };
    let search = Request { sampling: sampling.into(), ..request(&[1], 0) };
    assert_eq!(refused(&mut bench, search), Some(EnqueueError::Empty { field: "max_tokens" }));
}

/// A sample that is cancelled before the end of the prompt leaves the report to the others.
#[test]
fn cancelled_samples_do_not_stop_a_reading() {
    let mut bench = Bench::with(64, 4, chunks_of(4));
    let asked = Request { samples: 3, ..reading(LOGPROBS, &prompt(21, 6), 0) };
    let id = bench.submit(asked.clone());
    bench.step();
    assert!(bench.scheduler.cancel_sample(id, SampleIndex(0)));
    bench.run();
    check(&bench, &asked, id);
    assert_eq!(bench.reason(id, 0), Some(CompletionReason::Cancelled));
    assert_eq!(bench.reason(id, 2), Some(CompletionReason::MaxTokens));
}

#[test]
fn numbers_that_are_not_finite_end_all_samples_and_leave_the_cache() {
    for report in [LOGPROBS, MEAN] {
        let mut bench = Bench::with(64, 4, chunks_of(8));
        let asked = Request { samples: 2, ..reading(report, &prompt(30, 7), 2) };
        let id = bench.submit(asked.clone());
        bench.step();
        bench.executor.control().set_nan_rows(1_000_000, 1);
        bench.run();
        for sample in 0..2 {
            let failure = Failure::NonFiniteLogits { position: 16 };
            assert_eq!(bench.end(id, sample), Some(&End::Failed(failure)));
        }
        assert_eq!(bench.scheduler.pool().cached(), 0, "{report:?}");
        bench.executor.control().set_nan_rows(0, 1);
        let again = Request { id: RequestId::new(), ..asked };
        let id = bench.submit(again.clone());
        bench.run();
        check(&bench, &again, id);
    }
}
