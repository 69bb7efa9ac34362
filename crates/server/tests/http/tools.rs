//! Calls of functions over HTTP.

use crate::client::events;
use crate::server::{Server, Setup};
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

fn ask(extra: &Value) -> Value {
    let tool = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/digit"}}, "required": ["n"],
            "additionalProperties": false, "$defs": {"digit": {"type": "integer", "minimum": 0, "maximum": 9}}});
        json!({"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}})
    };
    let mut body = json!({"messages": [{"role": "user", "content": "x"}], "tools": [tool("look"), tool("find")], "max_tokens": 200});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// Name and arguments of each call, whose ids differ.
fn calls(list: &Value) -> Vec<(String, String)> {
    let list = list.as_array().unwrap();
    let ids: std::collections::HashSet<_> = list.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert!(ids.len() == list.len() && ids.iter().all(|id| id.starts_with("call_")));
    assert!(list.iter().all(|call| call["type"] == "function"));
    let text = |call: &Value, field: &str| call["function"][field].as_str().unwrap().to_owned();
    list.iter().map(|call| (text(call, "name"), text(call, "arguments"))).collect()
}

async fn choice(server: &Server, extra: &Value) -> Value {
    let reply = server.post(PATH, &ask(extra)).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let choice = reply.json()["choices"][0].clone();
    let mut streaming = ask(extra);
    streaming["stream"] = true.into();
    let reply = server.post(PATH, &streaming).await;
    let (mut content, mut streamed, mut ending) = (String::new(), Vec::new(), Value::Null);
    for event in events(&reply.body) {
        let part = &event["choices"][0];
        content += part["delta"]["content"].as_str().unwrap_or_default();
        for call in part["delta"]["tool_calls"].as_array().into_iter().flatten() {
            assert_eq!(call["index"], streamed.len());
            streamed.push(call.clone());
        }
        ending = part["finish_reason"].clone();
    }
    let message = &choice["message"];
    assert_eq!(message["content"].as_str().unwrap_or_default(), content);
    assert_eq!(choice["finish_reason"], ending);
    if streamed.is_empty() {
        assert_eq!(message.get("tool_calls"), None);
    } else {
        assert_eq!(calls(&message["tool_calls"]), calls(&streamed.into()));
    }
    choice
}

fn setup(text: &str) -> Setup {
    Setup { max_model_len: 2000, ..Setup::saying(text) }
}

#[tokio::test]
async fn a_call_of_its_own_accord_is_found() {
    let look = vec![("look".to_owned(), r#"{"n":3}"#.to_owned())];
    let server = setup("Well. <tool_call>\n{\"name\": \"look\", \"arguments\": {\"n\": 3}}\n</tool_call>")
        .start()
        .await;
    let answer = choice(&server, &json!({})).await;
    assert_eq!(
        (&answer["message"]["content"], &answer["finish_reason"]),
        (&json!("Well. "), &json!("tool_calls"))
    );
    assert_eq!(calls(&answer["message"]["tool_calls"]), look);
    let answer = choice(&server, &json!({"tool_choice": "none"})).await;
    assert!(answer["message"]["content"].as_str().unwrap().contains("<tool_call>"));
    let server = setup(r#"{"name": "look", "parameters": {"n": 3}}"#).start().await;
    let answer = choice(&server, &json!({"tool_choice": "auto"})).await;
    assert_eq!(
        (&answer["message"]["content"], &answer["finish_reason"]),
        (&Value::Null, &json!("tool_calls"))
    );
    assert_eq!(calls(&answer["message"]["tool_calls"]), look);
}

#[tokio::test]
async fn an_answer_without_a_call_is_an_answer() {
    let server = setup("No need.").start().await;
    let answer = choice(&server, &json!({})).await;
    assert_eq!(
        (&answer["message"]["content"], &answer["finish_reason"]),
        (&json!("No need."), &json!("stop"))
    );
}

#[tokio::test]
async fn a_demanded_call_is_made_whatever_the_model_wants() {
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "find"}}});
    let server = setup(r#"{"n":77}"#).start().await;
    let answer = choice(&server, &named).await;
    assert_eq!(calls(&answer["message"]["tool_calls"]), [("find".to_owned(), r#"{"n":7}"#.to_owned())]);
    assert_eq!(
        (&answer["message"]["content"], &answer["finish_reason"]),
        (&Value::Null, &json!("tool_calls"))
    );
    let text = r#"[{"name":"look","arguments":{"n":1}},{"name":"find","arguments":{"n":22}}]"#;
    let server = setup(text).start().await;
    let answer = choice(&server, &json!({"tool_choice": "required"})).await;
    let both = [("look".to_owned(), r#"{"n":1}"#.to_owned()), ("find".to_owned(), r#"{"n":2}"#.to_owned())];
    assert_eq!(calls(&answer["message"]["tool_calls"]), both);
    let answer = choice(&server, &json!({"tool_choice": "required", "parallel_tool_calls": false})).await;
    assert_eq!(calls(&answer["message"]["tool_calls"]), both[..1]);
    // Cut short it is no call.
    let answer = choice(&server, &json!({"tool_choice": "required", "max_tokens": 9})).await;
    assert_eq!(
        (&answer["message"]["content"], &answer["finish_reason"]),
        (&json!(&text[..9]), &json!("length"))
    );
    server.idle().await;
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_call() {
    let server = setup("Done.").start().await;
    let body = ask(&json!({"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"n\": 1}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ]}));
    let reply = server.post(PATH, &body).await;
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "Done.", "{}", reply.text());
}

#[tokio::test]
async fn what_goes_against_tools_is_refused() {
    let server = setup("x").start().await;
    for (extra, param) in [
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"tool_choice": "required", "ignore_eos": true}), "ignore_eos"),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "none"}}}),
            "tool_choice.function.name",
        ),
        (
            json!({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "a", "parameters": {"not": {}}}}]}),
            "tools",
        ),
    ] {
        let reply = server.post(PATH, &ask(&extra)).await;
        assert_eq!(reply.head.status, 400, "{extra}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{extra}");
    }
    let both = json!({"response_format": {"type": "json_object"}, "tool_choice": "none", "max_tokens": 1});
    assert_eq!(server.post(PATH, &ask(&both)).await.head.status, 200);
}
