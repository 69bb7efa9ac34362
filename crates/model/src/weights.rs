//! Weight files and which tensor of which file plays which role.

use crate::source::Blob;
use crate::{Dtype, ModelError, Role, Tensor};
use std::collections::HashMap;
use std::ops::Range;

/// The weight files of a model and which tensor plays which role.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    shards: Vec<Shard>,
    bound: HashMap<Role, Place>,
}

#[derive(Debug)]
struct Shard {
    file: String,
    blob: Blob,
}

#[derive(Debug)]
struct Place {
    shard: usize,
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    range: Range<usize>,
}

impl WeightFiles {
    pub(crate) fn get(&self, role: Role) -> Option<Tensor<'_>> {
        let place = self.bound.get(&role)?;
        let shard = &self.shards[place.shard];
        Some(Tensor {
            name: &place.name,
            file: &shard.file,
            dtype: place.dtype,
            shape: &place.shape,
            bytes: &shard.blob.bytes()[place.range.clone()],
        })
    }

    pub(crate) fn check_unchanged(&self) -> Result<(), ModelError> {
        match self.shards.iter().find(|shard| !shard.blob.is_unchanged()) {
            Some(shard) => Err(ModelError::FileChanged { file: shard.file.clone() }),
            None => Ok(()),
        }
    }
}
