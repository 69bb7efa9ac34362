//! `pagoda explain`: where a request of a running server stands, as text.

use super::args::ExplainArgs;
use super::exit::{CliError, Failure};
use super::server::runtime;
use anyhow::anyhow;
use serde_json::Value;
use std::fmt::Write as _;

/// Asks the server and prints what it says.
pub(crate) fn explain(args: &ExplainArgs) -> Result<(), CliError> {
    check_id(&args.id).map_err(|error| CliError::new(Failure::Usage, error))?;
    let client = args.server.client()?;
    let runtime = runtime()?;
    let answer = runtime.block_on(client.get_json(&format!("/v1/requests/{}", args.id)))?;
    print!("{}", describe(&answer));
    Ok(())
}

fn check_id(id: &str) -> anyhow::Result<()> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || !id.bytes().all(is_id) {
        return Err(anyhow!("{id:?} is no id of a request; give that of its response, such as cmpl-…"));
    }
    Ok(())
}

/// One fact per line.
fn describe(answer: &Value) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let seconds = |value: &Value| format!("{:.3} s", value.as_f64().unwrap_or(f64::NAN) / 1000.0);
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<9} {value}");
    };
    line("request", format!("{} of tenant {}", word(&answer["id"]), word(&answer["tenant"])));
    line("state", format!("{}, {} in the queue", word(&answer["state"]), seconds(&answer["waited_ms"])));
    let (class, effective) = (word(&answer["class"]), word(&answer["effective_class"]));
    line("class", if class == effective { class } else { format!("{class}, by now served as {effective}") });
    if let Some(waiting) = answer.get("waiting") {
        line("why", format!("{} ({})", word(&waiting["reason"]), word(&waiting["rule"])));
        line(
            "needs",
            format!(
                "{} KV blocks; {} of its tokens are cached",
                waiting["needed_blocks"], waiting["cached_tokens"]
            ),
        );
        line("before it", before(waiting));
    }
    if let Some(running) = answer.get("running") {
        let (computed, generated) = (&running["computed_tokens"], &running["generated_tokens"]);
        line(
            "done",
            format!("{computed} tokens computed, {generated} generated, in {} KV blocks", running["blocks"]),
        );
    }
    if let Some(expected) = answer.get("expected") {
        let [start, first, finish] =
            ["start_ms", "first_token_ms", "finish_ms"].map(|name| seconds(&expected[name]));
        line("expected", format!("start in {start}, first token in {first}, finish in {finish}"));
    }
    let machine = &answer["machine"];
    line(
        "machine",
        format!(
            "{} of {} rows run, {} of {} KV blocks are free, {} of them with cached content",
            machine["rows"],
            machine["max_rows"],
            machine["blocks_free"],
            machine["blocks"],
            machine["blocks_reclaimable"]
        ),
    );
    text
}

/// How many go first, and which of them are the caller's own.
fn before(waiting: &Value) -> String {
    let listed = waiting["before"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    match own.is_empty() {
        true => waiting["position"].to_string(),
        false => format!(
            "{}, of the next {} these are yours: {}",
            waiting["position"],
            listed.len(),
            own.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fact_is_told() {
        let waiting = json!({
            "id": "abc", "tenant": "a", "state": "waiting", "class": "low", "effective_class": "high", "waited_ms": 1500,
            "waiting": {"position": 3, "rule": "rows", "reason": "the batch is full: 4 of 4 rows run", "needed_blocks": 9,
                "cached_tokens": 32, "before": ["x", null, "y"]},
            "expected": {"start_ms": 250, "first_token_ms": 300, "finish_ms": 2000},
            "machine": {"rows": 4, "max_rows": 4, "blocks": 100, "blocks_free": 20, "blocks_reclaimable": 5},
        });
        let text = describe(&waiting);
        for part in [
            "request   abc of tenant a\n",
            "state     waiting, 1.500 s in the queue\n",
            "class     low, by now served as high\n",
            "why       the batch is full: 4 of 4 rows run (rows)\n",
            "needs     9 KV blocks; 32 of its tokens are cached\n",
            "before it 3, of the next 3 these are yours: x, y\n",
            "expected  start in 0.250 s, first token in 0.300 s, finish in 2.000 s\n",
            "machine   4 of 4 rows run, 20 of 100 KV blocks are free, 5 of them with cached content\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let running = json!({
            "id": "abc", "tenant": "a", "state": "running", "class": "low", "effective_class": "low", "waited_ms": 0,
            "running": {"computed_tokens": 7, "generated_tokens": 2, "blocks": 1},
            "machine": {"rows": 1, "max_rows": 4, "blocks": 100, "blocks_free": 20, "blocks_reclaimable": 5},
        });
        assert!(describe(&running).contains("done      7 tokens computed, 2 generated, in 1 KV blocks\n"));
    }
}
