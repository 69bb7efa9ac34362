//! How five clients read the bytes of a stream, each in its own way, with the faults that it has.

use serde_json::Value;

/// What a client got: bodies of events, or the error that it raised. `ended` is whether it saw the end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Value>,
    pub(crate) error: Option<String>,
    pub(crate) ended: bool,
}

/// A client: it is given what each read from the network brought.
pub(crate) type Client = fn(&[&[u8]]) -> Seen;

/// All of them by name, with whether a read may end anywhere. One of them forgets white space at the ends of reads, and can
/// only read what is written in one piece.
pub(crate) const CLIENTS: [(&str, Client, bool); 5] = [
    ("openai-python", openai, true),
    ("vllm bench", vllm_bench, false),
    ("guidellm", guidellm, true),
    ("continue", continue_dev, true),
    ("zed", zed, true),
];

fn text(reads: &[&[u8]]) -> String {
    String::from_utf8(reads.concat()).unwrap()
}

/// Takes in the JSON of an event. Returns whether to go on.
fn take(seen: &mut Seen, data: &str) -> bool {
    match serde_json::from_str::<Value>(data) {
        Ok(event) if event.get("error").is_some_and(|error| !error.is_null()) => {
            let message = event["error"]["message"].as_str().expect("a message");
            seen.error = Some(message.to_owned());
            false
        }
        Ok(event) => {
            seen.events.push(event);
            true
        }
        Err(error) => {
            seen.error = Some(format!("{error}: {data:?}"));
            false
        }
    }
}

/// By the specification of server-sent events, to the letter.
fn openai(reads: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    let (mut data, mut name): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in text(reads).lines() {
        if line.is_empty() {
            if data.is_empty() && name.is_none() {
                continue;
            }
            let body = std::mem::take(&mut data).join("\n");
            name = None;
            if body.starts_with("[DONE]") {
                seen.ended = true;
                return seen;
            }
            if !take(&mut seen, &body) {
                return seen;
            }
            continue;
        }
        if line.starts_with(':') {
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "data" => data.push(value),
            "event" => name = Some(value),
            _ => {}
        }
    }
    seen
}

/// Strips every read, and joins what is left.
fn vllm_bench(reads: &[&[u8]]) -> Seen {
    let (mut seen, mut buffer) = (Seen::default(), String::new());
    for read in reads {
        let read = std::str::from_utf8(read).unwrap().trim();
        if read.is_empty() {
            continue;
        }
        buffer.push_str(read);
        let mut messages = Vec::new();
        while let Some((message, rest)) = buffer.split_once("\n\n") {
            messages.push(message.trim().to_owned());
            buffer = rest.to_owned();
        }
        // A message without its end counts if it is complete.
        if let Some(content) = buffer.strip_prefix("data: ").map(str::trim)
            && (content == "[DONE]" || serde_json::from_str::<Value>(content).is_ok())
        {
            messages.push(std::mem::take(&mut buffer).trim().to_owned());
        }
        for message in messages.iter().filter(|message| !message.is_empty() && !message.starts_with(':')) {
            let content = message.strip_prefix("data: ").unwrap_or(message);
            if content == "[DONE]" {
                seen.ended = true;
            } else if !take(&mut seen, content) {
                return seen;
            }
        }
    }
    seen
}

/// Line by line; the end is one line exactly.
fn guidellm(reads: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    for line in text(reads).split('\n').filter(|line| !line.trim().is_empty()) {
        if line == "data: [DONE]" {
            seen.ended = true;
            return seen;
        }
        if let Some(data) = line.strip_prefix("data:")
            && !take(&mut seen, data.trim())
        {
            return seen;
        }
    }
    seen
}

/// Line by line, with or without a space; a comment that begins like a ping ends the reading.
fn continue_dev(reads: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    for line in text(reads).split('\n') {
        if line.starts_with("data: [DONE]") || line.starts_with("data:[DONE]") {
            seen.ended = true;
            return seen;
        }
        if line.starts_with(": ping") {
            return seen;
        }
        let data = line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:"));
        if data.is_some_and(|data| !take(&mut seen, data)) {
            return seen;
        }
    }
    seen
}

/// Line by line; every event has to have the fields of Zed's own types.
fn zed(reads: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    for line in text(reads).lines() {
        let Some(data) = line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:")) else { continue };
        if data == "[DONE]" {
            seen.ended = true;
            return seen;
        }
        if let Err(error) = serde_json::from_str::<crate::types::ZedResult>(data) {
            seen.error = Some(format!("{error}: {data}"));
            return seen;
        }
        if !take(&mut seen, data) {
            return seen;
        }
    }
    seen
}
