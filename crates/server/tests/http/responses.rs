//! `/v1/responses`: whole and in streams.

use crate::server::{Server, Setup};
use crate::toy;
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn saying(text: &str) -> Setup {
    Setup { template: Some(toy::THINKING), max_model_len: 2_000, ..Setup::saying(text) }
}

fn ask(extra: &Value) -> Value {
    let mut body = json!({"input": "x"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// The bodies of the events of a stream: named, numbered, with one end and nothing after it.
fn named(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    assert!(!text.contains("[DONE]"));
    let read = |(at, event): (usize, &str)| {
        let (name, data) = event.split_once('\n').unwrap();
        let body: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), body["type"].as_str());
        assert_eq!(body["sequence_number"], at);
        body
    };
    let events: Vec<Value> = text.split_terminator("\n\n").enumerate().map(read).collect();
    assert_eq!(
        (&events[0]["type"], &events[1]["type"]),
        (&json!("response.created"), &json!("response.in_progress"))
    );
    assert_eq!(events[0]["response"]["status"], "in_progress");
    let ends = ["response.completed", "response.incomplete", "response.failed"];
    let is_end = |event: &Value| ends.contains(&event["type"].as_str().unwrap());
    assert_eq!(events.iter().position(is_end), Some(events.len() - 1), "{text}");
    events
}

/// What a client makes of the events by itself; it has to be what the last one holds.
fn accumulate(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    for event in &events[2..events.len() - 1] {
        let index = event["output_index"].as_u64().unwrap() as usize;
        let kind = event["type"].as_str().unwrap().strip_prefix("response.").unwrap();
        if kind == "output_item.added" {
            assert_eq!(index, output.len());
            output.push(event["item"].clone());
            continue;
        }
        let item = &mut output[index];
        if kind != "output_item.done" {
            assert_eq!(item["id"], event["item_id"]);
        }
        let add = |field: &mut Value| {
            *field = [field.as_str().unwrap(), event["delta"].as_str().unwrap()].concat().into()
        };
        match kind {
            "content_part.added" => item["content"].as_array_mut().unwrap().push(event["part"].clone()),
            "output_text.delta" | "reasoning_text.delta" => add(&mut item["content"][0]["text"]),
            "output_text.done" | "reasoning_text.done" => {
                assert_eq!(item["content"][0]["text"], event["text"])
            }
            "content_part.done" => assert_eq!(item["content"][0], event["part"]),
            "function_call_arguments.delta" => add(&mut item["arguments"]),
            "function_call_arguments.done" => assert_eq!(item["arguments"], event["arguments"]),
            "output_item.done" => {
                item["status"] = event["item"]["status"].clone();
                assert_eq!(*item, event["item"]);
            }
            other => panic!("{other}"),
        }
    }
    let last = events.last().unwrap()["response"].clone();
    assert_eq!(last["output"], json!(output));
    last
}

fn neutral(mut response: Value) -> Value {
    assert!(response["id"].take().as_str().unwrap().starts_with("resp_"));
    assert!(response["created_at"].take().is_u64());
    assert!(response["usage"]["input_tokens_details"]["cached_tokens"].take().is_u64());
    for item in response["output"].as_array_mut().unwrap() {
        assert!(item["id"].take().is_string());
        item.as_object_mut().unwrap().shift_remove("call_id");
    }
    response
}

/// The response, which is the same in one body and in a stream but for its ids.
async fn answer(server: &Server, extra: &Value) -> Value {
    let reply = server.post(PATH, &ask(extra)).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let whole = neutral(reply.json());
    let mut streaming = ask(extra);
    streaming["stream"] = true.into();
    let reply = server.post(PATH, &streaming).await;
    assert_eq!(neutral(accumulate(&named(&reply.body))), whole);
    whole
}

#[tokio::test]
async fn an_answer_is_a_response() {
    let server = saying("Good day").start().await;
    let whole = answer(
        &server,
        &json!({"instructions": "Be.", "metadata": {"a": "b"}, "temperature": 0.5, "store": true}),
    )
    .await;
    let part = json!({"type": "output_text", "text": "Good day", "annotations": [], "logprobs": []});
    let message =
        json!({"id": null, "type": "message", "status": "completed", "role": "assistant", "content": [part]});
    assert_eq!((&whole["status"], &whole["output"]), (&json!("completed"), &json!([message])));
    assert_eq!(
        whole["usage"],
        json!({"input_tokens": "system:Be.\nuser:x\n>".len(), "input_tokens_details": {"cached_tokens": null, "cache_write_tokens": 0},
            "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": "system:Be.\nuser:x\n>".len() + 9})
    );
    for (field, value) in [
        ("object", json!("response")),
        ("model", json!("toy")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", json!("Be.")),
        ("metadata", json!({"a": "b"})),
        ("temperature", json!(0.5)),
        ("store", json!(false)),
        ("parallel_tool_calls", json!(true)),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("text", json!({"format": {"type": "text"}})),
        ("previous_response_id", Value::Null),
    ] {
        assert_eq!(whole[field], value, "{field}");
    }
    let cut = answer(&server, &json!({"max_output_tokens": 4})).await;
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    assert_eq!(
        (&cut["output"][0]["status"], &cut["output"][0]["content"][0]["text"]),
        (&json!("incomplete"), &json!("Good"))
    );
    server.idle().await;
}

#[tokio::test]
async fn reasoning_and_calls_are_items() {
    let call = r#"<tool_call>{"name": "look", "arguments": {"at": "é"}}</tool_call>"#;
    let server = saying(&format!("<think>Hm.</think>I look.{call}{call}")).start().await;
    let tools =
        json!([{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": true}]);
    let whole = answer(&server, &json!({"tools": tools})).await;
    let kinds: Vec<_> =
        whole["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(whole["output"][0]["content"], json!([{"type": "reasoning_text", "text": "Hm."}]));
    assert_eq!(
        (&whole["output"][2]["name"], &whole["output"][2]["arguments"]),
        (&json!("look"), &json!("{\"at\":\"é\"}"))
    );
    assert_eq!(whole["usage"]["output_tokens_details"]["reasoning_tokens"], "<think>Hm.</think>".len());
    assert_eq!(whole["tools"], tools);
    let cut = answer(&server, &json!({"max_output_tokens": 9})).await;
    assert_eq!(cut["output"][1]["content"][0]["text"], "");
    let server = saying(r#"{"n":77}"#).start().await;
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"n": {"const": 7}},
        "required": ["n"], "additionalProperties": false}}]);
    let named =
        answer(&server, &json!({"tools": tools, "tool_choice": {"type": "function", "name": "look"}})).await;
    assert_eq!(
        (&named["output"][0]["type"], &named["output"][0]["arguments"]),
        (&json!("function_call"), &json!("{\"n\":7}"))
    );
    let format = json!({"format": {"type": "json_schema", "name": "s", "schema": {"const": 7}}});
    let formed = answer(&server, &json!({"text": format})).await;
    assert_eq!((&formed["output"][0]["content"][0]["text"], &formed["text"]), (&json!("7"), &format));
}

#[tokio::test]
async fn items_become_the_messages_of_the_template() {
    let server = saying("x").start().await;
    let input = json!([
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
        {"type": "function_call", "call_id": "t1", "name": "look", "arguments": "{\"at\": 1}"},
        {"type": "function_call_output", "call_id": "t1", "output": "seen"},
    ]);
    let chat = json!({"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1}"}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "seen"},
    ]});
    let expected =
        server.post("/v1/chat/completions/input_tokens", &chat).await.json()["input_tokens"].clone();
    let counted = server.post("/v1/responses/input_tokens", &json!({"input": input})).await;
    assert_eq!(counted.json(), json!({"object": "response.input_tokens", "input_tokens": expected}));
    assert_eq!(answer(&server, &json!({"input": input})).await["usage"]["input_tokens"], expected);
}

