//! What a newcomer meets in the first hour: settings from files and variables, names that other servers taught, messages
//! that say what to do, and logs.
#![cfg(feature = "embedded-model")]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{pagoda, text};
use serde_json::Value;
use server::{Server, failure};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A file of this process, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pagoda-{}-{name}", std::process::id()));
        fs::write(&path, content).expect("a file can be written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn with_variables(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagoda"));
    let output = command.args(args).envs(variables.iter().copied()).output().expect("the binary starts");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn settings_come_from_flag_variable_file_model_and_program_in_this_order() {
    let file =
        File::new("order.toml", "port = 8100\nmax-num-seqs = 3\nageing = 9\n[serve]\nqueue-timeout = 7\n");
    let args = ["serve", "--config", file.path(), "--print-config", "--port", "8300"];
    let (code, stdout, stderr) = with_variables(
        &args,
        &[("PAGODA_PORT", "8200"), ("PAGODA_AGEING", "8"), ("PAGODA_ANY_MODEL_NAME", "on")],
    );
    assert_eq!(code, Some(0), "{stderr}");
    for line in [
        "port = 8300  # flag\n",
        "ageing = 8  # environment PAGODA_AGEING\n",
        "any-model-name = true  # environment PAGODA_ANY_MODEL_NAME\n",
        "block-size = 16  # built in\n",
        "max-model-len = \"auto\"  # built in: max-model-len = 1024  # the model\n",
    ] {
        assert!(stdout.contains(line), "{line:?} is missing in\n{stdout}");
    }
    for (key, at) in [("max-num-seqs = 3", "line 2\n"), ("queue-timeout = 7", "line 5\n")] {
        let line = format!("{key}  # {}, {at}", file.path());
        assert!(stdout.contains(&line), "{line:?} is missing in\n{stdout}");
    }
    // What was printed is a file with the same settings.
    let again = File::new("again.toml", &stdout);
    let output = pagoda(&["serve", "--config", again.path(), "--print-config"]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("port = 8300  # ") && stdout.contains("any-model-name = true  # "), "{stdout}");
}

#[test]
fn secrets_are_not_printed() {
    let args = ["serve", "--print-config"];
    let (code, stdout, stderr) = with_variables(&args, &[("PAGODA_API_KEY", "sk-very-secret-key")]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("# api-key is set, not shown  # environment PAGODA_API_KEY"), "{stdout}");
    assert!(!stdout.contains("very-secret") && !stderr.contains("very-secret"), "{stdout}{stderr}");
}

#[test]
fn what_a_file_or_a_variable_has_wrong_is_named() {
    let file = File::new("wrong.toml", "# comment\nmax-num-sqs = 3\n");
    let message = failure(&["serve", "--config", file.path()], 2);
    let expected =
        format!("{}, line 2: unknown key \"max-num-sqs\"; did you mean max-num-seqs?", file.path());
    assert!(message.contains(&expected), "{message}");
    let file = File::new("value.toml", "\n[serve]\nport = 123456\n");
    let message = failure(&["serve", "--config", file.path()], 2);
    assert!(
        message.contains(&format!("{}, line 3: ", file.path())) && message.contains("123456"),
        "{message}"
    );
    let message = failure(&["serve", "--config", "/no/such/file.toml"], 2);
    assert!(message.contains("/no/such/file.toml"), "{message}");

    let (_, _, stderr) = with_variables(&["verify", "--seeds", "1", "--steps", "1"], &[("PAGODA_PROT", "1")]);
    let expected = "note: the environment variable PAGODA_PROT sets nothing; did you mean PAGODA_PORT?";
    assert_eq!(stderr.matches(expected).count(), 1, "{stderr}");
    let (code, _, stderr) = with_variables(&["serve"], &[("PAGODA_ANY_MODEL_NAME", "perhaps")]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("perhaps"), "{stderr}");
}

