//! Text to tokens and back, for the tokenizer.json format of Hugging Face.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::Tokenizer as Library;

use crate::pieces::{BitSet, PieceDecoder, PieceTable};
use crate::quote::SpecialTexts;
use crate::special::{SpecialTokens, TokenizerConfig, file_name};
use crate::template::ChatTemplate;
use crate::{TextError, tokenizer_file};

/// The files that make a tokenizer, as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// Folder or label of the model, for messages.
    pub origin: &'a str,
    /// tokenizer.json.
    pub tokenizer_json: &'a [u8],
    /// tokenizer_config.json: named special tokens, chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// special_tokens_map.json: named special tokens, where the former does not list the added tokens.
    pub special_tokens_map: Option<&'a [u8]>,
    /// config.json of the model: the kind of the model, which has special tokens that the former two may leave unsaid.
    pub model_config: Option<&'a [u8]>,
    /// chat_template.jinja: takes the place of the templates in tokenizer_config.json.
    pub chat_template: Option<&'a str>,
    /// Names and sources of further templates, the files `NAME.jinja` in the folder additional_chat_templates.
    pub further_templates: &'a [(String, String)],
}

/// Whether [`Tokenizer::encode`] adds the tokens that every text of the model begins or ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Add them (usually a beginning-of-sequence token): for plain prompts.
    Add,
    /// Leave them out: for rendered chat templates, which write them themselves.
    Skip,
}

/// A tokenizer with its decode table, special tokens and chat template. Immutable; share it in an `Arc`.
///
/// The text of a special token inside a prompt becomes that token, as in `transformers`, unless it is [quoted](Tokenizer::quote).
pub struct Tokenizer {
    library: Library,
    pieces: PieceDecoder,
    table: PieceTable,
    special: BitSet,
    special_texts: SpecialTexts,
    tokens: SpecialTokens,
    eos: Vec<u32>,
    template: Option<ChatTemplate>,
    origin: String,
}

impl Tokenizer {
    /// Reads the files and builds the decode table.
    ///
    /// # Errors
    /// [`TextError::File`] naming file and field: not JSON, wrong types, ids that contradict each other, a vocabulary
    /// beyond 1,048,576 ids, a decoder that cannot be streamed, an end-of-sequence token outside the vocabulary.
    /// A chat template that does not compile is no error here: [`ChatTemplate::check`] reports it.
    pub fn from_files(files: &TokenizerFiles<'_>) -> Result<Self, TextError> {
        let mut config = TokenizerConfig::read(
            files.origin,
            files.tokenizer_config,
            files.special_tokens_map,
            files.model_config,
        )?;
        let file = file_name(files.origin, "tokenizer.json");
        let (library, added) = tokenizer_file::load(&file, files.tokenizer_json)?;
        let pieces = PieceDecoder::compile(library.get_decoder())
            .map_err(|unsupported| TextError::file(&file, unsupported.field, unsupported.problem))?;
        let table = tokenizer_file::piece_table(&file, &library, &pieces)?;
        tokenizer_file::check_added(&file, &library, &added)?;
        config.fill_open(|token| library.token_to_id(token).is_some());
        let special = special_ids(&library, &config);
        let special_texts = special_texts(&library, &special);
        let eos = eos_ids(files.origin, &library, &config.special)?;
        let template = chat_template(files, &config);
        Ok(Self {
            library,
            pieces,
            table,
            special,
            special_texts,
            tokens: config.special,
            eos,
            template,
            origin: files.origin.to_owned(),
        })
    }

    /// Tokenizes `text`. The tokens that are added are those of `post_processor` in tokenizer.json, as in `transformers` 5,
    /// whatever `add_bos_token` and `add_eos_token` in tokenizer_config.json say.
    ///
    /// # Errors
    /// [`TextError::Encode`] when the tokenizer library refuses the text or panics over it.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        let add = special == Special::Add;
        let failed = |problem: String| TextError::Encode { bytes: text.len(), problem };
        // The library keeps no state that a panic could leave half-written, except caches that it fills at the end.
        let encoded = catch_unwind(AssertUnwindSafe(|| self.library.encode_fast(text, add)))
            .map_err(|panic| failed(format!("the tokenizer panicked: {}", panic_message(panic.as_ref()))))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// [`encode`](Self::encode) for a prompt of which no more than `most` tokens can be used. Where the beginning of a long text
    /// has more than twice as many, the rest is not looked at, so that time and memory follow what can be used and not what
    /// was sent.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`TextError::TooLong`].
    pub fn encode_up_to(&self, text: &str, special: Special, most: usize) -> Result<Vec<u32>, TextError> {
        for bytes_per_token in [8, 64] {
            let end = text.floor_char_boundary(most.saturating_mul(bytes_per_token));
            // A beginning that is hardly shorter is no cheaper.
            if end < text.len() / 2 {
                let tokens = self.encode(&text[..end], special)?.len();
                if tokens > most.saturating_mul(2) {
                    return Err(TextError::TooLong { bytes: text.len(), tokens, most });
                }
            }
        }
        self.encode(text, special)
    }

