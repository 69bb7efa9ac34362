//! Chat templates, which are code that comes with a model, and what clients give them.

use crate::split_zero;
use pagoda_text::{ChatInput, TemplateLimits, Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

const TOKENIZER: &[u8] = br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;

/// A template is refused, or renders within its limits.
pub(crate) fn run(data: &[u8]) {
    let (source, messages) = split_zero(data);
    let Ok(source) = std::str::from_utf8(source) else { return };
    let messages: Value = serde_json::from_slice(messages)
        .unwrap_or_else(|_| json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]));
    let tokenizer = Tokenizer::from_files(&TokenizerFiles {
        origin: "template",
        tokenizer_json: TOKENIZER,
        chat_template: Some(source),
        ..TokenizerFiles::default()
    });
    let tokenizer = tokenizer.expect("a template is compiled when it is used");
    let template = tokenizer.chat_template().expect("there is a template");
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    for tools in [None, Some(&tools)] {
        match template.render(&ChatInput { tools, ..ChatInput::new(&messages) }) {
            Ok(text) => assert!(text.len() <= TemplateLimits::default().output_bytes),
            Err(error) => assert!((1..3000).contains(&error.to_string().len()), "{error}"),
        }
    }
}
