//! Telling what a model says to itself from what it says to others, by the marks around it.
//!
//! White space next to the marks belongs to neither. What is read does not depend on the pieces in which it comes.

use crate::channels::{self, ChannelReader};
use pagoda_engine::ServedModel;
use pagoda_text::{Detokenizer, ReasoningMarks};
use std::sync::Arc;

/// How a model marks its reasoning, in the answer to one prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reasoning {
    /// Between two marks.
    Marked {
        marks: ReasoningMarks,
        /// Whether the prompt ends with the opening mark, so that the answer begins inside.
        opened: bool,
    },
    /// In a channel, and calls in others.
    Channels,
}

impl Reasoning {
    /// For an answer to `prompt`; `None` if the model is not known to mark any.
    pub(crate) fn of(model: &ServedModel, prompt: &str) -> Option<Self> {
        if channels::has(model) {
            return channels::opens(prompt).then_some(Self::Channels);
        }
        let marks = ReasoningMarks::of(&model.tokenizer)?;
        Some(Self::Marked { marks, opened: prompt.trim_end().ends_with(marks.open) })
    }

    /// The marks.
    pub(crate) fn texts(self) -> Vec<&'static str> {
        match self {
            Self::Marked { marks, .. } => vec![marks.open, marks.close],
            Self::Channels => channels::MARKS.to_vec(),
        }
    }

    /// What the prompt has to end with so that the answer begins without reasoning, as far as a prompt can tell.
    pub(crate) fn skipped(self) -> String {
        match self {
            Self::Marked { marks, opened: true } => format!("\n{}\n\n", marks.close),
            Self::Marked { opened: false, .. } => String::new(),
            Self::Channels => channels::FINAL.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was said, or too little to tell.
    Start,
    /// After the opening mark and white space.
    Opened,
    Inside,
    /// After the closing mark and white space.
    Closed,
    /// In what is said to others.
    Answer,
}

/// Reads the text of one choice as it comes.
#[derive(Clone, Debug)]
pub(crate) struct ReasoningReader {
    marks: ReasoningMarks,
    place: Place,
    /// What cannot be told yet: a part of a mark, or white space before one.
    held: String,
}

impl ReasoningReader {
    pub(crate) fn new(marks: ReasoningMarks, opened: bool) -> Self {
        let place = if opened { Place::Opened } else { Place::Start };
        Self { marks, place, held: String::new() }
    }

    /// Takes in more text. Returns what is certain by now: reasoning, and what follows it.
    pub(crate) fn push(&mut self, text: &str) -> (String, String) {
        self.held.push_str(text);
        let mut reasoning = String::new();
        loop {
            match self.place {
                Place::Start => {
                    let start = self.held.trim_start();
                    if let Some(rest) = start.strip_prefix(self.marks.open) {
                        self.go(Place::Opened, rest.to_owned());
                    } else if self.marks.open.starts_with(start) {
                        return (reasoning, String::new());
                    } else {
                        self.place = Place::Answer;
                    }
                }
                Place::Opened | Place::Closed => {
                    let rest = self.held.trim_start().to_owned();
                    if rest.is_empty() {
                        self.held.clear();
                        return (reasoning, String::new());
                    }
                    let next = if self.place == Place::Opened { Place::Inside } else { Place::Answer };
                    self.go(next, rest);
                }
                Place::Inside => match self.held.find(self.marks.close) {
                    Some(at) => {
                        reasoning.push_str(self.held[..at].trim_end());
                        let rest = self.held[at + self.marks.close.len()..].to_owned();
                        self.go(Place::Closed, rest);
                    }
                    None => {
                        let free = self.held.len() - begun(&self.held, self.marks.close);
                        let free = self.held[..free].trim_end().len();
                        reasoning.extend(self.held.drain(..free));
                        return (reasoning, String::new());
                    }
                },
                Place::Answer => return (reasoning, std::mem::take(&mut self.held)),
            }
        }
    }

    /// No text follows: returns what was held back.
    pub(crate) fn finish(&mut self) -> (String, String) {
        let held = std::mem::take(&mut self.held);
        match self.place {
            Place::Inside => (held.trim_end().to_owned(), String::new()),
            Place::Opened | Place::Closed => Default::default(),
            Place::Start | Place::Answer => (String::new(), held),
        }
    }

    fn go(&mut self, place: Place, rest: String) {
        (self.place, self.held) = (place, rest);
    }
}

/// Where the text is.
#[derive(Debug)]
enum Followed {
    Marked(ReasoningReader),
    Channels(ChannelReader),
}

/// Counts the tokens of one choice's reasoning, with the marks between which it stands. It follows them one by one, so that nothing depends on the
/// pieces in which they come.
#[derive(Debug)]
pub(crate) struct ReasoningCounter {
    reader: Followed,
    detokenizer: Detokenizer,
    piece: String,
    tokens: u64,
}

impl ReasoningCounter {
    pub(crate) fn new(asked: Reasoning, model: &ServedModel, kept: &Arc<[u32]>) -> Self {
        let detokenizer = Detokenizer::new(Arc::clone(&model.tokenizer), true).keeping(Arc::clone(kept));
        let reader = match asked {
            Reasoning::Marked { marks, opened } => Followed::Marked(ReasoningReader::new(marks, opened)),
            Reasoning::Channels => Followed::Channels(ChannelReader::new()),
        };
        Self { reader, detokenizer, piece: String::new(), tokens: 0 }
    }

    pub(crate) fn push(&mut self, token: u32) {
        self.piece.clear();
        match &mut self.reader {
            Followed::Marked(reader) => {
                let before = reader.place;
                if matches!(before, Place::Closed | Place::Answer) {
                    return;
                }
                self.tokens += 1;
                self.detokenizer.push(token, &mut self.piece);
                reader.push(&self.piece);
                if before == Place::Start && reader.place == Place::Answer {
                    self.tokens = 0;
                }
            }
            Followed::Channels(reader) => {
                self.tokens += u64::from(reader.is_reasoning());
                self.detokenizer.push(token, &mut self.piece);
                reader.push(&self.piece);
            }
        }
    }

    /// Tokens so far.
    pub(crate) fn count(&self) -> u64 {
        match &self.reader {
            Followed::Marked(reader) if reader.place == Place::Start => 0,
            _ => self.tokens,
        }
    }
}

/// Length of the longest end of `text` with which `mark` begins, without being all of it.
pub(crate) fn begun(text: &str, mark: &str) -> usize {
    let (text, mark) = (text.as_bytes(), mark.as_bytes());
    (1..mark.len()).rev().find(|&length| text.ends_with(&mark[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THINK: ReasoningMarks = ReasoningMarks { open: "<think>", close: "</think>" };

    fn read(opened: bool, pieces: &[&str]) -> (String, String) {
        let mut reader = ReasoningReader::new(THINK, opened);
        let (mut reasoning, mut content) = (String::new(), String::new());
        let mut add = |(more, said): (String, String)| {
            reasoning += &more;
            content += &said;
        };
        for piece in pieces {
            add(reader.push(piece));
        }
        add(reader.finish());
        (reasoning, content)
    }

    #[test]
    fn marks_part_an_answer() {
        for (opened, text, reasoning, content) in [
            (false, "<think>\nSo it is.\n</think>\n\nYes.", "So it is.", "Yes."),
            (false, " \n<think>a</think>b", "a", "b"),
            (false, "<think>\n\n</think>\n\nYes.", "", "Yes."),
            (false, "Yes <think>no</think>", "", "Yes <think>no</think>"),
            (false, "  <thin", "", "  <thin"),
            (false, "  two", "", "  two"),
            (false, "<think> cut sho", "cut sho", ""),
            (false, "<think>a </thi", "a </thi", ""),
            (false, "", "", ""),
            (true, "\nSo.\n</think>\nYes. </think> ", "So.", "Yes. </think> "),
            (true, "all of it \n", "all of it", ""),
            (true, "a\n\nb < c </ think></think>", "a\n\nb < c </ think>", ""),
            (true, "</think>Yes.", "", "Yes."),
        ] {
            assert_eq!(read(opened, &[text]), (reasoning.to_owned(), content.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_mark_may_be_of_any_letters() {
        assert_eq!(begun("a \u{25c1}/th", "\u{25c1}/think\u{25b7}"), "\u{25c1}/th".len());
        assert_eq!(begun("a</think>", "</think>"), 0);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            opened: bool,
            parts in prop::collection::vec(prop::sample::select(vec![
                "<think>", "</think>", "<thi", "nk>", "</", "think", ">", " ", "\n", "a", "é", "<",
            ]), 0..12),
            cuts in prop::collection::vec(0_usize..80, 0..8),
        ) {
            let text = parts.concat();
            let mut ends: Vec<usize> = cuts.into_iter().filter(|&at| text.is_char_boundary(at)).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(opened, &pieces), read(opened, &[&text]));
        }
    }
}
