//! Scores of the embedded model: the same bits whether a text is read by the perplexity command, echoed by the server or
//! generated token by token.
#![cfg(feature = "embedded-model")]

mod common;

use common::{pagoda, text};
use pagoda::eval::{EvalError, perplexity};
use pagoda::server::{ServerConfig, ServerState, serve};
use pagoda::{Engine, GenerateParams, Prompt, SessionEvent};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use tokio::net::TcpListener;

const WINDOW: u32 = 96;

fn passage() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale/training/held_out.txt");
    let text = std::fs::read_to_string(path).expect("the held-out text");
    text.chars().take(3000).collect()
}

/// An engine whose steps have at most `tokens` tokens.
fn engine(tokens: u32) -> Engine {
    let rows = tokens.min(8);
    Engine::builder().max_num_seqs(rows).max_num_batched_tokens(tokens).build().expect("the model loads")
}

/// Posts to a server and returns the answer.
fn post(address: SocketAddr, body: &Value) -> Value {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("the request goes out");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).expect("JSON")
}

/// The same text as windows of token ids, each after the token before it.
fn windows(engine: &Engine, text: &str) -> Vec<Vec<u32>> {
    let tokenizer = &engine.model().tokenizer;
    let mut tokens = tokenizer.encode(text, pagoda::text::Special::Add).expect("tokens");
    if !tokenizer.is_special(tokens[0]) {
        tokens.insert(0, engine.model().stop_ids[0]);
    }
    let starts = (0..tokens.len() - 1).step_by(WINDOW as usize);
    starts.map(|start| tokens[start..(start + WINDOW as usize + 1).min(tokens.len())].to_vec()).collect()
}

/// `sum(token_logprobs[1:-1])` of each window, as `lm-eval` computes it, and the sum of those.
fn echoed(address: SocketAddr, windows: &[Vec<u32>]) -> f64 {
    let mut sum = 0.0;
    for some in windows.chunks(5) {
        let body = json!({"prompt": some, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true});
        let answer = post(address, &body);
        for choice in answer["choices"].as_array().expect("choices") {
            let logprobs = choice["logprobs"]["token_logprobs"].as_array().expect("numbers");
            let scored = &logprobs[1..logprobs.len() - 1];
            sum += scored.iter().map(|value| value.as_f64().expect("a number")).sum::<f64>();
        }
    }
    sum
}

#[test]
fn the_server_scores_a_text_as_the_perplexity_command_does_to_the_last_bit() {
    let passage = passage();
    let mut sums = Vec::new();
    for tokens in [512, 48, 7] {
        let engine = engine(tokens);
        let scores = perplexity(&engine, &passage, Some(WINDOW)).expect("scores");
        assert!((2.0..200.0).contains(&scores.perplexity()), "{scores:?}");
        sums.push(scores.logprob.to_bits());
        let windows = windows(&engine, &passage);
        assert_eq!(scores.windows, windows.len() as u64);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let state = ServerState::new(engine.handle().clone(), ServerConfig::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener, state, std::future::pending()));
        sums.push(echoed(address, &windows).to_bits());
    }
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
}

/// Generating a text and reading it give each token the same bits.
#[test]
fn what_the_model_writes_it_reads_with_the_same_numbers() {
    let engine = engine(64);
    let params = GenerateParams {
        max_tokens: Some(60),
        temperature: Some(1.0),
        seed: Some(7),
        logprobs: Some(2),
        ignore_eos: true,
        ..GenerateParams::default()
    };
    let prompt =
        engine.model().tokenizer.encode("Once upon a time", pagoda::text::Special::Add).expect("tokens");
    let mut session = engine.generate(Prompt::Tokens(prompt.clone()), params).expect("a session");
    let mut written = Vec::new();
    while let Some(event) = session.next_blocking() {
        if let SessionEvent::Delta { tokens, .. } = event {
            written.extend(tokens);
        }
    }
    let whole: Vec<u32> = prompt.iter().copied().chain(written.iter().map(|info| info.token)).collect();
    let params =
        GenerateParams { max_tokens: Some(0), prompt_logprobs: Some(2), ..GenerateParams::default() };
    let mut session = engine.generate(Prompt::Tokens(whole), params).expect("a session");
    let Some(SessionEvent::Prompt(read)) = session.next_blocking() else { panic!("the prompt comes first") };
    assert_eq!(written.len(), 60);
    for (read, written) in read.tokens().skip(prompt.len() - 1).zip(&written) {
        assert_eq!(read.token, written.token);
        assert_eq!(read.logprob.to_bits(), written.logprob.to_bits());
        assert_eq!(read.top, &written.top[..]);
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let engine = engine(64);
    assert!(matches!(perplexity(&engine, "a text", Some(0)), Err(EvalError::Window { window: 0, .. })));
    let longest = engine.model().max_model_len - 1;
    assert!(matches!(perplexity(&engine, "a text", Some(longest + 1)), Err(EvalError::Window { .. })));
    assert!(perplexity(&engine, "a text", None).is_ok());
}

#[test]
fn the_command_prints_what_the_library_computes() {
    let file = std::env::temp_dir().join(format!("pagoda-eval-{}.txt", std::process::id()));
    std::fs::write(&file, passage()).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let run = |tokens: &str| {
        let args = ["eval", "ppl", path, "--window", "96", "--json", "--max-num-seqs", "4"];
        let output = pagoda(&[&args[..], &["--max-num-batched-tokens", tokens]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let scores = perplexity(&engine(64), &passage(), Some(WINDOW)).expect("scores");
    for tokens in ["16", "256"] {
        let printed = run(tokens);
        let figures: Value = serde_json::from_str(&printed).expect("a line of JSON");
        assert_eq!(figures["tokens"], scores.tokens);
        // As text, because not every reader of JSON is exact in the last bit.
        assert!(
            printed.contains(&format!("\"logprob\":{},", json!(scores.logprob))),
            "{printed} for {scores:?}"
        );
    }
    let _ = std::fs::remove_file(&file);
    assert_eq!(pagoda(&["eval", "ppl", "/no/such/file"]).status.code(), Some(2));
}
