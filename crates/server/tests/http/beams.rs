//! Beam search and `best_of`: what is answered.

use crate::client::events;
use crate::server::{Server, Setup};
use crate::toy;
use pagoda_sched::fake::FakeModel;
use pagoda_sched::{BeamSearch, EarlyStopping, SamplingParams};
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

async fn answer(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()
}

/// Texts of all choices, which are numbered in order.
fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap().iter().zip(0..);
    let text = |(choice, index): (&Value, u64)| {
        assert_eq!(choice["index"], index);
        choice["text"].as_str().unwrap().to_owned()
    };
    choices.map(text).collect()
}

/// What a search over the model finds after `prompt`, as text.
fn found(prompt: &str, width: u16, max_tokens: u32) -> Vec<String> {
    let beam = BeamSearch { width, length_penalty: 1.0, early_stopping: EarlyStopping::No };
    let params = SamplingParams { beam: Some(beam), ..SamplingParams::greedy() };
    let answers = FakeModel::new(toy::VOCAB).beam_answers(&toy::ids(prompt), &params, max_tokens);
    let tokenizer = toy::model(64, None).tokenizer;
    answers.iter().map(|answer| tokenizer.decode(&answer.tokens, true)).collect()
}

#[tokio::test]
async fn a_search_returns_the_best_outputs_best_first() {
    let server = Setup::default().start().await;
    let body =
        json!({"prompt": "Once", "max_tokens": 9, "n": 3, "use_beam_search": true, "ignore_eos": true});
    let whole = answer(&server, PATH, &body).await;
    assert_eq!(texts(&whole), found("Once", 3, 9));
    assert_eq!(whole["usage"]["prompt_tokens"], 4);
    assert_eq!(whole["usage"]["completion_tokens"], 27, "the tokens that are returned");
    assert!(whole["choices"].as_array().unwrap().iter().all(|choice| choice["finish_reason"] == "length"));
    let mut wider = body.clone();
    wider["best_of"] = 4.into();
    wider["temperature"] = 0.into();
    assert_eq!(texts(&answer(&server, PATH, &wider).await), found("Once", 4, 9)[..3]);
    server.idle().await;
}

#[tokio::test]
async fn a_search_is_streamed_when_it_is_over() {
    let server = Setup::default().start().await;
    let body = json!({"prompt": "Once", "max_tokens": 9, "n": 2, "use_beam_search": true, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true}});
    let reply = server.post(PATH, &body).await;
    let mut streamed = vec![String::new(); 2];
    let mut usage = Value::Null;
    for event in events(&reply.body) {
        for choice in event["choices"].as_array().unwrap() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            streamed[index] += choice["text"].as_str().unwrap();
        }
        usage = event["usage"].clone();
    }
    assert_eq!(streamed, found("Once", 2, 9));
    assert_eq!(usage["completion_tokens"], 18);
}

#[tokio::test]
async fn chat_searches_and_reports_log_probabilities() {
    let server = Setup::saying("Hi").start().await;
    let body = json!({"messages": [{"role": "user", "content": "x"}], "use_beam_search": true, "best_of": 3,
        "length_penalty": 0.5, "early_stopping": "never", "logprobs": true, "top_logprobs": 2});
    let answer = answer(&server, "/v1/chat/completions", &body).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hi"), &json!("stop")));
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let told = |token: &Value| {
        (token["token"].clone(), token["logprob"].clone(), token["top_logprobs"][1]["logprob"].clone())
    };
    let told: Vec<_> = tokens.iter().map(told).collect();
    let expected = ["H", "i", "</s>"].map(|token| (json!(token), json!(-0.25), json!(-1.25)));
    assert_eq!(told, expected);
    server.idle().await;
}

#[tokio::test]
async fn the_best_of_several_samples_are_returned() {
    let server = Setup::default().start().await;
    let ask = |extra: Value| {
        let mut body = json!({"prompt": ["one", "two"], "max_tokens": 8, "ignore_eos": true, "echo": false});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let all = answer(&server, PATH, &ask(json!({"n": 4, "logprobs": 0}))).await;
    let merit = |choice: &Value| -> f64 {
        choice["logprobs"]["token_logprobs"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).sum()
    };
    let mut expected = Vec::new();
    for samples in all["choices"].as_array().unwrap().chunks(4) {
        let mut samples = samples.to_vec();
        samples.sort_by(|one, other| merit(other).total_cmp(&merit(one)));
        expected.extend(samples[..2].iter().map(|choice| choice["text"].as_str().unwrap().to_owned()));
    }
    let best = answer(&server, PATH, &ask(json!({"n": 2, "best_of": 4}))).await;
    assert_eq!(texts(&best), expected);
    assert_eq!(best["choices"][0]["logprobs"], Value::Null, "nobody asked for them");
    assert_eq!(best["usage"]["completion_tokens"], 2 * 4 * 8, "every sample was generated");
    let streamed = ask(json!({"n": 2, "best_of": 2, "stream": true}));
    assert_eq!(server.post(PATH, &streamed).await.head.status, 200);
    server.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_search() {
    let server = Setup::repeating("A").start().await;
    server.control.set_delay(std::time::Duration::from_millis(20));
    let body = json!({"prompt": "x", "max_tokens": 60, "use_beam_search": true, "n": 4, "stream": true});
    let exchange = server.open(PATH, &body).await;
    while server.control.steps() < 3 {
        tokio::task::yield_now().await;
    }
    drop(exchange);
    server.idle().await;
    assert!(server.control.steps() < 60, "the search was ended");
}
