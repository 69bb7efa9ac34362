//! Tokenizer files: what is read from them, and what is said when they are wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod common;

use common::{BYTE_LEVEL, SENTENCEPIECE, load};
use pagoda_text::{Special, TextError, Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

fn with_config(tokenizer_json: &[u8], config: &Value, map: Option<&Value>) -> Result<Tokenizer, TextError> {
    let config = config.to_string();
    let map = map.map(Value::to_string);
    Tokenizer::from_files(&TokenizerFiles {
        origin: "models/test",
        tokenizer_json,
        tokenizer_config: Some(config.as_bytes()),
        special_tokens_map: map.as_deref().map(str::as_bytes),
        ..TokenizerFiles::default()
    })
}

fn changed(base: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(base).unwrap();
    change(&mut json);
    serde_json::to_vec(&json).unwrap()
}

/// The error of a file that must not load, as (file, field, problem).
fn refused(tokenizer_json: &[u8]) -> (String, String, String) {
    let files = TokenizerFiles { origin: "models/test/", tokenizer_json, ..TokenizerFiles::default() };
    let error = Tokenizer::from_files(&files).unwrap_err();
    match error {
        TextError::File { file, field, problem } => (file, field, problem),
        other => panic!("{other}"),
    }
}

fn refused_when(base: &[u8], field: &str, words: &str, change: impl FnOnce(&mut Value)) {
    let (file, named, problem) = refused(&changed(base, change));
    assert_eq!(file, "models/test/tokenizer.json");
    assert_eq!(named, field, "{problem}");
    assert!(problem.contains(words), "{problem:?} lacks {words:?}");
}

#[test]
fn encoding_equals_the_reference_library() {
    for family in common::families() {
        let (tokenizer, library) = (family.load(), family.library());
        for text in ["Once upon a time", "  Größe 昔 🦀 ", "<s>x</s> [INST]né<|im_end|>", "", "12345 don't"]
        {
            for (special, add) in [(Special::Add, true), (Special::Skip, false)] {
                let expected = library.encode(text, add).unwrap().get_ids().to_vec();
                assert_eq!(tokenizer.encode(text, special).unwrap(), expected, "{}: {text:?}", family.name);
            }
        }
    }
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let json = changed(BYTE_LEVEL, |json| {
        json["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    });
    let text = "Once upon a time there was a miller";
    assert_eq!(
        load(&json).encode(text, Special::Add).unwrap(),
        load(BYTE_LEVEL).encode(text, Special::Add).unwrap()
    );
}

#[test]
fn special_tokens_are_read_as_texts_and_as_objects() {
    let config = json!({
        "bos_token": {"content": "<|im_start|>", "lstrip": false, "__type": "AddedToken"},
        "eos_token": "<|im_end|>",
        "pad_token": null,
        "additional_special_tokens": ["<tool>", {"content": "né"}],
    });
    let map = json!({"bos_token": "<|im_start|>", "pad_token": {"content": "<|endoftext|>"}});
    let tokenizer = with_config(BYTE_LEVEL, &config, Some(&map)).unwrap();
    assert_eq!(tokenizer.bos_token(), Some("<|im_start|>"));
    assert_eq!(tokenizer.eos_token(), Some("<|im_end|>"));
    assert_eq!(tokenizer.eos_ids(), [2]);
    assert_eq!(
        tokenizer.special_tokens().get("pad_token"),
        Some("<|endoftext|>"),
        "the map has the last word"
    );
    assert_eq!(tokenizer.special_tokens().get("no_such_role"), None);
    assert_eq!(tokenizer.special_tokens().additional(), ["<tool>", "né"]);
    let special: Vec<u32> = (0..tokenizer.vocab_size()).filter(|id| tokenizer.is_special(*id)).collect();
    let expected = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>", "né"];
    assert_eq!(special, expected.map(|token| tokenizer.token_to_id(token).unwrap()));
}

/// The map is a file of old; where the configuration lists the added tokens, it is not looked at.
#[test]
fn the_map_counts_where_the_configuration_lists_no_tokens() {
    let eos = |config: &Value| {
        let map = json!({"eos_token": "<|endoftext|>"});
        with_config(BYTE_LEVEL, config, Some(&map)).unwrap().eos_token().map(str::to_owned)
    };
    assert_eq!(eos(&json!({"eos_token": "<|im_end|>"})).as_deref(), Some("<|endoftext|>"));
    let listed = json!({"eos_token": "<|im_end|>", "added_tokens_decoder": {}});
    assert_eq!(eos(&listed).as_deref(), Some("<|im_end|>"));
    assert_eq!(eos(&json!({"added_tokens_decoder": {}})), None);
}

#[test]
fn tokens_marked_special_by_the_configuration_are_special() {
    let config = json!({"added_tokens_decoder": {"600": {"content": "<tool>", "special": true}}});
    let tokenizer = with_config(BYTE_LEVEL, &config, None).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("a<tool>b", Special::Skip).unwrap(), true), "ab");
    assert_eq!(load(BYTE_LEVEL).decode(&[600], true), "<tool>");
}

#[test]
fn a_vocabulary_may_have_no_special_tokens_at_all() {
    let tokenizer = load(BYTE_LEVEL);
    assert_eq!((tokenizer.bos_token(), tokenizer.eos_token()), (None, None));
    assert!(tokenizer.eos_ids().is_empty());
    assert!(tokenizer.chat_template().is_none());
    let error = tokenizer.require_chat_template().unwrap_err();
    assert!(error.to_string().contains("--chat-template"), "{error}");
}

/// As `transformers` 5 has it.
#[test]
fn the_file_and_not_the_configuration_says_which_tokens_are_added() {
    let ids = |json: &[u8], config: Value, special| {
        with_config(json, &config, None).unwrap().encode("miller", special).unwrap()
    };
    let plain = ids(SENTENCEPIECE, json!({}), Special::Skip);
    let with_bos = [&[1], plain.as_slice()].concat();
    let bare = changed(SENTENCEPIECE, |json| json["post_processor"] = Value::Null);
    for add in [json!(true), json!(false), Value::Null] {
        let config =
            json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": add, "add_eos_token": add});
        assert_eq!(ids(SENTENCEPIECE, config.clone(), Special::Add), with_bos);
        assert_eq!(ids(SENTENCEPIECE, config.clone(), Special::Skip), plain);
        assert_eq!(ids(&bare, config, Special::Add), plain);
    }
}

#[test]
fn roles_that_no_file_names_have_the_tokens_of_the_models_class() {
    let load = |model: &Value, config: &Value| {
        let files = TokenizerFiles {
            tokenizer_json: BYTE_LEVEL,
            tokenizer_config: Some(&serde_json::to_vec(config).unwrap()),
            model_config: Some(&serde_json::to_vec(model).unwrap()),
            ..TokenizerFiles::default()
        };
        Tokenizer::from_files(&files).unwrap()
    };
    let tokenizer = load(&json!({"model_type": "gpt2"}), &json!({"bos_token": null}));
    assert_eq!((tokenizer.bos_token(), tokenizer.eos_token()), (None, Some("<|endoftext|>")));
    let named = load(&json!({"model_type": "qwen3"}), &json!({"eos_token": "<|im_end|>"}));
    assert_eq!(named.eos_token(), Some("<|im_end|>"));
    let by_class = json!({"tokenizer_class": "GPT2TokenizerFast"});
    assert_eq!(load(&json!({"model_type": "llama"}), &by_class).eos_token(), Some("<|endoftext|>"));
    assert_eq!(load(&json!({"model_type": "granite"}), &by_class).eos_token(), None);
    assert_eq!(
        load(&json!({"model_type": "gemma2"}), &json!({})).eos_token(),
        None,
        "the vocabulary has no <eos>"
    );
    assert_eq!(load(&json!({"model_type": 5}), &json!({})).eos_token(), None);
}

#[test]
fn authors_can_name_roles() {
    let config =
        json!({"image_token": "<tool>", "add_bos_token": true, "extra_special_tokens": {"boi_token": "né"}});
    let tokenizer = with_config(BYTE_LEVEL, &config, None).unwrap();
    assert_eq!(tokenizer.special_tokens().get("image_token"), Some("<tool>"));
    assert_eq!(tokenizer.special_tokens().get("boi_token"), Some("né"));
    assert_eq!(tokenizer.special_tokens().entries().count(), 2);
    assert!(tokenizer.is_special(tokenizer.token_to_id("<tool>").unwrap()));
}

#[test]
fn the_table_holds_the_bytes_of_each_token() {
    let tokenizer = load(BYTE_LEVEL);
    let bytes = |token: &str| tokenizer.token_bytes(tokenizer.token_to_id(token).unwrap()).unwrap();
    assert_eq!(bytes("Ġmet"), b" met");
    assert_eq!(bytes("ĠðŁ¦Ģ"), " 🦀".as_bytes());
    assert_eq!(bytes("ł"), [0xA0]);
    assert_eq!(bytes("<|im_end|>"), b"<|im_end|>");
    let tokenizer = load(SENTENCEPIECE);
    let bytes = |token: &str| tokenizer.token_bytes(tokenizer.token_to_id(token).unwrap()).unwrap();
    assert_eq!(bytes("<0xE2>"), [0xE2]);
    assert_eq!(bytes("▁king"), b" king");
    assert_eq!(bytes("▁▁▁▁"), b"    ");
}

#[test]
fn files_that_are_no_tokenizer_are_refused_as_a_whole() {
    for text in ["", "{", "[]", "null", "{\"added_tokens\": 5}", "\u{0}"] {
        let (file, field, problem) = refused(text.as_bytes());
        assert_eq!(
            (file.as_str(), field.as_str()),
            ("models/test/tokenizer.json", "whole file"),
            "{problem}"
        );
    }
    assert_eq!(refused(b"{}").1, "model");
    assert_eq!(refused(b"\xff\xfe").1, "whole file");
}

#[test]
fn every_truncation_is_an_error() {
    for base in [BYTE_LEVEL, SENTENCEPIECE] {
        let end = base.trim_ascii_end().len();
        for length in (0..end).step_by(37).chain(end - 20..end) {
            refused(&base[..length]);
        }
    }
}

#[test]
fn broken_fields_are_named() {
    let vocab = |json: &mut Value, token: &str, id: u64| json["model"]["vocab"][token] = json!(id);
    refused_when(BYTE_LEVEL, "decoder", "NoSuch", |json| json["decoder"] = json!({"type": "NoSuch"}));
    refused_when(BYTE_LEVEL, "pre_tokenizer", "refuses", |json| {
        json["pre_tokenizer"] =
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false});
    });
    refused_when(BYTE_LEVEL, "normalizer", "refuses", |json| json["normalizer"] = json!(7));
    refused_when(BYTE_LEVEL, "post_processor", "refuses", |json| {
        json["post_processor"] = json!({"type": "x"})
    });
    refused_when(BYTE_LEVEL, "model", "refuses", |json| json["model"]["vocab"] = json!("a"));
    refused_when(BYTE_LEVEL, "model", "refuses", |json| json["model"]["type"] = json!("NoSuch"));
    refused_when(BYTE_LEVEL, "model", "refuses", |json| vocab(json, "x-1", u64::MAX));
    refused_when(BYTE_LEVEL, "model.vocab", "must be below", |json| vocab(json, "far", 1 << 20));
    refused_when(BYTE_LEVEL, "model.vocab", "share id 5", |json| vocab(json, "twin", 5));
    refused_when(BYTE_LEVEL, "model.vocab", "is empty", |json| {
        json["model"]["vocab"] = json!({});
        json["model"]["merges"] = json!([]);
        json["added_tokens"] = json!([]);
    });
    refused_when(BYTE_LEVEL, "model.dropout", "random", |json| json["model"]["dropout"] = json!(0.1));
    refused_when(BYTE_LEVEL, "added_tokens[4]", "says id 700", |json| {
        json["added_tokens"][4]["id"] = json!(700)
    });
    refused_when(BYTE_LEVEL, "added_tokens[3]", "empty", |json| {
        json["added_tokens"][3]["content"] = json!("")
    });
}

