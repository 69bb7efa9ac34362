//! `/v1/chat/completions`: what is answered.

use crate::client::events;
use crate::server::{Server, Setup};
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn hello(extra: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn answer(server: &Server, body: &Value) -> Value {
    let reply = server.post(PATH, body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn one_body_holds_the_whole_answer() {
    let server = Setup::saying("Good day").start().await;
    let answer = answer(&server, &hello(&json!({"model": "default"}))).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "toy");
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "Good day"}, "logprobs": null,
        "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    assert_eq!(answer["usage"]["prompt_tokens"], "user:hello\n>".len());
    assert_eq!(answer["usage"]["completion_tokens"], "Good day".len() + 1);
}

#[tokio::test]
async fn the_template_makes_the_prompt() {
    let server = Setup::default().start().await;
    let chat = json!({
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        "chat_template_kwargs": {"shout": true}, "max_tokens": 20, "ignore_eos": true,
    });
    let chat = answer(&server, &chat).await;
    // The template has no word for developers, so they are the system.
    let prompt = "system:Be kind.\nuser:a\nb\n!>";
    let plain = json!({"prompt": prompt, "max_tokens": 20, "ignore_eos": true});
    let plain = server.post("/v1/completions", &plain).await.json();
    assert_eq!(chat["choices"][0]["message"]["content"], plain["choices"][0]["text"]);
    assert_eq!(chat["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);
}

#[tokio::test]
async fn no_limit_means_the_room_that_is_left() {
    let server = Setup::repeating("A").start().await;
    let answer = answer(&server, &hello(&json!({"max_completion_tokens": null}))).await;
    assert_eq!(answer["usage"]["total_tokens"], 64);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn samples_interleave_and_each_is_whole() {
    let server = Setup::default().start().await;
    let ask = json!({"n": 4, "max_tokens": 15, "ignore_eos": true});
    let whole = answer(&server, &hello(&ask)).await;
    let mut streaming = hello(&ask);
    streaming["stream"] = true.into();
    let reply = server.post(PATH, &streaming).await;
    let events = events(&reply.body);
    for index in 0..4 {
        let own: Vec<_> = events
            .iter()
            .map(|event| &event["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        assert_eq!(own[0]["delta"], json!({"role": "assistant", "content": ""}));
        assert!(own[1..].iter().all(|choice| choice["delta"]["role"].is_null()));
        let text: String = own.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, whole["choices"][index]["message"]["content"].as_str().unwrap());
        let (last, before) = own.split_last().unwrap();
        assert_eq!(last["finish_reason"], "length");
        assert_eq!(last["delta"], json!({}));
        assert!(before.iter().all(|choice| choice["finish_reason"].is_null()));
    }
    let texts: Vec<_> = (0..4).map(|index| &whole["choices"][index]["message"]["content"]).collect();
    assert_ne!(texts[0], texts[1], "samples differ");
}

#[tokio::test]
async fn logprobs_carry_bytes_and_alternatives() {
    let server = Setup::saying("é").start().await;
    let ask = hello(&json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 2}));
    let whole = answer(&server, &ask).await["choices"][0]["logprobs"].clone();
    assert_eq!(whole["refusal"], Value::Null);
    let first = &whole["content"][0];
    assert_eq!(first["token"], "\u{fffd}");
    assert_eq!(first["bytes"], json!([0xc3]));
    assert_eq!(first["logprob"], -0.25);
    let alternatives: Vec<_> = first["top_logprobs"].as_array().unwrap().iter().collect();
    assert_eq!(alternatives.len(), 2);
    assert_eq!(*alternatives[1], json!({"token": "\u{fffd}", "logprob": -1.25, "bytes": [0xc4]}));
    assert_eq!(whole["content"][1]["bytes"], json!([0xa9]));
    assert_eq!(whole["content"].as_array().unwrap().len(), 2);
    let mut streaming = ask.clone();
    streaming["stream"] = true.into();
    let events = events(&server.post(PATH, &streaming).await.body);
    let pieces = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(json!(pieces.flatten().collect::<Vec<_>>()), whole["content"]);
}

#[tokio::test]
async fn a_model_without_a_template_says_what_to_do() {
    let server = Setup { template: None, ..Setup::saying("x") }.start().await;
    let reply = server.post(PATH, &hello(&json!({}))).await;
    assert_eq!(reply.head.status, 400);
    let error = &reply.json()["error"];
    assert_eq!(error["param"], "messages");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("toy has no chat template"), "{message}");
    assert!(message.contains("/v1/completions"), "{message}");
    // Plain completions are not affected.
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "x"})).await.head.status, 200);
}
