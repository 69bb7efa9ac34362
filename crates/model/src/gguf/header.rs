//! The head of a GGUF file: metadata, and which tensors it holds, and where.
//!
//! A file is the letters `GGUF`, a version, the numbers of tensors and of fields, the fields, the entries of the tensors,
//! and the data of the tensors, each at a multiple of the alignment. The head is believed in nothing: every count is checked
//! against the bytes that follow, every product against overflow, and the tensors must follow each other without overlap.

use super::cursor::Cursor;
use super::format::TensorFormat;
use super::value::{List, Value};
use crate::ModelError;
use crate::header::{Entry, Format};
use crate::impostor::unmask;
use crate::json::clip;
use std::collections::{HashMap, HashSet};

/// Most fields of metadata.
const MAX_FIELDS: usize = 1 << 16;
/// Most tensors of one file.
const MAX_TENSORS: usize = 1 << 17;
/// Longest name of a field or a tensor, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Most dimensions of a tensor.
const MAX_RANK: u32 = 4;
/// Largest alignment.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// Least bytes of a field and of an entry of a tensor.
const LEAST_FIELD: usize = 8 + 4 + 1;
const LEAST_ENTRY: usize = 8 + 4 + 8 + 4 + 8;

/// The fields of a file.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(super) file: String,
    pub(super) version: u32,
    fields: HashMap<String, Value>,
}

/// Reads and checks the head of a whole file.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<(Metadata, Vec<Entry>), ModelError> {
    let mut cursor = Cursor::new(file, bytes);
    let version = version(&mut cursor, bytes)?;
    let tensors = count(&mut cursor, LEAST_ENTRY, MAX_TENSORS, "the number of tensors")?;
    let fields = count(&mut cursor, LEAST_FIELD, MAX_FIELDS, "the number of fields")?;
    let mut metadata = Metadata { file: file.to_owned(), version, fields: HashMap::new() };
    for _ in 0..fields {
        let at = cursor.at();
        let key = cursor.name(MAX_NAME_BYTES, "the name of a field")?;
        let value = Value::read(&mut cursor, key)?;
        if metadata.fields.insert(key.to_owned(), value).is_some() {
            return Err(cursor.error(at, format!("field {} occurs twice", Cursor::shown(key))));
        }
    }
    let alignment = alignment(&metadata)?;
    let mut names = HashSet::new();
    let mut raw = Vec::new();
    for _ in 0..tensors {
        let at = cursor.at();
        let entry = RawEntry::read(&mut cursor)?;
        if !names.insert(entry.name) {
            return Err(cursor.error(at, format!("tensor {} occurs twice", Cursor::shown(entry.name))));
        }
        raw.push(entry);
    }
    let data = (cursor.at() as u64).next_multiple_of(alignment);
    let entries = place(file, raw, data, alignment, bytes.len() as u64)?;
    Ok((metadata, entries))
}

fn count(cursor: &mut Cursor<'_>, each: usize, most: usize, what: &str) -> Result<usize, ModelError> {
    let at = cursor.at();
    let count = cursor.count(each, what)?;
    if count > most {
        return Err(cursor.error(at, format!("{what} is {count}; the limit is {most}")));
    }
    Ok(count)
}

fn version(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, ModelError> {
    let magic = cursor.array::<4>("the letters GGUF")?;
    if &magic != b"GGUF" {
        let older = [b"lmgg", b"fmgg", b"tjgg"].contains(&&magic);
        let advice = if older {
            "an older format of llama.cpp; convert the model to GGUF"
        } else {
            unmask(bytes).unwrap_or("no GGUF file, whatever its name says; is the download complete?")
        };
        let problem =
            format!("the file begins with \"{}\" instead of \"GGUF\": it is {advice}", magic.escape_ascii());
        return Err(cursor.error(0, problem));
    }
    let version = cursor.u32("the version")?;
    let problem = match version {
        2 | 3 => return Ok(version),
        1 => "version 1 is not read; convert the model again with a current tool".to_owned(),
        _ if version.swap_bytes() <= 3 => {
            "the file is big-endian; convert it for little-endian machines".to_owned()
        }
        _ => format!("version {version} is not read; versions 2 and 3 are"),
    };
    Err(cursor.error(4, problem))
}

fn alignment(metadata: &Metadata) -> Result<u64, ModelError> {
    const FIELD: &str = "general.alignment";
    let alignment = metadata.whole(FIELD)?.unwrap_or(32);
    let fits = u64::try_from(alignment).ok().filter(|a| a.is_power_of_two() && *a <= MAX_ALIGNMENT);
    fits.ok_or_else(|| {
        let problem = format!("is {alignment}, but should be a power of two up to {MAX_ALIGNMENT}");
        metadata.error(FIELD, problem)
    })
}

/// An entry before it is checked against the file.
struct RawEntry<'a> {
    name: &'a str,
    format: TensorFormat,
    shape: Vec<u64>,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
}