    /// The text of a whole sequence, with U+FFFD where its bytes are no valid UTF-8. Ids without a token add nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut first = self.pieces.first_differs();
        for &id in ids {
            let Some(piece) = self.token_bytes(id) else { continue };
            if skip_special && self.is_special(id) {
                continue;
            }
            if std::mem::take(&mut first) {
                bytes.extend_from_slice(&self.first_bytes(id));
            } else {
                bytes.extend_from_slice(piece);
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some(leading) = self.pieces.leading() else { return text.into_owned() };
        let spaces = text.chars().take(leading.count).take_while(|letter| *letter == leading.content);
        let removed: usize = spaces.map(char::len_utf8).sum();
        text[removed..].to_owned()
    }

    /// The bytes that `id` adds to a text, unless it is the first token of a text whose tokenizer treats that one
    /// differently. `None`: no such token.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.get(id)
    }

    /// The entry of the vocabulary, in the tokenizer's own alphabet (`Ġthe`, `▁the`).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// The id of a vocabulary entry, spelled in the tokenizer's own alphabet.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    /// Whether `id` is a control token that is left out of answers.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(id as usize)
    }

    /// One more than the largest id. A model's embedding may have more rows than that.
    pub fn vocab_size(&self) -> u32 {
        self.table.len()
    }

    /// Ids that end a sequence according to the tokenizer files; the model's configuration may name more.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// Text of the beginning-of-sequence token.
    pub fn bos_token(&self) -> Option<&str> {
        self.tokens.get("bos_token")
    }

    /// Text of the end-of-sequence token.
    pub fn eos_token(&self) -> Option<&str> {
        self.tokens.get("eos_token")
    }

    /// Special tokens by role.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// The chat template, if the model has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The chat template, or the error that tells what is missing.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`].
    pub fn require_chat_template(&self) -> Result<&ChatTemplate, TextError> {
        self.template.as_ref().ok_or_else(|| TextError::NoChatTemplate { origin: self.origin.clone() })
    }

    pub(crate) fn special_texts(&self) -> &SpecialTexts {
        &self.special_texts
    }

    pub(crate) fn pieces(&self) -> &PieceDecoder {
        &self.pieces
    }

    /// The bytes of `id` as the first token of a text.
    pub(crate) fn first_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        match self.library.id_to_token(id) {
            Some(piece) => {
                let added = tokenizer_file::is_added(&self.library, id);
                Cow::Owned(self.pieces.bytes(&piece, added, true))
            }
            None => Cow::Borrowed(self.token_bytes(id).unwrap_or_default()),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("origin", &self.origin)
            .field("vocab_size", &self.vocab_size())
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

/// Every id that one of the files calls special.
fn special_ids(library: &Library, config: &TokenizerConfig) -> BitSet {
    let mut special = BitSet::default();
    for (id, token) in library.get_added_tokens_decoder() {
        if token.special {
            special.insert(id as usize);
        }
    }
    let named = config.special.entries().map(|(_, text)| text);
    let further = config.special.additional().iter().chain(&config.marked_special).map(String::as_str);
    for id in named.chain(further).filter_map(|text| library.token_to_id(text)) {
        special.insert(id as usize);
    }
    special
}

/// The texts that become control tokens wherever they stand in a text.
fn special_texts(library: &Library, special: &BitSet) -> SpecialTexts {
    let added = library.get_added_tokens_decoder();
    let texts = added.iter().filter(|(id, token)| token.special || special.contains(**id as usize));
    SpecialTexts::new(texts.map(|(_, token)| token.content.as_str()))
}

fn eos_ids(origin: &str, library: &Library, tokens: &SpecialTokens) -> Result<Vec<u32>, TextError> {
    let Some(text) = tokens.get("eos_token") else { return Ok(Vec::new()) };
    match library.token_to_id(text) {
        Some(id) => Ok(vec![id]),
        None => Err(TextError::file(
            file_name(origin, "tokenizer_config.json"),
            "eos_token",
            format!(
                "`{text}` is not in the vocabulary of tokenizer.json, so no answer would end; \
                 name a token of the vocabulary"
            ),
        )),
    }
}

/// Files with templates take the place of those in tokenizer_config.json.
fn chat_template(files: &TokenizerFiles<'_>, config: &TokenizerConfig) -> Option<ChatTemplate> {
    let default = files.chat_template.map(|source| ("default".to_owned(), source.to_owned()));
    let mut templates: Vec<_> = default.into_iter().chain(files.further_templates.iter().cloned()).collect();
    if templates.is_empty() {
        templates.clone_from(&config.templates);
    }
    (!templates.is_empty()).then(|| ChatTemplate::deferred(templates, config.special.clone()))
}

/// The text that a panic carries.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
