//! `/completion` and `/infill`, as clients of llama.cpp's server have them.

use crate::server::Setup;
use serde_json::{Value, json};

fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    let json = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    text.split_terminator("\n\n").map(json).collect()
}

#[tokio::test]
async fn a_completion_is_the_same_in_a_stream() {
    let server = Setup::saying("Good day").start().await;
    for (extra, content, stop_type, word) in [
        (json!({}), "Good day", "eos", ""),
        (json!({"n_predict": -1, "stop": [" d"]}), "Good", "word", " d"),
        (json!({"n_predict": 4, "n_probs": 2}), "Good", "limit", ""),
    ] {
        let mut body = json!({"prompt": "x"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let whole = server.post("/completion", &body).await.json();
        assert_eq!((&whole["content"], &whole["stop"]), (&json!(content), &json!(true)), "{whole}");
        assert_eq!((&whole["stop_type"], &whole["stopping_word"]), (&json!(stop_type), &json!(word)));
        assert_eq!(
            (&whole["prompt"], &whole["tokens_evaluated"], &whole["truncated"]),
            (&json!("x"), &json!(1), &json!(false))
        );
        assert!(whole["timings"]["predicted_per_second"].is_f64());
        body["stream"] = true.into();
        let reply = server.post("/completion", &body).await;
        let events = events(&reply.body);
        let (last, before) = events.split_last().unwrap();
        let said: String = events.iter().map(|event| event["content"].as_str().unwrap()).collect();
        assert_eq!(said, content);
        assert!(before.iter().all(|event| event["stop"] == false));
        for field in [
            "stop",
            "stop_type",
            "stopping_word",
            "tokens_predicted",
            "tokens_evaluated",
            "generation_settings",
        ] {
            assert_eq!(last[field], whole[field], "{field}");
        }
        let numbers =
            before.iter().filter_map(|event| event["completion_probabilities"].as_array()).flatten();
        let numbers: Vec<&Value> = numbers.collect();
        assert_eq!(json!(numbers), whole.get("completion_probabilities").cloned().unwrap_or(json!([])));
        assert_eq!(numbers.is_empty(), body["n_probs"].is_null());
    }
    let several = server.post("/completion", &json!({"prompt": ["x", "y"], "n_predict": 1})).await.json();
    assert_eq!(several.as_array().unwrap().len(), 2);
    server.idle().await;
}

#[tokio::test]
async fn a_gap_is_filled_with_the_tokens_of_the_vocabulary() {
    const FIM: &[&str] = &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let body = json!({"input_prefix": "a<|fim_middle|>", "input_suffix": "b", "prompt": "cd", "n_predict": 2,
        "input_extra": [{"filename": "f", "text": "t"}]});
    let server = Setup { added: FIM, ..Setup::saying("AB") }.start().await;
    let filled = server.post("/infill", &body).await.json();
    assert_eq!(filled["content"], "AB", "{filled}");
    // What the client sends is text, even where it spells a token.
    let tokens = 3 + "--- f ---\nt\n\n".len() + "a<|fim_middle|>bcd".len();
    assert_eq!(filled["tokens_evaluated"], tokens);
    let missing = server.post("/infill", &json!({"input_prefix": "a"})).await;
    assert_eq!((missing.head.status, &missing.json()["error"]["param"]), (400, &json!("input_suffix")));
    // OpenAI's words for the same.
    let suffixed = json!({"prompt": "a", "suffix": "b", "max_tokens": 2, "echo": true});
    let rendered = server.post("/v1/completions/render", &suffixed).await.json();
    assert_eq!(rendered[0]["prompt"], "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>");
    let answer = server.post("/v1/completions", &suffixed).await.json();
    assert_eq!(
        (&answer["choices"][0]["text"], &answer["usage"]["prompt_tokens"]),
        (&json!("aAB"), &json!(5))
    );
    let ids = server.post("/v1/completions", &json!({"prompt": [1], "suffix": "b"})).await;
    assert_eq!((ids.head.status, &ids.json()["error"]["param"]), (400, &json!("suffix")));
    let server = Setup::saying("AB").start().await;
    let refused = server.post("/infill", &body).await;
    assert_eq!(refused.head.status, 400);
    assert!(refused.text().contains("has no tokens that mark a gap"), "{}", refused.text());
}
