//! SentencePiece models, as the file tokenizer.model stores them: messages of protocol buffers.
//!
//! The numbers of the fields are those of sentencepiece_model.proto in the library's sources.

use crate::ModelError;

/// Most pieces of a model.
const MAX_PIECES: usize = 1 << 20;
/// Longest piece, in bytes.
const MAX_PIECE_BYTES: usize = 2048;
const NO_MODEL: &str =
    "is no SentencePiece model; save the tokenizer with transformers, which writes tokenizer.json";

/// What a file says; pieces are named by their places.
#[derive(Debug, PartialEq)]
pub(crate) struct SentencePiece<'a> {
    pub(crate) pieces: Vec<&'a str>,
    pub(crate) scores: Vec<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub(crate) types: Vec<i32>,
    /// 1 unigram, 2 merges, 3 words, 4 letters.
    pub(crate) kind: u64,
    /// Whether a text is given a space in front.
    pub(crate) adds_space: bool,
    /// Whether letters are changed before a text is cut.
    pub(crate) normalizes: bool,
    pub(crate) unk: Option<u32>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Whole(u64),
    Bits(u32),
    Bytes(&'a [u8]),
    /// Of a type that no known field has.
    Other,
}

impl<'a> SentencePiece<'a> {
    /// Reads the contents of `file`, which is named in messages.
    ///
    /// # Errors
    /// What is no such model, or one with too many or too long pieces.
    pub(crate) fn read(file: &str, bytes: &'a [u8]) -> Result<Self, ModelError> {
        let error = |field: &str, problem: String| ModelError::Field {
            file: file.to_owned(),
            field: field.to_owned(),
            problem,
        };
        let mut model = Self {
            pieces: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
            kind: 1,
            adds_space: true,
            normalizes: false,
            unk: Some(0),
            bos: Some(1),
            eos: Some(2),
            pad: None,
        };
        for field in Fields(bytes) {
            let known = match field {
                Some((1, Value::Bytes(piece))) => model.add_piece(piece),
                Some((2, Value::Bytes(trainer))) => model.take_trainer(trainer),
                Some((3, Value::Bytes(normalizer))) => model.take_normalizer(normalizer),
                Some(_) => Some(()),
                None => None,
            };
            if known.is_none() {
                return Err(error("whole file", NO_MODEL.to_owned()));
            }
            if model.pieces.len() > MAX_PIECES {
                return Err(error("pieces", format!("are more than {MAX_PIECES}")));
            }
        }
        if model.pieces.is_empty() {
            return Err(error("whole file", NO_MODEL.to_owned()));
        }
        let count = model.pieces.len();
        for id in [&mut model.unk, &mut model.bos, &mut model.eos, &mut model.pad] {
            *id = id.filter(|id| (*id as usize) < count);
        }
        Ok(model)
    }

    fn add_piece(&mut self, bytes: &'a [u8]) -> Option<()> {
        let (mut piece, mut score, mut kind) = ("", 0.0, 1);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) if text.len() <= MAX_PIECE_BYTES => {
                    piece = std::str::from_utf8(text).ok()?
                }
                (2, Value::Bits(bits)) => score = f32::from_bits(bits),
                (3, Value::Whole(number)) => kind = i32::try_from(number).ok()?,
                (1..=3, _) => return None,
                _ => {}
            }
        }
        self.pieces.push(piece);
        self.scores.push(score);
        self.types.push(kind);
        Some(())
    }

    fn take_trainer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (3, Value::Whole(kind)) => self.kind = kind,
                // Minus 1 stands for none.
                (40, Value::Whole(id)) => self.unk = u32::try_from(id).ok(),
                (41, Value::Whole(id)) => self.bos = u32::try_from(id).ok(),
                (42, Value::Whole(id)) => self.eos = u32::try_from(id).ok(),
                (43, Value::Whole(id)) => self.pad = u32::try_from(id).ok(),
                _ => {}
            }
        }
        Some(())
    }

    fn take_normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (2, Value::Bytes(map)) => self.normalizes = !map.is_empty(),
                (3, Value::Whole(flag)) => self.adds_space = flag != 0,
                _ => {}
            }
        }
        Some(())
    }
}

/// Numbers and values of the fields of a message; `None`, and nothing behind it, where the bytes are no fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.whole()?;
        let value = match key & 7 {
            0 => Value::Whole(self.whole()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let len = usize::try_from(self.whole()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bits(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        (key >> 3 != 0).then_some((key >> 3, value))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits of each byte, the lowest first; the eighth says that more follow.
    fn whole(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F).checked_shl(place).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut inner = vec![0x0A, text.len() as u8];
        inner.extend(text.as_bytes());
        inner.push(0x15);
        inner.extend(score.to_le_bytes());
        inner.extend([0x18, kind]);
        let mut outer = vec![0x0A, inner.len() as u8];
        outer.extend(inner);
        outer
    }

    #[test]
    fn pieces_and_settings_are_read() {
        let trainer = [0x12, 8, 0x18, 2, 0xC0, 0x02, 0, 0xC8, 0x02, 1];
        let normalizer = [0x1A, 2, 0x18, 0];
        let bytes =
            [piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1), trainer.to_vec(), normalizer.to_vec()].concat();
        let model = SentencePiece::read("tokenizer.model", &bytes).unwrap();
        assert_eq!(model.pieces, ["<unk>", "▁a"]);
        assert_eq!((model.scores[1], model.types[0], model.kind), (-1.5, 2, 2));
        assert!(!model.adds_space && !model.normalizes);
        assert_eq!((model.unk, model.bos, model.eos, model.pad), (Some(0), Some(1), None, None));
        for length in 0..bytes.len() {
            let _ = SentencePiece::read("tokenizer.model", &bytes[..length]);
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [
            &b""[..],
            b"IQ== 0\nIg== 1\n",
            &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            &[0x80; 20],
            &[0x0A, 3, 0x0A, 1, 0xFF],
        ] {
            let error = SentencePiece::read("tokenizer.model", bytes).unwrap_err().to_string();
            assert!(error.contains("tokenizer.model") && error.contains("no SentencePiece model"), "{error}");
        }
    }
}
