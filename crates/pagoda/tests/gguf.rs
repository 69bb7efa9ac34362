//! GGUF files as a user meets them on the command line.

mod common;

use common::{pagoda, text};

fn file(name: &str) -> String {
    format!("{}/../../tests/golden/gguf/{name}.gguf", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_gguf_file_runs_and_is_inspected_and_planned() {
    let path = file("q4_k");
    let args = ["run", "The quick", "--model", &path, "-n", "6", "--temperature", "0", "--ignore-eos"];
    let output = pagoda(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("6 generated tokens"), "{}", text(&output.stderr));
    let output = pagoda(&["inspect", &path, "--tensors"]);
    let stdout = text(&output.stdout);
    let expected = [
        "model   q4_k ",
        "LlamaForCausalLM",
        "stored as q4_k",
        "blk.0.attn_v.weight",
        "q6_k",
        "chat    template",
    ];
    for expected in expected {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}{}", text(&output.stderr));
    }
    let output = pagoda(&["plan", &path]);
    assert!(output.status.success() && text(&output.stdout).contains("q4_k"), "{}", text(&output.stdout));
}

#[test]
fn what_cannot_be_run_is_refused_with_the_file_and_the_reason() {
    let path = file("q4_k");
    let output = pagoda(&["run", "x", "--model", &path, "--quantize", "int8"]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("stores q4_k, which cannot become int8"),
        "{}",
        text(&output.stderr)
    );
    let nowhere = file("nowhere");
    let output = pagoda(&["run", "x", "--model", &nowhere]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("nowhere.gguf"), "{}", text(&output.stderr));
    let other = file("../llama-dynamic/config").replace(".gguf", ".json");
    let output = pagoda(&["inspect", &other]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("instead of \"GGUF\""), "{}", text(&output.stderr));
}
