//! The library as an embedder uses it.
#![cfg(feature = "embedded-model")]

use pagoda::sched::fake::FakeExecutor;
use pagoda::{
    BuildError, Engine, EngineState, GenerateError, GenerateParams, RequestError, ServedModel, SessionEvent,
    embedded,
};
use std::sync::Arc;

fn greedy(max_tokens: u32) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(max_tokens),
        temperature: Some(0.0),
        ignore_eos: true,
        ..GenerateParams::default()
    }
}

fn served() -> Arc<ServedModel> {
    let tokenizer = embedded::tokenizer().expect("the embedded tokenizer loads");
    Arc::new(ServedModel::new("fake", Arc::new(tokenizer), 256))
}

#[test]
fn deltas_join_to_the_result() {
    let engine = Engine::builder().build().expect("the embedded model loads");
    let mut session = engine.generate("Once upon a time", greedy(24)).expect("the request is valid");
    let (mut joined, mut result) = (String::new(), None);
    while let Some(event) = session.next_blocking() {
        match event {
            SessionEvent::Delta { text, .. } => joined.push_str(&text),
            SessionEvent::Finished(end) => result = Some(end),
            SessionEvent::Prompt(_) => panic!("nothing was asked of the prompt"),
            SessionEvent::Failed(error) => panic!("{error}"),
        }
    }
    let result = result.expect("the stream ends with a result");
    assert_eq!((joined, 24), (result.text, result.tokens_generated));
}

#[test]
fn a_second_request_of_the_same_prompt_hits_the_cache_and_answers_the_same() {
    let engine = Engine::builder().build().expect("the embedded model loads");
    let prompt = "There was once a poor woodcutter who lived at the edge of a great forest with his wife and his two \
                  children; the boy was called Hansel and the girl Gretel.";
    let run = || engine.generate(prompt, greedy(16)).expect("the request is valid").result_blocking();
    let (cold, warm) = (run().expect("it finishes"), run().expect("it finishes"));
    assert_eq!(cold.cached_tokens, 0);
    assert!(warm.cached_tokens >= 16, "{} tokens cached", warm.cached_tokens);
    assert_eq!(cold.token_ids, warm.token_ids);
}

#[test]
fn bad_requests_are_refused_before_they_start() {
    let engine = Engine::builder().build().expect("the embedded model loads");
    let refused = engine.generate("x", GenerateParams { temperature: Some(f32::NAN), ..greedy(1) });
    match refused {
        Err(GenerateError::Invalid(invalid)) => assert_eq!(invalid.param, "temperature"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(engine.generate(vec![4096], greedy(1)), Err(GenerateError::Invalid(_))));
}

#[test]
fn a_missing_model_is_named() {
    let error = Engine::builder().model("/no/such/model").build().expect_err("there is no such folder");
    assert!(matches!(error, BuildError::Model(_)) && error.to_string().contains("/no/such/model"), "{error}");
}

#[test]
fn a_panic_of_the_backend_ends_streams_and_shows_in_join() {
    let capacity = FakeExecutor::capacity_of(64, 16, 256, 4096);
    let executor = FakeExecutor::new(capacity).panicking_at(3);
    let engine = Engine::builder().build_with(served(), executor).expect("the engine starts");
    let session = engine.generate("Once upon a time", greedy(64)).expect("the request is valid");
    assert_eq!(session.result_blocking(), Err(RequestError::EngineFailed));
    assert_eq!(engine.handle().state(), EngineState::Failed);
    assert!(!engine.handle().health().is_ready());
    assert!(engine.join().is_err());
}
