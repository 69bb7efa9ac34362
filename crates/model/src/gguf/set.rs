//! The files of a model: one, or the shards of a split set.

use super::header::{self, Metadata};
use crate::json::clip;
use crate::shards::{Found, Shard};
use crate::source::Blob;
use crate::{ModelError, ModelSource};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Most shards of a set.
const MAX_SHARDS: i128 = 4096;

/// All files of a model with what their heads say.
#[derive(Debug)]
pub(crate) struct GgufSet {
    /// Of the first shard, which has the fields of all.
    pub(super) metadata: Metadata,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: HashMap<String, Found>,
}

/// Files of a model folder that a GGUF file stands in for.
const TEXT_FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];

impl GgufSet {
    /// Whether a GGUF file has what a model folder has in the file `name`.
    pub(crate) fn has_text_file(name: &str) -> bool {
        TEXT_FILES.contains(&name)
    }

    /// Opens the file at `path`, and all others of its set if it is a shard.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let blob = open_file(path)?;
        let (metadata, entries) = header::read(&file_name(path), blob.bytes())?;
        let count = metadata.whole("split.count")?.unwrap_or(1);
        if count <= 1 {
            let mut set = Self { metadata, shards: Vec::new(), tensors: HashMap::new() };
            set.add(file_name(path), blob, entries)?;
            return Ok(set);
        }
        if count > MAX_SHARDS {
            return Err(metadata.error("split.count", format!("is {count}; the limit is {MAX_SHARDS}")));
        }
        Self::open_shards(path, &metadata, count as usize)
    }

    fn open_shards(path: &Path, given: &Metadata, count: usize) -> Result<Self, ModelError> {
        let name = file_name(path);
        let part = gguf_part(&name).filter(|part| part.count == count && part.index <= count);
        let Some(GgufPart { stem, index, .. }) = part else {
            let problem = format!(
                "is {count}, so the file should be called NAME-00001-of-{count:05}.gguf, as llama.cpp names the parts of \
                 a set, but it is {:?}: give it its name back",
                clip(&name)
            );
            return Err(given.error("split.count", problem));
        };
        let mut set: Option<Self> = None;
        for number in 1..=count {
            let shard = shard_name(stem, number, count);
            let path = path.with_file_name(&shard);
            if number != index && !path.is_file() {
                return Err(ModelError::MissingFile {
                    origin: name.clone(),
                    file: shard,
                    advice: format!("the model is split into {count} files, which have to be in one folder"),
                });
            }
            let blob = open_file(&path)?;
            let (metadata, entries) = header::read(&shard, blob.bytes())?;
            let (says_no, says_count) = (metadata.whole("split.no")?, metadata.whole("split.count")?);
            if says_no != Some(number as i128 - 1) || says_count != Some(count as i128) {
                let problem = format!(
                    "says {says_no:?} of {says_count:?} where the name says {} of {count}: the file is of another set",
                    number - 1
                );
                return Err(metadata.error("split.no", problem));
            }
            let set = set.get_or_insert(Self { metadata, shards: Vec::new(), tensors: HashMap::new() });
            set.add(shard, blob, entries)?;
        }
        let set = set.expect("a set has at least two shards");
        set.check_total()?;
        Ok(set)
    }

    fn check_total(&self) -> Result<(), ModelError> {
        const TOTAL: &str = "split.tensors.count";
        let found = self.tensors.len();
        match self.metadata.whole(TOTAL)? {
            Some(total) if total != found as i128 => Err(self
                .metadata
                .error(TOTAL, format!("is {total}, but the files of the set have {found} tensors"))),
            _ => Ok(()),
        }
    }

    fn add(
        &mut self,
        file: String,
        blob: Blob,
        entries: Vec<crate::header::Entry>,
    ) -> Result<(), ModelError> {
        let shard = self.shards.len();
        for entry in entries {
            if let Some(other) = self.tensors.insert(entry.name.clone(), Found { shard, entry }) {
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

    /// The bytes that the metadata lie in.
    pub(super) fn bytes(&self) -> &[u8] {
        self.shards[0].blob.bytes()
    }

    /// Name of the first file, for messages.
    pub(super) fn file(&self) -> &str {
        &self.shards[0].file
    }
}

/// The one set of GGUF files in a folder without config.json; `None` where there are no such files.
///
/// # Errors
/// Several sets.
pub(crate) fn in_folder(folder: &Path, names: &[String]) -> Result<Option<PathBuf>, ModelError> {
    let mut sets: Vec<&String> = names.iter().filter(|name| is_gguf(name) && is_first(name)).collect();
    sets.retain(|name| !name.to_lowercase().contains("mmproj"));
    sets.sort();
    match sets[..] {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        _ => {
            let names: Vec<String> = sets.iter().map(|name| format!("{:?}", clip(name))).collect();
            Err(ModelError::Folder {
                path: folder.to_owned(),
                problem: format!(
                    "has {} models, {}; give the path of one of them",
                    names.len(),
                    names.join(", ")
                ),
            })
        }
    }
}

/// Whether a path names a GGUF file.
pub fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether a file is a model of its own or the first shard of a set.
fn is_first(name: &str) -> bool {
    gguf_part(name).is_none_or(|part| part.index == 1)
}

/// What the name of a part of a split set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgufPart<'a> {
    /// The name without `-00002-of-00005.gguf`.
    pub stem: &'a str,
    /// Which part it is, from 1 on.
    pub index: usize,
    /// Parts of the set.
    pub count: usize,
}

/// What `name` says of its place in a split set; `None` where it is no part of one.
pub fn gguf_part(name: &str) -> Option<GgufPart<'_>> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<usize>().ok()).flatten();
    Some(GgufPart { stem, index: number(index).filter(|index| *index > 0)?, count: number(count)? })
}

fn shard_name(stem: &str, index: usize, count: usize) -> String {
    format!("{stem}-{index:05}-of-{count:05}.gguf")
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn open_file(path: &Path) -> Result<Blob, ModelError> {
    ModelSource::map(path, &file_name(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_known_by_their_names() {
        let part = gguf_part("a-b-00002-of-00005.gguf");
        assert_eq!(part, Some(GgufPart { stem: "a-b", index: 2, count: 5 }));
        assert_eq!(shard_name("a-b", 2, 5), "a-b-00002-of-00005.gguf");
        for name in
            ["a.gguf", "a-2-of-5.gguf", "a-00000-of-00005.gguf", "a-00001-of-0000x.gguf", "a-00001-of-00002"]
        {
            assert_eq!(gguf_part(name), None, "{name}");
        }
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let folder = Path::new("m");
        let found = |list: &[&str]| in_folder(folder, &names(list));
        let set = ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "mmproj-x.gguf", "README.md"];
        assert_eq!(found(&set).expect("one set"), Some(folder.join("x-00001-of-00002.gguf")));
        assert_eq!(found(&["README.md"]).expect("none"), None);
        let several = found(&["a.gguf", "b.gguf"]).expect_err("two").to_string();
        assert!(several.contains("\"a.gguf\", \"b.gguf\""), "{several}");
    }
}
