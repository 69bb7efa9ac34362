//! From vocabulary entry to bytes: the decoder of tokenizer.json, compiled once into a table.

use tokenizers::decoders::metaspace::Metaspace;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::replace::Replace;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder, DecoderWrapper};

/// A decoder that cannot be streamed exactly: the field that names it, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) field: String,
    pub(crate) problem: String,
}

/// Longest text of one token, bytes.
const MAX_PIECE: usize = 64 << 10;

/// Longest text of all tokens, bytes.
const MAX_TABLE: usize = 1 << 30;

/// Longest text that a `Replace` puts in for each match, bytes.
const MAX_CONTENT: usize = 1024;

/// One step that looks at a single piece.
#[derive(Debug)]
enum Stage {
    Metaspace(Metaspace),
    Strip(Strip),
    /// `Replace` or `WordPiece`, applied by the library itself because they hold patterns of its own.
    Library(DecoderWrapper),
    ByteFallback,
    ByteLevel,
}

/// Removes up to `count` leading `content` characters from the whole text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeadingStrip {
    pub(crate) content: char,
    pub(crate) count: usize,
}

/// The decoder as steps on single pieces, followed by at most one step on the whole text.
#[derive(Debug)]
pub(crate) struct PieceDecoder {
    stages: Vec<Stage>,
    /// Without any decoder the library joins pieces with a space.
    joined_by_space: bool,
    leading: Option<LeadingStrip>,
    fused: bool,
}

impl PieceDecoder {
    /// Compiles the `decoder` entry of tokenizer.json.
    pub(crate) fn compile(decoder: Option<&DecoderWrapper>) -> Result<Self, Unsupported> {
        let mut compiled =
            Self { stages: Vec::new(), joined_by_space: decoder.is_none(), leading: None, fused: false };
        if let Some(decoder) = decoder {
            compiled.add(decoder, "decoder".to_owned())?;
        }
        Ok(compiled)
    }

    fn add(&mut self, decoder: &DecoderWrapper, field: String) -> Result<(), Unsupported> {
        let unsupported =
            |problem: &str| Err(Unsupported { field: field.clone(), problem: problem.to_owned() });
        match decoder {
            DecoderWrapper::Sequence(sequence) => {
                for (index, decoder) in sequence.get_decoders().iter().enumerate() {
                    self.add(decoder, format!("{field}.decoders[{index}]"))?;
                }
            }
            DecoderWrapper::Fuse(_) => self.fused = true,
            DecoderWrapper::Strip(strip) if self.fused => {
                if strip.stop > 0 || self.leading.is_some() {
                    return unsupported(
                        "a `Strip` of the whole text is supported once and at its start only (`stop` 0)",
                    );
                }
                self.leading = Some(LeadingStrip { content: strip.content, count: strip.start });
            }
            DecoderWrapper::CTC(_) | DecoderWrapper::BPE(_) => {
                return unsupported(
                    "decoders `CTC` and `BPEDecoder` are not supported; supported are ByteLevel, Metaspace, \
                     ByteFallback, Replace, Strip, Fuse, WordPiece and sequences of them",
                );
            }
            // One letter is replaced alike in a piece and in the text of all pieces.
            DecoderWrapper::Replace(replace) if self.leading.is_none() && self.replaces_letter(replace) => {
                self.stages.push(Stage::Library(decoder.clone()));
            }
            _ if self.fused => {
                return unsupported(
                    "only `Strip` may follow `Fuse` or `ByteLevel`; put this decoder before them",
                );
            }
            DecoderWrapper::Replace(_) | DecoderWrapper::Strip(_) | DecoderWrapper::WordPiece(_)
                if self.has_bytes() =>
            {
                return unsupported(
                    "between `ByteFallback` and `Fuse` only Metaspace and the replacement of one letter \
                     outside ASCII are supported; put this decoder before `ByteFallback`",
                );
            }
            DecoderWrapper::ByteLevel(_) => {
                self.stages.push(Stage::ByteLevel);
                self.fused = true;
            }
            DecoderWrapper::ByteFallback(_) => self.stages.push(Stage::ByteFallback),
            DecoderWrapper::Metaspace(metaspace) => self.stages.push(Stage::Metaspace(metaspace.clone())),
            DecoderWrapper::Strip(strip) => self.stages.push(Stage::Strip(strip.clone())),
            DecoderWrapper::Replace(replace) if content(replace).len() > MAX_CONTENT => {
                return unsupported("`content` is longer than 1024 bytes");
            }
            DecoderWrapper::Replace(_) | DecoderWrapper::WordPiece(_) => {
                self.stages.push(Stage::Library(decoder.clone()));
            }
        }
        Ok(())
    }

