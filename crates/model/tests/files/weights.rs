//! Damaged, hostile and mismatched weight files: each gets an error that names file, tensor and numbers.

use crate::tiny::{Folder, Tiny, frame, header, refused};
use pagoda_model::{Checkpoint, LayerRole, ModelError, ModelSource, Role, TensorData};
use serde_json::{Value, json};

const FILE: &str = "model.safetensors";
const Q: &str = "model.layers.1.self_attn.q_proj.weight";

#[test]
fn a_tensor_reads_the_same_after_its_memory_was_given_back() {
    let checkpoint = Tiny::llama().write();
    let checkpoint = checkpoint.open().expect("a good model");
    let all = || checkpoint.tensors().map(|(_, tensor)| tensor.bytes().into_owned()).collect::<Vec<_>>();
    let before = all();
    for (role, _) in checkpoint.tensors() {
        checkpoint.prefetch(role);
        checkpoint.release(role);
    }
    assert_eq!(all(), before);
}

#[test]
fn a_good_model_opens_with_every_tensor_in_place() {
    let model = Tiny::llama().write().open().unwrap();
    let q = model.tensor(Role::Layer(1, LayerRole::Q));
    assert_eq!((q.name, q.file, q.shape), (Q, FILE, &[8, 8][..]));
    assert_eq!(q.to_f32_vec(), (0..64).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(model.tensor(Role::Head).name, "lm_head.weight");
    assert_eq!(model.tensors().count(), 3 + 2 * 9);
    assert_eq!(model.parameters(), 2 * 128 + 8 + 2 * (2 * 8 + 2 * 64 + 2 * 32 + 3 * 96));
    assert_eq!(model.stored_bytes(), 2 * model.parameters());
    assert!(model.check_unchanged().is_ok());
}

#[test]
fn a_tied_head_is_the_embedding() {
    let mut tiny = Tiny::llama().set("tie_word_embeddings", json!(true));
    let twice = tiny.write().open().unwrap();
    assert_eq!(twice.tensor(Role::Head).name, "model.embed_tokens.weight");
    tiny.tensor("lm_head.weight").bytes[6] ^= 1;
    refused(&tiny.write(), &[FILE, "lm_head.weight", "tie_word_embeddings"]);
    tiny.remove("lm_head.weight");
    let once = tiny.write().open().unwrap();
    assert_eq!(once.tensor(Role::Head).bytes(), once.tensor(Role::Embedding).bytes());
    assert_eq!(once.parameters(), twice.parameters());
}

#[test]
fn odd_addresses_are_copied_not_refused() {
    let tiny = Tiny::llama();
    let text = Value::Object(tiny.header()).to_string();
    for pad in 0..4 {
        let text = text.clone() + &" ".repeat(pad);
        let model = tiny.write_with(&frame(&text, &tiny.data())).open().unwrap();
        let TensorData::Bf16(q) = model.tensor(Role::Layer(0, LayerRole::Q)).data() else {
            panic!("not bf16")
        };
        assert_eq!(q.len(), 64);
        assert_eq!(q[63].to_f32(), 63.0);
    }
}

#[test]
fn every_stored_format_is_widened() {
    for (dtype, bytes) in [
        ("F32", (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>()),
        ("F16", (0..8).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect()),
    ] {
        let mut tiny = Tiny::llama();
        let norm = tiny.tensor("model.norm.weight");
        (norm.dtype, norm.bytes) = (dtype.into(), bytes);
        let model = tiny.write().open().unwrap();
        assert_eq!(model.tensor(Role::FinalNorm).to_f32_vec(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(model.spec().dtype, pagoda_model::Dtype::Bf16);
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let mut tiny = Tiny::llama();
    tiny.remove(Q);
    refused(&tiny.write(), &[FILE, Q, "missing"]);
    let mut tiny = Tiny::llama();
    tiny.remove("lm_head.weight");
    refused(&tiny.write(), &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn a_config_of_more_or_fewer_layers_is_named_with_both_numbers() {
    refused(
        &Tiny::llama().set("num_hidden_layers", json!(5)).write(),
        &["num_hidden_layers = 5", "2 layers"],
    );
    refused(
        &Tiny::llama().set("num_hidden_layers", json!(1)).write(),
        &["layers.1", "num_hidden_layers = 1"],
    );
}

#[test]
fn a_tensor_that_the_config_does_not_call_for_is_refused() {
    for (name, advice) in [
        ("model.layers.0.self_attn.q_proj.bias", "attention_bias"),
        ("model.layers.0.self_attn.q_proj.weight_scale", "quantised"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "adapter"),
        ("model.layers.0.block_sparse_moe.gate.weight", "architectures"),
    ] {
        let mut tiny = Tiny::llama();
        tiny.add(name, &[8]);
        refused(&tiny.write(), &[FILE, name, "LlamaForCausalLM", advice]);
    }
    let mut tiny = Tiny::llama();
    tiny.add("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    assert!(tiny.write().open().is_ok(), "old versions stored this buffer");
}

#[test]
fn names_without_the_prefix_are_explained() {
    let mut tiny = Tiny::llama();
    for tensor in &mut tiny.tensors {
        tensor.name = tensor.name.trim_start_matches("model.").to_owned();
    }
    refused(&tiny.write(), &["model.embed_tokens.weight", "prefix"]);
}

#[test]
fn a_wrong_shape_names_both_shapes_and_the_fields() {
    let mut tiny = Tiny::llama();
    tiny.tensor(Q).shape = vec![4, 16];
    refused(&tiny.write(), &[FILE, Q, "[4, 16]", "[8, 8]", "num_attention_heads * head_dim", "hidden_size"]);
    let contradicting = Tiny::llama().set("vocab_size", json!(17));
    refused(&contradicting.write(), &["model.embed_tokens.weight", "[16, 8]", "[17, 8]", "vocab_size"]);
    let mut flat = Tiny::llama();
    flat.tensor(Q).shape = vec![64];
    refused(&flat.write(), &[Q, "[64]"]);
}

#[test]
fn a_wrong_format_is_named() {
    let mut tiny = Tiny::llama();
    tiny.tensor(Q).dtype = "I16".into();
    refused(&tiny.write(), &[FILE, Q, "I16", "F32, F16, BF16 and"]);
    tiny.tensor(Q).dtype = "Q4_K".into();
    refused(&tiny.write(), &[FILE, Q, "Q4_K", "unknown"]);
}

/// The file with `field` of the entry of `Q` replaced.
fn with_entry(field: &str, value: Value) -> Folder {
    let tiny = Tiny::llama();
    let mut header = tiny.header();
    header[Q][field] = value;
    tiny.write_with(&frame(&Value::Object(header).to_string(), &tiny.data()))
}

#[test]
fn hostile_shapes_and_offsets_are_refused() {
    let max = u64::MAX;
    for shape in [
        json!([max, max]),
        json!([1u64 << 63, 2]),
        json!([1u64 << 32, 1u64 << 32]),
        json!([max]),
        json!([8, 9]),
        json!([0]),
        json!([]),
        json!([8, 7]),
        json!([1u64 << 31, 1u64 << 31, 4]),
    ] {
        refused(&with_entry("shape", shape), &[FILE, Q]);
    }
    let begin = Tiny::llama().header()[Q]["data_offsets"][0].as_u64().unwrap();
    let end = begin + 128;
    for offsets in [
        json!([end, begin]),
        json!([begin, max]),
        json!([max - 128, max]),
        json!([begin + 2, end + 2]),
        json!([begin - 2, end - 2]),
        json!([0, 128]),
        json!([1u64 << 62, (1u64 << 62) + 128]),
    ] {
        refused(&with_entry("data_offsets", offsets), &[FILE]);
    }
}

#[test]
fn entries_of_the_wrong_kind_are_refused_by_name() {
    for (field, value) in [
        ("shape", json!("8x8")),
        ("shape", json!([-8, -8])),
        ("shape", json!([8.5, 8])),
        ("shape", json!([1, 1, 1, 1, 1, 1, 1, 8, 8])),
        ("dtype", json!(7)),
        ("dtype", json!(null)),
        ("data_offsets", json!([0])),
        ("data_offsets", json!([0, 1, 2])),
        ("data_offsets", json!({"begin": 0})),
    ] {
        refused(&with_entry(field, value), &[FILE, Q, "byte "]);
    }
}

#[test]
fn overlaps_gaps_and_remainders_are_refused() {
    let mut tiny = Tiny::llama();
    let mut data = tiny.data();
    data.extend([0; 6]);
    let text = Value::Object(tiny.header()).to_string();
    let end = 8 + text.len() + data.len() - 6;
    refused(&tiny.write_with(&frame(&text, &data)), &[FILE, "6 bytes follow", &format!("byte {end}")]);

    let unused = tiny.tensors.remove(4);
    let mut gap = tiny.header();
    let full = Tiny::llama();
    for (name, entry) in full.header() {
        if name != unused.name {
            gap[&name] = entry;
        }
    }
    refused(&tiny.write_with(&frame(&Value::Object(gap).to_string(), &full.data())), &[FILE, "gap"]);

    let mut overlap = full.header();
    overlap["model.norm.weight"]["data_offsets"] = json!([0, 16]);
    let folder = full.write_with(&frame(&Value::Object(overlap).to_string(), &full.data()));
    refused(&folder, &[FILE, "overlaps", "model.embed_tokens.weight"]);
}

#[test]
fn a_tensor_twice_in_one_file_is_refused() {
    let tiny = Tiny::llama();
    let text = Value::Object(tiny.header()).to_string();
    let entry = json!({"dtype": "BF16", "shape": [8, 8], "data_offsets": [0, 128]});
    let twice = format!("{},\"{Q}\":{entry}}}", &text[..text.len() - 1]);
    refused(&tiny.write_with(&frame(&twice, &tiny.data())), &[FILE, Q, "twice"]);
    let inner = text.replace("\"dtype\":", "\"dtype\":\"F32\",\"dtype\":");
    refused(&tiny.write_with(&frame(&inner, &tiny.data())), &[FILE, "duplicate field", "dtype"]);
}

#[test]
fn the_header_length_is_bounded_by_the_file_and_by_a_limit() {
    let tiny = Tiny::llama();
    let good = tiny.weights();
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, (16 << 20) + 1] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refused(&tiny.write_with(&bytes), &[FILE, "byte 0", &length.to_string(), "limit"]);
    }
    for length in [good.len() as u64 - 7, good.len() as u64, 16 << 20] {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refused(&tiny.write_with(&bytes), &[FILE, &length.to_string(), "truncated"]);
    }
}

#[test]
fn things_that_are_no_safetensors_file_are_refused() {
    let tiny = Tiny::llama();
    for bytes in [
        &b""[..],
        b"abc",
        b"\0\0\0\0\0\0\0\0",
        b"\x80\x02ctorch._utils\n_rebuild",
        b"GGUF\x03\0\0\0\x10\0\0\0",
    ] {
        refused(&tiny.write_with(bytes), &[FILE]);
    }
    for text in ["", "[]", "null", "{", "{\"a\"", "\u{feff}{}", "{}{}", "\"model\""] {
        refused(&tiny.write_with(&frame(text, b"")), &[FILE, "byte"]);
    }
    let deep = "[".repeat(100_000);
    refused(&tiny.write_with(&frame(&format!("{{\"a\":{deep}"), b"")), &[FILE]);
    refused(&tiny.write_with(&frame(&format!("{{\"__metadata__\":{deep}"), b"")), &[FILE]);
    let long = format!("{{\"{}\":{{}}}}", "x".repeat(1025));
    refused(&tiny.write_with(&frame(&long, b"")), &[FILE, "1024"]);
}

#[test]
fn a_truncated_file_says_so() {
    let tiny = Tiny::llama();
    let good = tiny.weights();
    refused(&tiny.write_with(&good[..good.len() - 1]), &[FILE, "mlp.down_proj.weight", "truncated"]);
    refused(&tiny.write_with(&good[..20]), &[FILE, "truncated"]);
}

#[test]
fn missing_weights_are_explained_by_what_is_there() {
    for (file, advice) in [
        ("pytorch_model.bin", "pickled"),
        ("model.Q4_K_M.gguf", "GGUF"),
        ("consolidated.safetensors", "must be called"),
        ("tokenizer.json", "download"),
    ] {
        let folder = Folder::new();
        folder.write("config.json", Tiny::llama().config.to_string());
        folder.write(file, b"");
        refused(&folder, &[FILE, advice]);
    }
    let folder = Folder::new();
    folder.write("config.json", Tiny::llama().config.to_string());
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    refused(&folder, &[FILE, "regular file"]);
}

/// The tiny model in two files with an index, which `edit` may spoil.
fn sharded(edit: impl FnOnce(&mut Value)) -> Folder {
    let tiny = Tiny::llama();
    let folder = Folder::new();
    folder.write("config.json", tiny.config.to_string());
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": {}});
    for (part, tensors) in [("a.safetensors", &tiny.tensors[..7]), ("b.safetensors", &tiny.tensors[7..])] {
        let data: Vec<u8> = tensors.iter().flat_map(|t| t.bytes.clone()).collect();
        folder.write(part, frame(&Value::Object(header(tensors)).to_string(), &data));
        for tensor in tensors {
            index["weight_map"][&tensor.name] = json!(part);
        }
    }
    edit(&mut index);
    folder.write("model.safetensors.index.json", index.to_string());
    folder
}

#[test]
fn shards_open_as_one_model() {
    let model = sharded(|_| ()).open().unwrap();
    assert_eq!(model.tensor(Role::Embedding).file, "a.safetensors");
    assert_eq!(model.tensor(Role::Layer(1, LayerRole::Down)).file, "b.safetensors");
    assert_eq!(model.stored_bytes(), Tiny::llama().data().len() as u64);
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    for name in [
        json!("../a.safetensors"),
        json!("/etc/passwd"),
        json!("/tmp/a.safetensors"),
        json!("sub/a.safetensors"),
        json!("..\\a.safetensors"),
        json!("C:a.safetensors"),
        json!("a.safetensors\0"),
        json!("a.bin"),
        json!(""),
        json!(".."),
        json!(3),
        json!(null),
    ] {
        refused(&sharded(|index| index["weight_map"][Q] = name), &["index.json", Q, "same folder"]);
    }
}

#[test]
fn an_index_that_contradicts_the_files_is_refused() {
    refused(
        &sharded(|i| i["weight_map"][Q] = json!("c.safetensors")),
        &["index.json", "c.safetensors", "not there"],
    );
    refused(&sharded(|i| i["weight_map"][Q] = json!("a.safetensors")), &["index.json", "a.safetensors", Q]);
    refused(&sharded(|i| i["weight_map"]["extra"] = json!("a.safetensors")), &["index.json", "extra"]);
    refused(&sharded(|i| i["weight_map"] = json!({})), &["index.json", "empty"]);
    refused(&sharded(|i| i["weight_map"] = json!([])), &["index.json", "weight_map", "object"]);
    refused(&sharded(|i| *i = json!({})), &["index.json", "weight_map", "missing"]);
    refused(&sharded(|i| *i = json!([])), &["index.json", "object"]);
}

#[test]
fn a_tensor_in_two_files_is_refused_with_both_names() {
    let folder = sharded(|_| ());
    let tiny = Tiny::llama();
    let tensors = &tiny.tensors[6..];
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.bytes.clone()).collect();
    folder.write("b.safetensors", frame(&Value::Object(header(tensors)).to_string(), &data));
    refused(&folder, &["a.safetensors", "b.safetensors", &tensors[0].name]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let folder = Tiny::llama().write();
    let model = folder.open().unwrap();
    let longer = [Tiny::llama().weights(), vec![0]].concat();
    std::fs::write(folder.path().join(FILE), longer).unwrap();
    assert!(matches!(model.check_unchanged(), Err(ModelError::FileChanged { .. })));
}

#[test]
fn a_file_that_is_replaced_whole_leaves_an_open_model_as_it_was() {
    let folder = Tiny::llama().write();
    let model = folder.open().unwrap();
    folder.write(FILE, b"another");
    assert!(model.check_unchanged().is_ok());
    assert_eq!(model.tensor(Role::FinalNorm).to_f32_vec()[7], 7.0);
}

#[test]
fn a_model_in_memory_opens_without_any_folder() {
    let tiny = Tiny::llama();
    let config: &'static str = tiny.config.to_string().leak();
    let files: &'static [(&str, &[u8])] =
        vec![("config.json", config.as_bytes()), (FILE, &*tiny.weights().leak()), ("tokenizer.json", b"{}")]
            .leak();
    let source = ModelSource::Memory { name: "tiny", files };
    let model = Checkpoint::open(&source).unwrap();
    assert_eq!(model.file("tokenizer.json").unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(model.file("chat_template.jinja").unwrap(), None);
    assert_eq!(model.tensor(Role::FinalNorm).to_f32_vec()[7], 7.0);
    assert_eq!(format!("{source:?} {source}"), "Memory(\"tiny\") tiny");
}

#[cfg(unix)]
#[test]
fn a_folder_of_links_opens_like_the_hub_s_cache() {
    let blobs = Tiny::llama().write();
    let snapshot = Folder::new();
    for name in ["config.json", FILE] {
        std::os::unix::fs::symlink(blobs.path().join(name), snapshot.path().join(name)).unwrap();
    }
    assert!(snapshot.open().is_ok());
    std::fs::remove_file(blobs.path().join(FILE)).unwrap();
    refused(&snapshot, &[FILE, "no model.safetensors"]);
}

#[test]
fn text_files_come_from_the_folder_alone() {
    let folder = Tiny::llama().write();
    folder.write("tokenizer.json", b"{}");
    let model = folder.open().unwrap();
    assert_eq!(model.file("tokenizer.json").unwrap().as_deref(), Some(&b"{}"[..]));
    for name in ["missing.json", "../config.json", "/etc/hostname", "", "."] {
        assert_eq!(model.file(name).unwrap(), None, "{name}");
    }
}

#[test]
#[should_panic(expected = "no tensor model.layers.0.self_attn.q_proj.bias")]
fn asking_for_a_tensor_that_the_spec_does_not_call_for_is_a_mistake() {
    let model = Tiny::llama().write().open().unwrap();
    model.tensor(Role::Layer(0, LayerRole::QBias));
}
