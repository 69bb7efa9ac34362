//! Text of users inside a prompt: where it spells a special token it stays text.
//!
//! A chat template writes special tokens as text between what users have sent, and the tokenizer cannot tell one from the
//! other. So each place of a user's text where a special token begins is cut before the template sees it, by characters
//! that no text has, and the rendered text is tokenized piece by piece.

use crate::marks::is_reasoning_mark;
use crate::{Special, TextError, Tokenizer};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Begins what follows it; one of a user's own is followed by [`LITERAL`]. These are noncharacters of Unicode.
const ESCAPE: char = '\u{fdd0}';
/// The escape itself.
const LITERAL: char = '\u{fdd1}';
/// A place to cut.
const CUT: char = '\u{fdd2}';

/// The texts of special tokens, to be found at a place of a text.
#[derive(Debug)]
pub(crate) struct SpecialTexts {
    /// A tree by bytes; the first node is its root.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    next: BTreeMap<u8, usize>,
    /// Whether a text ends here.
    ends: bool,
}

impl SpecialTexts {
    /// Texts of one character cannot be cut, so they are left out, and so are the marks of reasoning, which templates look
    /// for in the answers that they are given back: they end no turn and open none.
    pub(crate) fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for text in texts.filter(|text| text.chars().nth(1).is_some() && !is_reasoning_mark(text)) {
            let mut at = 0;
            for byte in text.bytes() {
                let fresh = tree.nodes.len();
                let next = *tree.nodes[at].next.entry(byte).or_insert(fresh);
                if next == fresh {
                    tree.nodes.push(Node::default());
                }
                at = next;
            }
            tree.nodes[at].ends = true;
        }
        tree
    }

    /// Whether `text` begins with one of them.
    fn begins(&self, text: &str) -> bool {
        let mut node = &self.nodes[0];
        for byte in text.bytes() {
            match node.next.get(&byte) {
                Some(&next) => node = &self.nodes[next],
                None => return false,
            }
            if node.ends {
                return true;
            }
        }
        false
    }
}

impl Tokenizer {
    /// A user's text, ready to be put into a prompt that [`encode_quoted`](Self::encode_quoted) reads. Most texts stay as
    /// they are.
    pub fn quote<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let texts = self.special_texts();
        let changes = |(at, letter): (usize, char)| letter == ESCAPE || texts.begins(&text[at..]);
        if !text.char_indices().any(changes) {
            return Cow::Borrowed(text);
        }
        let mut quoted = String::with_capacity(text.len() + 64);
        for (at, letter) in text.char_indices() {
            quoted.push(letter);
            if letter == ESCAPE {
                quoted.push(LITERAL);
            } else if texts.begins(&text[at..]) {
                quoted.extend([ESCAPE, CUT]);
            }
        }
        Cow::Owned(quoted)
    }

    /// Tokenizes a prompt of template text and quoted text, without adding tokens. Where nothing was cut this is
    /// [`encode`](Self::encode) with [`Special::Skip`].
    ///
    /// # Errors
    /// [`TextError::Encode`] when the tokenizer library refuses the text or panics over it.
    pub fn encode_quoted(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_quoted_up_to(text, usize::MAX)
    }

    /// [`encode_quoted`](Self::encode_quoted) for a prompt of which no more than `most` tokens can be used; see
    /// [`encode_up_to`](Self::encode_up_to).
    ///
    /// # Errors
    /// As [`encode_quoted`](Self::encode_quoted), and [`TextError::TooLong`].
    pub fn encode_quoted_up_to(&self, text: &str, most: usize) -> Result<Vec<u32>, TextError> {
        if !text.contains(ESCAPE) {
            return self.encode_up_to(text, Special::Skip, most);
        }
        let mut ids = Vec::new();
        for piece in pieces(text) {
            ids.extend(self.encode_up_to(&piece, Special::Skip, most)?);
            if ids.len() > most.saturating_mul(2) {
                return Err(TextError::TooLong { bytes: text.len(), tokens: ids.len(), most });
            }
        }
        Ok(ids)
    }
}

/// The text that was quoted, and what stands around it.
pub fn unquote(text: &str) -> Cow<'_, str> {
    if text.contains(ESCAPE) { Cow::Owned(pieces(text).concat()) } else { Cow::Borrowed(text) }
}

/// The parts between the cuts, with escapes undone.
fn pieces(text: &str) -> Vec<String> {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            (ESCAPE, Some(&CUT)) => {
                letters.next();
                pieces.push(std::mem::take(&mut piece));
            }
            (ESCAPE, Some(&LITERAL)) => {
                letters.next();
                piece.push(ESCAPE);
            }
            _ => piece.push(letter),
        }
    }
    pieces.push(piece);
    pieces
}
