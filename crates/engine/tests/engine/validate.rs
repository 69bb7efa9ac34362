//! Every limit below, at and above itself, and every default.

use crate::common::{CONTEXT, EOS, VOCAB, prompt, served_model};
use pagoda_engine::{
    GenerateParams, InvalidCode, InvalidRequest, SamplingDefaults, ServedModel, ValidatedRequest,
};

fn validate(params: GenerateParams) -> Result<ValidatedRequest, InvalidRequest> {
    served_model().validate(params)
}

fn base() -> GenerateParams {
    GenerateParams { max_tokens: Some(50), ..prompt("a prompt") }
}

/// Accepts what comes first and refuses what comes second, naming the parameter and what it got.
fn limits<T: Clone + std::fmt::Debug>(
    param: &'static str,
    set: impl Fn(&mut GenerateParams, T),
    accepted: &[T],
    refused: &[(T, &str)],
) {
    let with = |value: &T| {
        let mut params = base();
        set(&mut params, value.clone());
        validate(params)
    };
    for value in accepted {
        if let Err(error) = with(value) {
            panic!("{param} {value:?}: {error}");
        }
    }
    for (value, says) in refused {
        let error = with(value).expect_err(&format!("{param} {value:?}"));
        assert_eq!((error.param, error.code), (param, InvalidCode::InvalidValue), "{value:?}");
        assert!(error.message.contains(says), "{param} {value:?}: {}", error.message);
        assert!(
            error.message.contains("allowed") || error.message.contains("ids of this model"),
            "{}",
            error.message
        );
    }
}

#[test]
fn numbers() {
    let far = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let refused = |more: &[f32]| -> Vec<(f32, &'static str)> {
        far.iter().chain(more).map(|&value| (value, "allowed")).collect()
    };
    let above_one = f32::from_bits(1.0_f32.to_bits() + 1);
    limits(
        "temperature",
        |p, v| p.temperature = Some(v),
        &[0.0, -0.0, 1e-30, 1.0, 100.0],
        &refused(&[-0.001, 100.1]),
    );
    limits("top_p", |p, v| p.top_p = Some(v), &[1e-9, 0.5, 1.0], &refused(&[0.0, -0.5, above_one]));
    limits("min_p", |p, v| p.min_p = Some(v), &[0.0, 0.5, 1.0], &refused(&[-1e-9, above_one]));
    limits(
        "repetition_penalty",
        |p, v| p.repetition_penalty = Some(v),
        &[1e-9, 1.0, 100.0],
        &refused(&[0.0, -1.0, 100.1]),
    );
    let penalties = [-2.0, 0.0, 2.0];
    limits("presence_penalty", |p, v| p.presence_penalty = Some(v), &penalties, &refused(&[-2.001, 2.001]));
    limits("frequency_penalty", |p, v| p.frequency_penalty = Some(v), &penalties, &refused(&[-2.001, 2.001]));
}

#[test]
fn counts() {
    limits(
        "n",
        |p, v| p.n = Some(v),
        &[1, 7, 8],
        &[(0, "n is 0; allowed: 1 to 8"), (9, "9"), (u32::MAX, "8")],
    );
    limits(
        "logprobs",
        |p, v| p.logprobs = Some(v),
        &[0, 19, 20],
        &[(21, "logprobs is 21; allowed: 0 to 20"), (u32::MAX, "20")],
    );
    limits(
        "prompt_logprobs",
        |p, v| p.prompt_logprobs = Some(v),
        &[0, 19, 20],
        &[(21, "prompt_logprobs is 21; allowed: 0 to 20"), (u32::MAX, "20")],
    );
    limits("top_k", |p, v| p.top_k = Some(v), &[-1, 0, 1, i64::MAX], &[(-2, "-2"), (i64::MIN, "top_k")]);
    limits("max_tokens", |p, v| p.max_tokens = Some(v), &[0, 1, u32::MAX], &[]);
    limits("min_tokens", |p, v| p.min_tokens = Some(v), &[0, 49, 50], &[(51, "0 to 50"), (u32::MAX, "50")]);
}

