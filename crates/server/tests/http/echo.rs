//! The prompt as a part of the answer: `echo` with log-probabilities, and `prompt_logprobs`.

use crate::client::events;
use crate::server::{Server, Setup};
use crate::toy;
use pagoda_sched::fake::FakeModel;
use pagoda_sched::{PromptLogprob, TokenLogprob};
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";
const ARRAYS: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];

async fn answer(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body).await;
    assert_eq!(reply.head.status, 200, "{body}: {}", reply.text());
    reply.json()
}

async fn choices(server: &Server, body: &Value) -> Vec<Value> {
    answer(server, PATH, body).await["choices"].as_array().unwrap().clone()
}

/// What every token of `ids` after the first should have beside it.
fn expected(ids: &[u32], top: usize) -> Vec<(PromptLogprob, Vec<TokenLogprob>)> {
    FakeModel::new(toy::VOCAB).prompt_logprobs(ids, top)
}

/// A number as it is after a way through JSON.
fn number(logprob: f32) -> Value {
    serde_json::from_str(&serde_json::to_string(&logprob).unwrap()).unwrap()
}

fn array<'a>(choice: &'a Value, name: &str) -> &'a Vec<Value> {
    choice["logprobs"][name].as_array().unwrap_or_else(|| panic!("{name} of {choice}"))
}

/// The request of `lm-eval` for the log-likelihood of continuations.
fn lm_eval(prompts: &[Vec<u32>]) -> Value {
    json!({"model": "toy", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true})
}

#[tokio::test]
async fn arrays_have_an_entry_for_each_token_of_prompt_and_answer() {
    let prompt = toy::ids("a prompt");
    let endings = [
        (Setup::default(), json!({})),
        (Setup { script: Some(vec![toy::EOS]), ..Setup::default() }, json!({})),
        (Setup::repeating("A"), json!({"stop": ["A"]})),
        (Setup::repeating("A"), json!({"stop_token_ids": [65]})),
        (Setup::repeating("A"), json!({"stop": ["AA"], "max_tokens": 5})),
    ];
    for (index, (setup, extra)) in endings.into_iter().enumerate() {
        let server = setup.start().await;
        let mut body = lm_eval(std::slice::from_ref(&prompt));
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let choice = choices(&server, &body).await.remove(0);
        let generated = if index == 4 { 2 } else { 1 };
        for name in ARRAYS {
            assert_eq!(array(&choice, name).len(), prompt.len() + generated, "{name} of {choice}");
        }
        assert_eq!(choice["logprobs"]["token_logprobs"][0], Value::Null);
        assert_eq!(choice["logprobs"]["top_logprobs"][0], Value::Null);
        assert!(choice["text"].as_str().unwrap().starts_with("a prompt"));
        server.idle().await;
    }
}