#[test]
fn broken_merges_are_named_even_where_the_library_panics() {
    let merge = |merge: Value| move |json: &mut Value| json["model"]["merges"][7] = merge;
    let long = "y".repeat(500);
    refused_when(BYTE_LEVEL, "model.merges[7]", "not in model.vocab", merge(json!(["zz", "a"])));
    refused_when(BYTE_LEVEL, "model.merges[7]", "not in model.vocab", merge(json!([long, "a"])));
    refused_when(BYTE_LEVEL, "model.merges[7]", "must be two tokens", merge(json!(["a"])));
    // Both parts are known, but their concatenation is longer than any token: the library slices out of bounds.
    let longest = |json: &Value| {
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        vocabulary.keys().max_by_key(|token| token.len()).unwrap().clone()
    };
    refused_when(BYTE_LEVEL, "model.merges[7]", "not in model.vocab", |json| {
        let token = longest(json);
        json["model"]["merges"][7] = json!([token, token]);
    });
    refused_when(BYTE_LEVEL, "model.merges[7]", "lacks the prefix", |json| {
        json["model"]["continuing_subword_prefix"] = json!("####");
        json["model"]["merges"] = json!(["a b", "a b", "a b", "a b", "a b", "a b", "a b", "a b"]);
        for index in 0..7 {
            json["model"]["merges"][index] = json!(["a", "####b"]);
        }
        let next = json["model"]["vocab"].as_object().unwrap().len();
        json["model"]["vocab"]["####b"] = json!(next);
        json["model"]["vocab"]["ab"] = json!(next + 1);
        json["model"]["merges"][7] = json!(["a", "b"]);
    });
}

