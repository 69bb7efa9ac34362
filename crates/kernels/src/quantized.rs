//! A quantised matrix in the order of files: row after row.

use crate::buffer::Buffer;
use crate::pack_error::{FirstError, PackError};
use crate::pool::{WorkerPool, partition};
use crate::quant::{Bits, QuantFormat, ScaleFormat};
use crate::quantize::{Group, MAX_GROUP, quantize};
use crate::shared::SharedOut;
use crate::source::Weights;
use half::{bf16, f16};

/// A quantised matrix `[n, k]`, row-major, as files store it and before it is packed.
#[derive(Debug)]
pub struct QuantizedMatrix {
    n: usize,
    k: usize,
    format: QuantFormat,
    codes: Buffer<u8>,
    scales: Buffer<bf16>,
    zeros: Option<Buffer<u8>>,
}

/// A view of a quantised matrix `[n, k]`.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRef<'a> {
    n: usize,
    k: usize,
    format: QuantFormat,
    codes: &'a [u8],
    scales: Scales<'a>,
    zeros: Option<&'a [u8]>,
    order: Option<&'a [u32]>,
}

/// Scales of a quantised matrix.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl Scales<'_> {
    fn len(&self) -> usize {
        match self {
            Scales::Bf16(scales) => scales.len(),
            Scales::F16(scales) => scales.len(),
            Scales::F32(scales) => scales.len(),
        }
    }

    fn format(&self) -> ScaleFormat {
        match self {
            Scales::Bf16(_) => ScaleFormat::Bf16,
            Scales::F16(_) => ScaleFormat::F16,
            Scales::F32(_) => ScaleFormat::F32,
        }
    }

    /// Scale number `cell`.
    ///
    /// # Panics
    ///
    /// When there are not as many.
    pub fn get(&self, cell: usize) -> f32 {
        match self {
            Scales::Bf16(scales) => scales[cell].to_f32(),
            Scales::F16(scales) => scales[cell].to_f32(),
            Scales::F32(scales) => scales[cell],
        }
    }
}

/// The parts of a quantised matrix as files store them.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedParts<'a> {
    /// 8 bits: `[n, k]`, each `u - 128` in two's complement. 4 bits: `[n, ceil(k / 8)]` little-endian words of 32 bits, the
    /// first code in the lowest bits.
    pub codes: &'a [u8],
    /// `[n, ceil(k / group)]`, in the format's own type.
    pub scales: Scales<'a>,
    /// `[n, ceil(k / group)]`, where the format has zero points.
    pub zeros: Option<&'a [u8]>,
    /// `[k]`: the input that each column belongs to, where they are not in order.
    pub order: Option<&'a [u32]>,
}

/// Bytes of the codes of one row.
fn row_bytes(bits: Bits, k: usize) -> usize {
    match bits {
        Bits::Eight => k,
        Bits::Four => k.div_ceil(8) * 4,
    }
}

impl<'a> QuantizedRef<'a> {
    /// A view of `parts` as a matrix `[n, k]`.
    ///
    /// # Errors
    ///
    /// A format that is not computed; parts of other lengths than `n` and `k` call for; zero points that the format
    /// does not have, or the lack of them; scales of another type; columns that do not belong to each input once.
    pub fn new(
        n: usize,
        k: usize,
        format: QuantFormat,
        parts: QuantizedParts<'a>,
    ) -> Result<Self, PackError> {
        let QuantizedParts { codes, scales, zeros, order } = parts;
        let format = QuantFormat { scales: scales.format(), ..format.computed()? };
        let groups = n.checked_mul(k.div_ceil(format.group.into()));
        let check = |what, found, needed: Option<usize>| match needed {
            Some(needed) if needed == found => Ok(()),
            _ => Err(PackError::Parts { what, found, n, k }),
        };
        check("codes", codes.len(), n.checked_mul(row_bytes(format.bits, k)))?;
        check("scales", scales.len(), groups)?;
        check("zero points", zeros.map_or(0, <[u8]>::len), if format.zero_point { groups } else { Some(0) })?;
        if let Some(order) = order {
            check("columns that have an input each", distinct_below(order, k), Some(k))?;
            check("columns", order.len(), Some(k))?;
        }
        Ok(QuantizedRef { n, k, format, codes, scales, zeros, order })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The format; how activations are rounded is of no concern to a stored matrix.
    pub fn format(&self) -> QuantFormat {
        self.format
    }

    /// The inputs that the columns belong to, where they are not in order.
    pub(crate) fn order(&self) -> Option<&'a [u32]> {
        self.order
    }

    /// Reads group `group` of `row`; what is beyond k is 0.
    pub(crate) fn group(&self, row: usize, group: usize) -> Group {
        let size = usize::from(self.format.group);
        let cell = row * self.k.div_ceil(size) + group;
        let zero = self.zeros.map_or(self.format.bits.middle(), |zeros| zeros[cell]);
        let mut codes = [zero; MAX_GROUP];
        let ks = group * size..((group + 1) * size).min(self.k);
        let bytes = row_bytes(self.format.bits, self.k);
        let row = &self.codes[row * bytes..(row + 1) * bytes];
        match self.format.bits {
            Bits::Eight => codes.iter_mut().zip(&row[ks]).for_each(|(code, byte)| *code = byte ^ 0x80),
            Bits::Four => {
                for (code, k) in codes.iter_mut().zip(ks) {
                    *code = (row[k / 2] >> (k % 2 * 4)) & 15;
                }
            }
        }
        Group { scale: self.scales.get(cell), zero, codes }
    }
}

