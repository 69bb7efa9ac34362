//! The header of a safetensors file: which tensors it holds, and where.
//!
//! A file is eight bytes of header length, a JSON header, and the data. The header is believed in nothing:
//! lengths and products are checked, and the tensors must tile the data without gap, overlap or remainder,
//! so that no byte belongs to two tensors or to none.

use crate::impostor::unmask;
use crate::json::clip;
use crate::{Dtype, ModelError};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Longest header that is read, in bytes; about 100,000 tensors.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// Longest name of a tensor, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes of the header's length.
const PREFIX: usize = 8;

/// A tensor as the header describes it, with a range that lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) shape: Vec<u64>,
    /// From the start of the file.
    pub(crate) range: Range<usize>,
}

/// A number format that a file may name, also one that no weight may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) name: &'static str,
    dtype: Option<Dtype>,
}

#[rustfmt::skip]
const FORMATS: [(&str, u64); 22] = [
    ("BOOL", 8), ("U8", 8), ("I8", 8), ("U16", 16), ("I16", 16), ("U32", 32), ("I32", 32), ("U64", 64),
    ("I64", 64), ("F64", 64), ("F32", 32), ("F16", 16), ("BF16", 16), ("C64", 64), ("F8_E5M2", 8),
    ("F8_E4M3", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8), ("F6_E2M3", 6), ("F6_E3M2", 6),
    ("F4", 4),
];

impl Format {
    /// A format with the number format to compute with, if it is one.
    pub(crate) fn new(name: &'static str, dtype: Option<Dtype>) -> Self {
        Self { name, dtype }
    }

    /// A format of safetensors and the bits of an element.
    fn named(name: &str) -> Option<(Self, u64)> {
        let &(name, bits) = FORMATS.iter().find(|(known, _)| *known == name)?;
        let dtype = match name {
            "F32" => Some(Dtype::F32),
            "F16" => Some(Dtype::F16),
            "BF16" => Some(Dtype::Bf16),
            _ => None,
        };
        Some((Self { name, dtype }, bits))
    }

    /// The format to compute with, if it is one.
    pub(crate) fn dtype(self) -> Option<Dtype> {
        self.dtype
    }
}

/// Reads and checks the header of a whole file; the entries come back in the order of their data.
pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Vec<Entry>, ModelError> {
    let data_start = data_start(file, bytes)?;
    let header = &bytes[PREFIX..data_start];
    let RawHeader(raw) = serde_json::from_slice(header).map_err(|e| {
        // A header is one line as a rule, and then the column is the place.
        let column = if e.line() == 1 { e.column() as u64 } else { 0 };
        let problem = format!("the header is not what safetensors prescribes: {}", clip(&e.to_string()));
        frame(file, PREFIX as u64 + column, problem)
    })?;
    let mut entries = Vec::with_capacity(raw.len());
    for entry in raw {
        let name = entry.name.clone();
        let checked = check(entry, data_start, bytes.len());
        entries.push(checked.map_err(|problem| tensor_error(file, &name, problem))?);
    }
    check_tiling(file, &mut entries, data_start, bytes.len())?;
    Ok(entries)
}

/// Where the data begins.
fn data_start(file: &str, bytes: &[u8]) -> Result<usize, ModelError> {
    let total = bytes.len();
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        let problem = format!(
            "the file has {total} bytes, fewer than the 8 of the header's length: it is truncated; {AGAIN}"
        );
        return Err(frame(file, 0, problem));
    };
    let header = u64::from_le_bytes(*prefix);
    if header > MAX_HEADER_BYTES {
        let problem = match unmask(bytes) {
            Some(what) => format!("this is no safetensors file but {what}"),
            None => format!(
                "the header claims {header} bytes, but the limit is {MAX_HEADER_BYTES}: this is not a safetensors file, \
                 or it is damaged"
            ),
        };
        return Err(frame(file, 0, problem));
    }
    // Fits: it is at most MAX_HEADER_BYTES.
    let header = header as usize;
    if header > rest.len() {
        let problem = format!(
            "the header claims {header} bytes, but only {} follow: the file is truncated; {AGAIN}",
            rest.len()
        );
        return Err(frame(file, 0, problem));
    }
    Ok(PREFIX + header)
}

