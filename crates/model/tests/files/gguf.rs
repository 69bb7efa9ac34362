//! GGUF files: what they mean, what is refused and how, and damage everywhere.

use crate::gguf_file::{FILE, Field, Gguf, counted};
use crate::tiny::Folder;
use pagoda_model::{BlockFormat, Checkpoint, Dtype, LayerRole, ModelError, ModelSource, Role, TensorData};

fn open(folder: &Folder) -> Result<Checkpoint, ModelError> {
    Checkpoint::open(&ModelSource::at(folder.path().join(FILE)))
}

/// Reads all that loading a model would.
fn touch(folder: &Folder) -> Result<usize, ModelError> {
    let model = open(folder)?;
    let bytes: usize = model.tensors().map(|(_, tensor)| tensor.bytes().len()).sum();
    let text = |name: &str| Ok(model.file(name)?.map_or(0, |bytes| bytes.len()));
    Ok(bytes + text("tokenizer.json")? + text("tokenizer_config.json")?)
}

#[track_caller]
fn refused(file: &Gguf, parts: &[&str]) {
    let folder = file.write();
    let message = touch(&folder).expect_err("the file must be refused").to_string();
    for part in parts.iter().chain([&FILE]) {
        assert!(message.contains(part), "{part:?} is not in the message: {message}");
    }
}

#[test]
fn a_file_becomes_a_spec_and_tensors_that_stay_as_they_are() {
    for version in [2, 3] {
        let mut file = Gguf::llama();
        file.version = version;
        let model = open(&file.write()).expect("a good file");
        let spec = model.spec();
        assert_eq!((spec.architecture.as_str(), spec.vocab_size, spec.hidden), ("LlamaForCausalLM", 260, 32));
        assert_eq!((spec.heads, spec.kv_heads, spec.head_dim), (2, 1, 16));
        assert!(spec.tied_head && spec.ropes[0].interleaved && spec.ropes[0].rotary_dim == 16);
        assert_eq!(model.stop_ids(), [258]);
        let q8 = Dtype::Blocks(BlockFormat::Q8_0);
        assert_eq!((spec.dtype, spec.vocabulary_dtype), (q8, q8));
        let v = Role::Layer(1, LayerRole::V);
        assert_eq!((spec.stored_as(v), spec.stored_as(Role::Layer(1, LayerRole::K))), (Dtype::F32, q8));
        let tensor = model.tensor(Role::Layer(1, LayerRole::Q));
        assert_eq!((tensor.name, tensor.shape), ("blk.1.attn_q.weight", &[32, 32][..]));
        assert!(
            matches!(tensor.data(), TensorData::Blocks(BlockFormat::Q8_0, bytes) if bytes.len() == 32 * 34)
        );
    }
}

#[test]
fn the_tokenizer_has_the_form_of_a_model_folder() {
    let folder = Gguf::llama().write();
    let model = open(&folder).expect("a good file");
    let json = |name: &str| -> serde_json::Value {
        let bytes = model.file(name).expect("readable").expect("there");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let tokenizer = json("tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"]["ab"], 256);
    assert_eq!(tokenizer["model"]["ignore_merges"], true);
    assert_eq!(tokenizer["added_tokens"][1]["content"], "<|end|>");
    let config = json("tokenizer_config.json");
    assert_eq!(config["eos_token"], "<|end|>");
    assert_eq!(config["chat_template"], "{{ messages[0].content }}");
    assert!(model.file("special_tokens_map.json").expect("no error").is_none());
}

#[test]
fn a_model_is_found_by_its_folder_and_by_any_of_its_shards() {
    let mut parts = [Gguf::llama(), Gguf::llama()];
    let (first, second) = parts.split_at_mut(1);
    first[0].tensors.truncate(5);
    second[0].tensors.drain(..5);
    let total = parts.iter().map(|part| part.tensors.len()).sum::<usize>() as i32;
    let folder = Folder::new();
    for (number, part) in parts.iter().enumerate() {
        let part = part.clone();
        let part = part.set("split.no", Field::U32(number as u32)).set("split.count", Field::U32(2));
        let part = part.set("split.tensors.count", Field::I32(total));
        folder.write(&format!("m-0000{}-of-00002.gguf", number + 1), part.bytes());
    }
    for path in ["", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        let model = Checkpoint::open(&ModelSource::at(folder.path().join(path))).expect("the set");
        assert_eq!(model.tensors().count(), 20, "{path}");
    }
    let message = |folder: &Folder| {
        let source = ModelSource::at(folder.path().to_owned());
        Checkpoint::open(&source).expect_err("must be refused").to_string()
    };
    folder.write("other.gguf", Gguf::llama().bytes());
    let several = message(&folder);
    assert!(several.contains("other.gguf") && several.contains("m-00001-of-00002.gguf"), "{several}");
    let alone = Folder::new();
    let lonely = Gguf::llama().set("split.count", Field::U32(2)).set("split.no", Field::U32(0));
    alone.write("m-00001-of-00002.gguf", lonely.bytes());
    assert!(message(&alone).contains("m-00002-of-00002.gguf"), "{}", message(&alone));
    alone.write("m-00002-of-00002.gguf", lonely.bytes());
    assert!(message(&alone).contains("another set"), "{}", message(&alone));
    refused(&lonely, &["split.count", "NAME-00001-of-00002.gguf"]);
}