#[tokio::test]
async fn what_needs_state_is_refused_by_name() {
    let server = saying("x").start().await;
    for (body, param, part) in [
        (json!({}), "input", "input is required"),
        (json!({"input": 3}), "input", "a string or a list"),
        (json!({"input": []}), "input", "input is empty"),
        (
            json!({"input": "x", "previous_response_id": "resp_1"}),
            "previous_response_id",
            "stateful responses are not offered",
        ),
        (json!({"input": "x", "conversation": "c"}), "conversation", "stateful"),
        (json!({"input": "x", "background": true}), "background", "stateful"),
        (json!({"input": "x", "truncation": "auto"}), "truncation", "never cut"),
        (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type", "not kept"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].type",
            "only text",
        ),
        (json!({"input": "x", "tools": [{"type": "web_search"}]}), "tools[0].type", "only the type function"),
        (
            json!({"input": "x", "tools": [{"type": "function"}]}),
            "tools[0].name",
            "tools[0].name is required",
        ),
        (json!({"input": "x", "text": {"format": {"type": "xml"}}}), "text.format.type", "json_schema"),
        (json!({"input": "x", "max_output_tokens": 0}), "max_output_tokens", "max_output_tokens is 0"),
        (json!({"input": "x", "n": 2}), "n", "1 answer"),
        (json!({"input": "x".repeat(3_000)}), "input", "maximum context length"),
    ] {
        let reply = server.post(PATH, &body).await;
        assert_eq!(reply.head.status, 400, "{body}: {}", reply.text());
        let error = reply.json()["error"].take();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    assert_eq!(server.control.steps(), 0);
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_and_then_the_end() {
    let server = Setup { fail_at: Some(1), ..Setup::repeating("A") }.start().await;
    let reply = server.post(PATH, &ask(&json!({"stream": true}))).await;
    let events = named(&reply.body);
    let [.., error, failed] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("model_error")));
    assert_eq!(
        (&failed["type"], &failed["response"]["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    assert!(failed["response"]["error"]["message"].is_string());
    server.idle().await;
}