/// How many numbers below `k` stand in `order`, each counted once.
fn distinct_below(order: &[u32], k: usize) -> usize {
    let mut seen = vec![false; k];
    order
        .iter()
        .filter(|&&input| seen.get_mut(input as usize).is_some_and(|s| !std::mem::replace(s, true)))
        .count()
}

impl QuantizedMatrix {
    /// Quantises `weights`, floats `[n, k]`.
    ///
    /// # Errors
    ///
    /// A format that is not computed, weights of another length, a weight that is NaN or infinite, too little memory;
    /// weights that are quantised already.
    pub fn quantize(
        weights: Weights<'_>,
        n: usize,
        k: usize,
        format: QuantFormat,
        pool: &WorkerPool,
    ) -> Result<Self, PackError> {
        let format = format.checked()?;
        if n.checked_mul(k) != Some(weights.len()) {
            return Err(PackError::Shape { part: 0, elements: weights.len(), rows: n, k });
        }
        if let Some(from) = weights.fixed_format() {
            return Err(PackError::Format { part: 0, from, to: format.into() });
        }
        let groups = k.div_ceil(format.group.into());
        let mut codes = Buffer::zeroed(n * row_bytes(format.bits, k))?;
        let mut scales = Buffer::zeroed(n * groups)?;
        let mut zeros = format.zero_point.then(|| Buffer::zeroed(n * groups)).transpose()?;
        let rows = Rows {
            reader: GroupReader { weights, part: 0, k, format },
            codes: SharedOut::new(&mut codes),
            scales: SharedOut::new(&mut scales),
            zeros: zeros.as_deref_mut().map(SharedOut::new),
        };
        let failure = FirstError::default();
        pool.run(&|worker| {
            for row in partition(n, pool.threads(), worker) {
                if let Err(error) = rows.quantize(row) {
                    return failure.report(row, error);
                }
            }
        });
        failure.result()?;
        Ok(QuantizedMatrix { n, k, format, codes, scales, zeros })
    }

    /// A view of it.
    pub fn as_ref(&self) -> QuantizedRef<'_> {
        let QuantizedParts { codes, scales, zeros, order } = self.parts();
        QuantizedRef { n: self.n, k: self.k, format: self.format, codes, scales, zeros, order }
    }

    /// Codes, scales and zero points, as files store them.
    pub fn parts(&self) -> QuantizedParts<'_> {
        let (scales, zeros) = (Scales::Bf16(&self.scales), self.zeros.as_deref());
        QuantizedParts { codes: &self.codes, scales, zeros, order: None }
    }
}

/// The rows of a matrix that workers quantise.
struct Rows<'a> {
    reader: GroupReader<'a>,
    codes: SharedOut<'a, u8>,
    scales: SharedOut<'a, bf16>,
    zeros: Option<SharedOut<'a, u8>>,
}

impl Rows<'_> {
    fn quantize(&self, row: usize) -> Result<(), PackError> {
        let GroupReader { k, format, .. } = self.reader;
        let (size, bytes) = (usize::from(format.group), row_bytes(format.bits, k));
        let groups = k.div_ceil(size);
        // SAFETY: each row belongs to one worker, here and below.
        let codes = unsafe { self.codes.slice(row * bytes..(row + 1) * bytes) };
        for index in 0..groups {
            let group = self.reader.read(row, index)?;
            // SAFETY: as above.
            unsafe { self.scales.write(row * groups + index, bf16::from_f32(group.scale)) };
            if let Some(zeros) = &self.zeros {
                // SAFETY: as above.
                unsafe { zeros.write(row * groups + index, group.zero) };
            }
            let ks = index * size..((index + 1) * size).min(k);
            match format.bits {
                Bits::Eight => {
                    codes[ks].iter_mut().zip(&group.codes).for_each(|(to, code)| *to = code ^ 0x80);
                }
                Bits::Four => {
                    for (k, &code) in ks.zip(&group.codes) {
                        codes[k / 2] |= code << (k % 2 * 4);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads groups of a matrix in a quantised format, whether it is stored so or in floats.
#[derive(Clone, Copy)]
pub(crate) struct GroupReader<'a> {
    pub(crate) weights: Weights<'a>,
    /// The matrix' number, for errors.
    pub(crate) part: usize,
    pub(crate) k: usize,
    pub(crate) format: QuantFormat,
}

impl GroupReader<'_> {
    /// Group `group` of `row`; what is beyond k is 0.
    pub(crate) fn read(&self, row: usize, group: usize) -> Result<Group, PackError> {
        if let Weights::Quantized(quantized) = &self.weights {
            return Ok(quantized.group(row, group));
        }
        let size = usize::from(self.format.group);
        let ks = group * size..((group + 1) * size).min(self.k);
        let mut w = [0f32; MAX_GROUP];
        self.weights.widen(row * self.k + ks.start..row * self.k + ks.end, &mut w[..ks.len()]);
        let w = &mut w[..size];
        if !w.iter().fold(true, |finite, w| finite & w.is_finite()) {
            let column = w.iter().position(|w| !w.is_finite()).expect("one is not finite");
            return Err(PackError::NotFinite { part: self.part, row, column: ks.start + column });
        }
        Ok(quantize(w, self.format))
    }
}
