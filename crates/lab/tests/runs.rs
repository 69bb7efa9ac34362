//! Runs in virtual time: every request ends, and the report says what happened.

use pagoda_lab::{
    Process, Report, Rule, RuleSet, Setup, Shape, Slo, Source, StepCost, Workload, compare, pages, pictures,
    run,
};
use pagoda_sched::SchedulerConfig;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A machine on which a step of one row takes 11 ms.
fn setup() -> Setup {
    let cost = StepCost { base_s: 0.010, token_s: 0.001, ..StepCost::NONE };
    Setup { cost, ..Setup::default() }
}

fn with(config: SchedulerConfig) -> Setup {
    Setup { config, ..setup() }
}

fn source(shape: Shape, process: Process, requests: u64) -> Source {
    Source::Workload(Workload { shape, process, requests, seed: 1 })
}

fn done(source: &Source, setup: &Setup) -> Report {
    run(source, setup).expect("the setup makes sense")
}

fn close(value: f64, expected: f64) -> bool {
    (value / expected - 1.0).abs() < 0.005
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pagoda-lab-{}-{name}", std::process::id()));
    fs::write(&path, text).expect("a file can be written");
    path
}

#[test]
fn one_request_takes_what_its_steps_cost() {
    let report = done(&source(Shape::Fixed { prompt: 100, output: 11 }, Process::Burst, 1), &setup());
    let times = &report.latencies;
    assert_eq!(report.outcomes.finished, 1);
    assert!(close(times.ttft_s.p50, 0.110) && times.queue_s.max == 0.0, "{times:?}");
    assert!(close(times.itl_s.p50, 0.011) && times.itl_s.count == 10, "{times:?}");
    assert!(close(times.e2e_s.p50, 0.110 + 10.0 * 0.011) && close(report.seconds, 0.220));
    assert!(close(report.throughput.output_tok_s, 11.0 / 0.220), "{:?}", report.throughput);
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another() {
    let of = |seed| {
        let process = Process::Poisson { rate: 3.0 };
        done(&Source::Workload(Workload { shape: Shape::Classes, process, requests: 200, seed }), &setup())
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1).latencies, of(2).latencies);
}

#[test]
fn every_request_of_every_shape_ends() {
    for shape in [Shape::Chat, Shape::Agents, Shape::Long, Shape::Classes, Shape::Tenants, Shape::Overload] {
        for without in [RuleSet::NONE, RuleSet::all()] {
            for process in [Process::Poisson { rate: 5.0 }, Process::Burst, Process::Clients(20)] {
                let setup = Setup { without, ..setup() };
                let report = done(&source(shape, process, 120), &setup);
                let outcomes = report.outcomes;
                assert_eq!(
                    (outcomes.requests, outcomes.finished),
                    (120, 120),
                    "{shape}, {without}, {process:?}"
                );
                assert!(!report.to_string().contains("NaN"), "{report}");
            }
        }
    }
}

#[test]
fn clients_wait_for_their_answers() {
    let report = done(&source(Shape::Fixed { prompt: 10, output: 20 }, Process::Clients(3), 60), &setup());
    assert_eq!((report.outcomes.finished, report.throughput.peak_running), (60, 3));
    assert_eq!(report.timeline.samples.iter().map(|sample| sample.waiting).max(), Some(0));
}

#[test]
fn a_full_queue_refuses_and_the_impatient_leave() {
    let config = SchedulerConfig { max_num_seqs: 2, max_waiting_requests: 5, ..setup().config };
    let shape = Shape::Fixed { prompt: 10, output: 50 };
    let report = done(&source(shape, Process::Burst, 40), &with(config));
    assert_eq!((report.outcomes.refused, report.outcomes.finished), (35, 5));
    let clients = done(&source(shape, Process::Clients(9), 40), &with(config));
    assert_eq!(clients.outcomes.refused + clients.outcomes.finished, 40);
    assert!(
        clients.outcomes.finished >= 15,
        "refused clients try again when there is room: {:?}",
        clients.outcomes
    );
    let hasty = Setup {
        queue_timeout: Some(Duration::from_secs(1)),
        ..with(SchedulerConfig { max_waiting_requests: 99, ..config })
    };
    let report = done(&source(shape, Process::Burst, 40), &hasty);
    assert_eq!(report.outcomes.expired + report.outcomes.finished, 40);
    assert!(report.outcomes.expired > 30 && report.latencies.queue_s.max <= 1.0, "{:?}", report.outcomes);
}

#[test]
fn good_answers_are_those_that_keep_every_limit() {
    let of = |slo| {
        let setup = Setup { slo, ..setup() };
        done(&source(Shape::Fixed { prompt: 100, output: 11 }, Process::Clients(1), 10), &setup).throughput
    };
    let all = of(Slo::default());
    assert_eq!(all.goodput_per_s, all.requests_per_s);
    assert_eq!(
        of(Slo { ttft: Some(0.12), tpot: Some(0.012), e2e: Some(0.23) }).goodput_per_s,
        all.requests_per_s
    );
    for slo in [
        Slo { ttft: Some(0.1), ..Slo::default() },
        Slo { tpot: Some(0.01), ..Slo::default() },
        Slo { e2e: Some(0.2), ..Slo::default() },
    ] {
        assert_eq!(of(slo).goodput_per_s, 0.0, "{slo:?}");
    }
}

