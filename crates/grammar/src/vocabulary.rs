//! The tokens of a model as bytes.

use crate::GrammarError;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Longest token that a constraint lets through, in bytes; a longer one is never needed.
const MAX_TOKEN_BYTES: usize = 512;

/// The tokens of a model as bytes, arranged for masks. Shared by all grammars of the model.
#[derive(Clone)]
pub struct Vocabulary {
    env: TokEnv,
    eos: Arc<[u32]>,
}

/// The trie, without a tokenizer: the model chooses how a text is cut into tokens.
struct Environment {
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Vocabulary {
    /// The vocabulary of ids below `size`. `bytes` gives what a token adds to a text, `None` for one that is no text; `eos`
    /// are the ids that end a text, which may lie beyond `size`.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`] without an end-of-sequence id, which every constrained text needs, or where the tokens
    /// cannot be arranged.
    pub fn new<'a>(
        size: u32,
        bytes: impl Fn(u32) -> Option<&'a [u8]>,
        eos: &[u32],
    ) -> Result<Self, GrammarError> {
        let Some(&last) = eos.iter().max() else {
            return Err(GrammarError::Vocabulary("it has no end-of-sequence token".to_owned()));
        };
        let size = size.max(last.saturating_add(1));
        let is_text = |id: u32, token: &[u8]| {
            (1..=MAX_TOKEN_BYTES).contains(&token.len())
                && !eos.contains(&id)
                && token[0] != TokTrie::SPECIAL_TOKEN_MARKER
        };
        let word = |id| bytes(id).filter(|token| is_text(id, token)).map(<[u8]>::to_vec).unwrap_or_default();
        let words: Vec<Vec<u8>> = (0..size).map(word).collect();
        let built = catch_unwind(AssertUnwindSafe(|| {
            Ok(TokTrie::from(&TokRxInfo::new(size, eos[0]), &words).with_eos_tokens(eos))
        }));
        match built {
            Ok(trie) => Ok(Self { env: Arc::new(Environment { trie }), eos: eos.into() }),
            Err(_) => Err(GrammarError::Vocabulary("its tokens cannot be arranged".to_owned())),
        }
    }

    /// Ids that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.env.tok_trie().vocab_size()
    }

    pub(crate) fn env(&self) -> &TokEnv {
        &self.env
    }

    pub(crate) fn shared_eos(&self) -> &Arc<[u32]> {
        &self.eos
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("size", &self.size()).field("eos", &self.eos).finish()
    }
}
