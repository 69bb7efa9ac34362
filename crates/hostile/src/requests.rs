//! Bodies of calls, through validation and a fake model, to answers.

use crate::served::{Served, runtime};
use serde_json::Value;
use std::sync::LazyLock;
use tokio::runtime::Runtime;

static SERVED: LazyLock<Served> = LazyLock::new(|| Served::start(None));

thread_local! {
    static RUNTIME: Runtime = runtime();
}

/// Every answer is a success, or an error of the client's that says what is wrong.
pub(crate) fn run(data: &[u8]) {
    let line = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let Ok(path) = std::str::from_utf8(&data[..line]) else { return };
    // The probes are for others, and what is no path never gets to the routes.
    if !path.starts_with('/') || path.parse::<hyper::Uri>().is_err() {
        return;
    }
    let body = data.get(line + 1..).unwrap_or_default();
    let (status, answer) = RUNTIME.with(|runtime| runtime.block_on(SERVED.post(path, body.to_vec())));
    let text = String::from_utf8_lossy(&answer);
    match status {
        // A stream says in the middle what went wrong.
        200 => assert!(!text.contains("internal_error") && !text.contains("model_error"), "{path}: {text}"),
        400..500 | 504 => {
            let error: Value = serde_json::from_slice(&answer).expect("an error is JSON");
            let message =
                error.pointer("/error/message").or_else(|| error.get("error")).and_then(Value::as_str);
            let message = message.unwrap_or_else(|| panic!("{path}: an error has a message: {text}"));
            assert!((1..3000).contains(&message.len()), "{path}: {message}");
        }
        _ => panic!("{path} is answered with {status}: {text}"),
    }
}
