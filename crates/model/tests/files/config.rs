//! config.json and generation_config.json: styles, defaults, contradictions and refusals.

use crate::tiny::{Folder, Tiny, refused};
use pagoda_model::{AttentionSpan, Checkpoint, ModelError, ModelSource, RopeScaling};
use serde_json::{Value, json};

const CONFIG: &str = "config.json";

/// A Mistral with the tiny Llama's weights.
fn mistral() -> Tiny {
    Tiny::llama().set("architectures", json!(["MistralForCausalLM"])).set("model_type", json!("mistral"))
}

/// A Qwen2, whose attention has biases.
fn qwen2() -> Tiny {
    let mut tiny =
        Tiny::llama().set("architectures", json!(["Qwen2ForCausalLM"])).set("model_type", json!("qwen2"));
    for layer in 0..2 {
        for (name, n) in [("q", 8), ("k", 4), ("v", 4)] {
            tiny.add(&format!("model.layers.{layer}.self_attn.{name}_proj.bias"), &[n]);
        }
    }
    tiny
}

/// The tiny Llama with `"field": value` is refused with all `parts` and the file's name.
#[track_caller]
fn refused_field(field: &str, value: Value, parts: &[&str]) {
    let folder = Tiny::llama().set(field, value).write();
    refused(&folder, parts);
    refused(&folder, &[CONFIG, field]);
}

fn spans(tiny: Tiny) -> Vec<AttentionSpan> {
    tiny.write()
        .open()
        .expect("the model is good")
        .spec()
        .layers
        .iter()
        .map(|layer| layer.attention)
        .collect()
}

#[test]
fn a_path_that_is_no_model_folder_is_explained() {
    let open = |path: &str| Checkpoint::open(&ModelSource::Folder(path.into())).unwrap_err().to_string();
    assert!(open("/no/such/model").contains("\"/no/such/model\" does not exist"));
    let folder = Tiny::llama().write();
    let file = folder.path().join("model.safetensors");
    assert!(open(file.to_str().unwrap()).contains("is not a folder"));
    refused(&Folder::new(), &["no config.json", "model.safetensors"]);
    let adapter = Folder::new();
    adapter.write("adapter_config.json", "{}");
    refused(&adapter, &["adapter"]);
}

#[test]
fn a_config_that_is_no_json_object_is_refused() {
    for text in ["", "{", "[]", "null", "hello", "{\"a\": NaN}", "{\"a\": 1e999}", "{} {}", "\u{0}"] {
        let folder = Tiny::llama().write();
        folder.write(CONFIG, text);
        refused(&folder, &[CONFIG]);
        folder.write(CONFIG, Tiny::llama().config.to_string());
        folder.write("generation_config.json", text);
        refused(&folder, &["generation_config.json"]);
    }
    let folder = Tiny::llama().write();
    folder.write(CONFIG, "[".repeat(1 << 20));
    refused(&folder, &[CONFIG]);
    folder.write(CONFIG, " ".repeat((4 << 20) + 1));
    refused(&folder, &[CONFIG, "4194305", "4194304"]);
}

#[test]
fn a_field_given_twice_is_refused() {
    let folder = Tiny::llama().write();
    let text = Tiny::llama().config.to_string();
    folder.write(CONFIG, format!("{},\"vocab_size\":17}}", &text[..text.len() - 1]));
    refused(&folder, &[CONFIG, "vocab_size", "twice"]);
}

#[test]
fn a_needed_field_that_is_missing_or_null_is_named() {
    for field in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ] {
        refused(&Tiny::llama().unset(field).write(), &[CONFIG, field, "missing"]);
        refused(&Tiny::llama().set(field, Value::Null).write(), &[CONFIG, field, "missing"]);
    }
}

#[test]
fn numbers_out_of_range_or_of_another_kind_are_named() {
    for field in
        ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    {
        for value in [json!(0), json!(-1), json!(1.5), json!("8"), json!([8]), json!(true), json!(u64::MAX)] {
            refused_field(field, value.clone(), &[&value.to_string(), "whole number from 1"]);
        }
        refused_field(field, json!(1u64 << 32), &["4294967296"]);
    }
    refused_field("rms_norm_eps", json!(-1e-5), &["-0.00001"]);
    refused_field("rms_norm_eps", json!("small"), &["\"small\""]);
    refused_field("rope_theta", json!(0), &["at least 1"]);
    refused_field("tie_word_embeddings", json!("no"), &["true or false"]);
    refused_field("eos_token_id", json!(16), &["16", "from 0 to 15"]);
    refused_field("eos_token_id", json!(-1), &["-1"]);
    refused_field("eos_token_id", json!([2, "x"]), &["[2,\"x\"]"]);
    refused_field("architectures", json!("LlamaForCausalLM"), &["list"]);
}