#[test]
fn decoders_that_cannot_be_streamed_are_named() {
    let decoders = |list: Value| move |json: &mut Value| json["decoder"]["decoders"] = list;
    let fuse = json!({"type": "Fuse"});
    refused_when(BYTE_LEVEL, "decoder", "ByteLevel, Metaspace", |json| {
        json["decoder"] =
            json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true});
    });
    refused_when(BYTE_LEVEL, "decoder", "BPEDecoder", |json| {
        json["decoder"] = json!({"type": "BPEDecoder", "suffix": "</w>"});
    });
    let tail = json!({"type": "Strip", "content": " ", "start": 0, "stop": 1});
    refused_when(SENTENCEPIECE, "decoder.decoders[1]", "at its start only", decoders(json!([fuse, tail])));
    let head = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    refused_when(SENTENCEPIECE, "decoder.decoders[2]", "once", decoders(json!([fuse, head, head])));
    let words = json!({"type": "Replace", "pattern": {"String": "ab"}, "content": " "});
    refused_when(SENTENCEPIECE, "decoder.decoders[1]", "may follow", decoders(json!([fuse, words])));
    let bytes = json!({"type": "ByteFallback"});
    refused_when(
        SENTENCEPIECE,
        "decoder.decoders[1]",
        "before `ByteFallback`",
        decoders(json!([bytes, head])),
    );
    let nested = json!({"type": "Sequence", "decoders": [fuse, tail]});
    refused_when(
        SENTENCEPIECE,
        "decoder.decoders[0].decoders[1]",
        "at its start only",
        decoders(json!([nested])),
    );
}

