//! Files of safetensors, in a folder whose other files are good.

use crate::folder::{Folder, WEIGHTS, good};
use crate::split_kind;

/// Name of the file that says which file holds which tensor.
const INDEX: &str = "model.safetensors.index.json";

/// Name of a file that an index may list.
const SHARD: &str = "model-00001-of-00001.safetensors";

/// The good weights under another header.
fn with_header(header: &[u8]) -> Vec<u8> {
    let file = good(WEIGHTS);
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes"));
    let data = &file[8 + length as usize..];
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A file is refused in words, or all of its tensors can be read.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = split_kind(data) else { return };
    let folder = Folder::take();
    match kind % 4 {
        0 | 1 => drop(folder.put(WEIGHTS, data)),
        2 => drop(folder.put(WEIGHTS, &with_header(data))),
        _ => {
            let path = folder.put(SHARD, &good(WEIGHTS));
            // An index counts only where there is no single file.
            let _ = std::fs::remove_file(path.with_file_name(WEIGHTS));
            folder.put(INDEX, data);
        }
    }
    folder.open();
    for name in [WEIGHTS, INDEX, SHARD] {
        folder.restore(name);
    }
}
