//! GGUF files.

use crate::folder::{Folder, check_words};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_text::{Special, Tokenizer, TokenizerFiles};

const NAME: &str = "model.gguf";

/// A file is refused in words that name it, or all of its tensors can be read, and its tokenizer takes a text.
pub(crate) fn run(data: &[u8]) {
    let folder = Folder::take();
    let path = folder.put(NAME, data);
    let read = || {
        let checkpoint = Checkpoint::open(&ModelSource::at(&path))?;
        let bytes: usize = checkpoint.tensors().map(|(_, tensor)| tensor.bytes().len()).sum();
        assert!(bytes <= 16 * data.len(), "{bytes} bytes of {}", data.len());
        Ok((checkpoint.file("tokenizer.json")?, checkpoint.file("tokenizer_config.json")?))
    };
    match read() {
        Err(error) => {
            check_words(&error);
            assert!(error.to_string().contains(NAME), "{error}");
        }
        Ok((None, _)) => {}
        Ok((Some(tokenizer), config)) => tokenize(&tokenizer, config.as_deref()),
    }
}

/// A tokenizer is refused, or encodes and decodes.
fn tokenize(tokenizer: &[u8], config: Option<&[u8]>) {
    let files = TokenizerFiles {
        origin: NAME,
        tokenizer_json: tokenizer,
        tokenizer_config: config,
        ..TokenizerFiles::default()
    };
    let Ok(tokenizer) = Tokenizer::from_files(&files) else { return };
    // A tokenizer may be unable to say some text; it must say so.
    let Ok(ids) = tokenizer.encode("a text  abab \u{1F980}\0</s>", Special::Add) else { return };
    tokenizer.decode(&ids, false);
}
