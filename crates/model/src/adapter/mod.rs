//! Low-rank adapters: a PEFT folder becomes checked updates of the matrices of a [`DecoderSpec`].
//!
//! As a model's files, those of an adapter are untrusted: any bytes give an [`Adapter`] or a [`ModelError`].

mod config;
mod modules;

use crate::config::MAX_CONFIG_BYTES;
use crate::header::{self, Entry};
use crate::json::Object;
use crate::source::Blob;
use crate::tensor::aligned;
use crate::view::View;
use crate::{DecoderSpec, Dtype, LayerRole, ModelError, ModelSource};
use config::Config;
use half::{bf16, f16};
use modules::{Module, Modules, Side};
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Low-rank updates of a model's matrices, `W + scale · B A`, checked against the model that they are for.
#[derive(Debug)]
pub struct Adapter {
    file: Blob,
    updates: Vec<Update>,
}

/// The update of one matrix.
#[derive(Clone, Debug)]
pub struct Update {
    /// The layer, counted from 0.
    pub layer: u32,
    /// The matrix: queries, keys, values, attention output, gate, up or down.
    pub role: LayerRole,
    /// Columns of `B`; at least 1.
    pub rank: u32,
    /// Outputs of the matrix.
    pub outputs: u64,
    /// Inputs of the matrix.
    pub inputs: u64,
    /// Factor of the product.
    pub scale: f32,
    down: Entry,
    up: Entry,
    /// Rows of `B` that belong to the matrix, where it is stored with others.
    rows: View,
}

impl Adapter {
    /// Reads the folder of an adapter as PEFT saves it, and checks presence, format and shape of every tensor against `spec`;
    /// reads no weights.
    ///
    /// # Errors
    /// Any defect of the files, what the forward pass does not do (DoRA, trained embeddings, experts, …), and tensors that do not
    /// fit the model.
    pub fn open(folder: &Path, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let source = ModelSource::Folder(folder.to_owned());
        source.check("adapter_config.json and adapter_model.safetensors")?;
        if spec.naming.is_gguf() {
            return Err(gguf(folder));
        }
        let Some(bytes) = source.read(CONFIG, MAX_CONFIG_BYTES)? else {
            return Err(missing(&source, CONFIG));
        };
        let config = Config::read(&Object::parse(CONFIG, &bytes)?)?;
        let Some(file) = source.blob(WEIGHTS)? else { return Err(missing(&source, WEIGHTS)) };
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in header::read(WEIGHTS, file.bytes())? {
            entries.insert(entry.name.clone(), entry);
        }
        let updates = updates(&Modules::new(spec), &config, entries)?;
        if updates.is_empty() {
            let problem = "holds no tensor: there is nothing to apply".to_owned();
            return Err(ModelError::Index { file: WEIGHTS.into(), problem });
        }
        Ok(Self { file, updates })
    }

    /// The updates, by layer; those of one layer in no particular order.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// The largest rank.
    pub fn rank(&self) -> u32 {
        self.updates.iter().map(|update| update.rank).max().unwrap_or(0)
    }

    /// `A` of an update, `[rank, inputs]`.
    pub fn down(&self, update: &Update) -> Vec<f32> {
        self.floats(&update.down, View::Whole)
    }

    /// `B` of an update, `[outputs, rank]`.
    pub fn up(&self, update: &Update) -> Vec<f32> {
        self.floats(&update.up, update.rows)
    }

    fn floats(&self, entry: &Entry, rows: View) -> Vec<f32> {
        let bytes = &self.file.bytes()[entry.range.clone()];
        let dtype = entry.format.dtype().expect("the format was checked");
        let bytes = rows.gather(bytes, entry.shape[0], dtype.element_bytes());
        match dtype {
            Dtype::F32 => aligned::<f32>(&bytes).into_owned(),
            Dtype::F16 => aligned::<f16>(&bytes).iter().map(|x| x.to_f32()).collect(),
            Dtype::Bf16 => aligned::<bf16>(&bytes).iter().map(|x| x.to_f32()).collect(),
            Dtype::Fp8 | Dtype::Quantized(_) | Dtype::Blocks(_) => unreachable!("a header names floats only"),
        }
    }