#[test]
fn broken_configuration_files_are_named() {
    let field = |config: Value| match with_config(BYTE_LEVEL, &config, None).unwrap_err() {
        TextError::File { file, field, .. } => {
            assert_eq!(file, "models/test/tokenizer_config.json");
            field
        }
        other => panic!("{other}"),
    };
    assert_eq!(field(json!([])), "whole file");
    assert_eq!(field(json!({"eos_token": 5})), "eos_token");
    assert_eq!(field(json!({"eos_token": "</none>"})), "eos_token");
    assert_eq!(field(json!({"bos_token": {"text": "x"}})), "bos_token");
    assert_eq!(field(json!({"additional_special_tokens": "x"})), "additional_special_tokens");
    assert_eq!(field(json!({"additional_special_tokens": ["<tool>", 1]})), "additional_special_tokens[1]");
    assert_eq!(field(json!({"added_tokens_decoder": []})), "added_tokens_decoder");
    assert_eq!(field(json!({"added_tokens_decoder": {"3": {"special": true}}})), "added_tokens_decoder.3");
    assert_eq!(field(json!({"chat_template": [{"name": "default"}]})), "chat_template[0]");

    let files =
        TokenizerFiles { tokenizer_json: BYTE_LEVEL, special_tokens_map: Some(b"{"), ..Default::default() };
    let error = Tokenizer::from_files(&files).unwrap_err().to_string();
    assert!(error.starts_with("special_tokens_map.json: whole file: is not valid JSON"), "{error}");
}

#[test]
fn long_monotonous_texts_are_tokenized() {
    for tokenizer in [load(BYTE_LEVEL), load(SENTENCEPIECE)] {
        for letter in ["a", " ", "_", "^", "0", "\u{200D}", "国"] {
            let text = letter.repeat(30_000);
            let ids = tokenizer.encode(&text, Special::Skip).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).trim_start(), text.trim_start(), "{letter:?}");
        }
    }
}

#[test]
fn a_text_the_library_refuses_is_an_error_of_that_text() {
    let json = changed(SENTENCEPIECE, |json| {
        json["model"]["byte_fallback"] = json!(false);
        json["model"]["unk_token"] = json!("<none>");
    });
    let tokenizer = load(&json);
    let error = tokenizer.encode("昔", Special::Skip).unwrap_err();
    assert!(matches!(&error, TextError::Encode { bytes: 3, .. }), "{error}");
    assert!(error.to_string().contains("<none>"), "{error}");
    assert!(tokenizer.encode("king", Special::Skip).is_ok(), "and of no other");
}