impl<'a> RawEntry<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ModelError> {
        let name = cursor.name(MAX_NAME_BYTES, "the name of a tensor")?;
        let what = format!("the entry of tensor {}", Cursor::shown(name));
        let at = cursor.at();
        let rank = cursor.u32(&what)?;
        if rank == 0 || rank > MAX_RANK {
            return Err(
                cursor.error(at, format!("{what} has {rank} dimensions; from 1 to {MAX_RANK} are read"))
            );
        }
        let mut shape = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            shape.push(cursor.u64(&what)?);
        }
        // The file has the fastest dimension first.
        shape.reverse();
        let at = cursor.at();
        let number = cursor.u32(&what)?;
        let Some(format) = TensorFormat::numbered(number) else {
            return Err(cursor.error(at, format!("{what} names format {number}, which is unknown")));
        };
        let bytes = byte_size(&shape, format).ok_or_else(|| {
            let TensorFormat { name, block, .. } = format;
            let problem = format!(
                "{what} has shape {shape:?} of {name}: rows are no whole number of blocks of {block}, or it has no size below 2^64"
            );
            cursor.error(at, problem)
        })?;
        let offset = cursor.u64(&what)?;
        Ok(Self { name, format, shape, offset, bytes })
    }
}

/// Bytes of a tensor; `None` when there are none, the product overflows or rows are cut.
fn byte_size(shape: &[u64], format: TensorFormat) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n))?;
    let whole = elements > 0 && shape.last()?.is_multiple_of(format.block);
    if whole { (elements / format.block).checked_mul(format.bytes) } else { None }
}

/// Entries with their place in the file; fails unless the tensors follow each other, each at a multiple of the alignment.
fn place(
    file: &str,
    raw: Vec<RawEntry<'_>>,
    data: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<Entry>, ModelError> {
    let error = |tensor: &str, problem: String| ModelError::TensorEntry {
        file: file.into(),
        tensor: clip(tensor),
        problem,
    };
    let mut entries = Vec::with_capacity(raw.len());
    for RawEntry { name, format, shape, offset, bytes } in raw {
        if !offset.is_multiple_of(alignment) {
            return Err(error(
                name,
                format!("its offset {offset} is no multiple of the alignment {alignment}"),
            ));
        }
        let start = data.checked_add(offset);
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(bytes)?))) else {
            return Err(error(name, format!("its offset {offset} and its {bytes} bytes end beyond 2^64")));
        };
        if end > file_len {
            let problem = format!(
                "its data ends at byte {end} of the file, but the file has {file_len} bytes: it is truncated; copy or \
                 download it again"
            );
            return Err(error(name, problem));
        }
        let format = Format::new(format.name, format.dtype());
        // Both fit: they are at most the file's length.
        entries.push(Entry { name: name.to_owned(), format, shape, range: start as usize..end as usize });
    }
    entries.sort_by_key(|entry| entry.range.start);
    for pair in entries.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if after.range.start < before.range.end {
            let problem = format!(
                "its data begins at byte {} of the file and overlaps that of {:?}, which ends at byte {}",
                after.range.start,
                clip(&before.name),
                before.range.end
            );
            return Err(error(&after.name, problem));
        }
    }
    Ok(entries)
}

impl Metadata {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// All fields, in no order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ModelError {
        ModelError::Field { file: self.file.clone(), field: key.to_owned(), problem: problem.into() }
    }

    pub(super) fn whole(&self, key: &str) -> Result<Option<i128>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Whole(number)) => Ok(Some(*number)),
            Some(_) => Err(self.error(key, "should be a whole number")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.error(key, "should be true or false")),
        }
    }

    pub(super) fn text<'a>(&self, key: &str, bytes: &'a [u8]) -> Result<Option<&'a str>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => match std::str::from_utf8(&bytes[range.clone()]) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(self.error(key, format!("is not UTF-8: {error}"))),
            },
            Some(_) => Err(self.error(key, "should be a text")),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<&List>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(self.error(key, "should be a list")),
        }
    }
}
