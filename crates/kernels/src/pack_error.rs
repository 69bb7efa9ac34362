//! Why weights cannot be packed.

use crate::buffer::OutOfMemory;
use crate::format::WeightFormat;
use crate::quant::QuantFormatError;
use std::sync::Mutex;

/// Why weights cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A part is not `[rows, k]`.
    #[error("part {part} of the weights has {elements} elements; {rows} rows of {k} need {}", rows * k)]
    Shape {
        /// Which part, from 0.
        part: usize,
        /// Elements it has.
        elements: usize,
        /// Rows it was said to have.
        rows: usize,
        /// Elements per row.
        k: usize,
    },
    /// There is no weight at all.
    #[error("a linear operation needs at least one row and one column; it has n = {n}, k = {k}")]
    Empty {
        /// Outputs.
        n: usize,
        /// Inputs.
        k: usize,
    },
    /// A weight that is to be quantised, or the scale of the weights that begin there, is NaN or infinite.
    #[error("row {row}, column {column} of part {part} of the weights is not finite")]
    NotFinite {
        /// Which part, from 0.
        part: usize,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// Quantised weights were to be packed in another format.
    #[error("part {part} of the weights is quantised as {from}, which cannot become {to}")]
    Format {
        /// Which part, from 0.
        part: usize,
        /// How it is quantised.
        from: WeightFormat,
        /// The format asked for.
        to: WeightFormat,
    },
    /// Floats were to be packed in a format that only files have.
    #[error("part {part} of the weights is no {format}, and weights are not brought into this format")]
    Stored {
        /// Which part, from 0.
        part: usize,
        /// The format asked for.
        format: WeightFormat,
    },
    /// Columns of matrices that are packed as one belong to inputs in different orders.
    #[error("part {part} of the weights has its inputs in another order than part 0 (g_idx, desc_act)")]
    Order {
        /// Which part, from 0.
        part: usize,
    },
    /// Codes, scales or zero points of a quantised matrix are of another number than its shape calls for.
    #[error("there are {found} {what}, which does not fit a matrix of {n} rows of {k}")]
    Parts {
        /// "codes" (their bytes), "scales", …
        what: &'static str,
        /// How many there are.
        found: usize,
        /// Outputs.
        n: usize,
        /// Inputs.
        k: usize,
    },
    /// The format is not computed.
    #[error(transparent)]
    Unsupported(#[from] QuantFormatError),
    /// There is not enough memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The first error of several workers, by place.
#[derive(Default)]
pub(crate) struct FirstError(Mutex<Option<(usize, PackError)>>);

impl FirstError {
    /// Keeps `error` if none was reported at an earlier place.
    pub(crate) fn report(&self, place: usize, error: PackError) {
        let mut first = self.0.lock().expect("nothing panics while it is held");
        if first.as_ref().is_none_or(|(earliest, _)| place < *earliest) {
            *first = Some((place, error));
        }
    }

    pub(crate) fn result(self) -> Result<(), PackError> {
        let first = self.0.into_inner().expect("nothing panics while it is held");
        first.map_or(Ok(()), |(_, error)| Err(error))
    }
}
