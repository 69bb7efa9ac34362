//! Which weight files a model has, and the tensors in them.

use crate::gguf::GgufSet;
use crate::header::{self, Entry};
use crate::json::{Object, clip, shown};
use crate::source::{Blob, is_plain_name};
use crate::{ModelError, ModelSource, Naming};
use std::collections::{BTreeMap, HashMap};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 32 << 20;
/// Most weight files of one model.
const MAX_SHARDS: usize = 4096;

/// One weight file.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) file: String,
    pub(crate) blob: Blob,
}

/// Where a tensor is: file and entry.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shard: usize,
    pub(crate) entry: Entry,
}

/// All weight files, and every tensor in them by name.
pub(crate) struct Shards {
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: HashMap<String, Found>,
    /// Layers that the names of the tensors speak of.
    pub(crate) layers: u64,
    naming: &'static Naming,
}

impl Shards {
    /// Opens `model.safetensors`, or else the files that the index lists, and reads their headers.
    pub(crate) fn open(source: &ModelSource, naming: &'static Naming) -> Result<Self, ModelError> {
        let mut all = Self { shards: Vec::new(), tensors: HashMap::new(), layers: 0, naming };
        if let Some(blob) = source.blob(SINGLE)? {
            all.add(SINGLE.to_owned(), blob)?;
            return Ok(all);
        }
        let Some(index) = source.read(INDEX, MAX_INDEX_BYTES)? else { return Err(no_weights(source)) };
        let map = read_index(&index)?;
        for file in map.keys() {
            let missing = || index_error(format!("lists {file:?}, which is not there: download it too"));
            let blob = source.blob(file)?.ok_or_else(missing)?;
            all.add(file.clone(), blob)?;
        }
        all.check_index(&map)?;
        Ok(all)
    }

    /// The tensors of GGUF files.
    pub(crate) fn from(set: GgufSet, naming: &'static Naming) -> Self {
        let GgufSet { shards, tensors, .. } = set;
        let layer = |name: &String| naming.layer_of(name).map_or(0, |layer| u64::from(layer) + 1);
        let layers = tensors.keys().map(layer).max().unwrap_or(0);
        Self { shards, tensors, layers, naming }
    }

    /// Names of the files, for messages.
    pub(crate) fn searched(&self) -> String {
        match self.shards.as_slice() {
            [only] => only.file.clone(),
            shards => format!("the {} weight files", shards.len()),
        }
    }

    fn add(&mut self, file: String, blob: Blob) -> Result<(), ModelError> {
        let shard = self.shards.len();
        for entry in header::read(&file, blob.bytes())? {
            let name = entry.name.clone();
            self.layers =
                self.layers.max(self.naming.layer_of(&name).map_or(0, |layer| u64::from(layer) + 1));
            if let Some(other) = self.tensors.insert(name, Found { shard, entry }) {
                return Err(ModelError::DuplicateTensor {
                    tensor: clip(&other.entry.name),
                    first: self.shards[other.shard].file.clone(),
                    second: file,
                });
            }
        }
        self.shards.push(Shard { file, blob });
        Ok(())
    }

    fn check_index(&self, map: &BTreeMap<String, Vec<String>>) -> Result<(), ModelError> {
        for (file, names) in map {
            let holds = |name: &&String| {
                self.tensors.get(*name).is_some_and(|found| self.shards[found.shard].file == *file)
            };
            if let Some(name) = names.iter().find(|name| !holds(name)) {
                let name = clip(name);
                return Err(index_error(format!(
                    "weight_map says that {file:?} holds tensor {name:?}, but it does not: index and files are not \
                     of the same download"
                )));
            }
        }
        Ok(())
    }
}

/// Tensor names by file.
fn read_index(bytes: &[u8]) -> Result<BTreeMap<String, Vec<String>>, ModelError> {
    let index = Object::parse(INDEX, bytes)?;
    if index.get("weight_map").is_none() {
        return Err(index.error("weight_map", "is missing: it should say which file holds each tensor"));
    }
    let Some(weight_map) = index.into_object("weight_map")? else { return Ok(BTreeMap::new()) };
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tensor in weight_map.names() {
        let name = weight_map.get(tensor).and_then(|value| value.as_str());
        let plain = name.filter(|name| is_plain_name(name) && name.ends_with(".safetensors"));
        let Some(file) = plain else {
            let value = weight_map.get(tensor).map(shown).unwrap_or_else(|| "null".to_owned());
            let problem = format!(
                "is {value}, but should be the name of a .safetensors file in the same folder, without a path"
            );
            return Err(weight_map.error(&clip(tensor), problem));
        };
        files.entry(file.to_owned()).or_default().push(tensor.to_owned());
        if files.len() > MAX_SHARDS {
            return Err(index_error(format!("lists more than {MAX_SHARDS} files")));
        }
    }
    if files.is_empty() {
        return Err(index_error(
            "weight_map is empty: it should say which file holds each tensor".to_owned(),
        ));
    }
    Ok(files)
}

fn index_error(problem: String) -> ModelError {
    ModelError::Index { file: INDEX.into(), problem }
}

fn no_weights(source: &ModelSource) -> ModelError {
    let names = source.names();
    let other = |suffix: &str| names.iter().find(|name| name.ends_with(suffix)).map(|name| clip(name));
    let advice = if let Some(file) = other(".gguf") {
        format!("it has {file:?}, a GGUF file, beside config.json; to run that one, give its path")
    } else if let Some(file) = other(".bin").or_else(|| other(".pt")).or_else(|| other(".pth")) {
        format!(
            "it has {file:?}, but pickled weights can run code and are not read; convert them to safetensors"
        )
    } else if let Some(file) = other(".safetensors") {
        format!("it has {file:?}; a single file must be called {SINGLE}, several need {INDEX}")
    } else {
        format!("download the weights as {SINGLE}, or as several files with {INDEX}")
    };
    ModelError::MissingFile { origin: source.to_string(), file: SINGLE.into(), advice }
}
