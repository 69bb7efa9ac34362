//! The embedded story model, whose outputs have to be something that no story is.
#![cfg(feature = "embedded-model")]

use pagoda::{Constraint, ConstraintParam, Engine, GenerateParams};
use serde_json::{Value, json};

fn params(constraint: Constraint, max_tokens: u32) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(max_tokens),
        constraint: Some(ConstraintParam { place: "constraint", constraint }),
        ..GenerateParams::default()
    }
}

#[test]
fn a_story_model_writes_json_of_a_schema() {
    let engine = Engine::builder().build().expect("the embedded model loads");
    let schema = json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 40},
            "heroes": {"type": "array", "items": {"enum": ["fox", "wolf", "king"]}, "minItems": 1, "maxItems": 3},
            "pages": {"type": "integer", "minimum": 1, "maximum": 99},
            "happy": {"type": "boolean"},
        },
        "required": ["title", "heroes", "pages", "happy"],
        "additionalProperties": false,
    });
    for (temperature, n) in [(0.0, 1), (0.9, 6)] {
        let ask = GenerateParams {
            temperature: Some(temperature),
            n: Some(n),
            seed: Some(7),
            ..params(Constraint::JsonSchema(schema.clone()), 900)
        };
        for session in engine.generate_samples("Once upon a time", ask).expect("the request is valid") {
            let text = session.result_blocking().expect("it finishes").text;
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let heroes = value["heroes"].as_array().expect("heroes");
            assert!(value["title"].as_str().expect("a title").chars().count() <= 40, "{text}");
            assert!((1..=3).contains(&heroes.len()), "{text}");
            assert!(
                heroes.iter().all(|hero| ["fox", "wolf", "king"].iter().any(|known| hero == known)),
                "{text}"
            );
            assert!((1..=99).contains(&value["pages"].as_i64().expect("pages")), "{text}");
            assert!(
                value["happy"].is_boolean() && value.as_object().expect("an object").len() == 4,
                "{text}"
            );
        }
    }
}

#[test]
fn a_constraint_of_one_leaves_the_story_of_another_as_it_is() {
    let engine = Engine::builder().build().expect("the embedded model loads");
    let story = GenerateParams { max_tokens: Some(40), temperature: Some(0.0), ..GenerateParams::default() };
    let start = |params: GenerateParams| {
        engine.generate("There was once a king", params).expect("the request is valid")
    };
    let alone = start(story.clone()).result_blocking().expect("it finishes");
    let choices = vec!["the wolf".to_owned(), "the fox".to_owned()];
    let (one, other) = (start(story), start(params(Constraint::Choice(choices.clone()), 40)));
    let chosen = other.result_blocking().expect("it finishes").text;
    assert!(choices.contains(&chosen), "{chosen}");
    assert_eq!(one.result_blocking().expect("it finishes").token_ids, alone.token_ids);
}
