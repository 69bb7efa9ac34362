//! A folder with the good files of a model, of which an input replaces one.

use pagoda_model::{Checkpoint, ModelError, ModelSource};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// A model of the golden tests.
const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/mistral-full");

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The folder, which one input at a time may change.
static FOLDER: LazyLock<Mutex<PathBuf>> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("pagoda-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder can be made");
    for name in ["config.json", "generation_config.json", WEIGHTS] {
        replace(&folder.join(name), Some(&good(name)));
    }
    Mutex::new(folder)
});

/// The folder for one input.
pub(crate) struct Folder(MutexGuard<'static, PathBuf>);

impl Folder {
    /// Waits for the folder.
    pub(crate) fn take() -> Self {
        // Whoever panicked left it with a file that the next input of its kind replaces.
        Self(FOLDER.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `bytes` in the place of the file `name` and returns its path.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        replace(&path, Some(bytes));
        path
    }

    /// Opens the model in the folder: an error has words, and all tensors of a model can be read.
    pub(crate) fn open(&self) {
        match Checkpoint::open(&ModelSource::Folder(self.0.clone())) {
            Err(error) => check_words(&error),
            Ok(checkpoint) => {
                for (role, tensor) in checkpoint.tensors() {
                    assert_eq!(tensor.to_f32_vec().len(), tensor.elements(), "{role}");
                }
            }
        }
    }

    /// Makes the file `name` good again; one that the good model does not have goes.
    pub(crate) fn restore(&self, name: &str) {
        let path = Path::new(GOOD).join(name);
        let contents = path.exists().then(|| good(name));
        replace(&self.0.join(name), contents.as_deref());
    }
}

/// Fails unless an error says something, and not too much.
pub(crate) fn check_words(error: &ModelError) {
    let message = error.to_string();
    assert!((1..5000).contains(&message.len()), "{message}");
}

/// Contents of a file of the good model.
pub(crate) fn good(name: &str) -> Vec<u8> {
    fs::read(Path::new(GOOD).join(name)).unwrap_or_else(|error| panic!("{GOOD}/{name}: {error}"))
}

/// Puts a new file, if any, in the place of one that may still be mapped.
fn replace(path: &Path, bytes: Option<&[u8]>) {
    // There may be none.
    let _ = fs::remove_file(path);
    if let Some(bytes) = bytes {
        fs::write(path, bytes).expect("the temporary folder is writable");
    }
}
