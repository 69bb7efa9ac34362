//! Outputs that have to be something, over HTTP.

use crate::client::events;
use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn ask(path: &str, extra: &Value) -> Value {
    let mut body = match path {
        CHAT => json!({"messages": [{"role": "user", "content": "x"}]}),
        _ => json!({"prompt": "x", "max_tokens": 40}),
    };
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Text and ending of the only choice.
async fn answer(server: &Server, path: &str, extra: &Value) -> (String, String) {
    let reply = server.post(path, &ask(path, extra)).await;
    assert_eq!(reply.head.status, 200, "{extra}: {}", reply.text());
    let choice = &reply.json()["choices"][0];
    let text = if path == CHAT { &choice["message"]["content"] } else { &choice["text"] };
    (text.as_str().unwrap().to_owned(), choice["finish_reason"].as_str().unwrap().to_owned())
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["n"],
        "additionalProperties": false})
}

#[tokio::test]
async fn each_field_is_enforced_by_both_routes() {
    let json = Setup::saying(r#"{"n":77}"#).start().await;
    let schemas = [
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema(), "strict": true}}}),
        json!({"guided_json": schema()}),
        json!({"guided_json": schema().to_string()}),
        json!({"structured_outputs": {"json": schema()}}),
        json!({"json_schema": schema()}),
    ];
    for extra in schemas {
        for path in [COMPLETIONS, CHAT] {
            let expected = (r#"{"n":7}"#.to_owned(), "stop".to_owned());
            assert_eq!(answer(&json, path, &extra).await, expected, "{path} {extra}");
        }
    }
    let server = Setup::repeating("7").start().await;
    let texts = [
        (json!({"guided_regex": "[a-c]{2}7?"}), "aa7"),
        (json!({"structured_outputs": {"regex": "[a-c]{2}"}}), "aa"),
        (json!({"guided_choice": ["yes", "no"]}), "no"),
        (json!({"structured_outputs": {"choice": ["yes", "no"]}}), "no"),
        (json!({"guided_grammar": "start: \"a\" B\nB: /[6-8]/"}), "a7"),
        (json!({"grammar": "root ::= \"a\" [6-8]"}), "a7"),
        (json!({"structured_outputs": {"grammar": "root ::= \"<\" [a-b] \">\""}}), "<a>"),
    ];
    for (extra, expected) in texts {
        for path in [COMPLETIONS, CHAT] {
            let expected = (expected.to_owned(), "stop".to_owned());
            assert_eq!(answer(&server, path, &extra).await, expected, "{path} {extra}");
        }
    }
    for extra in
        [json!({"response_format": {"type": "text"}}), json!({"response_format": null, "guided_json": null})]
    {
        assert_eq!(answer(&server, COMPLETIONS, &extra).await, ("7".repeat(40), "length".to_owned()));
    }
    server.idle().await;
}

