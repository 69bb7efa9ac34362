//! Files of a model in a folder whose other files are good.

use crate::split_kind;
use pagoda_model::{Checkpoint, ModelSource};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// A model of the golden tests.
const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/mistral-full");

const WEIGHTS: &str = "model.safetensors";

/// The folder, which one input at a time may change.
static FOLDER: LazyLock<Mutex<PathBuf>> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("pagoda-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder can be made");
    for name in ["config.json", "generation_config.json", WEIGHTS] {
        replace(&folder.join(name), &good(name));
    }
    Mutex::new(folder)
});

fn good(name: &str) -> Vec<u8> {
    fs::read(Path::new(GOOD).join(name)).unwrap_or_else(|error| panic!("{GOOD}/{name}: {error}"))
}

/// Puts a new file in the place of one that may still be mapped.
fn replace(path: &Path, bytes: &[u8]) {
    // There may be none.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("the temporary folder is writable");
}

/// The good weights under another header.
fn with_header(header: &[u8]) -> Vec<u8> {
    let file = good(WEIGHTS);
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes"));
    let data = &file[8 + length as usize..];
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A GGUF file is refused in words that name it, or all of its tensors and its tokenizer can be read.
fn gguf(data: &[u8]) {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    let path = folder.join("model.gguf");
    replace(&path, data);
    let read = || {
        let checkpoint = Checkpoint::open(&ModelSource::at(&path))?;
        let bytes: usize = checkpoint.tensors().map(|(_, tensor)| tensor.bytes().len()).sum();
        assert!(bytes <= 16 * data.len(), "{bytes} bytes of {}", data.len());
        checkpoint.file("tokenizer.json")?;
        checkpoint.file("tokenizer_config.json")
    };
    if let Err(error) = read() {
        let message = error.to_string();
        assert!(message.len() < 5000 && message.contains("model.gguf"), "{message}");
    }
}

/// A folder is refused in words that name its file, or all of its tensors can be read.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = split_kind(data) else { return };
    let (name, bytes) = match kind % 8 {
        0 => ("config.json", data.to_vec()),
        1 => ("generation_config.json", data.to_vec()),
        2 => (WEIGHTS, data.to_vec()),
        3 => (WEIGHTS, with_header(data)),
        _ => return gguf(data),
    };
    // The folder is whole after a panic too: its file is put back by the next input.
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    replace(&folder.join(name), &bytes);
    match Checkpoint::open(&ModelSource::Folder(folder.clone())) {
        Err(error) => assert!((1..5000).contains(&error.to_string().len()), "{error}"),
        Ok(checkpoint) => {
            for (role, tensor) in checkpoint.tensors() {
                assert_eq!(tensor.to_f32_vec().len(), tensor.elements(), "{role}");
            }
        }
    }
    replace(&folder.join(name), &good(name));
}