#[test]
fn whole_numbers_may_be_written_with_a_point() {
    assert_eq!(Tiny::llama().set("vocab_size", json!(16.0)).write().open().unwrap().spec().vocab_size, 16);
}

#[test]
fn heads_must_divide_and_head_dim_be_even() {
    refused_field("num_key_value_heads", json!(3), &["3", "num_attention_heads = 2"]);
    refused_field("head_dim", json!(5), &["5", "even"]);
    refused_field("head_dim", json!(2048), &["2048"]);
    let odd =
        Tiny::llama().unset("head_dim").set("num_attention_heads", json!(3)).unset("num_key_value_heads");
    refused(&odd.write(), &["hidden_size", "8", "num_attention_heads = 3", "head_dim"]);
    let quotient = Tiny::llama().unset("head_dim").write();
    assert_eq!(quotient.open().unwrap().spec().head_dim, 4);
}

#[test]
fn absent_key_value_heads_are_as_many_as_heads() {
    let mut tiny = Tiny::llama().set("num_key_value_heads", Value::Null);
    for layer in 0..2 {
        for name in ["k", "v"] {
            let name = format!("model.layers.{layer}.self_attn.{name}_proj.weight");
            tiny.remove(&name);
            tiny.add(&name, &[8, 8]);
        }
    }
    assert_eq!(tiny.write().open().unwrap().spec().kv_heads, 2);
}

#[test]
fn an_unknown_architecture_lists_the_supported_and_the_nearest() {
    let unknown = |name: &str| {
        let folder = Tiny::llama().set("architectures", json!([name])).unset("model_type").write();
        let error = folder.open().unwrap_err();
        for supported in pagoda_model::SUPPORTED_ARCHITECTURES {
            assert!(error.to_string().contains(supported), "{error}");
        }
        let ModelError::UnknownArchitecture { nearest, .. } = error else { panic!("{error}") };
        nearest
    };
    assert_eq!(unknown("LLaMAForCausalLM"), Some("LlamaForCausalLM"));
    assert_eq!(unknown("Qwen2ForCasualLM"), Some("Qwen2ForCausalLM"));
    assert_eq!(unknown("qwen"), Some("Qwen2ForCausalLM"));
    assert_eq!(unknown("NoSuchForCausalLM"), None);
    assert_eq!(unknown("DeepseekV3ForCausalLM"), Some("LlamaForCausalLM"));
    let mamba = Tiny::llama().set("architectures", json!(["MambaForCausalLM"])).unset("model_type");
    refused(&mamba.write(), &["MambaForCausalLM", "it needs state-space layers", "nearest"]);
    refused(&Tiny::llama().set("architectures", json!([&"x".repeat(100_000)])).write(), &["xxx…"]);
    refused(&Tiny::llama().set("architectures", json!([])).unset("model_type").write(), &["architectures"]);
}

#[test]
fn model_type_stands_in_for_architectures_and_may_not_contradict() {
    let by_type = Tiny::llama().unset("architectures").write().open().unwrap();
    assert_eq!(by_type.spec().architecture, "LlamaForCausalLM");
    refused_field("model_type", json!("qwen2"), &["\"qwen2\"", "LlamaForCausalLM", "\"llama\""]);
}

#[test]
fn what_the_forward_pass_does_not_do_is_refused_by_name() {
    let quantised = json!({"quant_method": "bitsandbytes", "load_in_4bit": true});
    refused_field("quantization_config", quantised, &["bitsandbytes", "not supported", "GGUF", "--quantize"]);
    refused_field("hidden_act", json!("mish"), &["mish", "silu"]);
    refused_field("num_local_experts", json!(8), &["8", "mixture"]);
    refused_field("partial_rotary_factor", json!(0.2), &["0.2", "even"]);
    refused_field("partial_rotary_factor", json!(1.5), &["1.5", "at most 1"]);
    refused_field("final_logit_softcapping", json!(30.0), &["30.0"]);
    let harmless = Tiny::llama()
        .set("quantization_config", Value::Null)
        .set("num_experts", json!(0))
        .set("is_encoder_decoder", json!(false))
        .set("partial_rotary_factor", json!(1.0))
        .set("hidden_act", json!("swish"));
    assert!(harmless.write().open().is_ok());
}

