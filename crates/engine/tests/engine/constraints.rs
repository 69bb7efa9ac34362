//! Outputs that have to be something: alone, in company, preempted, and when it cannot go on.

use crate::common::{EOS, Running, Setup, bytes, decode, prompt_for, served_model};
use pagoda_engine::{Constraint, ConstraintParam, GenerateParams, RequestError, RequestResult, ServedModel};
use pagoda_sched::{CompletionReason, Failure};

fn constrained(constraint: Constraint, text: &str, max_tokens: u32) -> GenerateParams {
    GenerateParams {
        constraint: Some(ConstraintParam { place: "guided_test", constraint }),
        ignore_eos: false,
        ..prompt_for(text, max_tokens)
    }
}

fn regex(pattern: &str, text: &str, max_tokens: u32) -> GenerateParams {
    constrained(Constraint::Regex(pattern.to_owned()), text, max_tokens)
}

fn choice(choices: &[&str]) -> Constraint {
    Constraint::Choice(choices.iter().map(|&text| text.to_owned()).collect())
}

fn result(engine: &Running, params: GenerateParams) -> RequestResult {
    engine.session(params).result_blocking().expect("it runs to its end")
}

#[test]
fn the_output_is_what_it_has_to_be_whatever_the_model_wants() {
    let engine = Setup::saying("xxxxxxx").start();
    // From x on, round the bytes, the first that is allowed.
    let answer = result(&engine, constrained(choice(&["yes", "no"]), "a question", 20));
    assert_eq!((answer.text.as_str(), answer.reason), ("yes", CompletionReason::Eos));
    assert_eq!(answer.token_ids.last(), Some(&EOS));
    let answer = result(&engine, regex("[0-9]{4}", "a question", 20));
    assert_eq!((answer.text.as_str(), answer.reason), ("0000", CompletionReason::Eos));
    engine.finish();
}

#[test]
fn an_output_that_satisfies_it_is_left_as_it_is() {
    let text = r#"{"name": "Gretel", "age": 9}"#;
    let mut script = bytes(text);
    script.push(EOS);
    let engine = Setup::default().script(script).start();
    let schema = serde_json::json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"], "additionalProperties": false});
    for constraint in [Constraint::JsonSchema(schema), Constraint::JsonObject] {
        let answer = result(&engine, constrained(constraint, "who", 60));
        assert_eq!((answer.text.as_str(), answer.reason), (text, CompletionReason::Eos));
    }
    engine.finish();
}

#[test]
fn limits_and_stops_are_obeyed_as_ever() {
    let engine = Setup::saying("abcdefgh").start();
    let letters =
        |extra: GenerateParams| GenerateParams { constraint: regex("[a-z]*", "p", 9).constraint, ..extra };
    let answer = result(&engine, letters(regex("", "p", 3)));
    assert_eq!((answer.text.as_str(), answer.reason), ("abc", CompletionReason::MaxTokens));
    let stopped = GenerateParams { stop: vec!["de".to_owned()], ..letters(regex("", "p", 9)) };
    let answer = result(&engine, stopped);
    assert_eq!((answer.text.as_str(), answer.reason), ("abc", CompletionReason::StopString("de".to_owned())));
    let by_id = GenerateParams { stop_token_ids: vec![u32::from(b'd')], ..letters(regex("", "p", 9)) };
    let answer = result(&engine, by_id);
    assert_eq!((answer.text.as_str(), answer.reason), ("abc", CompletionReason::Eos));
    // A stop id that is no text of the constraint ends it where it may end.
    let script = vec![u32::from(b'a'), u32::from(b'!')];
    let engine = Setup::default().script(script).start();
    let beyond = GenerateParams { stop_token_ids: vec![u32::from(b'!')], ..regex("[a-z]{1,9}", "p", 9) };
    let answer = result(&engine, beyond);
    assert_eq!((answer.text.as_str(), answer.reason), ("a", CompletionReason::Eos));
    engine.finish();
}

#[test]
fn every_sample_goes_its_own_way() {
    let engine = Setup::default().start();
    let params = GenerateParams { n: Some(6), ..regex("([a-z]{2}-){3}[0-9]+!", "many ways", 60) };
    let texts: Vec<String> = engine
        .sessions(params)
        .into_iter()
        .map(|session| session.result_blocking().expect("an end").text)
        .collect();
    for text in &texts {
        let parts: Vec<&str> = text.split('-').collect();
        let (number, letters) = parts.split_last().expect("parts");
        assert!(letters.len() == 3 && letters.iter().all(|part| part.len() == 2), "{text}");
        let digits = number.strip_suffix('!').unwrap_or(number);
        assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    }
    assert!(texts.iter().any(|text| text != &texts[0]), "samples differ");
    engine.finish();
}

