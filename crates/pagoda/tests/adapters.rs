//! Adapters of the embedded model, from their folders to answers: in the library, on the command line and over HTTP.
#![cfg(feature = "embedded-model")]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{pagoda, text};
use pagoda::{AdapterError, BuildError, Engine, GenerateError, GenerateParams};
use serde_json::{Map, json};
use server::{Server, call_at, failure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What remains lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder with an adapter of the output of attention and of down, as PEFT writes it; each seed another one.
fn folder(name: &str, rank: u32, seed: u32) -> Folder {
    let path = std::env::temp_dir().join(format!("pagoda-adapter-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).expect("the temporary folder is writable");
    let config = json!({"peft_type": "LORA", "r": rank, "lora_alpha": 4 * rank, "bias": "none"});
    fs::write(path.join("adapter_config.json"), config.to_string()).expect("writable");
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), seed);
    for layer in 0..6 {
        for (module, outputs, inputs) in [("self_attn.o_proj", 256, 256), ("mlp.down_proj", 256, 768)] {
            for (side, shape) in [("lora_A", [rank, inputs]), ("lora_B", [outputs, rank])] {
                let begin = data.len();
                for _ in 0..shape[0] * shape[1] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    data.extend((0.2 * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)).to_le_bytes());
                }
                let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
                header.insert(format!("base_model.model.model.layers.{layer}.{module}.{side}.weight"), entry);
            }
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    fs::write(path.join("adapter_model.safetensors"), file).expect("writable");
    Folder(path)
}

fn answer(engine: &Engine, adapter: Option<&str>) -> Result<String, GenerateError> {
    let params = GenerateParams {
        adapter: adapter.map(Into::into),
        max_tokens: Some(24),
        temperature: Some(0.0),
        ignore_eos: true,
        ..GenerateParams::default()
    };
    let session = engine.generate("Once upon a time there was a king who had three", params)?;
    Ok(session.result_blocking().expect("it ends").text)
}

#[test]
fn an_engine_answers_with_each_adapter_and_without_any() {
    let (first, second) = (folder("first", 8, 1), folder("second", 5, 2));
    let plain = answer(&Engine::builder().build().expect("the embedded model loads"), None).expect("valid");
    let builder = Engine::builder().adapter("first", &first.0).max_adapters(2);
    let engine = builder.build().expect("the adapter is good");
    engine.handle().load_adapter("second", &second.0).expect("there is room");
    let answers =
        [None, Some("first"), Some("second")].map(|adapter| answer(&engine, adapter).expect("valid"));
    assert_eq!(answers[0], plain, "the model without adapters is what it was");
    assert!(answers[1] != plain && answers[2] != plain && answers[1] != answers[2], "{answers:?}");
    let full = engine.handle().load_adapter("third", &first.0).expect_err("there is no room");
    assert_eq!(full, AdapterError::Full { limit: 2 });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(engine.handle().unload_adapter("first")).expect("nobody uses it");
    assert!(matches!(answer(&engine, Some("first")), Err(GenerateError::Submit(_))));
    engine.handle().load_adapter("again", &first.0).expect("there is room again");
    assert_eq!(answer(&engine, Some("again")).expect("valid"), answers[1]);
}

#[test]
fn what_cannot_be_used_is_told_before_the_model_is_loaded() {
    let wide = folder("wide", 17, 3);
    let error = Engine::builder().adapter("wide", &wide.0).prepare().expect_err("rank 17").to_string();
    assert!(error.contains("wide") && error.contains("--max-lora-rank 17"), "{error}");
    Engine::builder().adapter("wide", &wide.0).max_adapter_rank(17).prepare().expect("there is room");
    let error = Engine::builder().adapter("gone", "/nowhere").prepare().expect_err("no folder");
    assert!(
        matches!(error, BuildError::Adapter { .. }) && error.to_string().contains("does not exist"),
        "{error}"
    );
    let [without, with] = [0, 4].map(|count| {
        let prepared = Engine::builder().max_adapters(count).prepare().expect("a plan");
        (prepared.memory.adapters, prepared.memory.total() - prepared.memory.kv)
    });
    assert!(without.0 == 0 && with.0 > 0 && with.1 >= without.1 + with.0, "{without:?} {with:?}");
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a path of text")
}

#[test]
fn the_command_line_runs_plans_and_refuses() {
    let adapter = folder("run", 4, 4);
    let run = |more: &[&str]| {
        let args = [&["run", "Once upon a time", "--raw", "--temperature", "0", "--max-tokens", "12"], more]
            .concat();
        let output = pagoda(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_ne!(run(&["--lora", path(&adapter.0)]), run(&[]));
    assert_eq!(
        run(&["--lora-modules", &format!("x={}", path(&adapter.0))]),
        run(&["--lora", path(&adapter.0)])
    );
    let plan = pagoda(&["plan", "--max-loras", "8"]);
    assert!(text(&plan.stdout).contains("up to 8 adapters"), "{}", text(&plan.stdout));
    let few = failure(&["serve", "--lora", "a=x", "--lora", "b=y", "--max-loras", "1"], 2);
    assert!(few.contains("raise it to 2"), "{few}");
    let gone = failure(&["serve", "--port", "0", "--lora", "a=/nowhere"], 3);
    assert!(gone.contains("/nowhere") && gone.contains("does not exist"), "{gone}");
}

/// Those of the command line and those that were loaded since are there after a reload.
#[test]
fn a_server_keeps_its_adapters_through_a_reload() {
    let (first, second) = (folder("served", 4, 5), folder("live", 4, 6));
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let given = format!("first={}", path(&first.0));
    let mut server =
        Server::start(&["--lora", &given, "--max-loras", "2", "--admin-port", &port.to_string()]);
    server.wait_until_ready();
    let order = |path: &str, body: &str| call_at(&format!("127.0.0.1:{port}"), "POST", path, "", body);
    let body = json!({"lora_name": "live", "lora_path": path(&second.0)}).to_string();
    let loaded = order("/v1/load_lora_adapter", &body);
    assert!(loaded.starts_with("HTTP/1.1 200"), "{loaded}");
    let ask = |server: &Server, model: &str| {
        let body = json!({"model": model, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0})
            .to_string();
        let answer = server.call("POST", "/v1/completions", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        body["choices"][0]["text"].to_string()
    };
    let before = ["default", "first", "live"].map(|model| ask(&server, model));
    assert!(before[0] != before[1] && before[1] != before[2], "{before:?}");
    let reloaded = order("/v1/reload", "");
    assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
    assert_eq!(["default", "first", "live"].map(|model| ask(&server, model)), before);
    let unload = json!({"lora_name": "live"}).to_string();
    assert!(order("/v1/unload_lora_adapter", &unload).starts_with("HTTP/1.1 200"));
    assert!(!server.call("GET", "/v1/models", "").contains("\"live\""));
    assert_eq!(server.terminate(), Some(143));
}
