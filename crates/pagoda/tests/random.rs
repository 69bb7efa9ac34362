//! A public shape with random weights behind the facade.

use pagoda::text::Special;
use pagoda::{Engine, GenerateParams, Prompt};

fn engine() -> Engine {
    let shape = "tiny".parse().expect("a known shape");
    Engine::builder().random(shape, 1).max_model_len(256).threads(1).build().expect("a model without files")
}

#[test]
fn it_generates_from_ids_and_from_text_and_shows_every_token() {
    let engine = engine();
    assert_eq!(engine.model().name(), "tiny");
    let params = || GenerateParams {
        max_tokens: Some(12),
        temperature: Some(0.0),
        ignore_eos: true,
        ..GenerateParams::default()
    };
    let text = "Zwölf Zeichen?";
    let ids = engine.model().tokenizer.encode(text, Special::Add).expect("tokens");
    assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>(), "a byte is a token");
    let from_text = engine.generate(text, params()).expect("accepted").result_blocking().expect("an answer");
    let from_ids = engine
        .generate(Prompt::Tokens(ids), params())
        .expect("accepted")
        .result_blocking()
        .expect("an answer");
    assert_eq!(from_text.tokens_generated, 12);
    assert_eq!(from_text.text, from_ids.text);
    for id in 256..engine.model().vocab_size {
        let word = engine.model().tokenizer.decode(&[id], true);
        assert!(word.starts_with(' ') && word.len() >= 3, "id {id} reads {word:?}");
    }
}