#[test]
fn unknown_flags_are_told_what_was_meant_in_the_last_line() {
    for (args, expected) in [
        (&["serve", "--prot", "1"][..], "'--port'"),
        (&["serve", "--max-num-seq", "1"], "'--max-num-seqs'"),
        (&["srve"], "'serve'"),
        (&["serve", "--tensor-parallel-size", "2"], "--tensor-parallel-size is not offered: one process"),
        (&["serve", "-tp", "2"], "is not offered: one process"),
        (&["serve", "--pa-memory-mb", "4096"], "4096MiB"),
        (&["serve", "-hf", "org/model"], "nothing is downloaded"),
        (&["chat", "--ctx-size", "4k"], "--max-model-len here, which this command does not take"),
        (&[], "give a command"),
    ] {
        let message = failure(args, 2);
        assert!(message.starts_with("error: ") && message.contains(expected), "{args:?}: {message}");
    }
    let output = pagoda(&["run", "x", "-n", "1", "--jinja", "-ngl", "99", "-c", "512", "-np", "2"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("note: --n-gpu-layers has no effect: all layers are computed by the processor"),
        "{stderr}"
    );
}

#[test]
fn help_is_a_screen_and_finds_words() {
    let help = text(&pagoda(&["serve", "--help"]).stdout);
    assert!(help.lines().count() <= 60 && help.contains("--max-model-len"), "{help}");
    let found = text(&pagoda(&["--help", "ctx-size"]).stdout);
    assert!(found.contains("--max-model-len") && found.contains("PAGODA_MAX_MODEL_LEN"), "{found}");
    let all = text(&pagoda(&["serve", "--help-all"]).stdout);
    assert!(all.contains("--first-token-timeout") && all.contains("PAGODA_FIRST_TOKEN_TIMEOUT"), "{all}");
}

#[test]
fn a_device_that_no_build_has_exits_with_6() {
    let message = failure(&["run", "x", "--device", "cuda:0"], 6);
    assert!(message.contains("--device cpu"), "{message}");
    let message = failure(&["run", "x", "--device", "abacus"], 2);
    assert!(message.contains("give auto or cpu"), "{message}");
}

#[test]
fn a_context_that_does_not_fit_is_refused_with_the_arithmetic() {
    let message = failure(&["run", "x", "--max-model-len", "1024", "--kv-cache-memory", "1MiB"], 4);
    for part in [
        "error: KV cache needs ",
        " for one request of 1024 tokens, but --kv-cache-memory gives it 1.0 MiB; fix: --max-model-len ",
        " | --kv-cache-dtype int8 (fits ",
        "; plan: pagoda plan MODEL",
    ] {
        assert!(message.contains(part), "{part:?} is missing in {message}");
    }
    let message = failure(&["run", "x", "--kv-cache-memory", "1000TiB"], 4);
    assert!(
        message.contains("is left after weights and workspace") && message.contains("fix: "),
        "{message}"
    );
    // The same without a length shrinks the context.
    let output = pagoda(&["inspect", "--random", "qwen2.5-0.5b", "--kv-cache-memory", "64MiB"]);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("note    requests can have ") && stdout.contains(" of the 32768 "), "{stdout}");
}

