//! `pagoda ps`: what a running server serves and does.

use super::args::PsArgs;
use super::exit::CliError;
use super::server::runtime;
use pagoda::bench::Table;
use serde_json::{Value, json};

/// Asks the server and prints what it says.
pub(crate) fn ps(args: &PsArgs) -> Result<(), CliError> {
    let client = args.server.client()?;
    let found = runtime()?.block_on(async {
        let (info, load) = (client.get_json("/server_info").await?, client.get_json("/load").await?);
        let requests = client.get_json("/v1/requests").await?;
        Ok::<_, CliError>(json!({"server": info, "load": load, "requests": requests["data"]}))
    })?;
    match args.json {
        true => println!("{found}"),
        false => print!("{}", describe(&found)),
    }
    Ok(())
}

fn describe(found: &Value) -> String {
    let (info, load) = (&found["server"], &found["load"]);
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (used, total) = (number(&load["kv_used_blocks"]), number(&load["kv_total_blocks"]));
    let mut lines = format!(
        "server   pagoda {} · device {} · {}\nmodel    {} · context {} · {}\n\
         load     run {} of {} rows · wait {} · {used} of {total} KV blocks x {} in use ({:.0}%)\n",
        text(&info["version"]),
        text(&info["build"]["device"]),
        text(&info["build"]["cpu_isa"]),
        text(&info["model"]["names"][0]),
        number(&info["model"]["max_model_len"]),
        info["model"]["quantization"].as_str().or(info["model"]["dtype"].as_str()).unwrap_or("?"),
        number(&load["running"]),
        number(&info["engine"]["max_num_seqs"]),
        number(&load["waiting"]),
        number(&info["engine"]["block_size"]),
        100.0 * used as f64 / total.max(1) as f64,
    );
    let requests = found["requests"].as_array().map(Vec::as_slice).unwrap_or_default();
    if requests.is_empty() {
        return lines + "requests none of yours\n";
    }
    let mut table = Table::new(["request", "age", "prompt", "generated", "samples"]);
    for request in requests {
        table.row([
            text(&request["id"]),
            format!("{:.1} s", number(&request["age_ms"]) as f64 / 1e3),
            number(&request["prompt_tokens"]).to_string(),
            number(&request["generated_tokens"]).to_string(),
            number(&request["samples"]).to_string(),
        ]);
    }
    lines += "\n";
    lines + &table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_load_and_requests_are_shown() {
        let found = json!({
            "server": {
                "version": "1.2.3",
                "build": {"device": "cpu", "cpu_isa": "avx2"},
                "model": {"names": ["fox"], "max_model_len": 2048, "dtype": "bf16", "quantization": null},
                "engine": {"max_num_seqs": 64, "block_size": 16},
            },
            "load": {"running": 3, "waiting": 1, "kv_used_blocks": 25, "kv_total_blocks": 100},
            "requests": [{"id": "abc", "age_ms": 1500, "prompt_tokens": 7, "generated_tokens": 9, "samples": 1}],
        });
        let text = describe(&found);
        for part in [
            "server   pagoda 1.2.3 · device cpu · avx2\n",
            "model    fox · context 2048 · bf16\n",
            "load     run 3 of 64 rows · wait 1 · 25 of 100 KV blocks x 16 in use (25%)\n",
            "abc",
            "1.5 s",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let idle = json!({"server": found["server"], "load": found["load"], "requests": []});
        assert!(describe(&idle).contains("requests none of yours"));
    }
}
