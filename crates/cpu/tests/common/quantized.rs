//! Quantised folders as others write them through the real paged path, against the answers of `transformers` for the weights
//! that the codes stand for; see `tests/golden/README.md`. Run with `--nocapture` for the table.

use super::gguf::options;
use super::golden::{Golden, Score, root, score};
use crate::compare_all;
use pagoda_cpu::{CpuExecutor, MemoryPlan};
use pagoda_kernels::Isa;
use pagoda_model::{Checkpoint, DecoderSpec, Dtype, ModelSource, Role};
use std::path::{Path, PathBuf};

/// Largest error relative to the range of the reference logits: where activations are rounded to 16 bits or not at all; where
/// some machines round them to bf16; where they are rounded to 8 bits.
const EXACT: f32 = 2e-4;
const ROUNDED: f32 = 4e-2;

/// The folders, by name.
pub(crate) fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("quantized"))
        .expect("tests/golden/quantized")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}

/// How the matrices of a model are stored, each way once.
pub(crate) fn formats(spec: &DecoderSpec) -> Vec<String> {
    let matrix = |role: &Role| match role {
        Role::Embedding | Role::Head => true,
        Role::Layer(_, role) => role.is_matrix() && !role.is_router(),
        _ => false,
    };
    let mut formats: Vec<String> =
        Role::all(spec).filter(matrix).map(|role| spec.stored_as(role).to_string()).collect();
    formats.sort();
    formats.dedup();
    formats
}

fn open(folder: &Path) -> (Checkpoint, Golden) {
    let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    let golden = serde_json::from_str(&golden).expect("golden.json as described");
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.to_owned()));
    (checkpoint.unwrap_or_else(|error| panic!("{}: {error}", folder.display())), golden)
}

#[test]
fn every_quantised_folder_gives_the_reference_answers() {
    let folders = folders();
    assert!(folders.len() >= 14, "{} folders", folders.len());
    println!("| folder | stored | isa | error | tokens |\n|---|---|---|---|---|");
    compare_all(folders, compare);
}

fn compare(folder: &Path) {
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let (checkpoint, golden) = open(folder);
    let spec = checkpoint.spec();
    let stored = formats(spec).join(", ");
    let pairs = spec.stored_as(Role::Embedding) == Dtype::Bf16;
    for isa in Isa::available() {
        let rounds = spec.activation_bits == Some(8) || pairs && isa >= Isa::Avx512Bf16;
        let tolerance = if rounds { ROUNDED } else { EXACT };
        let Score { error, equal, open } = score(&checkpoint, &golden, &options(isa), tolerance);
        println!("| {name} | {stored} | {isa} | {error:.1e} | {equal} + {open} open |");
    }
}

#[test]
fn quantised_folders_stay_in_their_size() {
    for folder in folders() {
        let (checkpoint, _) = open(&folder);
        let spec = checkpoint.spec();
        let matrices = checkpoint
            .tensors()
            .filter(|(_, tensor)| matches!(tensor.dtype, Dtype::Quantized(_) | Dtype::Fp8));
        let (mut elements, mut stored) = (0, 0);
        for (role, tensor) in matrices {
            elements += tensor.elements();
            stored += tensor.byte_len();
            assert_eq!(tensor.to_f32_vec().len(), tensor.elements(), "{role}");
        }
        let plan = MemoryPlan::new(spec, &options(Isa::Scalar)).expect("a plan");
        let rest = checkpoint.stored_bytes() - stored as u64;
        // Rows are padded to 32 outputs and whole groups, which is much in models as small as these.
        let padded = (rest + stored as u64) * 3;
        println!("{}: {elements} weights in {stored} bytes, planned {}", folder.display(), plan.weights);
        assert!(stored < elements * 5 / 4 && plan.weights < padded, "{}", folder.display());
    }
}

#[test]
fn codes_that_are_no_numbers_are_refused_with_file_tensor_and_place() {
    const TENSOR: &str = "model.layers.0.self_attn.o_proj.weight";
    let from = root().join("quantized/fp8-tensor");
    let folder = std::env::temp_dir().join(format!("pagoda-cpu-fp8-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    std::fs::copy(from.join("config.json"), folder.join("config.json")).expect("config.json");
    let mut file = std::fs::read(from.join("model.safetensors")).expect("the weights");
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let start = header[TENSOR]["data_offsets"][0].as_u64().expect("an offset") as usize;
    // Row 3, column 5 of rows of 64.
    file[8 + length + start + 3 * 64 + 5] = 0xff;
    std::fs::write(folder.join("model.safetensors"), file).expect("a temporary file");
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.clone())).expect("its header is good");
    let loaded = CpuExecutor::load(&checkpoint, &options(Isa::Scalar), &mut |_| ());
    let error = loaded.err().expect("NaN is refused").to_string();
    let _ = std::fs::remove_dir_all(folder);
    for part in ["model.safetensors", TENSOR, "row 3, column 5", "not finite"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}
