//! What clients make of our bytes: their parsers of streams, their types, and `null` where they have nothing to say.

use crate::oracles::CLIENTS;
use crate::server::{Dice, Server, Setup};
use crate::toy;
use crate::types::{
    AnthropicEvent, AnthropicMessage, ChatChunk, ChatCompletion, Completion, Embeddings, ErrorBody, Models,
    Response, ResponseEvent,
};
use pagoda_server::ServerConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// What the model says: reasoning, text of several bytes a letter, and a call.
const SAID: &str =
    r#"<think>Hm, é.</think>Wait… <tool_call>{"name": "look", "arguments": {"at": "中\n"}}</tool_call>"#;

async fn start() -> Server {
    let config = ServerConfig { keep_alive: Some(Duration::from_millis(1)), ..ServerConfig::default() };
    Setup { config, template: Some(toy::THINKING), max_model_len: 1_000, ..Setup::saying(SAID) }.start().await
}

/// The writes of the server, after some time in which it had nothing to say.
async fn writes(server: &Server, path: &str, body: &Value) -> Vec<Vec<u8>> {
    server.handle().pause();
    let mut exchange = server.open(path, body).await;
    assert_eq!(exchange.head().await.status, 200);
    let mut writes = vec![exchange.chunk().await.unwrap(), exchange.chunk().await.unwrap()];
    server.handle().resume();
    while let Some(write) = exchange.chunk().await {
        writes.push(write);
    }
    writes
}

/// The bytes of all writes, cut anew.
fn cut(writes: &[Vec<u8>], seed: u64) -> Vec<Vec<u8>> {
    let (mut rest, mut reads, mut dice) = (&writes.concat()[..], Vec::new(), Dice(seed));
    while !rest.is_empty() {
        let size = 1 + dice.roll(40) as usize;
        let (read, after) = rest.split_at(size.min(rest.len()));
        reads.push(read.to_vec());
        rest = after;
    }
    reads
}

fn read<T: DeserializeOwned>(value: &Value) {
    if let Err(error) = serde_json::from_value::<T>(value.clone()) {
        panic!("{error}: {value}");
    }
}

#[tokio::test]
async fn every_client_reads_every_stream() {
    let server = start().await;
    let user = json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]);
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    for (path, body, choices) in [
        (CHAT, json!({"messages": user, "stop": null, "logprobs": null, "repetition_penalty": 1.0}), 1),
        (CHAT, json!({"messages": user, "tools": tools, "stream_options": options, "n": 2}), 2),
        (CHAT, json!({"messages": user, "logprobs": true, "top_logprobs": 2, "stream_options": options}), 1),
        (
            COMPLETIONS,
            json!({"prompt": ["x", "yz"], "max_tokens": 9, "echo": true, "logprobs": 1, "stream_options": options}),
            2,
        ),
    ] {
        let mut body = body;
        let whole = server.post(path, &body).await.json();
        body["stream"] = true.into();
        let writes = writes(&server, path, &body).await;
        for (name, client, anywhere) in CLIENTS {
            for seed in 0..if anywhere { 20 } else { 1 } {
                let reads = if anywhere { cut(&writes, seed) } else { writes.clone() };
                let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
                let seen = client(&reads);
                assert!(seen.ended && seen.error.is_none(), "{name}: {:?}", seen.error);
                for index in 0..choices {
                    let text = said(&seen.events, index);
                    assert_eq!(text, said_whole(&whole["choices"][index]), "{name} {index}");
                }
                if body["stream_options"].is_object() {
                    let last = &seen.events[seen.events.len() - 1];
                    assert_eq!(
                        (&last["choices"], &last["usage"]["completion_tokens"]),
                        (&json!([]), &whole["usage"]["completion_tokens"]),
                        "{name}"
                    );
                }
            }
        }
    }
    server.idle().await;
}

/// Text, reasoning and arguments of a choice.
fn said(events: &[Value], index: usize) -> [String; 3] {
    let mut all: [String; 3] = Default::default();
    for choice in events
        .iter()
        .flat_map(|event| event["choices"].as_array().unwrap())
        .filter(|choice| choice["index"] == index)
    {
        let delta = &choice["delta"];
        all[0] += delta["content"].as_str().or(choice["text"].as_str()).unwrap_or_default();
        all[1] += delta["reasoning_content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            all[2] += call["function"]["arguments"].as_str().unwrap_or_default();
        }
    }
    all
}

