//! `/v1/embeddings`.

use crate::server::{Server, Setup};
use crate::toy;
use pagoda_sched::fake::FakeModel;
use pagoda_sched::{Pooling, PromptReport};
use serde_json::{Value, json};

const PATH: &str = "/v1/embeddings";

async fn answer(server: &Server, body: &Value) -> Value {
    let reply = server.post(PATH, body).await;
    assert_eq!(reply.head.status, 200, "{body}: {}", reply.text());
    reply.json()
}

/// The unit vector that a text should have.
fn expected(text: &str, pooling: Pooling, dimensions: usize) -> Vec<f32> {
    let model = FakeModel::new(toy::VOCAB);
    let sum = model.prompt_hidden(&toy::ids(text), PromptReport::Hidden(pooling));
    let kept = &sum[..dimensions];
    let length = kept.iter().map(|element| element * element).sum::<f64>().sqrt();
    kept.iter().map(|element| (element * (1.0 / length)) as f32).collect()
}

fn numbers(embedding: &Value) -> Vec<f32> {
    embedding.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// The bytes of a text in base64.
fn bytes(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no letter of base64"),
    };
    let letters: Vec<u8> = text.bytes().filter(|&letter| letter != b'=').map(value).collect();
    let bits = letters.iter().flat_map(|&letter| (0..6).rev().map(move |bit| letter >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[tokio::test]
async fn a_text_becomes_a_unit_vector() {
    let server = Setup::default().start().await;
    let reply = answer(&server, &json!({"model": "toy", "input": "some text", "user": "x"})).await;
    assert_eq!((&reply["object"], &reply["model"]), (&json!("list"), &json!("toy")));
    assert_eq!(reply["usage"], json!({"prompt_tokens": 9, "total_tokens": 9}));
    let data = reply["data"].as_array().unwrap();
    assert_eq!((data.len(), &data[0]["object"], &data[0]["index"]), (1, &json!("embedding"), &json!(0)));
    assert_eq!(numbers(&data[0]["embedding"]), expected("some text", Pooling::Mean, 8));
    let last = answer(&server, &json!({"input": "some text", "pooling": "last"})).await;
    assert_eq!(numbers(&last["data"][0]["embedding"]), expected("some text", Pooling::Last, 8));
    assert_eq!(server.metric("vllm:generation_tokens_total").await, 0);
    assert_eq!(server.metric("vllm:prompt_tokens_total").await, 18);
    server.idle().await;
}

#[tokio::test]
async fn inputs_have_four_shapes_and_keep_their_order() {
    let server = Setup::default().start().await;
    let vectors = async |input: Value| -> Vec<Vec<f32>> {
        let reply = answer(&server, &json!({"input": input})).await;
        reply["data"].as_array().unwrap().iter().map(|item| numbers(&item["embedding"])).collect()
    };
    let one = expected("one", Pooling::Mean, 8);
    assert_eq!(vectors(json!("one")).await, std::slice::from_ref(&one));
    assert_eq!(vectors(json!(toy::ids("one"))).await, std::slice::from_ref(&one));
    assert_eq!(vectors(json!(["one"])).await, std::slice::from_ref(&one));
    assert_eq!(vectors(json!([toy::ids("one"), toy::ids("x")])).await[0], one);
    // More than the queue of the engine could hold at once, of all lengths.
    let texts: Vec<String> = (0..300).map(|index| "t".repeat(1 + index * 7 % 64)).collect();
    for (vector, text) in vectors(json!(texts)).await.iter().zip(&texts) {
        assert_eq!(vector, &expected(text, Pooling::Mean, 8), "{text}");
    }
    server.idle().await;
}

#[tokio::test]
async fn numbers_come_as_text_too() {
    let server = Setup::default().start().await;
    let body = json!({"input": ["a", "bc"], "encoding_format": "base64"});
    for (item, text) in answer(&server, &body).await["data"].as_array().unwrap().iter().zip(["a", "bc"]) {
        let bytes = bytes(item["embedding"].as_str().unwrap());
        let numbers: Vec<f32> =
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers, expected(text, Pooling::Mean, 8));
    }
}

#[tokio::test]
async fn fewer_dimensions_are_scaled_anew() {
    let server = Setup::default().start().await;
    for dimensions in [1, 5, 8] {
        let reply = answer(&server, &json!({"input": "text", "dimensions": dimensions})).await;
        assert_eq!(numbers(&reply["data"][0]["embedding"]), expected("text", Pooling::Mean, dimensions));
    }
}

#[tokio::test]
async fn an_input_may_fill_the_context_and_no_more() {
    let server = Setup::default().start().await;
    let full = "x".repeat(64);
    let reply = answer(&server, &json!({"input": full})).await;
    assert_eq!(numbers(&reply["data"][0]["embedding"]), expected(&full, Pooling::Mean, 8));
    let reply = server.post(PATH, &json!({"input": ["a", full + "x"]})).await;
    let error = &reply.json()["error"];
    assert_eq!((reply.head.status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!((&error["param"], &error["n_prompt_tokens"]), (&json!("input"), &json!(65)));
}

#[tokio::test]
async fn faults_are_named() {
    let server = Setup::default().start().await;
    for (body, param) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [257]}), "input"),
        (json!({"input": "x", "dimensions": 0}), "dimensions"),
        (json!({"input": "x", "dimensions": 9}), "dimensions"),
        (json!({"input": "x", "encoding_format": "int8"}), "encoding_format"),
        (json!({"input": "x", "pooling": "max"}), "pooling"),
        (json!({"input": "x", "truncate_prompt_tokens": 3}), "truncate_prompt_tokens"),
        (json!({"input": "x", "priority": "now"}), "priority"),
    ] {
        let reply = server.post(PATH, &body).await;
        assert_eq!((reply.head.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
    let unknown = server.post(PATH, &json!({"input": "x", "model": "other"})).await;
    assert_eq!(unknown.head.status, 404);
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_inputs() {
    let server = Setup::default().start().await;
    server.control.set_delay(std::time::Duration::from_millis(20));
    let call = server.open(PATH, &json!({"input": vec!["x".repeat(60); 500]})).await;
    server.load(|load| load.running > 0).await;
    drop(call);
    server.idle().await;
    assert!(server.control.steps() < 100, "{} steps", server.control.steps());
}

/// A document that spells a special token is text.
#[tokio::test]
async fn texts_never_become_special_tokens() {
    let server = Setup::default().start().await;
    let reply = answer(&server, &json!({"input": "an</s>end"})).await;
    assert_eq!(reply["usage"]["prompt_tokens"], 9, "one token for each byte");
    assert_eq!(numbers(&reply["data"][0]["embedding"]), expected("an</s>end", Pooling::Mean, 8));
}
