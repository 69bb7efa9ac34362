//! Where a text stands between two tokens.

use crate::detokenizer::TextStart;
use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// The state of one incremental decode, apart from the tokenizer: a few bytes, no allocation.
#[derive(Clone, Debug)]
pub(crate) struct DecodeState {
    utf8: Utf8Stream,
    /// No token has been taken yet and the text begins here.
    at_first: bool,
    /// Leading characters that may still be removed.
    strip: usize,
    skip_special: bool,
}

impl DecodeState {
    pub(crate) fn new(tokenizer: &Tokenizer, start: TextStart, skip_special: bool) -> Self {
        let begins = start == TextStart::Beginning;
        let strip = tokenizer.pieces().leading().filter(|_| begins).map_or(0, |leading| leading.count);
        Self { utf8: Utf8Stream::default(), at_first: begins, strip, skip_special }
    }

    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        if self.skip_special && tokenizer.is_special(id) {
            return;
        }
        self.push_shown(tokenizer, id, out);
    }

    /// Takes a token that is shown even if it is a special one.
    pub(crate) fn push_shown(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        let Some(bytes) = tokenizer.token_bytes(id) else { return };
        let first = std::mem::replace(&mut self.at_first, false);
        let Self { utf8, strip, .. } = self;
        let mut emit = |text: &str| out.push_str(strip_leading(tokenizer, strip, text));
        if first && tokenizer.pieces().first_differs() {
            utf8.push(&tokenizer.first_bytes(id), &mut emit);
        } else {
            utf8.push(bytes, &mut emit);
        }
    }

    pub(crate) fn finish(&mut self, tokenizer: &Tokenizer, out: &mut String) {
        let Self { utf8, strip, .. } = self;
        utf8.finish(&mut |text| out.push_str(strip_leading(tokenizer, strip, text)));
    }
}

/// Removes what may still be removed from the start of the text; anything else ends the removal.
fn strip_leading<'a>(tokenizer: &Tokenizer, left: &mut usize, text: &'a str) -> &'a str {
    let mut rest = text;
    while *left > 0 && !rest.is_empty() {
        let content = tokenizer.pieces().leading().map(|leading| leading.content);
        match content.and_then(|content| rest.strip_prefix(content)) {
            Some(after) => {
                *left -= 1;
                rest = after;
            }
            None => *left = 0,
        }
    }
    rest
}