fn said_whole(choice: &Value) -> [String; 3] {
    let message = &choice["message"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let content = if message.is_null() { text(&choice["text"]) } else { text(&message["content"]) };
    [content, text(&message["reasoning_content"]), text(&message["tool_calls"][0]["function"]["arguments"])]
}

#[tokio::test]
async fn every_client_hears_of_a_failure() {
    let server = Setup { fail_at: Some(2), ..Setup::repeating("A") }.start().await;
    let body = json!({"messages": [{"role": "user", "content": "x"}], "stream": true});
    let mut exchange = server.open(CHAT, &body).await;
    exchange.head().await;
    let mut writes = Vec::new();
    while let Some(write) = exchange.chunk().await {
        writes.push(write);
    }
    assert_eq!(writes.last().unwrap(), b"data: [DONE]\n\n");
    let writes: Vec<&[u8]> = writes.iter().map(Vec::as_slice).collect();
    for (name, client, _) in CLIENTS {
        let error = client(&writes).error.unwrap_or_default();
        assert!(error.contains("step failed"), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn every_answer_has_the_types_that_clients_have() {
    let server = start().await;
    let user = json!([{"role": "user", "content": "x"}]);
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    for extra in
        [json!({}), json!({"tools": tools}), json!({"max_tokens": 5, "logprobs": true, "top_logprobs": 1})]
    {
        let mut body = json!({"messages": user});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        read::<ChatCompletion>(&server.post(CHAT, &body).await.json());
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let events = plain(&server.post(CHAT, &body).await.body);
        events.iter().for_each(read::<ChatChunk>);
    }
    let mut body = json!({"prompt": "x", "max_tokens": 5, "logprobs": 2, "echo": true});
    read::<Completion>(&server.post(COMPLETIONS, &body).await.json());
    body["stream"] = true.into();
    plain(&server.post(COMPLETIONS, &body).await.body).iter().for_each(read::<Completion>);
    read::<Models>(&server.get("/v1/models").await.json());
    read::<Embeddings>(&server.post("/v1/embeddings", &json!({"input": ["x", "y"]})).await.json());
    for (path, body) in [(CHAT, "{"), (COMPLETIONS, "{}"), ("/v1/nothing", ""), ("/v1/models", "{}")] {
        read::<ErrorBody>(&server.post_text(path, body).await.json());
    }
    let tools = json!([{"name": "look", "input_schema": {"type": "object"}}]);
    for limit in [5, 500] {
        let mut body = json!({"messages": user, "max_tokens": limit, "tools": tools});
        read::<AnthropicMessage>(&server.post("/v1/messages", &body).await.json());
        body["stream"] = true.into();
        plain(&server.post("/v1/messages", &body).await.body).iter().for_each(read::<AnthropicEvent>);
        let tools = json!([{"type": "function", "name": "look"}]);
        let mut body = json!({"input": user, "max_output_tokens": limit, "tools": tools});
        read::<Response>(&server.post("/v1/responses", &body).await.json());
        body["stream"] = true.into();
        plain(&server.post("/v1/responses", &body).await.body).iter().for_each(read::<ResponseEvent>);
    }
    server.idle().await;
}

/// The events of a stream. OpenAI's last one is left out, and so are the lines that keep the stream open.
fn plain(body: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(body).unwrap().lines();
    let data = lines.filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// Optional fields of all endpoints that generate.
const OF_ALL: &str = "model stream temperature top_p top_k min_p repetition_penalty repeat_penalty presence_penalty \
    frequency_penalty logit_bias seed stop stop_token_ids ignore_eos min_tokens skip_special_tokens include_stop_str_in_output \
    priority timeout queue_timeout first_token_timeout cache_salt cache_retention n best_of response_format \
    structured_outputs user metadata";

/// Those of each endpoint, of which clients send any.
fn optional(path: &str) -> Vec<&'static str> {
    let own = match path {
        CHAT => {
            "max_tokens stream_options logprobs top_logprobs prompt_logprobs tools tool_choice parallel_tool_calls \
             reasoning_effort chat_template_kwargs add_generation_prompt continue_final_message include_reasoning \
             function_call functions modalities store"
        }
        COMPLETIONS => "stream_options logprobs echo suffix prompt_logprobs add_special_tokens",
        "/v1/responses" => {
            "instructions text tools tool_choice parallel_tool_calls reasoning include store previous_response_id \
             conversation background truncation service_tier"
        }
        "/v1/messages" => {
            "system stop_sequences tools tool_choice thinking output_format output_config mcp_servers"
        }
        _ => "n_probs cache_prompt id_slot grammar json_schema",
    };
    OF_ALL.split(' ').chain(own.split(' ')).collect()
}

/// What differs between two runs of the same call.
fn neutral(value: &mut Value) {
    const OWN: [&str; 8] = [
        "id",
        "created",
        "created_at",
        "call_id",
        "cached_tokens",
        "timings",
        "tokens_cached",
        "system_fingerprint",
    ];
    match value {
        Value::Object(entries) => {
            OWN.iter().for_each(|name| drop(entries.shift_remove(*name)));
            // Of what is cached Anthropic's counts tell by parts.
            if let (Some(read), Some(input)) =
                (entries.shift_remove("cache_read_input_tokens"), entries.get_mut("input_tokens"))
            {
                *input = (input.as_u64().unwrap() + read.as_u64().unwrap()).into();
            }
            entries.values_mut().for_each(neutral);
        }
        Value::Array(items) => items.iter_mut().for_each(neutral),
        _ => {}
    }
}

#[tokio::test]
async fn any_optional_fields_may_be_null() {
    let server = start().await;
    let user = json!([{"role": "user", "content": "x"}]);
    for (path, base) in [
        (CHAT, json!({"messages": user, "max_completion_tokens": 40})),
        (COMPLETIONS, json!({"prompt": "x", "max_tokens": 9})),
        ("/v1/responses", json!({"input": "x", "max_output_tokens": 40})),
        ("/v1/messages", json!({"messages": user, "max_tokens": 40})),
        ("/completion", json!({"prompt": "x", "n_predict": 9})),
    ] {
        let ask = async |fields: Map<String, Value>| {
            let mut body = base.clone();
            body.as_object_mut().unwrap().extend(fields);
            let reply = server.post(path, &body).await;
            assert_eq!(reply.head.status, 200, "{path} {body}: {}", reply.text());
            let mut answer = reply.json();
            neutral(&mut answer);
            answer
        };
        let expected = ask(Map::new()).await;
        let names = optional(path);
        for seed in 0..12 {
            let mut dice = Dice(seed);
            let some = names.iter().filter(|_| seed == 0 || dice.roll(2) == 0);
            let fields: Map<_, _> = some.map(|name| ((*name).to_owned(), Value::Null)).collect();
            assert_eq!(ask(fields.clone()).await, expected, "{path} {fields:?}");
        }
    }
    server.idle().await;
}
