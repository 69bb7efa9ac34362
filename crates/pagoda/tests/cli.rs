//! The command as a user meets it: output, exit codes, messages, and a server that starts, answers and drains.
#![cfg(feature = "embedded-model")]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{pagoda, text};
use server::{Server, failure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

#[test]
fn run_continues_the_prompt_and_reports_on_stderr() {
    let args = ["run", "Once upon a time", "--max-tokens", "12", "--seed", "3", "--ignore-eos"];
    let output = pagoda(&args);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.starts_with("Once upon a time") && stdout.len() > 30, "{stdout}");
    assert!(stderr.contains("12 generated tokens") && stderr.contains("tokens/s"), "{stderr}");
    assert!(stderr.contains("first token") && stderr.contains("finished: max_tokens"), "{stderr}");
    assert_eq!(stdout, text(&pagoda(&args).stdout), "the same seed gives the same text");
}

#[test]
fn run_gives_the_same_text_whatever_the_step_size() {
    let run = |tokens: &str| {
        let sizes = ["--max-num-seqs", "1", "--max-num-batched-tokens", tokens];
        let prompt = "There was once a poor woodcutter who lived at the edge of a great forest with";
        text(&pagoda(&[&["run", prompt, "-n", "16", "--seed", "9"][..], &sizes].concat()).stdout)
    };
    let whole = run("512");
    assert!(whole.len() > 90, "{whole}");
    assert_eq!(whole, run("16"));
    assert_eq!(whole, run("1"));
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let args = ["run", "Once upon a time", "-n", "200", "--temperature", "0", "--stop", "the"];
    let output = pagoda(&args);
    assert!(text(&output.stderr).contains("finished: stop_string"), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("the"), "{}", text(&output.stdout));
}

