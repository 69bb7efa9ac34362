//! GGUF files through the real paged path, against the answers of `transformers` for the weights that the blocks stand for;
//! see `tests/golden/README.md`. Run with `--nocapture` for the table.

use super::golden::{Golden, Score, root, score};
use pagoda_cpu::{CpuOptions, KvDtype};
use pagoda_kernels::{Activations, Isa};
use pagoda_model::{Checkpoint, Dtype, ModelSource};
use std::path::PathBuf;

/// Largest error relative to the range of the reference logits: of single precision, of half precision, and of bf16, where some
/// machines round activations too; of blocks with each rounding of activations.
const TOLERANCES: [(Dtype, f32); 3] = [(Dtype::F32, 1e-4), (Dtype::F16, 5e-3), (Dtype::Bf16, 4e-2)];
const BLOCKS: [(Activations, f32); 2] = [(Activations::I8, 4e-2), (Activations::I16, 5e-4)];
/// Of the models of folders that are rounded to 8 bits, while the answers are not.
const ROUNDED: f32 = 4e-2;

#[test]
fn every_file_gives_the_reference_answers() {
    let root = root();
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("gguf"))
        .expect("tests/golden/gguf")
        .flatten()
        .map(|e| e.path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    files.sort();
    assert!(files.len() >= 14, "{} files", files.len());
    println!("| file | stored | activations | isa | error | tokens |\n|---|---|---|---|---|---|");
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let answers = match name.strip_prefix("folder-") {
            Some(folder) => root.join(folder).join("golden.json"),
            None => file.with_extension("json"),
        };
        let golden = std::fs::read_to_string(&answers).expect("the answers");
        let golden: Golden = serde_json::from_str(&golden).expect("answers as described");
        let checkpoint = Checkpoint::open(&ModelSource::at(&file)).expect("the model");
        let stored = checkpoint.spec().dtype;
        let known = TOLERANCES.iter().find(|(dtype, _)| *dtype == stored);
        let has_blocks = checkpoint.tensors().any(|(_, tensor)| matches!(tensor.dtype, Dtype::Blocks(_)));
        let cases = BLOCKS.iter().flat_map(|case| Isa::available().map(move |isa| (case, isa)));
        for ((activations, blocks), isa) in cases {
            let blocks = if name.starts_with("folder-") { blocks.max(ROUNDED) } else { *blocks };
            let tolerance = match known {
                Some((_, tolerance)) if has_blocks => tolerance.max(blocks),
                Some((_, tolerance)) => *tolerance,
                None => blocks,
            };
            let options = CpuOptions { activations: Some(*activations), ..options(isa) };
            let Score { error, equal, open } = score(&checkpoint, &golden, &options, tolerance);
            let bits = activations.bits();
            println!("| {name} | {stored} | {bits} | {isa} | {error:.1e} | {equal} + {open} open |");
        }
    }
}

/// One worker, and keys and values that are not rounded.
pub(super) fn options(isa: Isa) -> CpuOptions {
    CpuOptions {
        isa: Some(isa),
        threads: Some(1),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        kv_dtype: Some(KvDtype::F32),
        ..CpuOptions::default()
    }
}
