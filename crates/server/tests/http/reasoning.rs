//! What a model says to itself, told apart from its answer.

use crate::client::events;
use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn saying(text: &str) -> Setup {
    Setup { template: Some(toy::THINKING), max_model_len: 1_000, ..Setup::saying(text) }
}

fn ask(extra: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Reasoning, content and count of reasoning tokens, the same in one body and in a stream.
async fn said(server: &Server, extra: &Value) -> (String, String, u64) {
    let reply = server.post(PATH, &ask(extra)).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let whole = reply.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["reasoning"], message["reasoning_content"]);
    let count = |usage: &Value| usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = (
        text(&message["reasoning"]),
        message["content"].as_str().expect("a content").to_owned(),
        count(&whole["usage"]),
    );
    let mut streaming = ask(extra);
    streaming["stream"] = true.into();
    streaming["stream_options"] = json!({"include_usage": true});
    let (mut reasoning, mut content, mut tokens) = (String::new(), String::new(), 0);
    for event in events(&server.post(PATH, &streaming).await.body) {
        let delta = &event["choices"][0]["delta"];
        assert_eq!(delta["reasoning"], delta["reasoning_content"]);
        assert!(content.is_empty() || delta["reasoning"].is_null(), "reasoning after content");
        reasoning += delta["reasoning"].as_str().unwrap_or_default();
        content += delta["content"].as_str().unwrap_or_default();
        if event["usage"].is_object() {
            tokens = count(&event["usage"]);
        }
    }
    assert_eq!((reasoning, content, tokens), told);
    told
}

fn expect(reasoning: &str, content: &str, tokens: usize) -> (String, String, u64) {
    (reasoning.to_owned(), content.to_owned(), tokens as u64)
}

#[tokio::test]
async fn an_answer_that_begins_with_the_mark_is_parted() {
    let server = saying("<think>\nLet me see: é.\n</think>\n\nIt is so.").start().await;
    let marked = "<think>\nLet me see: é.\n</think>".len();
    assert_eq!(said(&server, &json!({})).await, expect("Let me see: é.", "It is so.", marked));
    // A stop string ends either part.
    assert_eq!(said(&server, &json!({"stop": "is so"})).await, expect("Let me see: é.", "It ", marked));
    let cut = said(&server, &json!({"stop": ["see"]})).await;
    assert_eq!((cut.0.as_str(), cut.1.as_str()), ("Let me", ""));
    let hidden = said(&server, &json!({"include_reasoning": false})).await;
    assert_eq!(hidden, expect("", "It is so.", marked));
    server.idle().await;
}

#[tokio::test]
async fn a_prompt_that_opens_the_block_is_known() {
    let server = saying("So it is.\n</think>\n\nYes.").start().await;
    let think = json!({"chat_template_kwargs": {"think": true}});
    assert_eq!(said(&server, &think).await, expect("So it is.", "Yes.", "So it is.\n</think>".len()));
    // Without the mark in the prompt it is what it says.
    assert_eq!(said(&server, &json!({})).await, expect("", "So it is.\n</think>\n\nYes.", 0));
}

#[tokio::test]
async fn a_budget_that_ends_early_leaves_an_empty_content() {
    let server = saying("<think>So it is</think>Yes").start().await;
    for (budget, reasoning, content, tokens) in [
        (3, "", "<th", 0),
        (7, "", "", 7),
        (10, "So", "", 10),
        (17, "So it is</", "", 17),
        (20, "So it is</thi", "", 20),
        (23, "So it is", "", 23),
        (25, "So it is", "Ye", 23),
    ] {
        let told = said(&server, &json!({"max_tokens": budget})).await;
        let told = (told.0.as_str(), told.1.as_str(), told.2);
        assert_eq!(told, (reasoning, content, tokens), "{budget}");
    }
}

#[tokio::test]
async fn what_has_to_have_a_form_has_no_reasoning() {
    let server = saying("<think>1</think>").start().await;
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n",
        "schema": {"type": "integer", "minimum": 0, "maximum": 9}}}, "chat_template_kwargs": {"think": true}});
    let (reasoning, content, tokens) = said(&server, &format).await;
    assert_eq!((reasoning.as_str(), tokens), ("", 0));
    let rendered = server.post("/v1/chat/completions/render", &ask(&format)).await.json();
    assert_eq!(rendered["prompt"], "user:x\n><think>\n\n</think>\n\n");
    assert!(content.parse::<u8>().is_ok(), "{content:?}");
}

