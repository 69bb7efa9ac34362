//! `/v1/completions`: what is answered.

use crate::client::events;
use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

async fn answer(server: &Server, body: &Value) -> Value {
    let reply = server.post(PATH, body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    reply.json()
}

/// Text, ending and usage of a stream, per choice.
async fn streamed(server: &Server, body: &Value) -> (Vec<Value>, Value) {
    let mut body = body.clone();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let reply = server.post(PATH, &body).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let mut events = events(&reply.body);
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    let mut choices: Vec<Value> = Vec::new();
    for choice in events.iter().map(|event| &event["choices"][0]) {
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        choices.resize(choices.len().max(index + 1), json!({"text": "", "finish_reason": null}));
        let known = &mut choices[index];
        assert!(known["finish_reason"].is_null(), "more after the end: {choice}");
        known["text"] =
            format!("{}{}", known["text"].as_str().unwrap(), choice["text"].as_str().unwrap()).into();
        known["finish_reason"] = choice["finish_reason"].clone();
        known["stop_reason"] = choice["stop_reason"].clone();
    }
    (choices, last["usage"].clone())
}

#[tokio::test]
async fn one_body_holds_the_whole_answer() {
    let server = Setup::saying("Hello").start().await;
    let answer =
        answer(&server, &json!({"model": "toy", "prompt": "abc", "user": "x", "metadata": {}})).await;
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], "toy");
    let choice = json!({"index": 0, "text": "Hello", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}})
    );
}

#[tokio::test]
async fn text_and_its_token_ids_are_the_same_prompt() {
    let server = Setup::default().start().await;
    let ask = |prompt: Value| json!({"prompt": prompt, "max_tokens": 20, "ignore_eos": true});
    let text = answer(&server, &ask(json!("Once"))).await["choices"][0]["text"].clone();
    let ids = answer(&server, &ask(json!(toy::ids("Once")))).await["choices"][0]["text"].clone();
    let list = answer(&server, &ask(json!([toy::ids("Once")]))).await["choices"][0]["text"].clone();
    assert_eq!(text, ids);
    assert_eq!(text, list);
    assert_ne!(text, answer(&server, &ask(json!("Twice"))).await["choices"][0]["text"]);
}

#[tokio::test]
async fn several_prompts_and_samples_have_their_own_choices() {
    let server = Setup::default().start().await;
    let common = json!({"max_tokens": 12, "ignore_eos": true});
    let with = |extra: Value| {
        let mut body = common.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let both = answer(&server, &with(json!({"prompt": ["one", "two"], "n": 2}))).await;
    let choices = both["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let one = answer(&server, &with(json!({"prompt": "one", "n": 2}))).await;
    let two = answer(&server, &with(json!({"prompt": "two", "n": 2}))).await;
    let texts = |answer: &Value| -> Vec<String> {
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].to_string()).collect()
    };
    assert_eq!(texts(&both), [texts(&one), texts(&two)].concat());
    assert_eq!(both["usage"]["prompt_tokens"], 6, "a prompt counts once");
    assert_eq!(both["usage"]["completion_tokens"], 48, "each sample counts");
}

#[tokio::test]
async fn a_stream_says_what_one_body_says() {
    let server = Setup::default().start().await;
    let bodies = [
        json!({"prompt": "Once", "max_tokens": 40}),
        json!({"prompt": ["Once", "upon", "a time"], "n": 3, "max_tokens": 17}),
        json!({"prompt": "echo", "echo": true, "n": 2, "max_tokens": 9}),
        json!({"prompt": "long", "max_tokens": 1_000_000, "ignore_eos": true}),
        json!({"prompt": "stop", "max_tokens": 50, "stop": ["\u{fffd}"]}),
        json!({"prompt": "ids", "max_tokens": 50, "stop_token_ids": (0..40).collect::<Vec<u32>>()}),
    ];
    for body in bodies {
        let whole = answer(&server, &body).await;
        let (choices, usage) = streamed(&server, &body).await;
        let expected = whole["choices"].as_array().unwrap();
        assert_eq!(choices.len(), expected.len());
        for (choice, expected) in choices.iter().zip(expected) {
            for field in ["text", "finish_reason", "stop_reason"] {
                assert_eq!(choice[field], expected[field], "{field} of {body}");
            }
        }
        for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage[field], whole["usage"][field], "{field} of {body}");
        }
    }
    server.idle().await;
}