#[test]
fn lists() {
    let stops = |count: usize| vec!["x".to_owned(); count];
    limits("stop", |p, v| p.stop = v, &[stops(0), stops(15), stops(16)], &[(stops(17), "17")]);
    let one = |length: usize| vec!["x".repeat(length)];
    limits("stop", |p, v| p.stop = v, &[one(1), one(255), one(256)], &[(one(257), "257")]);
    let empty = validate(GenerateParams { stop: vec![String::new()], ..base() }).unwrap_err();
    assert_eq!(empty.param, "stop");
    let ids = |count: usize| vec![7; count];
    limits("stop_token_ids", |p, v| p.stop_token_ids = v, &[ids(63), ids(64)], &[(ids(65), "65")]);
    let wide = |count: u32| {
        let model = ServedModel { vocab_size: 5000, ..served_model() };
        let logit_bias = (0..count).map(|token| (token, 1.0)).collect();
        model.validate(GenerateParams { logit_bias, ..base() })
    };
    assert!(wide(1023).is_ok() && wide(1024).is_ok());
    assert!(wide(1025).unwrap_err().message.contains("1025"));
}

#[test]
fn token_ids() {
    let last = VOCAB - 1;
    let outside = [(vec![VOCAB], "257"), (vec![1, u32::MAX], "0 to 256")];
    limits("prompt", |p, v| p.prompt_tokens = v, &[vec![0], vec![last]], &outside);
    limits("stop_token_ids", |p, v| p.stop_token_ids = v, &[vec![0], vec![last]], &outside);
    let bias = |token, value| vec![(token, value)];
    limits(
        "logit_bias",
        |p, v| p.logit_bias = v,
        &[bias(last, 100.0), bias(0, -100.0)],
        &[
            (bias(VOCAB, 1.0), "257"),
            (bias(3, 100.1), "the bias of token 3 is 100.1; allowed: -100 to 100"),
            (bias(3, f32::NAN), "NaN"),
        ],
    );
    let twice = validate(GenerateParams { logit_bias: vec![(3, 1.0), (4, 1.0), (3, 2.0)], ..base() });
    assert!(twice.unwrap_err().message.contains("token 3 is named twice"));
}

#[test]
fn the_prompt_must_leave_room() {
    let empty = validate(GenerateParams::default()).unwrap_err();
    assert_eq!((empty.param, empty.code), ("prompt", InvalidCode::InvalidValue));
    let of = |length: u32| {
        validate(GenerateParams { prompt_tokens: vec![1; length as usize], ..GenerateParams::default() })
    };
    assert_eq!(of(CONTEXT - 2).unwrap().max_tokens(), 2);
    assert_eq!(of(CONTEXT - 1).unwrap().max_tokens(), 1);
    for length in [CONTEXT, CONTEXT + 1, 100_000] {
        let error = of(length).unwrap_err();
        let code = InvalidCode::ContextLengthExceeded { prompt_tokens: length, context: CONTEXT };
        assert_eq!((error.param, error.code), ("prompt", code));
        assert_eq!(error.code.name(), "context_length_exceeded");
        assert!(error.message.contains("This model's maximum context length is 256 tokens"), "{error}");
        assert!(error.message.contains("exceeds the available context size"), "{error}");
        assert!(error.message.contains(&length.to_string()), "{error}");
    }
}

#[test]
fn max_tokens_is_an_upper_bound() {
    let max_tokens = |asked| {
        let params =
            GenerateParams { max_tokens: asked, prompt_tokens: vec![1; 200], ..GenerateParams::default() };
        validate(params).unwrap().max_tokens()
    };
    assert_eq!([max_tokens(Some(1)), max_tokens(Some(55)), max_tokens(Some(56))], [1, 55, 56]);
    assert_eq!([max_tokens(Some(57)), max_tokens(Some(u32::MAX)), max_tokens(None)], [56; 3]);
    let tight = GenerateParams {
        max_tokens: Some(1000),
        min_tokens: Some(900),
        prompt_tokens: vec![1; 200],
        ..GenerateParams::default()
    };
    assert_eq!(validate(tight).unwrap().sampling().min_tokens, 56, "no more than can come");
}

fn with_defaults(defaults: SamplingDefaults, params: GenerateParams) -> ValidatedRequest {
    ServedModel { defaults, ..served_model() }.validate(params).expect("the parameters are valid")
}