#[test]
fn rope_scaling_is_read_in_both_styles() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let read = |tiny: Tiny| tiny.write().open().unwrap().spec().ropes[0].clone();
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position: 8192,
    };
    let old = read(Tiny::llama().set("rope_theta", json!(500_000)).set("rope_scaling", llama3.clone()));
    assert_eq!((old.theta, old.rotary_dim, &old.scaling), (500_000.0, 4, &expected));
    let mut flat = llama3;
    flat["rope_theta"] = json!(500_000.0);
    assert_eq!(read(Tiny::llama().unset("rope_theta").set("rope_parameters", flat.clone())), old);
    let nested = json!({"full_attention": flat, "sliding_attention": flat});
    assert_eq!(read(Tiny::llama().unset("rope_theta").set("rope_parameters", nested)), old);
    let older = read(Tiny::llama().set("rope_scaling", json!({"type": "linear", "factor": 2})));
    assert_eq!(older.scaling, RopeScaling::Linear { factor: 2.0 });
    let none = read(Tiny::llama().unset("rope_theta").set("rope_scaling", Value::Null));
    assert_eq!((none.theta, none.scaling), (10_000.0, RopeScaling::None));
}

#[test]
fn yarn_reaches_beyond_the_longest_context_that_is_written() {
    let context = |scaling: Value| {
        Tiny::llama().set("rope_scaling", scaling).write().open().unwrap().spec().max_context
    };
    assert_eq!(context(json!({"type": "yarn", "factor": 4.0})), 4 * 64);
    assert_eq!(context(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8})), 64);
    assert_eq!(context(json!({"type": "yarn", "factor": 1e30})), 1 << 27);
    assert_eq!(context(json!({"type": "linear", "factor": 4.0})), 64);
}

