//! Log-probabilities in the two shapes that clients read. Every number is finite.

use crate::wire::chat::{ChatLogprobs, ChatToken, ChatTokenLogprob};
use crate::wire::completions::{CompletionLogprobs, TopLogprobs};
use pagoda_engine::TokenInfo;
use pagoda_text::Tokenizer;

/// What stands for minus infinity, which JSON does not have.
const LEAST: f32 = -9999.0;

/// The shape of chat: every token with its bytes.
pub(crate) fn chat<'a>(
    tokenizer: &Tokenizer,
    tokens: impl IntoIterator<Item = &'a TokenInfo>,
) -> ChatLogprobs {
    let one = |token: u32, logprob: f32| ChatTokenLogprob {
        token: text(tokenizer, token),
        logprob: finite(logprob),
        bytes: tokenizer.token_bytes(token).map(<[u8]>::to_vec),
    };
    let content = tokens.into_iter().map(|info| ChatToken {
        chosen: one(info.token, info.logprob),
        top_logprobs: info.top.iter().map(|top| one(top.token, top.logprob)).collect(),
    });
    ChatLogprobs { content: content.collect(), refusal: None }
}

/// The shape of completions: appends the tokens of a delta with text `delta`, which starts at character `start`
/// of the choice's text. Returns where the next delta starts.
pub(crate) fn completion(
    tokenizer: &Tokenizer,
    (delta, tokens): (&str, &[TokenInfo]),
    start: usize,
    into: &mut CompletionLogprobs,
) -> usize {
    let end = start + delta.chars().count();
    let mut offset = start;
    for info in tokens {
        let token = text(tokenizer, info.token);
        into.text_offset.push(offset);
        // Pieces of a character and special tokens have text of their own that is not in the delta.
        offset = (offset + token.chars().count()).min(end);
        into.token_logprobs.push(finite(info.logprob));
        into.top_logprobs.push(top(tokenizer, info, &token));
        into.tokens.push(token);
    }
    end
}

/// The alternatives by text, the chosen token among them with exactly its own number. Where two other tokens
/// have the same text, the more likely one stays.
fn top(tokenizer: &Tokenizer, info: &TokenInfo, chosen: &str) -> TopLogprobs {
    let mut entries: Vec<(String, f32)> = Vec::with_capacity(info.top.len() + 1);
    let mut has_chosen = false;
    for alternative in &info.top {
        let token = text(tokenizer, alternative.token);
        if token == chosen {
            if !has_chosen {
                entries.push((token, finite(info.logprob)));
            }
            has_chosen = true;
        } else if entries.iter().all(|(known, _)| *known != token) {
            entries.push((token, finite(alternative.logprob)));
        }
    }
    if !has_chosen {
        entries.push((chosen.to_owned(), finite(info.logprob)));
    }
    TopLogprobs(entries)
}

/// A token's text, with replacement characters where it is a piece of a character.
fn text(tokenizer: &Tokenizer, token: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(token).unwrap_or_default()).into_owned()
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}
