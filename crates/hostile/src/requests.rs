//! Bodies of calls, through validation and a fake model, to answers.

use crate::served::{Served, runtime};
use crate::split_kind;
use serde_json::Value;
use std::sync::LazyLock;
use tokio::runtime::Runtime;

const PATHS: [&str; 12] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
    "/v1/completions/render",
    "/v1/chat/completions/render",
    "/v1/chat/completions/input_tokens",
    "/apply-template",
    "/abort_request",
    "/v1/responses",
    "/v1/messages",
];

static SERVED: LazyLock<Served> = LazyLock::new(|| Served::start(None));

thread_local! {
    static RUNTIME: Runtime = runtime();
}

/// Every answer is a success, or an error of the client's that says what is wrong.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, body)) = split_kind(data) else { return };
    let path = PATHS[kind % PATHS.len()];
    let (status, answer) = RUNTIME.with(|runtime| runtime.block_on(SERVED.post(path, body.to_vec())));
    let text = String::from_utf8_lossy(&answer);
    match status {
        // A stream says in the middle what went wrong.
        200 => assert!(!text.contains("internal_error") && !text.contains("model_error"), "{path}: {text}"),
        400..500 | 504 => {
            let error: Value = serde_json::from_slice(&answer).expect("an error is JSON");
            let message = error.pointer("/error/message").and_then(Value::as_str);
            let message = message.expect("an error has a message");
            assert!((1..3000).contains(&message.len()), "{path}: {message}");
        }
        _ => panic!("{path} is answered with {status}: {text}"),
    }
}