#[tokio::test]
async fn numbers_are_those_of_the_model_and_the_token_itself_is_always_among_them() {
    let server = Setup::default().start().await;
    let text = "the prompt";
    for most in [0, 1, 3, 20] {
        let body = json!({"prompt": text, "echo": true, "logprobs": most, "max_tokens": 1});
        let choice = choices(&server, &body).await.remove(0);
        for (at, (place, likely)) in expected(&toy::ids(text), most).iter().enumerate() {
            let own = &array(&choice, "tokens")[at + 1];
            assert_eq!(own, &text[at + 1..at + 2]);
            assert_eq!(array(&choice, "token_logprobs")[at + 1], number(place.logprob));
            let top = array(&choice, "top_logprobs")[at + 1].as_object().unwrap();
            assert_eq!(top[own.as_str().unwrap()], number(place.logprob), "the same number");
            assert!(top.len() <= most + 1, "{top:?}");
            for other in likely.iter().filter(|other| other.token < 128) {
                let name = char::from(other.token as u8).to_string();
                assert_eq!(top[&name], number(other.logprob));
            }
        }
        assert_eq!(array(&choice, "text_offset")[..text.len()], (0..10).map(Value::from).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn parameters_of_sampling_do_not_change_the_numbers() {
    let server = Setup::default().start().await;
    let plain = json!({"prompt": "raw logits", "echo": true, "logprobs": 2, "max_tokens": 0});
    let mut bent = plain.clone();
    bent.as_object_mut().unwrap().extend(
        json!({"temperature": 0.1, "repetition_penalty": 2.0, "presence_penalty": 1.0, "logit_bias": {"97": -100},
            "top_k": 1})
        .as_object()
        .unwrap()
        .clone(),
    );
    let (plain, bent) = (choices(&server, &plain).await, choices(&server, &bent).await);
    assert_eq!(plain[0]["logprobs"], bent[0]["logprobs"]);
}

#[tokio::test]
async fn tokens_of_one_text_keep_their_own_numbers() {
    let server = Setup::default().start().await;
    // Three pieces of characters, which all read as the replacement character.
    let prompt = [u32::from(b'a'), 0xc3, 0xa9, 0xff];
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 20, "max_tokens": 0});
    let choice = choices(&server, &body).await.remove(0);
    assert_eq!(choice["logprobs"]["tokens"], json!(["a", "\u{fffd}", "\u{fffd}", "\u{fffd}"]));
    assert_eq!(choice["text"], "a\u{e9}\u{fffd}");
    assert_eq!(
        choice["logprobs"]["text_offset"],
        json!([0, 1, 1, 2]),
        "both parts of a letter begin where it does"
    );
    let mut by_id = body.clone();
    by_id["return_tokens_as_token_ids"] = true.into();
    let named = choices(&server, &by_id).await.remove(0);
    assert_eq!(
        named["logprobs"]["tokens"],
        json!(["token_id:97", "token_id:195", "token_id:169", "token_id:255"])
    );
    assert_eq!(named["logprobs"]["token_logprobs"], choice["logprobs"]["token_logprobs"]);
    for (at, (place, likely)) in expected(&prompt, 20).iter().enumerate() {
        let own = number(place.logprob);
        assert_eq!(array(&choice, "top_logprobs")[at + 1]["\u{fffd}"], own);
        let top = array(&named, "top_logprobs")[at + 1].as_object().unwrap();
        assert_eq!(top[&format!("token_id:{}", prompt[at + 1])], own);
        assert_eq!(top.len(), 20 + usize::from(place.rank > 20), "no two share a name");
        assert!(
            likely.iter().all(|other| top[&format!("token_id:{}", other.token)] == number(other.logprob))
        );
    }
}

#[tokio::test]
async fn without_tokens_the_prompt_is_the_answer() {
    let server = Setup::default().start().await;
    let body = json!({"prompt": ["one", "three"], "echo": true, "logprobs": 1, "max_tokens": 0});
    let reply = answer(&server, PATH, &body).await;
    for (choice, text) in reply["choices"].as_array().unwrap().iter().zip(["one", "three"]) {
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(text), &json!("length")));
        assert!(ARRAYS.iter().all(|name| array(choice, name).len() == text.len()));
    }
    assert_eq!(
        (&reply["usage"]["prompt_tokens"], &reply["usage"]["completion_tokens"]),
        (&json!(8), &json!(0))
    );
    let text = choices(&server, &json!({"prompt": "x", "echo": true, "max_tokens": 0})).await;
    assert_eq!((&text[0]["text"], &text[0]["logprobs"]), (&json!("x"), &Value::Null));
    // A prompt alone may fill the context of 64 tokens.
    let full = json!({"prompt": "x".repeat(64), "echo": true, "logprobs": 0, "max_tokens": 0});
    assert_eq!(array(&choices(&server, &full).await[0], "tokens").len(), 64);
    server.idle().await;
}