    /// Whether a stage so far makes bytes that are no text of their own.
    fn has_bytes(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::ByteFallback | Stage::ByteLevel))
    }

    /// Whether `replace` looks for a single letter outside ASCII, which no byte token spells, in pieces of text.
    fn replaces_letter(&self, replace: &Replace) -> bool {
        let fields = serde_json::to_value(replace).unwrap_or_default();
        let mut letters = fields["pattern"]["String"].as_str().unwrap_or_default().chars();
        let outside = letters.next().is_some_and(|letter| !letter.is_ascii());
        let text = !self.stages.iter().any(|stage| matches!(stage, Stage::ByteLevel));
        text && outside && letters.next().is_none()
    }

    /// What the whole text loses at its start.
    pub(crate) fn leading(&self) -> Option<LeadingStrip> {
        self.leading
    }

    /// Whether a piece decodes differently as the first of a text.
    pub(crate) fn first_differs(&self) -> bool {
        self.joined_by_space
            || self.stages.iter().any(|stage| match stage {
                Stage::Metaspace(metaspace) => metaspace.prepend_scheme != PrependScheme::Never,
                Stage::Library(decoder) => matches!(decoder, DecoderWrapper::WordPiece(_)),
                Stage::Strip(_) | Stage::ByteFallback | Stage::ByteLevel => false,
            })
    }

    /// The bytes of `piece`; `added` when the model's own vocabulary lacks it, `first` when it begins the text.
    pub(crate) fn bytes(&self, piece: &str, added: bool, first: bool) -> Vec<u8> {
        let mut text = piece.to_owned();
        if self.joined_by_space && !first {
            text.insert(0, ' ');
        }
        for stage in &self.stages {
            if text.len() > MAX_PIECE {
                // It is refused, so what further stages would make of it does not matter.
                break;
            }
            match stage {
                Stage::Metaspace(metaspace) => text = without_metaspace(&text, metaspace, first),
                Stage::Strip(strip) => text = stripped(&text, strip),
                Stage::Library(decoder) => text = apply(decoder, text, first),
                Stage::ByteFallback => {
                    if let Some(byte) = fallback_byte(&text) {
                        return vec![byte];
                    }
                }
                Stage::ByteLevel => return byte_level(&text, added),
            }
        }
        text.into_bytes()
    }
}

/// What a `Replace` puts in.
fn content(replace: &Replace) -> String {
    let fields = serde_json::to_value(replace).unwrap_or_default();
    fields["content"].as_str().unwrap_or_default().to_owned()
}

/// The library's own `Metaspace` removes every marker from the first piece and makes spaces of the others.
fn without_metaspace(text: &str, metaspace: &Metaspace, first: bool) -> String {
    let removed = first && metaspace.prepend_scheme != PrependScheme::Never;
    text.replace(metaspace.get_replacement(), if removed { "" } else { " " })
}

fn stripped(text: &str, strip: &Strip) -> String {
    let mut text = text;
    // A file may give any counts; a text has no more to strip than its length.
    for _ in 0..strip.start.min(text.len()) {
        text = text.strip_prefix(strip.content).unwrap_or(text);
    }
    for _ in 0..strip.stop.min(text.len()) {
        text = text.strip_suffix(strip.content).unwrap_or(text);
    }
    text.to_owned()
}

/// Runs one library decoder on one piece. These decoders only ask whether a piece is the first.
fn apply(decoder: &DecoderWrapper, text: String, first: bool) -> String {
    let pieces = if first { vec![text.clone()] } else { vec![String::new(), text.clone()] };
    decoder.decode_chain(pieces).ok().and_then(|mut decoded| decoded.pop()).unwrap_or(text)
}

/// `<0x0A>` is the byte 10; exactly two hexadecimal digits.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let exact = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    exact.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Inverts the byte alphabet of GPT-2. An added token whose letters merely look like that alphabet (`é`) and
/// would come out as broken UTF-8 is plain text and stays as it is.
fn byte_level(text: &str, added: bool) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
    match bytes {
        Some(bytes) if !added || std::str::from_utf8(&bytes).is_ok() => bytes,
        _ => text.as_bytes().to_vec(),
    }
}

