//! How far one text has come in its grammar.

use llguidance::panic_utils::catch_unwind;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// A text cannot go on in its grammar: a limit was met, or the vocabulary has no token for what must follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot go on within its constraint")]
pub struct MatchError;

/// How far one text has come in its grammar. Each text has its own.
pub struct Matcher {
    inner: llguidance::Matcher,
    eos: Arc<[u32]>,
}

impl Matcher {
    pub(crate) fn new(inner: llguidance::Matcher, eos: Arc<[u32]>) -> Self {
        Self { inner, eos }
    }

    /// Writes the tokens that may come next into `words`: bit `id % 32` of word `id / 32`. The end-of-sequence ids are among
    /// them where the text may end; where it must, they are all there is.
    ///
    /// # Errors
    /// [`MatchError`], and then at every later call.
    pub fn mask(&mut self, words: &mut Vec<u32>) -> Result<(), MatchError> {
        words.clear();
        let mask = guarded(|| self.inner.compute_mask_or_eos())?;
        words.extend_from_slice(mask.as_slice());
        if words.iter().all(|&word| word == 0) { Err(MatchError) } else { Ok(()) }
    }

    /// Takes in a token that the latest mask allows, other than an end-of-sequence id.
    ///
    /// # Errors
    /// [`MatchError`], and then at every later call; so for a token that is not allowed.
    pub fn consume(&mut self, token: u32) -> Result<(), MatchError> {
        guarded(|| self.inner.consume_token(token))
    }

    /// Whether the text may end here, by the mask of this place.
    pub fn may_end(&self, words: &[u32]) -> bool {
        self.eos.iter().any(|&id| allows(words, id))
    }

    /// Whether the text is whole and nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.inner.is_stopped() && !self.inner.is_error()
    }

    /// Ids that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("complete", &self.is_complete()).finish_non_exhaustive()
    }
}

/// Whether a mask has the token.
pub(crate) fn allows(words: &[u32], id: u32) -> bool {
    words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

/// Runs the library where neither its errors nor its panics get out; what it says about them holds the client's text.
fn guarded<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<T, MatchError> {
    let caught = catch_unwind(AssertUnwindSafe(|| Ok(call().map_err(|_| MatchError))));
    caught.unwrap_or(Err(MatchError))
}