#[tokio::test]
async fn choices_are_in_the_order_of_their_prompts() {
    let server = Setup::default().start().await;
    let prompts = ["a", "some longer prompt", "mid", "another rather long prompt"];
    let body =
        json!({"prompt": prompts, "n": 2, "echo": true, "logprobs": 1, "max_tokens": 3, "ignore_eos": true});
    let all = choices(&server, &body).await;
    assert_eq!(all.len(), 8);
    for (index, choice) in all.iter().enumerate() {
        let text = prompts[index / 2];
        assert_eq!(choice["index"], index);
        assert!(choice["text"].as_str().unwrap().starts_with(text));
        assert_eq!(array(choice, "tokens").len(), text.len() + 3);
        let alone = json!({"prompt": text, "echo": true, "logprobs": 1, "max_tokens": 0});
        let alone = choices(&server, &alone).await.remove(0);
        for name in ARRAYS {
            assert_eq!(array(choice, name)[..text.len()], array(&alone, name)[..], "{name} of {text:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_the_prompt_and_has_the_same_numbers() {
    let server = Setup::default().start().await;
    let bodies = [
        json!({"prompt": "streamed", "echo": true, "logprobs": 2, "max_tokens": 7, "ignore_eos": true}),
        json!({"prompt": ["one", "two"], "n": 2, "echo": true, "logprobs": 0, "max_tokens": 4, "ignore_eos": true}),
        json!({"prompt": "nothing else", "echo": true, "logprobs": 1, "max_tokens": 0}),
        json!({"prompt": "as ids", "echo": true, "logprobs": 1, "max_tokens": 2, "return_tokens_as_token_ids": true}),
    ];
    for body in bodies {
        let whole = choices(&server, &body).await;
        let mut streaming = body.clone();
        streaming["stream"] = true.into();
        let pieces = events(&server.post(PATH, &streaming).await.body);
        for (index, whole) in whole.iter().enumerate() {
            let own =
                pieces.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
            let own: Vec<_> = own.collect();
            let prompt = own[0]["text"].as_str().unwrap();
            assert_eq!(array(own[0], "tokens").len(), prompt.len(), "the prompt comes first and alone");
            let text: String = own.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
            assert_eq!(whole["text"], text, "{body}");
            for name in ARRAYS {
                let joined = own.iter().filter_map(|choice| choice["logprobs"][name].as_array()).flatten();
                assert_eq!(json!(joined.collect::<Vec<_>>()), whole["logprobs"][name], "{name} of {body}");
            }
        }
    }
    server.idle().await;
}

/// `sum(token_logprobs[ctxlen:-1])`, and "is greedy" as `token_logprobs[i] == max(top_logprobs[i].values())`.
#[tokio::test]
async fn scores_of_lm_eval_are_sums_of_the_models_numbers() {
    let server = Setup::default().start().await;
    let model = FakeModel::new(toy::VOCAB);
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..32)
        .map(|index: u32| {
            let context: Vec<u32> = (0..1 + index % 20).map(|at| (at * 37 + index * 11) % 128).collect();
            let mut whole = context.clone();
            for at in 0..1 + index % 7 {
                // Every other continuation is the likeliest one.
                let likeliest =
                    model.prompt_logprobs(&[&whole[..], &[0]].concat(), 1).pop().unwrap().1[0].token;
                whole.push(if index.is_multiple_of(2) { likeliest } else { (likeliest + at + 1) % 128 });
            }
            (context, whole)
        })
        .collect();
    let prompts: Vec<Vec<u32>> = pairs.iter().map(|(_, whole)| whole.clone()).collect();
    let mut body = lm_eval(&prompts);
    body["return_tokens_as_token_ids"] = true.into();
    for (choice, (context, whole)) in choices(&server, &body).await.iter().zip(&pairs) {
        let logprobs = array(choice, "token_logprobs");
        let scored = context.len()..logprobs.len() - 1;
        let sum: f64 = logprobs[scored.clone()].iter().map(|value| value.as_f64().unwrap()).sum();
        let own = &expected(whole, 1)[context.len() - 1..];
        let exact: f64 = own.iter().map(|(place, _)| number(place.logprob).as_f64().unwrap()).sum();
        assert_eq!(sum.to_bits(), exact.to_bits());
        let is_greedy = scored.clone().all(|at| {
            let top = array(choice, "top_logprobs")[at].as_object().unwrap();
            let best = top.values().map(|value| value.as_f64().unwrap()).fold(f64::NEG_INFINITY, f64::max);
            logprobs[at].as_f64().unwrap() == best
        });
        let likeliest = own.iter().all(|(place, likely)| place.logprob == likely[0].logprob);
        assert_eq!(is_greedy, likeliest, "{whole:?} after {context:?}");
    }
}

/// The model gives a text the same numbers whether it reads or writes it.
#[tokio::test]
async fn what_was_generated_scores_the_same_as_a_prompt() {
    let server = Setup::default().start().await;
    let body = json!({"prompt": "Once", "logprobs": 0, "max_tokens": 20, "ignore_eos": true,
        "return_tokens_as_token_ids": true});
    let written = choices(&server, &body).await.remove(0);
    let id = |name: &Value| -> u32 { name.as_str().unwrap()["token_id:".len()..].parse().unwrap() };
    let mut whole = toy::ids("Once");
    whole.extend(array(&written, "tokens").iter().map(id));
    let read = json!({"prompt": [whole], "echo": true, "logprobs": 0, "max_tokens": 0});
    let read = choices(&server, &read).await.remove(0);
    assert_eq!(array(&read, "token_logprobs")[4..], array(&written, "token_logprobs")[..]);
}

#[tokio::test]
async fn prompt_logprobs_have_the_shape_of_vllm() {
    let server = Setup::default().start().await;
    let ids = toy::ids("shape");
    let check = |list: &Value, ids: &[u32], most: usize| {
        let list = list.as_array().unwrap();
        assert_eq!((list.len(), &list[0]), (ids.len(), &Value::Null));
        for (at, (place, likely)) in expected(ids, most).iter().enumerate() {
            let entry = list[at + 1].as_object().unwrap();
            let own = &entry[&ids[at + 1].to_string()];
            assert_eq!(own["logprob"], number(place.logprob));
            assert_eq!(own["rank"], place.rank);
            assert_eq!(own["decoded_token"], char::from(ids[at + 1] as u8).to_string());
            assert_eq!(entry.len(), most + usize::from(place.rank as usize > most));
            for (rank, likely) in (1..).zip(likely) {
                let numbers = &entry[&likely.token.to_string()];
                assert_eq!((&numbers["logprob"], &numbers["rank"]), (&number(likely.logprob), &json!(rank)));
            }
        }
    };
    for (most, max_tokens) in [(0, 0), (1, 3), (20, 1)] {
        let body = json!({"prompt": "shape", "n": 2, "prompt_logprobs": most, "max_tokens": max_tokens, "ignore_eos": true});
        for choice in choices(&server, &body).await {
            check(&choice["prompt_logprobs"], &ids, most);
            assert_eq!(choice["logprobs"], Value::Null);
        }
    }
    // Both shapes at once, each with as many as it was asked for.
    let both = json!({"prompt": "shape", "echo": true, "logprobs": 1, "prompt_logprobs": 4, "max_tokens": 1});
    let both = choices(&server, &both).await.remove(0);
    check(&both["prompt_logprobs"], &ids, 4);
    assert!(array(&both, "top_logprobs")[1..].iter().all(|top| top.as_object().unwrap().len() <= 2));
    let plain = choices(&server, &json!({"prompt": "shape", "max_tokens": 1})).await.remove(0);
    assert!(plain.get("prompt_logprobs").is_none());
    // In chat they stand beside the choices.
    let chat = json!({"messages": [{"role": "user", "content": "hi"}], "prompt_logprobs": 2, "max_tokens": 2, "n": 2});
    let chat = answer(&server, "/v1/chat/completions", &chat).await;
    check(&chat["prompt_logprobs"], &toy::ids("user:hi\n>"), 2);
}

#[tokio::test]
async fn a_stream_tells_of_the_prompt_what_one_body_does() {
    let server = Setup::default().start().await;
    for (path, mut body) in [
        (
            PATH,
            json!({"prompt": ["shape", "two"], "prompt_logprobs": 2, "max_tokens": 2, "ignore_eos": true}),
        ),
        (
            PATH,
            json!({"prompt": "shape", "prompt_logprobs": 2, "echo": true, "logprobs": 1, "max_tokens": 0}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "hi"}], "prompt_logprobs": 0, "max_tokens": 2}),
        ),
    ] {
        let whole = answer(&server, path, &body).await;
        body["stream"] = true.into();
        let events = crate::client::events(&server.post(path, &body).await.body);
        if path == PATH {
            for choice in whole["choices"].as_array().unwrap() {
                let own = events.iter().map(|event| &event["choices"][0]);
                let own: Vec<_> = own.filter(|part| part["index"] == choice["index"]).collect();
                assert_eq!(own[0]["prompt_logprobs"], choice["prompt_logprobs"]);
                assert!(own[1..].iter().all(|part| part.get("prompt_logprobs").is_none()));
            }
        } else {
            assert_eq!(events[0]["prompt_logprobs"], whole["prompt_logprobs"]);
            assert!(events[1..].iter().all(|event| event.get("prompt_logprobs").is_none()));
        }
    }
}

