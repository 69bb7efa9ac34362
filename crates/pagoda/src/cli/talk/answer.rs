//! One answer of a server: streamed to stdout, measured, ended by Ctrl-C.

use super::super::exit::{CliError, Failure};
use anyhow::anyhow;
use pagoda::client::Client;
use serde_json::Value;
use std::io::Write;
use std::time::Instant;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    usage: Option<Value>,
    finish_reason: Option<String>,
    first: Option<Instant>,
}

/// Asks, and writes the answer as it comes; then its figures to stderr.
pub(super) async fn stream(client: &Client, endpoint: &str, body: &Value) -> Result<Answer, CliError> {
    let sent = Instant::now();
    let mut answer = Answer::default();
    let read = read(client, endpoint, body, &mut answer);
    let done = tokio::select! {
        done = read => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    println!();
    done?;
    answer.report(sent);
    Ok(answer)
}

async fn read(client: &Client, endpoint: &str, body: &Value, answer: &mut Answer) -> Result<(), CliError> {
    let mut events = client.post_events(endpoint, body.to_string().into()).await?;
    while let Some(data) = events.next().await? {
        if data.trim() != "[DONE]" {
            answer.take(&data)?;
        }
    }
    Ok(())
}

impl Answer {
    /// Takes the data of an event in, and writes what it says.
    fn take(&mut self, data: &str) -> Result<(), CliError> {
        let failed = |error: anyhow::Error| CliError::new(Failure::Runtime, error);
        let event: Value = serde_json::from_str(data)
            .map_err(|error| failed(anyhow!("the server sent what is no JSON: {error}")))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(failed(anyhow!("{message}")));
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        let choice = &event["choices"][0];
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        let reasoning =
            choice["delta"]["reasoning_content"].as_str().or(choice["delta"]["reasoning"].as_str());
        if let Some(reasoning) = reasoning {
            eprint!("{reasoning}");
        }
        let text = choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        self.first.get_or_insert_with(Instant::now);
        self.text += text;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| failed(error.into()))
    }

    fn report(&self, sent: Instant) {
        let (Some(first), Some(usage)) = (self.first, &self.usage) else {
            return eprintln!("{}", self.finish_reason.as_deref().unwrap_or("interrupted"));
        };
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let (prompt, tokens) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
        let cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
        let seconds = first.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        eprintln!(
            "{prompt} prompt ({cached} cached) + {tokens} generated tokens · {:.1} tokens/s · first after {:.3} s · {}",
            tokens.saturating_sub(1) as f64 / seconds,
            (first - sent).as_secs_f64(),
            self.finish_reason.as_deref().unwrap_or("?"),
        );
    }
}
