//! Writing a quantised folder.

use crate::options::quant_scheme;
use crate::source::matrix;
use crate::{CpuError, LoadProgress, WeightFormats};
use half::bf16;
use pagoda_kernels::{LinearShape, PackError, QuantFormat, QuantizedMatrix, WeightFormat, WorkerPool};
use pagoda_model::{Checkpoint, Dtype, FolderWriter, QuantizedFolder, Role, WriteError, pack_zero_points};
use std::path::Path;

/// Why a quantised folder could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The folder cannot be written, or the source not be read.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A tensor cannot be quantised.
    #[error("cannot quantise {role}: {source}")]
    Tensor {
        /// What it is for; displays as its name.
        role: Role,
        /// Why.
        source: PackError,
    },
    /// There are no workers.
    #[error(transparent)]
    Executor(#[from] CpuError),
}

/// Files that are copied as they are.
const COPIED: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "LICENSE",
    "README.md",
];

/// Writes `checkpoint` in `format` as a folder at `target`, which loads to the same bits as quantising while loading.
/// One tensor is in memory at a time; `threads` workers round it.
///
/// # Errors
/// A target that is not empty, a checkpoint that is quantised already, a weight that is not finite, and what the
/// operating system refuses. Nothing is left at `target` then.
pub fn quantize_folder(
    checkpoint: &Checkpoint,
    format: QuantFormat,
    threads: usize,
    target: &Path,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<(), QuantizeError> {
    let format = format.checked().map_err(CpuError::from)?;
    let formats = WeightFormats::quantized(format);
    let folder = QuantizedFolder {
        layers: quant_scheme(format),
        vocabulary: quant_scheme(vocabulary(formats)),
        activation_bits: format.activations.bits(),
    };
    let config = folder.config(checkpoint)?;
    let spec = checkpoint.spec();
    let parts = Role::all(spec).flat_map(|role| folder.parts(role, checkpoint)).collect();
    let mut writer = FolderWriter::create(target, parts)?;
    writer.add("config.json", &config)?;
    for name in COPIED {
        if let Some(bytes) = checkpoint.file(name).map_err(WriteError::from)? {
            writer.add(name, &bytes)?;
        }
    }
    let pool = WorkerPool::new(threads).map_err(|source| CpuError::Threads { threads, source })?;
    let mut state = LoadProgress { done: 0, total: checkpoint.stored_bytes() };
    progress(state);
    for (role, tensor) in checkpoint.tensors() {
        let format = match role {
            Role::Embedding | Role::Head => vocabulary(formats),
            _ => format,
        };
        if folder.scheme(role).is_some() {
            write_matrix(&mut writer, checkpoint, (role, format), &pool)?;
        } else {
            writer.write(&tensor.bytes())?;
        }
        state.done += tensor.byte_len() as u64;
        progress(state);
    }
    checkpoint.check_unchanged().map_err(WriteError::from)?;
    Ok(writer.finish()?)
}

fn vocabulary(formats: WeightFormats) -> QuantFormat {
    match formats.vocabulary {
        WeightFormat::Quantized(format) => format,
        _ => unreachable!("quantised formats quantise the vocabulary"),
    }
}

/// Quantises the matrix of `role` and writes its parts.
fn write_matrix(
    writer: &mut FolderWriter,
    checkpoint: &Checkpoint,
    (role, format): (Role, QuantFormat),
    pool: &WorkerPool,
) -> Result<(), QuantizeError> {
    checkpoint.prefetch(role);
    let tensor = checkpoint.tensor(role);
    debug_assert!(
        !matches!(tensor.dtype, Dtype::Quantized(_)),
        "QuantizedFolder::config refuses quantised sources"
    );
    let (n, k) = (tensor.shape[0] as usize, tensor.shape[1] as usize);
    let data = tensor.data();
    let quantized = matrix(&data, LinearShape { n, k })
        .and_then(|weights| QuantizedMatrix::quantize(weights, n, k, format, pool))
        .map_err(|source| QuantizeError::Tensor { role, source })?;
    drop(data);
    checkpoint.release(role);
    let parts = quantized.parts();
    writer.write(parts.codes)?;
    let scheme = quant_scheme(format);
    let cells = 0..n * scheme.groups(k as u64) as usize;
    let scales = cells.flat_map(|cell| bf16::from_f32(parts.scales.get(cell)).to_le_bytes());
    writer.write(&scales.collect::<Vec<u8>>())?;
    if let Some(zeros) = parts.zeros {
        writer.write(&pack_zero_points(zeros, scheme.groups(k as u64) as usize))?;
    }
    if scheme.bits == 4 {
        let shape = [n as i64, k as i64].map(i64::to_le_bytes);
        writer.write(shape.as_flattened())?;
    }
    Ok(())
}