#[tokio::test]
async fn an_object_is_json_and_may_be_cut() {
    let server = Setup::saying(r#"{"a": [1, 2]}"#).start().await;
    for extra in [
        json!({"response_format": {"type": "json_object"}}),
        json!({"structured_outputs": {"json_object": true}}),
    ] {
        let expected = (r#"{"a": [1, 2]}"#.to_owned(), "stop".to_owned());
        assert_eq!(answer(&server, CHAT, &extra).await, expected);
        let mut cut = extra;
        cut["max_tokens"] = 5.into();
        assert_eq!(answer(&server, CHAT, &cut).await, (r#"{"a":"#[..5].to_owned(), "length".to_owned()));
    }
}

#[tokio::test]
async fn a_stream_says_the_same_and_samples_are_apart() {
    let server = Setup::default().start().await;
    let body = ask(COMPLETIONS, &json!({"guided_regex": "[a-z]{6}", "n": 4, "logprobs": 1}));
    let whole = server.post(COMPLETIONS, &body).await.json();
    let mut streaming = body.clone();
    streaming["stream"] = true.into();
    let reply = server.post(COMPLETIONS, &streaming).await;
    let mut texts = vec![String::new(); 4];
    for event in events(&reply.body) {
        let choice = &event["choices"][0];
        texts[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()] +=
            choice["text"].as_str().unwrap();
    }
    for (choice, text) in whole["choices"].as_array().unwrap().iter().zip(&texts) {
        assert_eq!(choice["text"], text.as_str());
        assert!(text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 7);
    }
    assert!(texts.iter().any(|text| text != &texts[0]));
    server.idle().await;
}

#[tokio::test]
async fn several_prompts_share_what_they_have_to_be() {
    let server = Setup::repeating("7").start().await;
    let body = json!({"prompt": ["a", "b", "c"], "guided_choice": ["one", "two"]});
    let reply = server.post(COMPLETIONS, &body).await.json();
    let texts: Vec<_> =
        reply["choices"].as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect();
    assert_eq!(texts, ["one", "one", "one"]);
}

#[tokio::test]
async fn what_cannot_be_enforced_is_a_clear_400() {
    let server = Setup::repeating("7").start().await;
    let format = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let deep = (0..50).fold(json!({}), |inner, _| json!({"items": inner}));
    let cases = [
        (
            format(json!({"type": "object", "properties": {"x": {"not": {}}}})),
            "response_format",
            "response_format.json_schema: keyword \"not\" at #/properties/x is not supported",
        ),
        (
            format(json!({"minItems": 1_000_000_000})),
            "response_format",
            "keyword \"minItems\" at # is 1000000000",
        ),
        (format(json!({"$ref": "#"})), "response_format", "leads back to itself"),
        (
            json!({"guided_json": {"$ref": "https://example.com"}}),
            "guided_json",
            "guided_json: keyword \"$ref\" at #",
        ),
        (
            json!({"guided_regex": "a{0,1000000000}"}),
            "guided_regex",
            "repeats something up to 1000000000 times",
        ),
        (json!({"guided_regex": "("}), "guided_regex", "guided_regex: "),
        (json!({"guided_regex": "(".repeat(60_000)}), "guided_regex", "levels"),
        (
            json!({"guided_grammar": format!("start: {}", "(".repeat(60_000))}),
            "guided_grammar",
            "open brackets",
        ),
        (json!({"guided_regex": "a".repeat(70_000)}), "guided_regex", "70000 bytes; allowed: at most 65536"),
        (json!({"guided_json": {"description": "a".repeat(300_000)}}), "guided_json", "bytes; allowed"),
        (json!({"guided_choice": []}), "guided_choice", "no choices"),
        (json!({"guided_choice": vec!["a"; 1001]}), "guided_choice", "1001 choices"),
        (
            json!({"structured_outputs": {"grammar": "start: %json {}"}}),
            "structured_outputs",
            "%json is not supported",
        ),
        (json!({"response_format": {"type": "yaml"}}), "response_format.type", "allowed: text"),
        (json!({"guided_json": true, "guided_regex": "a"}), "guided_regex", "both say"),
        (json!({"guided_json": false}), "guided_json", "no text satisfies"),
        (json!({"guided_regex": "a", "ignore_eos": true}), "ignore_eos", "guided_regex"),
        (json!({"guided_regex": "a", "min_tokens": 3}), "min_tokens", "guided_regex"),
        (json!({"guided_regex": "a", "use_beam_search": true, "n": 2}), "guided_regex", "use_beam_search"),
    ];
    for path in [COMPLETIONS, CHAT] {
        for (extra, param, part) in &cases {
            let reply = server.post(path, &ask(path, extra)).await;
            let shown: String = extra.to_string().chars().take(80).collect();
            assert_eq!(reply.head.status, 400, "{shown}: {}", reply.text());
            let error = &reply.json()["error"];
            assert_eq!(error["param"], *param, "{shown}: {error}");
            assert!(error["message"].as_str().unwrap().contains(part), "{shown}: {error} lacks {part:?}");
        }
        // Nesting that the body itself may not have.
        let reply = server.post(path, &ask(path, &format(deep.clone()))).await;
        assert!(reply.head.status == 200 || reply.head.status == 400);
    }
    assert_eq!(answer(&server, COMPLETIONS, &json!({"guided_choice": ["ok"]})).await.0, "ok");
    server.idle().await;
}

#[tokio::test]
async fn a_constraint_that_cannot_go_on_ends_its_request_alone() {
    let mut setup = Setup { max_model_len: 400, ..Setup::repeating("7") };
    setup.lexer_states = Some(40);
    let server = setup.start().await;
    let stuck = ask(COMPLETIONS, &json!({"guided_regex": "[a-y]{200}", "max_tokens": 300}));
    let reply = server.post(COMPLETIONS, &stuck).await;
    assert_eq!(reply.head.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "constraint_failed");
    let mut streaming = stuck;
    streaming["stream"] = true.into();
    let reply = server.post(COMPLETIONS, &streaming).await;
    assert!(reply.text().contains("constraint_failed"), "{}", reply.text());
    assert_eq!(answer(&server, COMPLETIONS, &json!({"max_tokens": 3})).await.0, "777");
    server.idle().await;
}

#[tokio::test]
async fn what_a_tokenizer_calls_special_is_no_text() {
    let server = Setup { script: Some(vec![toy::EOS]), ..Setup::default() }.start().await;
    // The model wants to end at once, and may only once there is a text.
    assert_eq!(answer(&server, COMPLETIONS, &json!({"guided_regex": "[ab]+"})).await.0, "a");
}
