//! Tokens to text, one at a time.

use std::fmt;
use std::sync::Arc;

use crate::decode_state::DecodeState;
use crate::tokenizer::Tokenizer;

/// What stands before the first token pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextStart {
    /// Nothing: SentencePiece's artificial leading space is removed, as [`Tokenizer::decode`] does. For an answer
    /// that stands alone, such as a chat message.
    #[default]
    Beginning,
    /// Other text: a leading space belongs to the answer and is kept, so that prompt + answer reads as one text.
    Continuation,
}

/// Incremental detokenizer of one sequence. O(1) per token; it holds at most three bytes back, the beginning of a
/// character whose end has not arrived. Ids without a token add nothing.
///
/// The concatenation of everything pushed out, [`finish`](Self::finish) included, equals [`Tokenizer::decode`] of
/// all ids: U+FFFD appears only where the bytes are truly invalid.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    state: DecodeState,
    /// Special tokens that are shown where others are left out.
    kept: Arc<[u32]>,
}

impl Detokenizer {
    /// Starts a text of its own. `skip_special` leaves special tokens out of it.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        Self::starting(tokenizer, TextStart::Beginning, skip_special)
    }

    /// Starts a text after what `start` says.
    pub fn starting(tokenizer: Arc<Tokenizer>, start: TextStart, skip_special: bool) -> Self {
        let state = DecodeState::new(&tokenizer, start, skip_special);
        Self { tokenizer, state, kept: Arc::default() }
    }

    /// Shows the special tokens `kept` even where others are left out.
    pub fn keeping(self, kept: Arc<[u32]>) -> Self {
        Self { kept, ..self }
    }

    /// Takes one token and appends the text that is certain by now to `out`.
    pub fn push(&mut self, id: u32, out: &mut String) {
        if self.kept.contains(&id) {
            self.state.push_shown(&self.tokenizer, id, out);
        } else {
            self.state.push(&self.tokenizer, id, out);
        }
    }

    /// Ends the text: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        self.state.finish(&self.tokenizer, out);
    }
}

impl fmt::Debug for Detokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detokenizer").field("state", &self.state).finish_non_exhaustive()
    }
}
