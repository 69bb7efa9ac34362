//! A tokenizer whose token ids are the bytes of a text, so that a test can read and write tokens.

use pagoda_engine::ServedModel;
use pagoda_text::{Tokenizer, TokenizerFiles};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Ends a text.
pub(crate) const EOS: u32 = 256;

/// Ids below this are valid.
pub(crate) const VOCAB: u32 = 257;

/// A template for [`model`].
pub(crate) const TEMPLATE: &str = "{% for message in messages %}{{ message.role }}:{{ message.content }}\n{% endfor %}\
                        {% if shout %}!{% endif %}{% if add_generation_prompt %}>{% endif %}";

/// One of a model that thinks: with `think` it is made to.
pub(crate) const THINKING: &str = "{% for message in messages %}{{ message.role }}:\
    {% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}\
    {{ message.content.split('</think>') | last }}\
    {% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}{% endfor %}{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}>{% if think %}<think>\n{% endif %}{% endif %}";

/// The ids of a text.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// A model named `toy` over the tokenizer.
pub(crate) fn model(max_model_len: u32, template: Option<&str>) -> ServedModel {
    model_with(max_model_len, template, &[])
}

/// The same with further special tokens, from [`VOCAB`] on.
pub(crate) fn model_with(max_model_len: u32, template: Option<&str>, added: &[&str]) -> ServedModel {
    let json = tokenizer_json(added).to_string();
    let config = json!({"eos_token": "</s>"}).to_string();
    let tokenizer = Tokenizer::from_files(&TokenizerFiles {
        origin: "toy",
        tokenizer_json: json.as_bytes(),
        tokenizer_config: Some(config.as_bytes()),
        chat_template: template,
        ..TokenizerFiles::default()
    })
    .unwrap();
    assert_eq!(tokenizer.vocab_size() as usize, VOCAB as usize + added.len());
    let mut model = ServedModel::new("toy", Arc::new(tokenizer), max_model_len);
    model.created = 1_700_000_000;
    model.parameters = 6_000_000;
    model.stored_bytes = 12_000_000;
    model.trained_context = 128;
    model.hidden = pagoda_sched::fake::FakeModel::WIDTH as u32;
    model.dtype = Some("bf16".into());
    model
}

fn tokenizer_json(added: &[&str]) -> Value {
    let special = |(id, text): (u32, &str)| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let special: Vec<Value> = (EOS..).zip(["</s>"].iter().chain(added).copied()).map(special).collect();
    let vocab: Map<String, Value> =
        (0..=255_u8).map(|byte| (alphabet(byte).to_string(), byte.into())).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0",
        "added_tokens": special,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    })
}

/// The letter that stands for a byte in byte-level vocabularies: itself where it is printable, else one after U+0100.
fn alphabet(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count();
    char::from_u32(0x100 + u32::try_from(before).unwrap()).unwrap()
}