#[test]
fn shared_prefixes_are_found_unless_the_cache_is_off() {
    let agents = source(Shape::Agents, Process::Poisson { rate: 0.5 }, 100);
    let hits = done(&agents, &setup()).cache.hit_percent;
    assert!(hits > 60.0, "{hits}");
    for rule in [Rule::PrefixCache, Rule::PagedKv] {
        let setup = Setup { without: [rule].into_iter().collect(), ..setup() };
        assert_eq!(done(&agents, &setup).cache.found_tokens, 0, "{rule:?}");
    }
}

#[test]
fn a_trace_runs_as_it_was_recorded() {
    let path = file(
        "runs.csv",
        "arrival_s,prompt_tokens,output_tokens,max_tokens,class,tenant\n\
         10,100,11,500,normal,a\n20,100,11,11,high,b\n20,40000,1,1,low,b\n",
    );
    let report = done(&Source::Trace(path.clone()), &setup());
    fs::remove_file(&path).expect("the file exists");
    assert_eq!((report.outcomes.finished, report.outcomes.refused), (2, 1), "the last prompt is too long");
    assert!(close(report.seconds, 10.220), "{}", report.seconds);
    assert!(close(report.latencies.e2e_s.max, 0.220));
    let names =
        |groups: &[pagoda_lab::Group]| groups.iter().map(|group| group.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&report.classes), ["low", "normal", "high"]);
    assert_eq!(names(&report.tenants), ["a", "b"]);
}

#[test]
fn a_wrong_trace_ends_the_run_at_its_line() {
    let path = file("wrong.csv", "arrival_s,prompt_tokens,output_tokens\n5,1,1\n4,1,1\n");
    let message = run(&Source::Trace(path.clone()), &setup()).expect_err("unsorted").to_string();
    fs::remove_file(&path).expect("the file exists");
    assert!(message.contains("line 3, arrival_s"), "{message}");
}

#[test]
fn setups_that_make_no_sense_say_why() {
    let fails = |setup: Setup| {
        run(&source(Shape::Chat, Process::Burst, 1), &setup).expect_err("no sense").to_string()
    };
    let base = setup();
    let target = |ms| SchedulerConfig { itl_target: Some(Duration::from_millis(ms)), ..base.config };
    for (setup, named) in [
        (with(target(10)), "ITL target of 10 ms is below the 11.0 ms"),
        (Setup { block_size: 0, ..setup() }, "block_size is 0"),
        (Setup { kv_blocks: u32::MAX, ..setup() }, "exceed the 2^32 slots"),
        (Setup { cost: StepCost { base_s: f64::NAN, ..base.cost }, ..setup() }, "base_s is NaN"),
        (with(SchedulerConfig { max_num_batched_tokens: 3, ..base.config }), "max_num_batched_tokens (3)"),
    ] {
        let message = fails(setup);
        assert!(message.contains(named), "{message}");
    }
    assert!(run(&source(Shape::Chat, Process::Burst, 1), &with(target(11))).is_ok());
}

#[test]
fn a_comparison_has_a_run_for_each_rule_and_ratios_to_the_first() {
    let chat = source(Shape::Chat, Process::Poisson { rate: 1.0 }, 60);
    let runs = compare(&chat, &setup()).expect("the setup makes sense");
    let names = runs.names();
    assert_eq!((names.len(), names[0].as_str(), names[6].as_str()), (7, "all rules", "no rules"));
    let text = runs.to_string();
    assert!(names.iter().all(|name| text.contains(name.as_str())), "{text}");
    assert!(text.lines().nth(4).is_some_and(|line| line.contains("1.00")), "{text}");
    let (svg, page) = (pictures(&runs), pages(&runs, &text));
    for picture in [&svg, &page] {
        assert!(picture.contains("without paged-kv") && !picture.contains("NaN"));
    }
    assert!(page.starts_with("<!doctype html>"));
    let read: pagoda_lab::Comparison =
        serde_json::from_str(&serde_json::to_string(&runs).expect("plain data")).expect("the same data");
    assert_eq!(read.names(), names);
}

#[test]
fn tenants_that_compete_are_served_by_their_weights() {
    let heavy = source(Shape::Tenants, Process::Poisson { rate: 40.0 }, 3_000);
    let config = SchedulerConfig { max_num_seqs: 16, ..setup().config };
    let of = |weights: &[(&str, &str)], without: &[Rule]| {
        let weights =
            weights.iter().map(|(name, weight)| ((*name).to_owned(), weight.parse().expect("a weight")));
        let setup =
            Setup { weights: weights.collect(), without: without.iter().copied().collect(), ..with(config) };
        done(&heavy, &setup)
    };
    let fair = of(&[], &[]).jain.expect("competition");
    let weighted = of(&[("heavy", "3")], &[]).jain.expect("competition");
    let line = of(&[], &[Rule::Classes]).jain.expect("competition");
    println!("Jain's index: {fair:.3}, {weighted:.3} with weights, {line:.3} in one line");
    assert!(fair >= 0.95 && weighted >= 0.95, "{fair} and {weighted}");
    assert!(line < 0.75, "offered load is 10 to 1: {line}");
}