/// The byte that a character of the byte alphabet stands for: printable Latin-1 stands for itself, the other 68
/// bytes are numbered from U+0100 in order.
fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Bytes of every id, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct PieceTable {
    /// `ends[id]` is where the bytes of `id` end; they begin where those of `id - 1` end.
    ends: Vec<u32>,
    bytes: Vec<u8>,
    present: BitSet,
}

impl PieceTable {
    /// Builds the table from the pieces in id order; `None` is an id without a token.
    ///
    /// # Errors
    /// The id with which the text of a token, or of all so far, is too long.
    pub(crate) fn new(pieces: impl Iterator<Item = Option<Vec<u8>>>) -> Result<Self, usize> {
        let mut table = Self::default();
        for (id, piece) in pieces.enumerate() {
            if let Some(piece) = piece {
                if piece.len() > MAX_PIECE || table.bytes.len() + piece.len() > MAX_TABLE {
                    return Err(id);
                }
                table.bytes.extend_from_slice(&piece);
                table.present.insert(id);
            }
            table.ends.push(u32::try_from(table.bytes.len()).expect("the bound of a table is below 4 GiB"));
        }
        Ok(table)
    }

    /// One more than the largest id.
    pub(crate) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The bytes of a token that is not the first of its text.
    pub(crate) fn get(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.present.contains(index).then(|| &self.bytes[start..end])
    }
}

/// A set of small integers.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitSet(Vec<u64>);

impl BitSet {
    pub(crate) fn insert(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_byte_alphabet_covers_each_byte_once() {
        let mut seen = [0u32; 256];
        for byte in (0..=0x17F).filter_map(char::from_u32).filter_map(byte_of) {
            seen[usize::from(byte)] += 1;
        }
        assert_eq!(seen, [1; 256]);
        let alphabet = ByteLevel::alphabet();
        assert_eq!(alphabet.len(), 256);
        assert!(alphabet.into_iter().all(|letter| byte_of(letter).is_some()));
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('ł')), (Some(b' '), Some(b'\n'), Some(0xA0)));
    }

    #[test]
    fn byte_fallback_needs_exactly_two_hex_digits() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(fallback_byte("<0xe2>"), Some(0xE2));
        for text in ["<0x-1>", "<0x+1>", "<0x1>", "<0x001>", "0x01", "<0x0g>", "<0x>"] {
            assert_eq!(fallback_byte(text), None, "{text}");
        }
    }

    #[test]
    fn an_added_token_is_never_turned_into_broken_text() {
        assert_eq!(byte_level("é", true), "é".as_bytes());
        assert_eq!(byte_level("é", false), [0xE9]);
        assert_eq!(byte_level("Ġthe", true), b" the");
        assert_eq!(byte_level("<｜end｜>", true), "<｜end｜>".as_bytes());
    }

    #[test]
    fn strip_takes_at_most_its_counts_from_either_end() {
        for (text, left) in [("eexee", "xe"), ("eeexe", "ex"), ("e", ""), ("", ""), ("xeex", "xeex")] {
            assert_eq!(stripped(text, &Strip::new('e', 2, 1)), left, "{text}");
        }
        assert_eq!(stripped("eexee", &Strip::new('e', usize::MAX, usize::MAX)), "x");
    }

    #[test]
    fn a_token_that_grows_without_end_is_refused() {
        let grow =
            serde_json::json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)});
        let chain = serde_json::json!({"type": "Sequence", "decoders": vec![grow.clone(); 50]});
        let decoder: DecoderWrapper = serde_json::from_value(chain).unwrap();
        let decoder = PieceDecoder::compile(Some(&decoder)).unwrap();
        let pieces = ["b", "a"].map(|piece| Some(decoder.bytes(piece, false, false)));
        assert_eq!(PieceTable::new(pieces.into_iter()).unwrap_err(), 1);
        let mut longer = grow;
        longer["content"] = "a".repeat(1025).into();
        let decoder: DecoderWrapper = serde_json::from_value(longer).unwrap();
        assert!(PieceDecoder::compile(Some(&decoder)).is_err());
    }

    #[test]
    fn an_id_without_a_token_has_no_bytes() {
        let table =
            PieceTable::new([Some(b"a".to_vec()), None, Some(Vec::new()), Some(b"bc".to_vec())].into_iter())
                .unwrap();
        assert_eq!(table.len(), 4);
        assert_eq!(table.get(0), Some(b"a".as_slice()));
        assert_eq!(table.get(1), None);
        assert_eq!(table.get(2), Some(b"".as_slice()));
        assert_eq!(table.get(3), Some(b"bc".as_slice()));
        assert_eq!(table.get(4), None);
    }
}