const AGAIN: &str = "copy or download it again";

fn check(entry: RawEntry, data_start: usize, file_len: usize) -> Result<Entry, String> {
    let RawEntry { name, body } = entry;
    let RawBody { dtype, shape: Shape(shape), data_offsets: [begin, end] } = body;
    let (format, bits) =
        Format::named(&dtype).ok_or_else(|| format!("dtype {:?} is unknown", clip(&dtype)))?;
    let size = byte_size(&shape, bits).ok_or_else(|| {
        format!("shape {shape:?} of {} has no whole number of bytes below 2^64", format.name)
    })?;
    if begin > end {
        return Err(format!("data_offsets [{begin}, {end}] run backwards"));
    }
    if end - begin != size {
        let span = end - begin;
        return Err(format!(
            "data_offsets [{begin}, {end}] span {span} bytes, but shape {shape:?} of {} takes {size}",
            format.name
        ));
    }
    let available = (file_len - data_start) as u64;
    if end > available {
        return Err(format!(
            "its data ends at byte {} of the file, but the file has {file_len} bytes: it is truncated; {AGAIN}",
            u128::from(end) + data_start as u128
        ));
    }
    // Both fit: they are at most the file's length.
    let range = data_start + begin as usize..data_start + end as usize;
    Ok(Entry { name, format, shape, range })
}

/// Bytes of a tensor; `None` when the product overflows or is no whole number of bytes.
fn byte_size(shape: &[u64], bits: u64) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n))?;
    let total = elements.checked_mul(bits)?;
    total.is_multiple_of(8).then_some(total / 8)
}

/// Fails unless the tensors cover the data exactly once; leaves them in the order of their data.
fn check_tiling(
    file: &str,
    entries: &mut [Entry],
    data_start: usize,
    file_len: usize,
) -> Result<(), ModelError> {
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let mut at = data_start;
    for entry in entries.iter() {
        let start = entry.range.start;
        if start != at {
            let relation =
                if start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            let problem = format!(
                "its data begins at byte {start} of the file and {relation}, which ends at byte {at}"
            );
            return Err(tensor_error(file, &entry.name, problem));
        }
        at = entry.range.end;
    }
    if at != file_len {
        let problem = format!(
            "{} bytes follow the last tensor: the file is damaged or is a mixture of two; {AGAIN}",
            file_len - at
        );
        return Err(frame(file, at as u64, problem));
    }
    Ok(())
}

fn frame(file: &str, offset: u64, problem: String) -> ModelError {
    ModelError::Frame { file: file.into(), offset, problem }
}

fn tensor_error(file: &str, tensor: &str, problem: String) -> ModelError {
    ModelError::TensorEntry { file: file.into(), tensor: clip(tensor), problem }
}

/// The header before it is checked against the file, in the order of the text.
struct RawHeader(Vec<RawEntry>);

struct RawEntry {
    name: String,
    body: RawBody,
}

#[derive(Deserialize)]
struct RawBody {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensor names and entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if name.len() > MAX_NAME_BYTES {
                let shown = clip(&name);
                return Err(A::Error::custom(format!("a name has over {MAX_NAME_BYTES} bytes: {shown:?}")));
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor {:?} occurs twice", clip(&name))));
            }
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let body = map
                .next_value::<RawBody>()
                .map_err(|e| A::Error::custom(format!("tensor {:?}: {e}", clip(&name))))?;
            entries.push(RawEntry { name, body });
        }
        Ok(RawHeader(entries))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_RANK} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(dimension) = seq.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
            }
            shape.push(dimension);
        }
        Ok(Shape(shape))
    }
}