#[test]
fn rope_scaling_that_is_unknown_incomplete_or_contradictory_is_refused() {
    refused_field(
        "rope_scaling",
        json!({"rope_type": "mrope", "factor": 2.0}),
        &["rope_type", "mrope", "llama3"],
    );
    for kind in ["linear", "dynamic", "llama3"] {
        refused_field("rope_scaling", json!({"rope_type": kind, "factor": 0}), &["rope_scaling."]);
    }
    let long = |short, long| json!({"rope_type": "longrope", "short_factor": short, "long_factor": long});
    refused_field(
        "rope_scaling",
        long(json!([1.0]), json!([1.0, 2.0])),
        &["short_factor", "1 numbers", "2 pairs"],
    );
    refused_field("rope_scaling", long(json!([1.0, 1.0]), json!([1.0, 0.0])), &["long_factor", "above 0"]);
    refused_field(
        "rope_scaling",
        json!({"rope_type": "yarn", "factor": 4, "beta_fast": -1}),
        &["beta_fast", "-1"],
    );
    refused_field(
        "rope_parameters",
        json!({"rope_type": "yarn", "factor": 4, "rope_theta": 1}),
        &["rope_theta"],
    );
    refused_field("rope_scaling", json!({"rope_type": "linear"}), &["factor", "missing"]);
    refused_field("rope_scaling", json!({"rope_type": "linear", "factor": 0.5}), &["0.5"]);
    refused_field(
        "rope_scaling",
        json!({"rope_type": "linear", "type": "yarn"}),
        &["\"linear\"", "\"yarn\""],
    );
    refused_field("rope_scaling", json!("linear"), &["object"]);
    let inverted = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1});
    refused_field("rope_parameters", inverted, &["high_freq_factor", "low_freq_factor = 4"]);
    refused_field("rope_parameters", json!({"rope_theta": 5000.0}), &["10000", "5000"]);
    let unequal = json!({"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}});
    refused(
        &Tiny::llama().unset("rope_theta").set("rope_parameters", unequal).write(),
        &["rope_parameters", "alike"],
    );
}

#[test]
fn mistral_has_one_window_unless_it_is_null() {
    assert_eq!(spans(mistral().set("sliding_window", json!(5))), [AttentionSpan::Window(5); 2]);
    assert_eq!(spans(mistral().set("sliding_window", Value::Null)), [AttentionSpan::Full; 2]);
    assert_eq!(spans(mistral()), [AttentionSpan::Window(4096); 2]);
    let mixed = json!(["full_attention", "sliding_attention"]);
    refused(&mistral().set("sliding_window", json!(5)).set("layer_types", mixed).write(), &["layer_types"]);
    refused(&mistral().set("sliding_window", json!(0)).write(), &["sliding_window", "from 1"]);
}

#[test]
fn qwen_windows_start_at_max_window_layers_or_follow_layer_types() {
    let on = || qwen2().set("use_sliding_window", json!(true)).set("sliding_window", json!(6));
    let (full, window) = (AttentionSpan::Full, AttentionSpan::Window(6));
    assert_eq!(
        spans(qwen2().set("sliding_window", json!(6)).set("max_window_layers", json!(0))),
        [full, full]
    );
    assert_eq!(spans(on().set("max_window_layers", json!(1))), [full, window]);
    assert_eq!(spans(on().set("max_window_layers", json!(0))), [window, window]);
    assert_eq!(spans(on()), [full, full]);
    let types = json!(["sliding_attention", "full_attention"]);
    assert_eq!(spans(on().set("layer_types", types.clone())), [window, full]);
    refused(&qwen2().set("layer_types", types).write(), &["layer_types", "use_sliding_window"]);
    refused(
        &on().set("layer_types", json!(["full_attention"])).write(),
        &["lists 1", "num_hidden_layers is 2"],
    );
    let chunked = json!(["chunked_attention", "full_attention"]);
    refused(&on().set("layer_types", chunked).write(), &["layer_types", "chunked_attention"]);
}

#[test]
fn biases_follow_the_config() {
    refused(&Tiny::llama().set("attention_bias", json!(true)).write(), &["q_proj.bias", "missing"]);
    refused(&Tiny::llama().set("mlp_bias", json!(true)).write(), &["gate_proj.bias", "missing"]);
    let spec = qwen2().write().open().unwrap().spec().clone();
    assert_eq!((spec.qkv_bias, spec.o_bias, spec.mlp_bias, spec.qk_norm), (true, false, false, None));
}

#[test]
fn what_a_family_leaves_out_is_refused_by_name() {
    let refused_of = |architecture: &str, field: &str, value: Value, parts: &[&str]| {
        let tiny = Tiny::llama().set("architectures", json!([architecture])).unset("model_type");
        refused(&tiny.set(field, value).write(), &[&[CONFIG, field], parts].concat());
    };
    refused_of("FalconForCausalLM", "alibi", json!(true), &["ALiBi"]);
    refused_of("StableLmForCausalLM", "qk_layernorm", json!(true), &["true"]);
    refused_of("GPT2LMHeadModel", "scale_attn_by_inverse_layer_idx", json!(true), &["one factor"]);
    refused_of("GPT2LMHeadModel", "n_positions", json!(0), &["from 1"]);
    refused_of("Gemma2ForCausalLM", "attn_logit_softcapping", json!(-1), &["above 0"]);
    refused_of("Gemma3ForCausalLM", "use_bidirectional_attention", json!(true), &["earlier tokens"]);
    refused_of("SmolLM3ForCausalLM", "no_rope_layers", json!([1, 0, 1]), &["lists 3"]);
    refused_of("SmolLM3ForCausalLM", "no_rope_layers", json!([1, 2]), &["0 or 1"]);
    refused_of("GraniteForCausalLM", "attention_multiplier", json!(0), &["above 0"]);
    refused_of("Cohere2ForCausalLM", "sliding_window_pattern", json!("LLLG"), &["LLLG"]);
}

#[test]
fn stop_ids_are_the_union_of_both_files() {
    let folder = Tiny::llama().set("eos_token_id", json!([9, 2])).write();
    assert_eq!(folder.open().unwrap().stop_ids(), [2, 9]);
    folder.write("generation_config.json", r#"{"eos_token_id": [2, 1]}"#);
    let model = folder.open().unwrap();
    assert_eq!(model.stop_ids(), [1, 2, 9]);
    assert_eq!(model.generation().eos_ids, [2, 1]);
    let none = Tiny::llama().set("eos_token_id", Value::Null).write();
    assert!(none.open().unwrap().stop_ids().is_empty());
}

#[test]
fn generation_defaults_are_read_and_checked() {
    let folder = Tiny::llama().write();
    let write = |value: Value| folder.write("generation_config.json", value.to_string());
    write(json!({
        "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05
    }));
    let read = folder.open().unwrap().generation().clone();
    assert_eq!((read.temperature, read.top_k, read.top_p), (Some(0.6), Some(20), Some(0.95)));
    assert_eq!((read.min_p, read.repetition_penalty), (Some(0.0), Some(1.05)));
    write(json!({"do_sample": false, "temperature": 0.6, "top_p": null}));
    let greedy = folder.open().unwrap().generation().clone();
    assert_eq!((greedy.temperature, greedy.top_p), (Some(0.0), None));
    for (field, value) in [
        ("temperature", json!(-1)),
        ("temperature", json!("hot")),
        ("temperature", json!(1e300)),
        ("top_p", json!(0)),
        ("top_p", json!(1.5)),
        ("top_k", json!(-1)),
        ("top_k", json!(1.5)),
        ("min_p", json!(2)),
        ("repetition_penalty", json!(0)),
        ("do_sample", json!(1)),
        ("eos_token_id", json!([16])),
    ] {
        write(json!({ field: value }));
        refused(&folder, &["generation_config.json", field, &value.to_string()]);
    }
}