#[test]
fn inspect_tells_architecture_and_memory() {
    let output = pagoda(&["inspect", "--tensors", "--template"]);
    let stdout = text(&output.stdout);
    for expected in [
        "LlamaForCausalLM",
        "5.77 million",
        "tied head",
        "blocks x 16",
        "model.embed_tokens.weight",
        "special ",
        "{%",
    ] {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
}

#[test]
fn plan_shows_what_formats_leave_for_requests() {
    let shape = ["plan", "--random", "qwen2.5-0.5b", "--kv-cache-memory", "512MiB"];
    let output = pagoda(&shape);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> =
        stdout.lines().skip_while(|line| !line.starts_with("---")).skip(1).map(cells).collect();
    assert_eq!(rows.len(), 6, "{stdout}");
    let fitting: Vec<u32> = rows.iter().map(|row| row[row.len() - 1].parse().expect("a count")).collect();
    // Keys and values of 8 bits and their scales take little more than half of 16.
    assert!(fitting[1] > 3 * fitting[0] / 2 && fitting[0] == fitting[2], "{stdout}");

    let hopeless = pagoda(&[&shape[..3], &["--kv-cache-memory", "26MiB", "--max-model-len", "4k"]].concat());
    assert_eq!(hopeless.status.code(), Some(4));
    let (stdout, stderr) = (text(&hopeless.stdout), text(&hopeless.stderr));
    let kept: Vec<_> =
        stdout.lines().skip_while(|line| !line.starts_with("---")).skip(1).map(cells).collect();
    // Only keys and values of 8 bits fit, whatever the weights are.
    assert_eq!(kept.len(), 3, "{stdout}");
    assert!(kept.iter().all(|row| row.contains(&"int8".to_owned())), "{stdout}");
    assert!(stderr.contains("--max-model-len"), "{stderr}");
}

#[test]
fn completions_and_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = pagoda(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(script.contains("quantize") && script.contains("max-num-seqs"), "{shell}: {script}");
    }
    let page = text(&pagoda(&["man"]).stdout);
    assert!(page.starts_with(".") && page.contains("pagoda") && page.contains("serve"), "{page}");
    let folder = std::env::temp_dir().join(format!("pagoda-man-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let made = pagoda(&["man", "--out", folder.to_str().expect("UTF-8")]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let page = std::fs::read_to_string(folder.join("pagoda-bench-serve.1")).expect("a page of each command");
    assert!(page.contains("pagoda\\-bench\\-serve") && page.contains("request\\-rate"), "{page}");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    let message = failure(&["man", "--out", "/no/such/folder"], 2);
    assert!(message.contains("/no/such/folder"), "{message}");
}

#[test]
fn sim_reports_its_totals() {
    let output = pagoda(&["verify", "--seeds", "4", "--steps", "100", "--hash-bits", "8"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stdout.contains("4 seeds") && stdout.contains("no violation"), "{stdout}");
}

#[test]
fn sim_prints_tables_and_writes_json_and_pictures() {
    let file = |name: &str| std::env::temp_dir().join(format!("pagoda-sim-{}-{name}", std::process::id()));
    let (json, plot) = (file("r.json"), file("r.html"));
    let (json_path, plot_path) = (json.to_str().expect("UTF-8"), plot.to_str().expect("UTF-8"));
    let load = ["--workload", "fixed:40:10", "--rate", "2", "--requests", "30", "--seed", "5"];
    let output = pagoda(&[&["sim", "--json", json_path, "--plot", plot_path], &load[..]].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stdout.contains("30 of 30 requests finished") && stdout.contains("between tokens"), "{stdout}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).expect("a report")).expect("JSON");
    assert_eq!(report["outcomes"]["finished"], 30);
    assert!(std::fs::read_to_string(&plot).expect("a picture").contains("KV blocks over time"));
    for path in [&json, &plot] {
        std::fs::remove_file(path).expect("the file exists");
    }
    let compared = pagoda(&[&["sim", "--compare"], &load[..]].concat());
    assert!(text(&compared.stdout).contains("without prefix-cache"), "{}", text(&compared.stdout));
}

#[test]
fn sim_names_what_it_cannot_run() {
    let trace = std::env::temp_dir().join(format!("pagoda-sim-{}-bad.csv", std::process::id()));
    std::fs::write(&trace, "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,-4,1\n")
        .expect("a file can be written");
    let path = trace.to_str().expect("UTF-8");
    for (args, named) in [
        (vec!["sim", "--trace", path], "line 3, prompt_tokens"),
        (vec!["sim", "--workload", "chatty"], "fixed:PROMPT:OUTPUT"),
        (vec!["sim", "--without", "fifo"], "paged-kv"),
        (vec!["sim", "--rate", "NaN"], "rate"),
        (vec!["sim", "--itl-target-ms", "5"], "below the 32.0 ms"),
        (vec!["sim", "--tenant-weight", "a=0"], "0.001 to 1000"),
        (vec!["sim", "--plot", "r.png"], ".svg or .html"),
        (vec!["sim", "--trace", path, "--requests", "4"], "cannot be used with"),
    ] {
        let output = pagoda(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(named), "{args:?}: {}", text(&output.stderr));
    }
    std::fs::remove_file(&trace).expect("the file exists");
}

#[test]
fn bad_models_exit_with_3_and_name_the_path() {
    let message = failure(&["run", "x", "--model", "/no/such/folder"], 3);
    assert!(message.starts_with("error: ") && message.contains("/no/such/folder"), "{message}");
    let empty = std::env::temp_dir().join(format!("pagoda-empty-{}", std::process::id()));
    std::fs::create_dir_all(&empty).expect("a folder can be made");
    let message = failure(&["inspect", empty.to_str().expect("UTF-8")], 3);
    std::fs::remove_dir(&empty).expect("the folder can be removed");
    assert!(message.contains("config.json"), "{message}");
}

#[test]
fn memory_that_does_not_suffice_exits_with_4_and_says_what_would() {
    let message = failure(&["run", "x", "--max-model-len", "1024", "--kv-cache-memory", "1MiB"], 4);
    assert!(message.contains("--max-model-len") && message.contains("--kv-cache-memory"), "{message}");
    let message = failure(&["run", "x", "--max-model-len", "4k"], 4);
    assert!(message.contains("4096") && message.contains("1024"), "{message}");
}

#[test]
fn wrong_arguments_exit_with_2_and_name_the_argument() {
    for (args, expected) in [
        (&["run", "x", "--isa", "mmx"][..], "scalar"),
        (&["run", "x", "--quantize", "int3"], "int8, int4, w8a8 or w4a8"),
        (&["run", "x", "--quantize", "int4-g48"], "32, 64 or 128"),
        (&["run", "x", "--quantize", "int8-asym"], "-sym"),
        (&["run", "x", "--quantize", "int8", "--dtype", "float16"], "f16 and quantised to int8"),
        (&["run", "x", "--kv-cache-memory", "lots"], "GiB"),
        (&["run", "x", "--block-size", "12"], "multiple of 16"),
        (&["run", "x", "--temperature", "nan"], "temperature"),
        (&["run", "x", "--max-tokens", "0"], "--max-tokens"),
        (&["run", "x", "--top-p", "1.5"], "top_p"),
        (&["run", "", "--raw"], "prompt"),
        (&["run", "x", "--max-num-seqs", "0"], "--max-num-seqs"),
        (&["run", "x", "--max-num-batched-tokens", "8"], "max_num_batched_tokens"),
        (&["serve", "--log", "a=b=c"], "--log"),
        (&["explain", "a/b"], "no id of a request"),
        (&["serve", "--tenant-weight", "a"], "NAME=WEIGHT"),
        (&["serve", "--tenant-weight", "a=0"], "weight 0 is not a number from 0.001 to 1000"),
        (&["serve", "--tenant-weight", "a=NaN"], "NaN"),
        (&["serve", "--tenant-weight", "a=much"], "weight much is not"),
        (&["serve", "--tenant-weight", "a b=1"], "the name has the byte 0x20"),
        (&["serve", "--tenant-weight", "key-file:/no/such/file=1"], "/no/such/file cannot be read"),
        (&["serve", "--tenant-weight", "a=1", "--tenant-weight", "a=2"], "names the tenant a twice"),
        (&["serve", "--default-tenant-weight", "NaN"], "weight NaN is not a number"),
        (&["serve", "--first-token-timeout", "0"], "--first-token-timeout"),
        (&["serve", "--request-timeout", "soon"], "--request-timeout"),
        (&["serve", "--max-pinned-blocks", "999999999"], "KV blocks can be pinned"),
        (&["serve", "--host", "0.0.0.0"], "--allow-unauthenticated"),
        (&["serve", "--host", "::"], "give --api-key-file FILE or PAGODA_API_KEY"),
        (&["serve", "--api-key", ""], "has 0 bytes"),
        (&["serve", "--api-key", "two words"], "the byte 0x20 at 3"),
        (&["serve", "--api-key-file", "/no/such/file"], "/no/such/file of --api-key-file cannot be read"),
        (&["serve", "--api-key-file", "/dev/null"], "adds no key"),
        (&["serve", "--cors-origins", "localhost"], "is no origin"),
        (&["serve", "--allowed-hosts", "a:80"], "is no name"),
    ] {
        let output = pagoda(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(!stderr.contains("two words"), "a key is shown: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}

#[test]
fn quantised_weights_run_alike_from_the_model_and_from_a_folder() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale");
    let out = std::env::temp_dir().join(format!("pagoda-quantize-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&out);
    let folder = out.to_str().expect("UTF-8");
    let written = pagoda(&["quantize", model, folder, "--format", "int4"]);
    let (stdout, stderr) = (text(&written.stdout), text(&written.stderr));
    assert!(written.status.success(), "{stderr}");
    assert!(stdout.contains(folder) && stdout.contains("int4, vocabulary int8"), "{stdout}");
    assert!(stderr.contains("quantised to int4 in"), "{stderr}");
    let sampling = ["-n", "24", "--seed", "5", "--ignore-eos"];
    let run = |args: &[&str]| pagoda(&[&["run", "Once upon a time"], args, &sampling].concat());
    let loaded = run(&["--quantize", "int4"]);
    let stderr = text(&loaded.stderr);
    assert!(stderr.contains("memory  weights") && stderr.contains("(int4, vocabulary int8)"), "{stderr}");
    assert!(stderr.contains("quantised to int4 in"), "{stderr}");
    let from_folder = run(&["--model", folder]);
    assert!(loaded.stdout.len() > 40 && loaded.stdout == from_folder.stdout, "{}", text(&from_folder.stderr));
    let inspected = text(&pagoda(&["inspect", folder, "--tensors"]).stdout);
    assert!(
        inspected.contains("int4 in groups of 64") && inspected.contains("int8 in groups of 128"),
        "{inspected}"
    );
    let message = failure(&["quantize", model, folder], 2);
    assert!(message.contains("is not empty"), "{message}");
    let message = failure(&["run", "x", "--model", folder, "--quantize", "int8"], 2);
    assert!(message.contains("int4 in groups of 64") && message.contains("int8"), "{message}");
    std::fs::remove_dir_all(&out).expect("the folder can be removed");
    let message = failure(&["quantize", "/no/such/folder", folder], 3);
    assert!(message.contains("/no/such/folder") && !out.exists(), "{message}");
}

#[test]
fn serve_answers_and_drains_on_sigterm() {
    let mut server = Server::start(&[]);
    server.wait_until_ready();
    let models = server.call("GET", "/v1/models", "");
    assert!(models.contains("\"folktale\"") && models.contains("\"max_model_len\":1024"), "{models}");
    let body = r#"{"prompt": "Once upon a time", "max_tokens": 5, "temperature": 0, "ignore_eos": true}"#;
    let answer = server.call("POST", "/v1/completions", body);
    assert!(
        answer.contains("\"finish_reason\":\"length\"") && answer.contains("\"completion_tokens\":5"),
        "{answer}"
    );
    let chat =
        r#"{"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 5, "stream": true}"#;
    let stream = server.call("POST", "/v1/chat/completions", chat);
    assert!(stream.contains("chat.completion.chunk") && stream.contains("data: [DONE]"), "{stream}");
    let metrics = server.call("GET", "/metrics", "");
    assert!(metrics.contains("vllm:generation_tokens_total"), "{metrics}");
    let port = server.address.rsplit(':').next().expect("an address has a port");
    let message = failure(&["explain", "cmpl-nobody", "--port", port], 1);
    assert!(message.contains("no request cmpl-nobody of yours waits or runs"), "{message}");
    assert_eq!(server.terminate(), Some(143));
}

/// A folder with the embedded model, cut to a context of 512 tokens.
fn shortened(folder: &std::path::Path) {
    let model = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale"));
    std::fs::create_dir_all(folder).expect("a folder can be made");
    for file in ["generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::os::unix::fs::symlink(model.canonicalize().expect("it exists").join(file), folder.join(file))
            .expect("a link can be made");
    }
    let config = std::fs::read_to_string(model.join("config.json")).expect("it can be read");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("it is JSON");
    config["max_position_embeddings"] = 512.into();
    std::fs::write(folder.join("config.json"), config.to_string()).expect("it can be written");
}

#[test]
fn sighup_loads_what_is_on_disk_and_keeps_what_runs_if_that_cannot_be_read() {
    let root = std::env::temp_dir().join(format!("pagoda-reload-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let model = root.join("model");
    shortened(&model);
    let log = root.join("log");
    let stderr = std::fs::File::create(&log).expect("a file can be made");
    let mut server = Server::start_with(&[model.to_str().expect("UTF-8")], stderr.into());
    server.wait_until_ready();
    let context = |server: &Server, tokens: u32| {
        server.call("GET", "/v1/models", "").contains(&format!("\"max_model_len\":{tokens}"))
    };
    assert!(context(&server, 512));
    let config = std::fs::read_to_string(model.join("config.json")).expect("it can be read");
    std::fs::write(model.join("config.json"), "{}").expect("it can be written");
    server.signal("-HUP");
    while !std::fs::read_to_string(&log).expect("it can be read").contains("reload failed") {
        assert!(context(&server, 512), "it serves all the time");
    }
    std::fs::write(model.join("config.json"), config.replace(":512", ":256")).expect("it can be written");
    server.signal("-HUP");
    while !context(&server, 256) {
        assert!(server.call("GET", "/health", "").starts_with("HTTP/1.1 200"), "it serves all the time");
    }
    let answer = server.call("POST", "/v1/completions", r#"{"prompt": "Once", "max_tokens": 2}"#);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.terminate(), Some(143));
    std::fs::remove_dir_all(&root).expect("the folder can be removed");
}

#[test]
fn serve_with_a_key_answers_to_it_alone_wherever_it_listens() {
    let mut file = std::env::temp_dir();
    file.push(format!("pagoda-keys-{}", std::process::id()));
    std::fs::write(&file, "# keys\n\nsk-first\r\n sk-second \n").expect("the file can be written");
    let path = file.to_str().expect("the path is text");
    let server = Server::start(&["--host", "0.0.0.0", "--api-key-file", path]);
    server.wait_until_ready();
    std::fs::remove_file(&file).expect("the file can be removed");
    let with =
        |key: &str| server.call_with("GET", "/v1/models", &format!("authorization: Bearer {key}\r\n"), "");
    assert!(server.call("GET", "/v1/models", "").starts_with("HTTP/1.1 401"));
    assert!(with("sk-third").starts_with("HTTP/1.1 401"));
    for key in ["sk-first", "sk-second"] {
        assert!(with(key).starts_with("HTTP/1.1 200"), "{key}");
    }
}

#[test]
fn serve_on_loopback_answers_to_its_own_names() {
    let server = Server::start(&["--any-model-name"]);
    server.wait_until_ready();
    let mut stream = TcpStream::connect(&server.address).expect("the server listens");
    write!(stream, "GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .expect("the request can be sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response can be read");
    assert!(response.starts_with("HTTP/1.1 403") && response.contains("host_not_allowed"), "{response}");
    let any = server.call("POST", "/tokenize", r#"{"prompt": "x", "model": "gpt-9"}"#);
    assert!(any.starts_with("HTTP/1.1 200"), "{any}");
}

#[test]
fn a_second_signal_ends_what_still_runs() {
    let mut server = Server::start(&["--shutdown-timeout", "3600"]);
    server.wait_until_ready();
    let prompts = r#"["a", "b", "c", "d", "e", "f", "g", "h"]"#;
    let body =
        format!(r#"{{"prompt": {prompts}, "max_tokens": 1000, "ignore_eos": true, "stream": true, "n": 8}}"#);
    let mut stream = TcpStream::connect(&server.address).expect("the server listens");
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the request can be sent");
    stream.read_exact(&mut [0; 64]).expect("the answer begins");
    let pid = server.child.id().to_string();
    let signal = || Command::new("kill").args(["-TERM", &pid]).status().expect("kill exists");
    assert!(signal().success());
    while server.call("GET", "/health", "").starts_with("HTTP/1.1 200") {}
    assert_eq!(server.terminate(), Some(143));
}

#[test]
fn chat_and_complete_stream_a_servers_answers() {
    let mut server = Server::start(&[]);
    server.wait_until_ready();
    let url = format!("http://{}/v1", server.address);
    let settings = ["--url", &url, "-n", "6", "--temperature", "0"];
    let ask = |args: &[&str]| {
        let output = pagoda(&[args, &settings].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("6 generated tokens"), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let prompt = "Once upon a time";
    let local = |flags: &[&str]| {
        let sampling = ["run", prompt, "-n", "6", "--temperature", "0"];
        text(&pagoda(&[&sampling, flags].concat()).stdout)
    };
    assert_eq!(prompt.to_owned() + &ask(&["complete", "-q", prompt]), local(&["--raw"]));
    // The template of the story model only joins the messages.
    assert_eq!(prompt.to_owned() + &ask(&["chat", "-q", prompt]), local(&[]));
    let refused = failure(&["chat", "-q", "x", "--url", &url, "--model", "gpt-9"], 1);
    assert!(refused.contains("gpt-9") && refused.contains("folktale"), "{refused}");
    assert_eq!(server.terminate(), Some(143));
    let gone = failure(&["complete", "-q", "x", "--url", &url], 7);
    assert!(gone.contains("cannot connect") && gone.contains(&server.address), "{gone}");
}

#[test]
fn a_port_in_use_exits_with_5_and_says_who_has_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it has an address").port().to_string();
    let message = failure(&["serve", "--port", &port], 5);
    let expected = format!("error: 127.0.0.1:{port} is in use (pid {} ", std::process::id());
    assert!(message.starts_with(&expected) && message.contains("Try --port "), "{message}");
}
