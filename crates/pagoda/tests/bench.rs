//! `pagoda bench` as a user meets it: tables, files, messages and exit codes. Nothing here depends on speed.
#![cfg(feature = "embedded-model")]

mod common;

use common::{pagoda, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A file in the temporary folder, removed when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("pagoda-bench-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn read(&self) -> String {
        std::fs::read_to_string(&self.0).expect("the file was written")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.read()).expect("the file is JSON")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // It is not there if the test failed before it was written.
        let _ = std::fs::remove_file(&self.0);
    }
}

const SMALL: [&str; 4] = ["--input-len", "24", "--output-len", "6"];

#[test]
fn throughput_prints_a_table_and_writes_json_and_plots() {
    let (json, svg) = (TempFile::new("t.json"), TempFile::new("t.svg"));
    let files = ["--json", json.path(), "--plot", svg.path()];
    let runs = ["--concurrency", "4,1", "--repetitions", "2", "--prefix-len", "32"];
    let output = pagoda(&[&["bench", "throughput"], &SMALL[..], &runs, &files].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    for expected in ["folktale", "prefill tok/s", "limits before", "outputs agree", "ITL p50/90/99"] {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    let report = json.json();
    for key in
        ["version", "date", "machine", "settings", "limits_before", "limits_after", "points", "output_hash"]
    {
        assert!(!report[key].is_null(), "{key} is missing in {report}");
    }
    assert_eq!((&report["settings"]["prefix_len"], &report["outputs_agree"]), (&32.into(), &true.into()));
    let points = report["points"].as_array().expect("a list");
    assert_eq!(points.len(), 2);
    assert!(points[0]["concurrency"] == 1 && points[1]["concurrency"] == 4);
    let runs = points[1]["repetitions"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (runs[0]["ttft_ms"]["count"].as_u64(), runs[0]["itl_ms"]["count"].as_u64()),
        (Some(4), Some(20))
    );
    assert!(points[1]["limit"]["decode_tok_s"].as_f64() > Some(0.0));
    assert!(runs.iter().all(|run| run["decode_tok_s"].as_f64() >= run["steady_decode_tok_s"].as_f64()));
    assert!(svg.read().contains("stroke-dasharray"), "the limit is drawn");
}

#[test]
fn outputs_do_not_depend_on_concurrency_and_the_same_prompts_have_the_same_hash() {
    let hash = |concurrency: &str, seed: &str| {
        let json = TempFile::new(&format!("h{concurrency}-{seed}.json"));
        let set = ["--num-prompts", "6", "--concurrency", concurrency, "--seed", seed, "--json", json.path()];
        let once = ["--repetitions", "1", "--no-limits"];
        let output = pagoda(&[&["bench", "throughput"], &SMALL[..], &set, &once].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = json.json();
        assert!(report["limits_before"].is_null() && report["points"][0]["limit"].is_null());
        report["output_hash"].as_str().expect("a hash").to_owned()
    };
    let alone = hash("1", "5");
    assert_eq!(alone.len(), 16);
    assert_eq!(alone, hash("4", "5"));
    assert_ne!(alone, hash("4", "6"));
}

#[test]
fn latency_has_a_row_for_each_length() {
    let json = TempFile::new("l.json");
    let lengths = ["-p", "16,32", "-n", "4", "--repetitions", "1", "--json", json.path()];
    let output = pagoda(&[&["bench", "latency"], &lengths[..]].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    for row in ["pp16", "pp32", "tg4", "% of limit"] {
        assert!(stdout.contains(row), "{row} is missing in\n{stdout}");
    }
    assert_eq!(json.json()["rows"].as_array().map(Vec::len), Some(3));
}

#[test]
fn quantised_weights_are_measured_against_their_own_limit() {
    let (plain, small) = (TempFile::new("q16.json"), TempFile::new("q4.json"));
    for (file, format) in [(&plain, &["--dtype", "bfloat16"][..]), (&small, &["--quantize", "int4"])] {
        let runs = ["--concurrency", "1", "--repetitions", "1", "--no-limits", "--json", file.path()];
        let output =
            pagoda(&[&["bench", "throughput", "--random", "tiny"], &SMALL[..], &runs, format].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let (plain, small) = (plain.json(), small.json());
    assert!(small["settings"]["weights"].as_str().is_some_and(|name| name.contains("int4")), "{small}");
    let bytes = |report: &Value| report["settings"]["weight_bytes"].as_u64().expect("a number");
    assert!(2 * bytes(&small) < bytes(&plain), "{} and {}", bytes(&small), bytes(&plain));
}

#[test]
fn profiles_show_the_operations_of_both_phases() {
    let json = TempFile::new("p.json");
    let runs =
        ["--concurrency", "2", "--repetitions", "1", "--profile", "--random", "tiny", "--json", json.path()];
    let output = pagoda(&[&["bench", "throughput"], &SMALL[..], &runs].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    for expected in ["N = 2, prefill", "N = 2, decode", "gate_up", "attention", "sample", "% of step"] {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    let profile = &json.json()["points"][0]["repetitions"][0]["profile"]["decode"];
    let operations = profile["operations"].as_array().expect("a list");
    let sum: f64 = operations.iter().filter_map(|operation| operation["ms"].as_f64()).sum();
    let step = profile["ms"].as_f64().expect("a number");
    assert!((sum / step - 1.0).abs() < 0.02, "{sum} of {step} ms");
}

#[test]
fn kernels_are_measured_in_every_format_and_shape() {
    let json = TempFile::new("k.json");
    let small = [
        "--random",
        "tiny",
        "--rows",
        "1,3",
        "--contexts",
        "40",
        "--repetitions",
        "1",
        "--json",
        json.path(),
    ];
    let formats = ["--formats", "bf16,f32,int8,int4", "--no-limits"];
    let output = pagoda(&[&["bench", "kernels"], &small[..], &formats].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    for expected in ["qkv", "gate_up", "head", "int4", "attention, decode", "attention, prefill", "kv_write"]
    {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    let rows = json.json()["rows"].as_array().expect("a list").clone();
    // Five linear operations in four formats, two decodes and a chunk, three small ones.
    assert_eq!(rows.len(), 5 * 4 * 2 + 3 + 3 * 2);
    assert!(rows.iter().all(|row| row["seconds"]["median"].as_f64() > Some(0.0)), "{rows:?}");
}

#[test]
fn the_doctor_tells_limits_balance_and_expectations() {
    let json = TempFile::new("d.json");
    let output = pagoda(&["doctor", "--random", "llama-3.2-1b", "--json", json.path()]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    for expected in ["cpu ", "isa      scalar", "reads, GB/s", "arithmetic limits from", "int4", "N = 64"] {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    let found = json.json();
    assert_eq!(found["expectations"].as_array().map(Vec::len), Some(3));
    assert!(found["isas"].as_array().is_some_and(|isas| isas.iter().any(|isa| isa["chosen"] == true)));
    assert!(found["all"]["read_gbs"].as_f64() > Some(0.0), "{found}");
}

#[test]
fn plots_overlay_several_results() {
    let files = [TempFile::new("a.json"), TempFile::new("b.json"), TempFile::new("o.html")];
    for (file, dtype) in files.iter().zip(["bfloat16", "float32"]) {
        let run = ["--concurrency", "1,2", "--repetitions", "1", "--dtype", dtype, "--json", file.path()];
        let output = pagoda(&[&["bench", "throughput"], &SMALL[..], &run].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let [a, b, out] = &files;
    let output = pagoda(&["bench", "plot", a.path(), b.path(), "-o", out.path(), "--quantity", "output"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = out.read();
    assert!(page.contains(">bf16<") || page.contains("bf16, "), "{page}");
    assert!(page.contains("f32") && page.matches("<tr><td>").count() == 4, "{page}");
    let output = pagoda(&["bench", "plot", out.path(), "-o", "x.svg"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no report"), "{}", text(&output.stderr));
}

#[test]
fn wrong_arguments_exit_with_2_and_name_what_is_wrong() {
    for (args, expected) in [
        (&["throughput", "--concurrency", "1,0"][..], "--concurrency"),
        (&["throughput", "--output-len", "0"], "--output-len"),
        (&["throughput", "--plot", "x.png"], ".svg"),
        (&["throughput", "--json", "/no/such/folder/x.json"], "/no/such/folder"),
        (&["throughput", "--isa", "mmx"], "scalar"),
        (&["throughput", "--input-len", "4000000000", "--output-len", "4000000000"], "too long"),
        (&["latency", "-n", "1"], "--output-len"),
        (&["latency", "--random", "qwen9-7b"], "qwen2.5-0.5b"),
        (&["latency", "some/folder", "--random", "tiny"], "drop one"),
        (&["kernels", "--formats", "int3"], "int4"),
        (&["kernels", "--operations", "fft"], "attention"),
        (&["serve", "--base-url", "https://127.0.0.1:1"], "TLS"),
        (&["serve", "--base-url", "127.0.0.1:1"], "http://127.0.0.1:8000"),
        (&["serve", "--model", "m", "--request-rate", "0"], "--request-rate"),
        (&["serve", "--model", "m", "--percentile-metrics", "ttft,foo"], "e2el"),
        (&["serve", "--model", "m", "--metric-percentiles", "101"], "percentiles"),
        (&["serve", "--model", "m", "--goodput", "ttft"], "NAME:VALUE"),
        (&["serve", "--model", "m", "--goodput", "ttft:x"], "ttft:x"),
        (&["serve", "--model", "m", "--goodput", "foo:1"], "foo"),
        (&["serve", "--model", "m", "--extra-body", "[1]"], "--extra-body"),
        (&["serve", "--model", "m", "--header", "nothing"], "NAME=VALUE"),
        (&["serve", "--model", "m", "--endpoint", "v1"], "--endpoint"),
        (&["serve", "--model", "m", "--dataset-name", "sonnet"], "random"),
        (&["plot", "x.json", "-o", "x.bmp"], ".svg"),
        (&["plot", "/no/such.json", "-o", "x.svg"], "/no/such.json"),
    ] {
        let output = pagoda(&[&["bench"], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}

#[test]
fn prompts_beyond_the_context_exit_with_4_and_say_so() {
    let output = pagoda(&["bench", "throughput", "--input-len", "2000", "--output-len", "8"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1024"), "{}", text(&output.stderr));
}

/// Our own server on a free port, ended when dropped.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pagoda"))
            .args(["serve", "--port", "0", "--max-num-seqs", "8"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it listens");
        let port = line.trim().trim_end_matches("/v1").rsplit(':').next().unwrap_or_default().to_owned();
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOAD: [&str; 10] = [
    "--num-prompts",
    "6",
    "--random-input-len",
    "20",
    "--random-output-len",
    "5",
    "--percentile-metrics",
    "ttft,tpot,itl,e2el",
    "--ready-check-timeout-sec",
    "60",
];

#[test]
fn load_on_our_own_server_has_the_labels_and_keys_of_vllm() {
    let server = Server::start();
    let result = TempFile::new("serve.json");
    let port = ["--port", &server.port, "--ignore-eos", "--max-concurrency", "3"];
    let save =
        ["--save-result", "--save-detailed", "--result-filename", result.path(), "--metadata", "note=x"];
    let output = pagoda(&[&["bench", "serve"], &LOAD[..], &port, &save].concat());
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("============ Serving Benchmark Result ============"), "{stdout}");
    assert!(stdout.contains("Successful requests:                     6"), "{stdout}");
    assert!(stdout.contains("P99 E2EL (ms):"), "{stdout}");
    let json = result.json();
    assert_eq!((&json["completed"], &json["failed"]), (&6.into(), &0.into()));
    assert_eq!((&json["total_input_tokens"], &json["total_output_tokens"]), (&120.into(), &30.into()));
    assert_eq!((&json["model_id"], &json["request_rate"]), (&"folktale".into(), &"inf".into()));
    assert_eq!((&json["note"], &json["max_concurrency"]), (&"x".into(), &3.into()));
    assert!(json["max_concurrent_requests"].as_u64() <= Some(3));
    assert_eq!(json["output_lens"].as_array().map(Vec::len), Some(6));
    assert!(json["p99_itl_ms"].is_number() && json["mean_ttft_ms"].as_f64() > Some(0.0));
}

#[test]
fn open_loops_and_chat_work_on_our_own_server() {
    let server = Server::start();
    let base = format!("http://127.0.0.1:{}/v1", server.port);
    let open =
        ["--base-url", &base, "--request-rate", "200", "--burstiness", "0.5", "--random-range-ratio", "0.5"];
    let output = pagoda(&[&["bench", "serve"], &LOAD[..], &open].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Request rate configured (RPS):           200.00"));
    let chat = ["--base-url", &base, "--backend", "openai-chat", "--goodput", "ttft:60000", "e2el:60000"];
    let output = pagoda(&[&["bench", "serve"], &LOAD[..], &chat].concat());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("Request goodput (req/s):"), "{}", text(&output.stdout));
}

/// Answers `good` completions on one listener and then dies in the middle of the next, the listener included.
fn mortal_server(good: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port().to_string();
    let thread = std::thread::spawn(move || {
        for index in 0..=good {
            let (mut stream, _) = listener.accept().expect("a client comes");
            read_request(&mut stream);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            let piece = "data: {\"choices\":[{\"text\":\"a\"}]}\r\n\r\n";
            let piece = format!("{:x}\r\n{piece}\r\n", piece.len());
            write!(stream, "{head}{piece}{piece}").expect("the client listens");
            if index < good {
                let end = ": bye\n\ndata: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}],\"usage\":null}\n\n";
                write!(stream, "{:x}\r\n{end}\r\n0\r\n\r\n", end.len()).expect("the client listens");
            }
        }
    });
    (port, thread)
}

fn read_request(stream: &mut TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).expect("a request") > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
}

#[test]
fn a_server_that_dies_midway_leaves_what_there_is_and_a_failure() {
    // The first completion is the test request.
    let (port, thread) = mortal_server(3);
    let result = TempFile::new("dies.json");
    let args =
        ["--port", &port, "--model", "m", "--max-concurrency", "1", "--result-filename", result.path()];
    let output = pagoda(&[&["bench", "serve"], &LOAD[..], &args, &["--save-detailed"]].concat());
    thread.join().expect("the server ran to its end");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("Successful requests:                     2"), "{stdout}");
    assert!(stdout.contains("Failed requests:                         4"), "{stdout}");
    assert!(stderr.contains("request 2: ") && stderr.contains("4 of 6 requests failed"), "{stderr}");
    let json = result.json();
    // Without a count by the server, pieces are counted.
    assert_eq!((&json["completed"], &json["total_output_tokens"]), (&2.into(), &4.into()));
    assert_eq!(json["generated_texts"][2], "aa", "what came before the end is kept");
    assert!(json["errors"][5].as_str().is_some_and(|error| error.contains("cannot connect")), "{json}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = free.local_addr().expect("it has an address").port().to_string();
    drop(free);
    let output = pagoda(&["bench", "serve", "--port", &port]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains(&port) && stderr.contains("connect"), "{stderr}");
}