    /// Fails if the weight file was resized or rewritten since it was opened; call after the weights are read.
    ///
    /// # Errors
    /// [`ModelError::FileChanged`].
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        if self.file.is_unchanged() { Ok(()) } else { Err(ModelError::FileChanged { file: WEIGHTS.into() }) }
    }
}

/// Matches every tensor with a matrix of the model, and each `A` with its `B`.
fn updates(
    modules: &Modules,
    config: &Config,
    entries: BTreeMap<String, Entry>,
) -> Result<Vec<Update>, ModelError> {
    let mut found: BTreeMap<String, [Option<Entry>; 2]> = BTreeMap::new();
    for (name, entry) in entries {
        let (module, side) = modules.find(WEIGHTS, &name)?;
        found.entry(module).or_default()[side as usize] = Some(entry);
    }
    let mut all = Vec::new();
    for (name, sides) in found {
        let module = modules.get(&name);
        let [down, up] = both(&name, sides)?;
        let rank = config.rank(&name)?;
        check(&down, [u64::from(rank), module.inputs], "[rank, inputs]")?;
        check(&up, [module.outputs, u64::from(rank)], "[outputs, rank]")?;
        let scale = config.scale(&name, rank)?;
        let Module { layer, inputs, .. } = *module;
        all.extend(module.parts.iter().map(|part| Update {
            layer,
            role: part.role,
            rank,
            outputs: part.outputs,
            inputs,
            scale,
            down: down.clone(),
            up: up.clone(),
            rows: part.rows,
        }));
    }
    all.sort_by_key(|update| update.layer);
    for (index, update) in all.iter().enumerate() {
        let twice = |other: &&Update| (other.layer, other.role) == (update.layer, update.role);
        if let Some(other) = all[..index].iter().find(twice) {
            let (tensor, other) = (update.down.name.clone(), &other.down.name);
            let problem = format!("{other} changes the same matrix: leave one of them out");
            return Err(ModelError::TensorEntry { file: WEIGHTS.into(), tensor, problem });
        }
    }
    Ok(all)
}

fn both(module: &str, [down, up]: [Option<Entry>; 2]) -> Result<[Entry; 2], ModelError> {
    match (down, up) {
        (Some(down), Some(up)) => Ok([down, up]),
        (down, _) => Err(ModelError::MissingTensor {
            tensor: format!(
                "{}{module}.{}.weight",
                modules::PREFIX,
                Side::NAMES[usize::from(down.is_some())]
            ),
            searched: WEIGHTS.into(),
            advice: "its other half is there; save or download the adapter again".to_owned(),
        }),
    }
}

fn check(entry: &Entry, expected: [u64; 2], rule: &str) -> Result<(), ModelError> {
    let (file, tensor) = (WEIGHTS.to_owned(), entry.name.clone());
    if entry.format.dtype().is_none() {
        let advice = "save the adapter in f32, f16 or bf16";
        return Err(ModelError::Dtype { file, tensor, dtype: entry.format.name, advice });
    }
    if entry.shape == expected {
        return Ok(());
    }
    let (found, expected) = (entry.shape.clone(), expected.to_vec());
    Err(ModelError::Shape { file, tensor, found, expected, rule: rule.to_owned() })
}

fn missing(source: &ModelSource, file: &str) -> ModelError {
    let has = |name: &str| source.names().iter().any(|file| file == name);
    let advice = if has("adapter_model.bin") {
        "adapter_model.bin can run code when it is read; load it in Python and save it with safe_serialization=True"
    } else if has("config.json") {
        "this is a model, not an adapter; give the folder that PEFT saved"
    } else {
        "give a folder as PEFT saves it, with adapter_config.json and adapter_model.safetensors"
    };
    ModelError::MissingFile { origin: source.to_string(), file: file.to_owned(), advice: advice.to_owned() }
}

fn gguf(folder: &Path) -> ModelError {
    ModelError::Unsupported {
        file: folder.display().to_string(),
        field: "base model".to_owned(),
        value: "GGUF".to_owned(),
        advice: "GGUF files have rows in another order than PEFT; load the model from its folder",
    }
}