#[test]
fn a_plan_can_be_measured() {
    let output = pagoda(&["plan", "--measure", "--random", "tiny", "--kv-cache-memory", "1MiB"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = stdout.lines().last().unwrap_or_default();
    assert!(line.starts_with("measured ") && line.contains("; planned ") && line.ends_with('%'), "{stdout}");
}

#[test]
fn a_chat_template_can_be_given_by_name_or_file() {
    let rendered = |template: &str| {
        let server = Server::start(&["--chat-template", template]);
        server.wait_until_ready();
        server.call("POST", "/apply-template", r#"{"messages": [{"role": "user", "content": "Hi"}]}"#)
    };
    let answer = rendered("chatml");
    assert!(answer.contains(r"<|im_start|>user\nHi<|im_end|>"), "{answer}");
    let file = File::new("template.jinja", "{% for m in messages %}[{{ m.content }}]{% endfor %}");
    let answer = rendered(file.path());
    assert!(answer.contains("[Hi]"), "{answer}");
    let message = failure(&["run", "x", "--chat-template", "nonesuch"], 2);
    assert!(message.contains("chatml, llama3, mistral, zephyr"), "{message}");
}

/// A copy of the story model, removed when dropped.
struct Model(PathBuf);

impl Model {
    fn copy(name: &str) -> Self {
        let from = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale"));
        let to = std::env::temp_dir().join(format!("pagoda-{}-{name}", std::process::id()));
        fs::create_dir_all(&to).expect("a folder can be made");
        let files = fs::read_dir(from).expect("the story model is there").map(|file| file.expect("an entry"));
        for file in files.filter(|file| file.path().is_file()) {
            fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
        }
        Self(to)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// Replaces a text in one of its files.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(file)).expect("a file of text");
        assert!(text.contains(from), "{file} has {from}");
        fs::write(self.0.join(file), text.replace(from, to)).expect("a file can be written");
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn models_that_cannot_be_used_are_named_with_what_is_wrong() {
    let model = Model::copy("architecture");
    model.edit("config.json", "LlamaForCausalLM", "Mamba2ForCausalLM");
    let message = failure(&["run", "x", "--model", model.path()], 3);
    assert!(message.contains("architecture \"Mamba2ForCausalLM\" is not supported"), "{message}");
    assert!(message.contains("LlamaForCausalLM"), "the supported ones are listed: {message}");

    let model = Model::copy("truncated");
    let weights =
        fs::OpenOptions::new().write(true).open(model.0.join("model.safetensors")).expect("it is there");
    weights.set_len(1 << 20).expect("a file can be cut");
    let message = failure(&["run", "x", "--model", model.path()], 3);
    assert!(message.contains("model.safetensors") && message.contains("1048576"), "{message}");

    let message = failure(&["serve", "nobody/nothing-7b"], 3);
    assert!(message.contains("is neither a folder nor in the cache"), "{message}");
    assert!(message.contains("hf download nobody/nothing-7b") && message.contains("HF_TOKEN"), "{message}");
    let message = failure(&["serve", &format!("{}s", model.path())], 3);
    assert!(message.contains(&format!("did you mean {}?", model.path())), "{message}");
}

#[test]
fn a_base_model_says_so_at_the_start_and_to_who_chats() {
    let model = Model::copy("base");
    for file in ["chat_template.jinja", "tokenizer_config.json"] {
        let _ = fs::remove_file(model.0.join(file));
    }
    let described = text(&pagoda(&["inspect", model.path()]).stdout);
    assert!(described.contains("no chat template (it looks like a base model)"), "{described}");
    let server = Server::start(&[model.path()]);
    server.wait_until_ready();
    let answer =
        server.call("POST", "/v1/chat/completions", r#"{"messages": [{"role": "user", "content": "Hi"}]}"#);
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("--chat-template chatml|llama3|mistral"),
        "{answer}"
    );
    let answer = server.call("POST", "/v1/completions", r#"{"prompt": "Once", "max_tokens": 2}"#);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn without_a_prompt_the_next_steps_are_told() {
    let output = pagoda(&["run"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for part in
        ["pagoda run --model ", "pagoda run --random ", "billion parameters", "error: there is no prompt"]
    {
        assert!(stderr.contains(part), "{part:?} is missing in\n{stderr}");
    }
    let output = Command::new("sh")
        .args(["-c", "printf 'Once upon' | \"$0\" run -n 3", env!("CARGO_BIN_EXE_pagoda")])
        .output()
        .expect("a shell runs");
    assert!(text(&output.stdout).starts_with("Once upon"), "{}", text(&output.stderr));
}

#[test]
fn a_prompt_beyond_the_context_tells_how_to_start_for_it() {
    let server = Server::start(&["--max-model-len", "64"]);
    server.wait_until_ready();
    let words = "fox ".repeat(150);
    let answer =
        server.call("POST", "/v1/completions", &format!(r#"{{"prompt": "{words}", "max_tokens": 1}}"#));
    for part in [
        "This model's maximum context length is 64 tokens; your prompt has ",
        " exceeds the available context size by ",
        "Shorten it, or restart with --max-model-len 1024 (needs +",
        " MiB per request).",
    ] {
        assert!(answer.contains(part), "{part:?} is missing in {answer}");
    }
}

#[test]
fn ps_shows_what_a_server_does() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let url = format!("http://{}", server.address);
    let output = text(&pagoda(&["ps", "--url", &url]).stdout);
    assert!(output.contains("model    folktale · context 1024") && output.contains("of 8 rows"), "{output}");
    let json: Value =
        serde_json::from_str(&text(&pagoda(&["ps", "--json", "--url", &url]).stdout)).expect("JSON");
    assert_eq!(json["load"]["running"], 0);
    failure(&["ps", "--url", "http://127.0.0.1:1"], 7);
}

/// Lines of the log of a server that was asked a few things.
fn log_of(more: &[&str]) -> String {
    let file = File::new(&format!("log-{}", more.len()), "");
    let stderr = fs::OpenOptions::new().append(true).open(&file.0).expect("the file is there");
    let mut server = Server::start_with(more, Stdio::from(stderr));
    server.wait_until_ready();
    let lines =
        "x-request-id: mine-7\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let body = r#"{"prompt": "a secret fox", "max_tokens": 5, "temperature": 0, "ignore_eos": true}"#;
    let answer = server.call_with("POST", "/v1/completions", lines, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.call("GET", "/v1/models/%1b%5b2Jx", "");
    server.call("GET", "/metrics", "");
    while !fs::read_to_string(&file.0).expect("the log is text").contains("        try   ") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.terminate(), Some(143));
    fs::read_to_string(&file.0).expect("the log is text")
}

#[test]
fn each_call_leaves_a_line_without_its_text() {
    let log = log_of(&["--log-format", "json"]);
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = lines.iter().find(|line| line["id"] == "mine-7").unwrap_or_else(|| panic!("{log}"));
    for (field, expected) in [
        ("target", "access".into()),
        ("method", "POST".into()),
        ("route", "/v1/completions".into()),
        ("model", "folktale".into()),
        ("status", 200.into()),
        ("finish_reason", "max_tokens".into()),
        ("output_tokens", 5.into()),
        ("preemptions", 0.into()),
        ("trace_id", Value::from("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("parent_id", "00f067aa0ba902b7".into()),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    for field in ["prompt_tokens", "cached_tokens", "queue_ms", "ttft_ms", "tpot_ms", "total_ms"] {
        assert!(line[field].is_number(), "{field} in {line}");
    }
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{line}");
    assert!(!log.contains("secret fox"), "{log}");
    assert!(!lines.iter().any(|line| line["route"] == "/metrics" || line["route"] == "/health"), "{log}");
    let refused = lines.iter().find(|line| line["status"] == 404);
    assert!(refused.is_some_and(|line| line["model"].is_null() && line["output_tokens"].is_null()), "{log}");
    assert!(!log.contains('\u{1b}'), "a client wrote to the terminal: {log:?}");
}

#[test]
fn the_start_is_a_screen_that_says_how_to_go_on() {
    let log = log_of(&["--log", "warn", "--log-format", "text"]);
    let shown: Vec<&str> = log.lines().collect();
    assert!(shown.len() <= 24 && shown.iter().all(|line| line.chars().count() <= 180), "{log}");
    for part in [
        "device cpu",
        "model   folktale",
        "chat    ",
        "stops: ",
        "memory  weights ",
        "kv      ",
        " requests of full length (1024)",
        "ready   ",
        "        API   http://127.0.0.1:",
        "        try   curl 127.0.0.1:",
    ] {
        assert!(log.contains(part), "{part:?} is missing in\n{log}");
    }
    assert!(log.trim_end().ends_with("ended by SIGTERM, with nothing left to do"), "{log}");
    assert!(!log.contains("mine-7"), "--log warn leaves the lines of requests out: {log}");
}

#[test]
fn a_socket_in_the_file_system_serves_and_goes_with_the_server() {
    let path = std::env::temp_dir().join(format!("pagoda-{}.sock", std::process::id()));
    let shown = path.to_str().expect("UTF-8");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pagoda"))
        .args(["serve", "--uds", shown, "--max-num-seqs", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let ask = || -> std::io::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&path)?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answers = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        ask().unwrap_or_default()
    });
    let ready = answers.take(3_000).any(|answer| answer.starts_with("HTTP/1.1 200"));
    let second = failure(&["serve", "--uds", shown], 5);
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists").success()
    );
    let code = child.wait().expect("the server ends").code();
    assert!(ready && second.contains("is in use"), "{second}");
    assert_eq!((code, path.exists()), (Some(130), false));
}
