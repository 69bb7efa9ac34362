//! Beam search and `best_of` through the engine.

use crate::common::{Running, Setup, bytes, metric, prompt, prompt_for, served_model};
use pagoda_engine::{
    EarlyStopping, GenerateParams, RequestResult, SamplingDefaults, ServedModel, SubmitError, best_of,
};
use pagoda_sched::{BeamSearch, SamplingParams};

fn searched(text: &str, max_tokens: u32, n: u32) -> GenerateParams {
    GenerateParams { use_beam_search: true, n: Some(n), ..prompt_for(text, max_tokens) }
}

fn results(engine: &Running, params: GenerateParams) -> Vec<RequestResult> {
    engine
        .sessions(params)
        .into_iter()
        .map(|session| session.result_blocking().expect("it runs to its end"))
        .collect()
}

#[test]
fn a_search_answers_the_best_output_in_the_first_session() {
    let engine = Setup::default().start();
    let params = GenerateParams {
        best_of: Some(5),
        length_penalty: Some(0.5),
        early_stopping: Some(EarlyStopping::Never),
        ..searched("beams", 12, 3)
    };
    let beam = BeamSearch { width: 5, length_penalty: 0.5, early_stopping: EarlyStopping::Never };
    let sampling = SamplingParams { beam: Some(beam), ..SamplingParams::greedy() };
    let expected = engine.fake.beam_answers(&bytes("beams"), &sampling, 12);
    let found = results(&engine, params);
    assert_eq!(found.len(), 3);
    for (result, expected) in found.iter().zip(&expected) {
        assert_eq!(result.token_ids, expected.tokens);
        let score = result.cumulative_logprob / f64::from(result.tokens_generated).powf(0.5);
        assert!((score - expected.score).abs() < 1e-9);
    }
    let page = engine.handle.metrics_text();
    assert_eq!(metric(&page, "vllm:inter_token_latency_seconds_count", ""), 0.0, "the tokens came together");
    engine.finish();
}

#[test]
fn dropping_all_sessions_ends_the_search() {
    let (engine, gate) = Setup::default().start_gated();
    let mut sessions = engine.sessions(searched("gone", 200, 2));
    gate.steps(3);
    gate.wait();
    drop(sessions.pop());
    gate.release();
    gate.wait();
    drop(sessions);
    drop(gate);
    engine.finish();
}

#[test]
fn the_best_of_several_samples_are_those_of_highest_mean() {
    let engine = Setup::default().start();
    let all = results(&engine, GenerateParams { n: Some(4), logprobs: Some(0), ..prompt_for("four", 9) });
    let request = engine.handle.model().validate(GenerateParams {
        n: Some(2),
        best_of: Some(4),
        ..prompt_for("four", 9)
    });
    let request = request.unwrap();
    assert_eq!((request.samples(), request.returned()), (4, 2));
    let sessions = engine.handle.submit(request).unwrap();
    let drawn: Vec<_> = sessions.into_iter().map(|session| session.result_blocking().unwrap()).collect();
    let mean = |result: &RequestResult| result.cumulative_logprob / 9.0;
    assert!(all.iter().all(|result| result.cumulative_logprob < 0.0));
    let mut means: Vec<f64> = all.iter().map(mean).collect();
    means.sort_by(|one, other| other.total_cmp(one));
    let best = best_of(drawn, 2);
    assert_eq!(best.iter().map(mean).collect::<Vec<_>>(), means[..2]);
    engine.finish();
}

#[test]
fn what_a_search_excludes_is_named() {
    let model = served_model();
    let search = || GenerateParams { use_beam_search: true, ..prompt("x") };
    type Change = fn(&mut GenerateParams);
    let cases: [(&str, Change); 11] = [
        ("temperature", |p| p.temperature = Some(0.5)),
        ("top_k", |p| p.top_k = Some(5)),
        ("top_p", |p| p.top_p = Some(0.9)),
        ("min_p", |p| p.min_p = Some(0.1)),
        ("repetition_penalty", |p| p.repetition_penalty = Some(1.1)),
        ("presence_penalty", |p| p.presence_penalty = Some(1.0)),
        ("frequency_penalty", |p| p.frequency_penalty = Some(1.0)),
        ("logit_bias", |p| p.logit_bias = vec![(3, 1.0)]),
        ("stop", |p| p.stop = vec!["x".into()]),
        ("length_penalty", |p| p.length_penalty = Some(f32::NAN)),
        ("best_of", |p| (p.n, p.best_of) = (Some(3), Some(2))),
    ];
    for (param, change) in cases {
        let mut params = search();
        change(&mut params);
        assert_eq!(model.validate(params).unwrap_err().param, param);
    }
    let off = GenerateParams {
        temperature: Some(0.0),
        top_k: Some(-1),
        top_p: Some(1.0),
        repetition_penalty: Some(1.0),
        ..search()
    };
    assert!(model.validate(off).is_ok());
    for (param, change) in [
        ("length_penalty", (|p| p.length_penalty = Some(2.0)) as Change),
        ("early_stopping", |p| p.early_stopping = Some(EarlyStopping::Yes)),
    ] {
        let mut params = prompt("x");
        change(&mut params);
        assert_eq!(model.validate(params).unwrap_err().param, param);
    }
}

#[test]
fn a_search_leaves_the_defaults_of_the_model_aside() {
    let defaults = SamplingDefaults {
        temperature: Some(0.6),
        repetition_penalty: Some(1.2),
        ..SamplingDefaults::default()
    };
    let model = ServedModel { defaults, ..served_model() };
    let request = model.validate(searched("x", 5, 2)).unwrap();
    let sampling = request.sampling();
    assert_eq!((sampling.temperature, sampling.repetition_penalty), (0.0, 1.0));
    assert_eq!(sampling.beam.map(|beam| beam.width), Some(2));
}

#[test]
fn beams_count_as_rows() {
    let mut setup = Setup::default();
    setup.config.scheduler.max_num_seqs = 4;
    let engine = setup.start();
    let wide = GenerateParams { best_of: Some(5), ..searched("x", 5, 1) };
    let request = engine.handle.model().validate(wide).unwrap();
    assert_eq!(
        engine.handle.submit(request).unwrap_err(),
        SubmitError::TooManySamples { samples: 5, rows: 4 }
    );
    engine.finish();
}