#[test]
fn what_the_request_leaves_open_the_model_decides() {
    let defaults = SamplingDefaults {
        temperature: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.95),
        min_p: Some(0.1),
        repetition_penalty: Some(1.1),
    };
    let request = with_defaults(defaults, base());
    let chosen = request.sampling();
    assert_eq!((chosen.temperature, chosen.top_k, chosen.top_p), (0.6, 20, 0.95));
    assert_eq!((chosen.min_p, chosen.repetition_penalty), (0.1, 1.1));
    let asked = GenerateParams {
        temperature: Some(0.0),
        top_k: Some(0),
        top_p: Some(1.0),
        min_p: Some(0.0),
        repetition_penalty: Some(1.0),
        ..base()
    };
    let request = with_defaults(defaults, asked);
    let chosen = request.sampling();
    assert_eq!((chosen.temperature, chosen.top_k, chosen.top_p), (0.0, 0, 1.0));
    assert_eq!((chosen.min_p, chosen.repetition_penalty), (0.0, 1.0));
}

#[test]
fn without_any_default_the_distribution_is_sampled_as_it_is() {
    let request = validate(base()).unwrap();
    let chosen = request.sampling();
    assert_eq!((chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p), (1.0, 0, 1.0, 0.0));
    assert_eq!(
        (chosen.repetition_penalty, chosen.presence_penalty, chosen.frequency_penalty),
        (1.0, 0.0, 0.0)
    );
    assert_eq!((request.samples(), chosen.logprobs, chosen.min_tokens), (1, None, 0));
}

#[test]
fn a_greedy_model_is_greedy_unless_asked() {
    let defaults = SamplingDefaults { temperature: Some(0.0), ..SamplingDefaults::default() };
    assert_eq!(with_defaults(defaults, base()).sampling().temperature, 0.0);
    let asked = GenerateParams { temperature: Some(0.5), ..base() };
    assert_eq!(with_defaults(defaults, asked).sampling().temperature, 0.5);
}

#[test]
fn defaults_are_filled_in_before_values_are_checked() {
    let broken = SamplingDefaults { temperature: Some(f32::NAN), ..SamplingDefaults::default() };
    let model = ServedModel { defaults: broken, ..served_model() };
    assert_eq!(model.validate(base()).unwrap_err().param, "temperature");
    assert!(model.validate(GenerateParams { temperature: Some(1.0), ..base() }).is_ok());
}

#[test]
fn stop_ids_are_the_union_or_the_requests_own() {
    let stop_ids = |ignore_eos, stop_token_ids: &[u32]| {
        let params = GenerateParams { ignore_eos, stop_token_ids: stop_token_ids.to_vec(), ..base() };
        validate(params).unwrap().sampling().stop_ids.clone()
    };
    assert_eq!(*stop_ids(false, &[]), [EOS]);
    assert_eq!(*stop_ids(false, &[9, 3, 9]), [3, 9, EOS]);
    assert!(stop_ids(true, &[]).is_empty());
    assert_eq!(*stop_ids(true, &[9, EOS]), [9, EOS]);
}

#[test]
fn hardly_any_temperature_is_greedy_and_all_tokens_are_no_top_k() {
    let chosen = |params: GenerateParams| validate(params).unwrap().sampling().as_ref().clone();
    assert_eq!(chosen(GenerateParams { temperature: Some(9e-6), ..base() }).temperature, 0.0);
    assert_eq!(chosen(GenerateParams { temperature: Some(2e-5), ..base() }).temperature, 2e-5);
    let top_k = |k| chosen(GenerateParams { top_k: Some(k), ..base() }).top_k;
    assert_eq!([top_k(-1), top_k(0), top_k(256), top_k(257), top_k(i64::MAX)], [0, 0, 256, 0, 0]);
}

#[test]
fn seeds_differ_unless_given() {
    let seed = |seed| validate(GenerateParams { seed, ..base() }).unwrap().sampling().seed;
    assert_ne!(seed(None), seed(None));
    assert_eq!(seed(Some(1234)), 1234);
}

#[test]
fn a_model_answers_to_its_names() {
    let model = ServedModel { names: vec!["tale".to_owned(), "folktale".to_owned()], ..served_model() };
    assert_eq!(model.name(), "tale");
    assert!(["tale", "folktale", "default"].into_iter().all(|name| model.answers_to(name)));
    assert!(!model.answers_to("gpt-4"));
}