#[test]
fn what_is_no_language_model_is_called_by_its_name() {
    let named = |name| Gguf::llama().set("general.architecture", Field::Text(name));
    refused(&named("clip"), &["vision projector", "give the file of the language model"]);
    refused(&Gguf::llama().set("general.type", Field::Text("adapter")), &["LoRA"]);
    let unknown = named("qwen4").set("qwen4.block_count", Field::U32(24));
    refused(
        &unknown,
        &["\"qwen4\" is not supported", "nearest: \"qwen2\"", "llama", "valid GGUF v3 of 24 layers"],
    );
    refused(&Gguf::llama().unset("general.architecture"), &["general.architecture", "missing"]);
    let mut empty = Gguf::llama();
    empty.tensors.clear();
    refused(&empty, &["without weights"]);
    let folder = Folder::new();
    for (bytes, part) in [
        (&b"{\"a\": 1}"[..], "begins with"),
        (b"lmgg\x01\0\0\0", "older format"),
        (b"GGUF\0\0\0\x03aaaaaaaa", "big-endian"),
        (b"GGUF\x01\0\0\0aaaaaaaa", "version 1"),
        (b"GGUF\x09\0\0\0aaaaaaaa", "version 9"),
        (b"", "truncated"),
    ] {
        folder.write(FILE, bytes);
        let message = open(&folder).expect_err("no GGUF").to_string();
        assert!(message.contains(part) && message.contains(FILE), "{message}");
    }
}

#[test]
fn fields_of_other_types_and_values_are_refused_by_name() {
    let wrong =
        [Field::Bool(1), Field::Text("x"), Field::F32s(vec![1.0, 2.0]), Field::I32(-5), Field::F32(f32::NAN)];
    let good = Gguf::llama();
    for (key, _) in &good.fields {
        for value in &wrong {
            let folder = good.clone().set(key, value.clone()).write();
            // Whatever comes, it is said by name, or it is a value that the field may have.
            if let Err(error) = touch(&folder) {
                let message = error.to_string();
                let named = message.contains(key.as_str()) || message.contains("\"x\"");
                assert!(message.contains(FILE) && named, "{key} {value:?}: {message}");
            }
        }
    }
    for (key, value, part) in [
        ("llama.embedding_length", Field::U32(0), "hidden_size"),
        ("llama.block_count", Field::U64(u64::MAX), "whole number"),
        ("llama.attention.head_count_kv", Field::U32(3), "divide"),
        ("llama.attention.max_alibi_bias", Field::F32(8.0), "ALiBi"),
        ("tokenizer.ggml.pre", Field::Text("cuneiform"), "qwen2"),
        ("tokenizer.ggml.model", Field::Text("rwkv"), "SentencePiece"),
        ("tokenizer.ggml.eos_token_id", Field::U32(260), "has 260 tokens"),
        ("tokenizer.ggml.merges", Field::Texts(vec!["a b".into(), "ab c".into()]), "element 1"),
        ("tokenizer.ggml.token_type", Field::I32s(vec![1; 3]), "259 tokens"),
        ("general.alignment", Field::U32(48), "power of two"),
        ("general.alignment", Field::U32(0), "power of two"),
    ] {
        refused(&good.clone().set(key, value), &[key, part]);
    }
    refused(&good.clone().unset("tokenizer.ggml.merges"), &["tokenizer.ggml.merges", "missing"]);
}