#[tokio::test]
async fn tokens_of_a_chat_can_be_named_by_their_ids() {
    let server = Setup::repeating("A").start().await;
    let chat = json!({"messages": [{"role": "user", "content": "x"}], "logprobs": true, "top_logprobs": 2, "max_tokens": 1,
        "return_tokens_as_token_ids": true});
    let chat = answer(&server, "/v1/chat/completions", &chat).await;
    let token = &chat["choices"][0]["logprobs"]["content"][0];
    assert_eq!((&token["token"], &token["bytes"]), (&json!("token_id:65"), &json!([65])));
    assert_eq!(token["top_logprobs"][1]["token"], "token_id:66");
}

/// A prompt is computed whole where something is said of it, and in chunks where it is long.
#[tokio::test]
async fn a_cached_prompt_is_read_again() {
    let server = Setup::default().start().await;
    let text = "a prompt of some blocks, of which all but the last are cached";
    let plain = json!({"prompt": text, "max_tokens": 1});
    answer(&server, PATH, &plain).await;
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached(&answer(&server, PATH, &plain).await) > 0);
    let echo = json!({"prompt": text, "echo": true, "logprobs": 1, "max_tokens": 1});
    let read = answer(&server, PATH, &echo).await;
    assert_eq!(cached(&read), 0);
    let numbers = array(&read["choices"][0], "token_logprobs")[1..text.len()].to_vec();
    let exact: Vec<Value> =
        expected(&toy::ids(text), 1).iter().map(|(place, _)| number(place.logprob)).collect();
    assert_eq!(numbers, exact);
}