/// Texts of `count` constrained requests at once, and how often they were preempted.
fn crowd(blocks: u32, count: u32) -> (Vec<String>, u32) {
    let (engine, gate) = Setup::with_blocks(blocks).start_gated();
    let pattern = "([a-z]+[0-9] ){8}end";
    let sessions: Vec<_> = (0..count)
        .map(|index| {
            let params = regex(pattern, &format!("request {index} of a crowd"), 120);
            engine.session(params)
        })
        .collect();
    // They run side by side from the first step on.
    drop(gate);
    let results: Vec<_> =
        sessions.into_iter().map(|session| session.result_blocking().expect("an end")).collect();
    engine.finish();
    (
        results.iter().map(|result| result.text.clone()).collect(),
        results.iter().map(|result| result.preemptions).sum(),
    )
}

#[test]
fn preemption_does_not_change_what_follows() {
    let (calm, none) = crowd(512, 6);
    let (pressed, preempted) = crowd(60, 6);
    assert_eq!(none, 0);
    assert!(preempted > 0, "the pool is too small for all");
    assert_eq!(calm, pressed);
}

#[test]
fn a_constraint_that_cannot_go_on_ends_its_own_request() {
    let mut model = served_model();
    model.limits.grammar.lexer_states = 40;
    let engine = Setup { model, ..Setup::default() }.start();
    let plain = prompt_for("a neighbour", 100);
    let alone = result(&engine, plain.clone());
    let neighbour = engine.session(plain);
    // Each letter is a state of its own, so that the limit is met on the way.
    let stuck = engine.session(regex("[a-y]{200}", "stuck", 250));
    let error = stuck.result_blocking().expect_err("it cannot go on");
    let RequestError::Model(Failure::Constraint { position }) = error else { panic!("{error}") };
    assert!((6..205).contains(&position), "{position}");
    let beside = neighbour.result_blocking().expect("its end");
    assert_eq!((alone.token_ids, alone.reason), (beside.token_ids, beside.reason));
    assert_eq!(result(&engine, constrained(choice(&["yes"]), "after it", 9)).text, "yes");
    engine.finish();
}

#[test]
fn what_excludes_a_constraint_is_named() {
    let model = served_model();
    let refused = |params: GenerateParams| {
        let error = model.validate(params).expect_err("it is refused");
        (error.param, error.message)
    };
    let yes = || constrained(choice(&["yes"]), "p", 9);
    let (param, message) = refused(GenerateParams { ignore_eos: true, ..yes() });
    assert_eq!(param, "ignore_eos");
    assert!(message.contains("guided_test"), "{message}");
    assert_eq!(refused(GenerateParams { min_tokens: Some(2), ..yes() }).0, "min_tokens");
    let (param, message) = refused(GenerateParams { use_beam_search: true, n: Some(2), ..yes() });
    assert_eq!(param, "guided_test");
    assert!(message.contains("use_beam_search"), "{message}");
    let (param, message) = refused(constrained(Constraint::Regex("(".to_owned()), "p", 9));
    assert_eq!(param, "guided_test");
    assert!(message.starts_with("guided_test: "), "{message}");
    assert!(model.validate(GenerateParams { min_tokens: Some(0), ..yes() }).is_ok());
}

#[test]
fn a_model_without_an_end_cannot_be_constrained() {
    let model = ServedModel { stop_ids: Box::default(), ..served_model() };
    let error = model.validate(constrained(Constraint::JsonObject, "p", 9)).expect_err("it is refused");
    assert!(error.message.contains("no end-of-sequence token"), "{error}");
    assert!(model.prepare_constraints().is_err());
    assert!(served_model().prepare_constraints().is_ok());
}

#[test]
fn constraints_beyond_those_that_are_kept_compile_again() {
    let engine = Setup::saying("z").start();
    for _ in 0..2 {
        for index in 0..20 {
            let answer = result(&engine, constrained(choice(&[&format!("answer {index}")]), "p", 20));
            assert_eq!(answer.text, format!("answer {index}"));
        }
    }
    assert_eq!(decode(&bytes("ok")), "ok");
    engine.finish();
}