#[tokio::test]
async fn marks_may_be_special_tokens() {
    const ADDED: &[&str] = &["[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]", "[OTHER]"];
    let id = |text: &str| 257 + ADDED.iter().position(|added| *added == text).unwrap() as u32;
    let mut script = vec![id("[THINK]")];
    script.extend(toy::ids("Hm."));
    script.extend([id("[/THINK]"), id("[OTHER]"), u32::from(b'A'), id("[TOOL_CALLS]")]);
    script.extend(toy::ids("look"));
    script.push(id("[ARGS]"));
    script.extend(toy::ids("{}"));
    script.push(toy::EOS);
    let server =
        Setup { added: ADDED, script: Some(script), max_model_len: 1_000, ..Setup::default() }.start().await;
    // Special tokens that mean nothing here stay out of the text.
    let tools = json!({"tools": [{"type": "function", "function": {"name": "look"}}]});
    assert_eq!(said(&server, &tools).await, expect("Hm.", "A", 5));
    let message = server.post(PATH, &ask(&tools)).await.json()["choices"][0]["message"].take();
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "look", "arguments": "{}"}));
    let plain = server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 60})).await.json();
    assert_eq!(plain["choices"][0]["text"], "Hm.Alook{}");
}

#[tokio::test]
async fn channels_are_read() {
    const ADDED: &[&str] =
        &["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>"];
    const TEMPLATE: &str = "{% for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>\
        {% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";
    let ids = |parts: &[&str]| {
        let id = |part: &&str| match ADDED.iter().position(|added| added == part) {
            Some(at) => vec![257 + at as u32],
            None => toy::ids(part),
        };
        parts.iter().flat_map(id).chain([toy::EOS]).collect::<Vec<u32>>()
    };
    let start = async |parts: &[&str]| {
        let setup = Setup { added: ADDED, script: Some(ids(parts)), ..saying("") };
        Setup { template: Some(TEMPLATE), ..setup }.start().await
    };
    let analysis = ["<|channel|>", "analysis", "<|message|>", "Hm: é.", "<|end|>"];
    let answer = ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>", "Yes."];
    let server = start(&[&analysis[..], &answer[..]].concat()).await;
    assert_eq!(said(&server, &json!({})).await, expect("Hm: é.", "Yes.", "Hm: é.".len() + 1));
    assert_eq!(said(&server, &json!({"max_tokens": 12})).await, expect("Hm", "", 2));
    let call = [
        "<|start|>",
        "assistant",
        "<|channel|>",
        "commentary to=functions.look ",
        "<|constrain|>",
        "json",
        "<|message|>",
        "{\"n\": 1}",
        "<|call|>",
    ];
    let server = start(&[&analysis[..], &call[..]].concat()).await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "look"}}]});
    let choice = server.post(PATH, &ask(&tools)).await.json()["choices"][0].take();
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"],
        json!({"name": "look", "arguments": "{\"n\": 1}"})
    );
    assert_eq!(
        (&choice["message"]["reasoning"], &choice["finish_reason"]),
        (&json!("Hm: é."), &json!("tool_calls"))
    );
    // What has to have a form begins where the answer does.
    let formed = ask(&json!({"response_format": {"type": "json_object"}}));
    let rendered = server.post("/v1/chat/completions/render", &formed).await.json();
    assert!(rendered["prompt"].as_str().unwrap().ends_with("<|start|>assistant<|channel|>final<|message|>"));
}

#[tokio::test]
async fn calls_are_found_after_the_reasoning_alone() {
    let call = r#"<tool_call>{"name": "look", "arguments": {}}</tool_call>"#;
    let server = saying(&format!("<think>I could {call}</think>\n{call}")).start().await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "look"}}]});
    let message = server.post(PATH, &ask(&tools)).await.json()["choices"][0]["message"].take();
    assert_eq!(message["reasoning"], format!("I could {call}"));
    assert_eq!(
        (&message["content"], &message["tool_calls"][0]["function"]["name"]),
        (&Value::Null, &json!("look"))
    );
}

#[tokio::test]
async fn an_answer_can_be_gone_on_with() {
    let server = saying("Done.").start().await;
    let body = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "So far "}],
        "continue_final_message": true});
    let rendered = server.post("/v1/chat/completions/render", &body).await.json();
    assert_eq!(rendered["prompt"], "user:x\nassistant:So far ");
    assert_eq!(server.post(PATH, &body).await.json()["choices"][0]["message"]["content"], "Done.");
    for (change, param) in [
        (json!({"add_generation_prompt": true}), "continue_final_message"),
        (json!({"messages": [{"role": "user", "content": "x"}]}), "messages"),
    ] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = server.post(PATH, &body).await;
        assert_eq!((reply.head.status, &reply.json()["error"]["param"]), (400, &json!(param)));
    }
}
