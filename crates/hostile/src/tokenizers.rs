//! Tokenizer files, and texts through whatever of them loads.

use crate::split_zero;
use pagoda_text::{Detokenizer, Special, Tokenizer, TokenizerFiles};
use std::sync::Arc;

/// A file is refused, or its tokenizer takes every text and its stream is its whole.
pub(crate) fn run(data: &[u8]) {
    let (file, text) = split_zero(data);
    let files = TokenizerFiles { origin: "file", tokenizer_json: file, ..TokenizerFiles::default() };
    let Ok(tokenizer) = Tokenizer::from_files(&files) else { return };
    let tokenizer = Arc::new(tokenizer);
    let text = String::from_utf8_lossy(text);
    // A tokenizer may be unable to say some text; it must say so.
    let mut ids = tokenizer.encode(&text, Special::Add).unwrap_or_default();
    ids.extend(tokenizer.encode_quoted(&tokenizer.quote(&text)).unwrap_or_default());
    ids.extend(data.iter().map(|&byte| u32::from(byte)));
    for skip_special in [false, true] {
        let mut streamed = String::new();
        let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), skip_special);
        for &id in &ids {
            detokenizer.push(id, &mut streamed);
        }
        detokenizer.finish(&mut streamed);
        assert_eq!(streamed, tokenizer.decode(&ids, skip_special), "{ids:?}");
    }
}