#[test]
fn hostile_heads_are_refused_with_their_place() {
    let text = |len: u64| Field::Raw(8, len.to_le_bytes().to_vec());
    let list = |kind: u32, len: u64| Field::Raw(9, [&kind.to_le_bytes()[..], &len.to_le_bytes()].concat());
    let edges = [1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX - 7, u64::MAX];
    for edge in edges {
        for at in 0..2 {
            let mut file = Gguf::llama();
            file.counts[at] = Some(edge);
            refused(&file, &["byte", "follow"]);
        }
        refused(&Gguf::llama().set("x", text(edge)), &["byte", "follow"]);
        for kind in [0, 4, 8, 9, 12] {
            refused(&Gguf::llama().set("x", list(kind, edge)), &["byte", "follow"]);
        }
        let mut file = Gguf::llama();
        file.tensor("output_norm.weight").shape = vec![edge, 2];
        refused(&file, &["output_norm.weight"]);
        let mut file = Gguf::llama();
        file.tensor("output_norm.weight").offset = Some(edge & !31);
        refused(&file, &["output_norm.weight", "byte"]);
    }
    let spoil = |change: &dyn Fn(&mut crate::gguf_file::Entry)| {
        let mut file = Gguf::llama();
        change(file.tensor("blk.0.attn_q.weight"));
        file
    };
    refused(&spoil(&|entry| entry.shape = vec![]), &["attn_q", "0 dimensions"]);
    refused(&spoil(&|entry| entry.shape = vec![1; 5]), &["attn_q", "5 dimensions"]);
    refused(&spoil(&|entry| entry.shape = vec![33, 32]), &["attn_q", "blocks of 32"]);
    refused(&spoil(&|entry| entry.shape = vec![0, 32]), &["attn_q", "no size"]);
    refused(&spoil(&|entry| entry.shape = vec![32, 31]), &["attn_q", "[31, 32]", "num_attention_heads"]);
    refused(&spoil(&|entry| entry.format = 99), &["attn_q", "format 99"]);
    refused(&spoil(&|entry| entry.format = 16), &["IQ2_XXS", "attn_q"]);
    refused(&spoil(&|entry| entry.offset = Some(33)), &["attn_q", "alignment 32"]);
    refused(&spoil(&|entry| entry.offset = Some(0)), &["overlaps"]);
    refused(&spoil(&|entry| entry.name = "blk.0.attn_k.weight".into()), &["attn_k", "twice"]);
    refused(&spoil(&|entry| entry.name = "blk.0.other.weight".into()), &["attn_q", "missing"]);
    let mut more = Gguf::llama();
    more.add("blk.0.attn_sinks.weight", &[32], 0);
    refused(&more, &["attn_sinks", "not part of"]);
    refused(&Gguf::llama().set("x", Field::Raw(13, vec![0; 8])), &["type 13", "byte"]);
    refused(&Gguf::llama().set("x", Field::Bool(2)), &["flag is 0 or 1"]);
    let mut deep = Vec::new();
    for _ in 0..6 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    refused(&Gguf::llama().set("x", Field::Raw(9, deep)), &["lists within lists"]);
    let mut twice = Gguf::llama();
    twice.fields.push(twice.fields[0].clone());
    refused(&twice, &["general.architecture", "twice"]);
    refused(&Gguf::llama().set(&"k".repeat(2000), Field::U32(0)), &["2000 bytes"]);
    assert_eq!(counted(b"ab").len(), 10);
}

#[test]
fn truncation_is_an_error_at_every_byte_of_the_head_and_at_200_of_the_data() {
    let file = Gguf::llama();
    let (head, data) = file.parts();
    let good = file.bytes();
    let folder = Folder::new();
    let points = (0..head.len()).chain((0..200).map(|i| head.len() + i * (data.len() - 64) / 200));
    for len in points {
        folder.write(FILE, &good[..len]);
        let message = touch(&folder).expect_err("a truncated file must be refused").to_string();
        assert!(message.contains(FILE) && message.contains("truncated"), "{len}: {message}");
    }
}

#[test]
fn flipped_bits_never_panic_and_are_refused_by_name() {
    let file = Gguf::llama();
    let (head, _) = file.parts();
    let good = file.bytes();
    let folder = Folder::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = good.clone();
        let area = if round % 8 == 0 { bytes.len() } else { head.len() };
        for _ in 0..=below(3) {
            let at = below(area);
            bytes[at] ^= 1 << below(8);
        }
        folder.write(FILE, &bytes);
        match touch(&folder) {
            Ok(_) => accepted += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(FILE), "round {round}: {error}");
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 500 && refused > 5_000, "{accepted} accepted, {refused} refused");
}
