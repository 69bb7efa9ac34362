//! What a model says, through the parsers of calls: a stream has to be its body, however it is cut.

use crate::served::{Served, TOKENIZER, runtime};
use crate::split_kind;
use pagoda_text::Special;
use serde_json::{Value, json};

/// Tokens of an answer.
const LONGEST: usize = 200;

fn script(kind: usize, data: &[u8]) -> Vec<u32> {
    let size = TOKENIZER.vocab_size();
    let mut tokens = if kind.is_multiple_of(2) {
        let text = String::from_utf8_lossy(data);
        TOKENIZER.encode(&text, Special::Skip).expect("the embedded tokenizer takes every text")
    } else {
        let pairs = data.chunks(2);
        pairs.map(|pair| pair.iter().fold(0, |id, &byte| id << 8 | u32::from(byte)) % size).collect()
    };
    tokens.truncate(LONGEST);
    tokens.push(TOKENIZER.eos_ids()[0]);
    tokens
}

/// The one choice of an answer: content, calls and ending.
#[derive(Debug, Default, PartialEq)]
struct Said {
    content: String,
    /// Name and arguments.
    calls: Vec<(String, String)>,
    ending: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn add(said: &mut Said, message: &Value, ending: &Value) {
    said.content += message["content"].as_str().unwrap_or_default();
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        // Further parts of a call have its index and more of its arguments.
        match call["index"].as_u64().and_then(|index| said.calls.get_mut(index as usize)) {
            Some((_, arguments)) => *arguments += function["arguments"].as_str().unwrap_or_default(),
            None => said.calls.push((text(&function["name"]), text(&function["arguments"]))),
        }
    }
    said.ending += ending.as_str().unwrap_or_default();
}

fn of_stream(body: &str) -> Said {
    let mut said = Said::default();
    let body = body.strip_suffix("data: [DONE]\n\n").expect("a stream has an end");
    for event in body.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(event).expect("an event is JSON");
        assert!(event["error"].is_null(), "{event}");
        if let Some(choice) = event["choices"].get(0) {
            add(&mut said, &choice["delta"], &choice["finish_reason"]);
        }
    }
    said
}

/// The answer as a body and as a stream is the same, and its calls are calls of what there is.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = split_kind(data) else { return };
    let served = Served::start(Some(script(kind, data)));
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let body = |stream| {
        let body = json!({"messages": [{"role": "user", "content": "x"}], "tools": [tool("look"), tool("find")],
            "max_tokens": LONGEST, "stream": stream});
        body.to_string().into_bytes()
    };
    runtime().block_on(async {
        let path = "/v1/chat/completions";
        let (status, whole) = served.post(path, body(false)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&whole));
        let whole: Value = serde_json::from_slice(&whole).expect("a body is JSON");
        let (mut one, choice) = (Said::default(), &whole["choices"][0]);
        add(&mut one, &choice["message"], &choice["finish_reason"]);
        let (status, stream) = served.post(path, body(true)).await;
        assert_eq!(status, 200);
        let other = of_stream(std::str::from_utf8(&stream).expect("a stream is text"));
        assert_eq!(one, other);
        for (name, arguments) in &one.calls {
            // What a model gives as a text of its own is passed on as it is.
            assert!(name == "look" || name == "find", "{name}: {arguments}");
        }
        // After a call an answer may also have been cut short.
        let ending = one.ending.as_str();
        assert!(if one.calls.is_empty() { ending != "tool_calls" } else { ending != "stop" }, "{one:?}");
    });
}
