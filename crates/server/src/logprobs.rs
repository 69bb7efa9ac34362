//! Log-probabilities in the two shapes that clients read. Every number is finite.

use crate::wire::chat::{ChatLogprobs, ChatToken, ChatTokenLogprob};
use crate::wire::completions::{CompletionLogprobs, TopLogprobs};
use pagoda_engine::{PromptResult, TokenInfo, TokenLogprob};
use pagoda_text::{Detokenizer, TextStart, Tokenizer};
use std::sync::Arc;

/// What stands for minus infinity, which JSON does not have.
const LEAST: f32 = -9999.0;

/// How tokens are named beside their numbers.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) tokenizer: &'a Arc<Tokenizer>,
    /// As `token_id:7`, which no two tokens have in common, instead of by their text.
    pub(crate) as_ids: bool,
    /// Whether special tokens are left out of texts.
    pub(crate) skip_special: bool,
}

impl Names<'_> {
    fn of(self, token: u32) -> String {
        if self.as_ids { format!("token_id:{token}") } else { text(self.tokenizer, token) }
    }
}

/// The shape of chat: every token with its bytes.
pub(crate) fn chat<'a>(names: Names<'_>, tokens: impl IntoIterator<Item = &'a TokenInfo>) -> ChatLogprobs {
    let one = |token: u32, logprob: f32| ChatTokenLogprob {
        token: names.of(token),
        logprob: finite(logprob),
        bytes: names.tokenizer.token_bytes(token).map(<[u8]>::to_vec),
    };
    let content = tokens.into_iter().map(|info| ChatToken {
        chosen: one(info.token, info.logprob),
        top_logprobs: info.top.iter().map(|top| one(top.token, top.logprob)).collect(),
    });
    ChatLogprobs { content: content.collect(), refusal: None }
}

/// Where the tokens of a choice begin in its text, in characters. It follows them one by one, so that nothing depends on the
/// pieces in which they come; the parts of one character all begin where it does.
#[derive(Clone)]
pub(crate) struct Offsets {
    detokenizer: Detokenizer,
    chars: usize,
    piece: String,
}

impl Offsets {
    /// Of tokens that go on after `prompt`.
    pub(crate) fn after(prompt: &str, names: Names<'_>) -> Self {
        let tokenizer = Arc::clone(names.tokenizer);
        let detokenizer = Detokenizer::starting(tokenizer, TextStart::Continuation, names.skip_special);
        Self { detokenizer, chars: prompt.chars().count(), piece: String::new() }
    }

    fn next(&mut self, token: u32) -> usize {
        let begins = self.chars;
        self.piece.clear();
        self.detokenizer.push(token, &mut self.piece);
        self.chars += self.piece.chars().count();
        begins
    }
}

/// The shape of completions: appends tokens that `offsets` has come to.
pub(crate) fn completion(
    names: Names<'_>,
    tokens: &[TokenInfo],
    offsets: &mut Offsets,
    into: &mut CompletionLogprobs,
) {
    for info in tokens {
        into.text_offset.push(offsets.next(info.token));
        push(names, (info.token, info.logprob), &info.top, into);
    }
}

/// The same of a prompt that begins the choice's text as `text`, with at most `most` tokens in each place. Nothing can be said
/// of its first token.
pub(crate) fn echo(names: Names<'_>, text: &str, found: &PromptResult, most: usize) -> CompletionLogprobs {
    let mut logprobs = CompletionLogprobs {
        text_offset: offsets(names.tokenizer, text, found.prompt()),
        ..Default::default()
    };
    logprobs.tokens.extend(found.prompt().first().map(|&token| names.of(token)));
    logprobs.token_logprobs.push(None);
    logprobs.top_logprobs.push(None);
    for token in found.tokens() {
        let top = &token.top[..token.top.len().min(most)];
        push(names, (token.token, token.logprob), top, &mut logprobs);
    }
    logprobs
}

/// Where each of `tokens` begins in `text`, in characters. Special tokens that the tokenizer has added have no text, and the parts
/// of one character all begin where it does.
fn offsets(tokenizer: &Arc<Tokenizer>, text: &str, tokens: &[u32]) -> Vec<usize> {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), true);
    let (mut rest, mut offset, mut piece) = (text, 0, String::new());
    let begin = |&token: &u32| {
        let begins = offset;
        piece.clear();
        if tokenizer.is_special(token) {
            let special = self::text(tokenizer, token);
            if rest.starts_with(&special) {
                piece = special;
            }
        } else {
            detokenizer.push(token, &mut piece);
        }
        for _ in piece.chars() {
            let mut letters = rest.chars();
            offset += usize::from(letters.next().is_some());
            rest = letters.as_str();
        }
        begins
    };
    tokens.iter().map(begin).collect()
}

fn push(names: Names<'_>, (token, logprob): (u32, f32), top: &[TokenLogprob], into: &mut CompletionLogprobs) {
    let name = names.of(token);
    into.token_logprobs.push(Some(finite(logprob)));
    into.top_logprobs.push(Some(alternatives(names, (&name, logprob), top)));
    into.tokens.push(name);
}

/// The alternatives by name, the token itself among them with exactly its own number. Where two other tokens
/// have the same name, the more likely one stays.
fn alternatives(names: Names<'_>, (own, logprob): (&str, f32), top: &[TokenLogprob]) -> TopLogprobs {
    let mut entries: Vec<(String, f32)> = Vec::with_capacity(top.len() + 1);
    let mut has_own = false;
    for alternative in top {
        let name = names.of(alternative.token);
        if name == own {
            if !has_own {
                entries.push((name, finite(logprob)));
            }
            has_own = true;
        } else if entries.iter().all(|(known, _)| *known != name) {
            entries.push((name, finite(alternative.logprob)));
        }
    }
    if !has_own {
        entries.push((own.to_owned(), finite(logprob)));
    }
    TopLogprobs(entries)
}

/// A token's text, with replacement characters where it is a piece of a character.
pub(crate) fn text(tokenizer: &Tokenizer, token: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(token).unwrap_or_default()).into_owned()
}

/// The number as JSON can hold it.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_impossible_is_a_finite_number() {
        assert_eq!([finite(f32::NEG_INFINITY), finite(f32::NAN), finite(-0.5)], [-9999.0, -9999.0, -0.5]);
    }
}