#[tokio::test]
async fn the_limit_is_sixteen_tokens_or_the_room_that_is_left() {
    let server = Setup::repeating("A").start().await;
    let length = |answer: &Value| answer["choices"][0]["text"].as_str().unwrap().len();
    let sixteen = answer(&server, &json!({"prompt": "x", "max_tokens": null, "stop": null})).await;
    assert_eq!((length(&sixteen), &sixteen["choices"][0]["finish_reason"]), (16, &json!("length")));
    for huge in ["1000000", "18446744073709551615", "1e30"] {
        let reply = server.post_text(PATH, &format!(r#"{{"prompt": "xyz", "max_tokens": {huge}}}"#)).await;
        assert_eq!(length(&reply.json()), 64 - 3, "{huge}: {}", reply.text());
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn the_longest_prompt_that_fits_is_answered() {
    let server = Setup::repeating("A").start().await;
    let longest = answer(&server, &json!({"prompt": "x".repeat(63)})).await;
    assert_eq!(longest["choices"][0]["text"], "A");
}

#[tokio::test]
async fn stop_strings_end_the_text_and_are_named() {
    let server = Setup::repeating("one two three").start().await;
    let ask = |extra: Value| {
        let mut body = json!({"prompt": "x", "max_tokens": 40, "stop": ["zzz", "o th"]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let choice = answer(&server, &ask(json!({}))).await["choices"][0].clone();
    assert_eq!(choice["text"], "one tw");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["stop_reason"], "o th");
    let kept = answer(&server, &ask(json!({"include_stop_str_in_output": true}))).await;
    assert_eq!(kept["choices"][0]["text"], "one two th");
    let ids = answer(&server, &ask(json!({"stop": null, "stop_token_ids": [u32::from(b' ')]}))).await;
    assert_eq!(ids["choices"][0]["text"], "one");
    assert_eq!(ids["choices"][0]["stop_reason"], u32::from(b' '));
}

#[tokio::test]
async fn logprobs_are_four_arrays_of_equal_length() {
    let server = Setup::saying("aé").start().await;
    let body = json!({"prompt": "x", "logprobs": 2});
    let whole = answer(&server, &body).await["choices"][0]["logprobs"].clone();
    assert_eq!(whole["tokens"], json!(["a", "\u{fffd}", "\u{fffd}", "</s>"]));
    assert_eq!(whole["token_logprobs"], json!([-0.25, -0.25, -0.25, -0.25]));
    // The parts of a character begin where it does, as those of a prompt do.
    assert_eq!(whole["text_offset"], json!([0, 1, 1, 2]));
    assert_eq!(whole["top_logprobs"][0], json!({"a": -0.25, "b": -1.25}));
    // Two pieces of characters share their text: the chosen one's number stays.
    assert_eq!(whole["top_logprobs"][1], json!({"\u{fffd}": -0.25}));
    // In a stream the same arrays come in pieces.
    let mut streaming = body.clone();
    streaming["stream"] = true.into();
    let reply = server.post(PATH, &streaming).await;
    for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let pieces = events(&reply.body);
        let pieces = pieces.iter().filter_map(|event| event["choices"][0]["logprobs"][field].as_array());
        let joined: Vec<_> = pieces.flatten().cloned().collect();
        assert_eq!(json!(joined), whole[field], "{field}");
    }
}

#[tokio::test]
async fn zero_alternatives_still_name_the_chosen_token() {
    let server = Setup::saying("a").start().await;
    let answer = answer(&server, &json!({"prompt": "x", "logprobs": 0, "max_tokens": 1})).await;
    assert_eq!(answer["choices"][0]["logprobs"]["top_logprobs"], json!([{"a": -0.25}]));
}

#[tokio::test]
async fn null_is_the_same_as_absent_for_every_optional_field() {
    let server = Setup::default().start().await;
    let mut body = json!({"prompt": "null", "max_tokens": 10});
    let expected = answer(&server, &body).await;
    let fields = [
        "model",
        "suffix",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "n",
        "best_of",
        "stream",
        "stream_options",
        "logprobs",
        "echo",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "user",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
        "max_completion_tokens",
        "response_format",
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "prompt_logprobs",
        "priority",
        "cache_salt",
        "add_special_tokens",
        "skip_special_tokens",
        "include_stop_str_in_output",
        "truncate_prompt_tokens",
        "use_beam_search",
        "length_penalty",
        "early_stopping",
    ];
    for field in fields {
        body[field] = Value::Null;
    }
    let answer = answer(&server, &body).await;
    assert_eq!(answer["choices"], expected["choices"]);
}

#[tokio::test]
async fn caches_are_shared_within_a_salt_only() {
    let server = Setup::repeating("A").start().await;
    let ask =
        |salt: Value| json!({"prompt": "a prompt of several blocks", "max_tokens": 2, "cache_salt": salt});
    let cached = |answer: Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(cached(answer(&server, &ask(Value::Null)).await), 0);
    assert!(cached(answer(&server, &ask(Value::Null)).await) > 0);
    assert_eq!(cached(answer(&server, &ask(json!("a"))).await), 0);
    assert!(cached(answer(&server, &ask(json!("a"))).await) > 0);
    assert_eq!(cached(answer(&server, &ask(json!("b"))).await), 0);
}
