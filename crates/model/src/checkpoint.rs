//! A model that has been read and checked.

use crate::config::MAX_CONFIG_BYTES;
use crate::gguf::GgufSet;
use crate::json::Object;
use crate::quantized::Quantization;
use crate::random::RandomWeights;
use crate::shards::Shards;
use crate::weights::WeightFiles;
use crate::{DecoderSpec, GenerationDefaults, ModelError, ModelSource, RandomShape, Role, Tensor};
use crate::{arch, generation};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// A model that has been read and checked: its spec, its recommendations and its tensors.
#[derive(Debug)]
pub struct Checkpoint {
    source: ModelSource,
    spec: DecoderSpec,
    generation: GenerationDefaults,
    stop_ids: Vec<u32>,
    weights: Weights,
}

/// Where the tensors come from.
#[derive(Debug)]
enum Weights {
    Files(WeightFiles),
    Random(RandomWeights),
}

impl Checkpoint {
    /// Reads the configuration and checks presence, format, shape and place of every tensor; reads no weights.
    ///
    /// # Errors
    /// Any defect of the files; see [`ModelError`].
    pub fn open(source: &ModelSource) -> Result<Self, ModelError> {
        let source = &source.resolved()?;
        if let ModelSource::Gguf(path) = source {
            return Self::open_gguf(source, path);
        }
        let Some(bytes) = source.read(CONFIG, MAX_CONFIG_BYTES)? else { return Err(no_config(source)) };
        let config = Object::parse(CONFIG, &bytes)?;
        let mut spec = arch::read_spec(&config)?;
        let quantization = Quantization::read(&config, source)?;
        let generation = match source.read(GENERATION, MAX_CONFIG_BYTES)? {
            Some(bytes) => GenerationDefaults::read(&Object::parse(GENERATION, &bytes)?, spec.vocab_size)?,
            None => GenerationDefaults::default(),
        };
        let eos_ids = config.token_ids("eos_token_id", spec.vocab_size)?;
        let stop_ids = generation::stop_ids(&eos_ids, &generation.eos_ids);
        let weights = match source {
            ModelSource::Random { seed, .. } => {
                (spec.dtype, spec.vocabulary_dtype) = (RandomWeights::DTYPE, RandomWeights::DTYPE);
                Weights::Random(RandomWeights::new(&spec, *seed))
            }
            ModelSource::Folder(_) | ModelSource::Gguf(_) | ModelSource::Memory { .. } => {
                let files = WeightFiles::open(source, &spec, &quantization)?;
                files.describe_folder(&mut spec);
                spec.activation_bits = quantization.activation_bits;
                Weights::Files(files)
            }
        };
        Ok(Self { source: source.clone(), spec, generation, stop_ids, weights })
    }

    fn open_gguf(source: &ModelSource, path: &Path) -> Result<Self, ModelError> {
        let mut set = GgufSet::open(path)?;
        let (mut spec, stop_ids) = set.spec()?;
        let files = WeightFiles::bind(Shards::from(set, spec.naming), &spec, &Quantization::default())?;
        files.describe(&mut spec);
        // As those for whom the formats were made round them.
        spec.activation_bits = Some(8);
        let weights = Weights::Files(files);
        let generation = GenerationDefaults::default();
        Ok(Self { source: source.clone(), spec, generation, stop_ids, weights })
    }

    /// A model of `shape` with random weights, made when they are asked for; the same for the same seed everywhere.
    /// It comes with a tokenizer that makes each byte of a text a token.
    pub fn random(shape: RandomShape, seed: u64) -> Self {
        Self::open(&ModelSource::Random { shape, seed }).expect("the values of a known shape are sound")
    }

    /// Where the files are.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// What to compute.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// What generation_config.json recommends; all absent when there is no such file.
    pub fn generation(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// Ids that end generation: the union of config.json and generation_config.json, ascending, each below
    /// the vocabulary size. The tokenizer's own end-of-sequence token is the caller's to add.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The tensor that plays `role`; the embedding for the head of a model with a tied head.
    ///
    /// # Panics
    /// If the spec does not call for the role (for example a bias of a model without biases); ask
    /// [`Role::all`] which it calls for.
    pub fn tensor(&self, role: Role) -> Tensor<'_> {
        let stored = self.stored_as(role);
        let found = match &self.weights {
            Weights::Files(files) => files.get(stored),
            Weights::Random(weights) => weights.get(stored),
        };
        found.unwrap_or_else(|| panic!("the spec calls for no tensor {role}"))
    }

    /// Brings a mapped tensor into memory in one go; for one that is about to be read whole.
    pub fn prefetch(&self, role: Role) {
        if let Weights::Files(files) = &self.weights {
            files.prefetch(self.stored_as(role));
        }
    }

    /// Gives the memory of a mapped tensor back to the system; for one that has been copied. It can still be read, but
    /// comes from the file again.
    pub fn release(&self, role: Role) {
        if let Weights::Files(files) = &self.weights {
            files.release(self.stored_as(role));
        }
    }

    fn stored_as(&self, role: Role) -> Role {
        if role == Role::Head && self.spec.tied_head { Role::Embedding } else { role }
    }

    /// Every tensor that the spec calls for, with its role, each once.
    pub fn tensors(&self) -> impl Iterator<Item = (Role, Tensor<'_>)> {
        Role::all(&self.spec).map(|role| (role, self.tensor(role)))
    }

    /// Contents of a text file of the model, as [`ModelSource::file`].
    ///
    /// # Errors
    /// As there.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        self.source.file(name)
    }

    /// Number of weights, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        self.tensors().map(|(_, tensor)| tensor.elements() as u64).sum()
    }

    /// Bytes of the tensors that the spec calls for, as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.tensors().map(|(_, tensor)| tensor.byte_len() as u64).sum()
    }

    /// Paths of the files that hold the weights; none for a model in memory or with random weights.
    pub fn weight_files(&self) -> Vec<PathBuf> {
        let folder = match &self.source {
            ModelSource::Folder(folder) => folder.as_path(),
            ModelSource::Gguf(path) => path.parent().unwrap_or(Path::new("")),
            ModelSource::Memory { .. } | ModelSource::Random { .. } => return Vec::new(),
        };
        let Weights::Files(files) = &self.weights else { return Vec::new() };
        files.names().map(|name| folder.join(name)).collect()
    }

    /// Fails if a weight file was resized or rewritten since it was opened; call after the weights are loaded.
    ///
    /// # Errors
    /// [`ModelError::FileChanged`] with the file's name.
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        match &self.weights {
            Weights::Files(files) => files.check_unchanged(),
            Weights::Random(_) => Ok(()),
        }
    }
}

fn no_config(source: &ModelSource) -> ModelError {
    let has = |name: &str| source.names().iter().any(|file| file == name);
    let advice = if has("adapter_config.json") {
        "it is an adapter; merge it into its base model first"
    } else if has("params.json") {
        "it has params.json, the format of the original release; use the version for transformers"
    } else {
        "give a folder as transformers saves it, with config.json, tokenizer.json and model.safetensors"
    };
    ModelError::MissingFile { origin: source.to_string(), file: CONFIG.into(), advice: advice.to_owned() }
}
