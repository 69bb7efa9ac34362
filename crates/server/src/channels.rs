//! Telling reasoning, answer and calls apart where a model writes each into a channel of its own, as gpt-oss does.
//!
//! ```text
//! <|channel|>analysis<|message|>to itself<|end|><|start|>assistant<|channel|>final<|message|>to others
//! <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>
//! ```

use crate::call_forms::Call;
use crate::reasoning::begun;
use crate::wire::tools::Tools;
use pagoda_engine::ServedModel;
use serde_json::{Map, Value};

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const END: &str = "<|end|>";
const CALL: &str = "<|call|>";
const RETURN: &str = "<|return|>";
const CONSTRAIN: &str = "<|constrain|>";

/// What ends a message.
const ENDS: [&str; 5] = [END, CALL, RETURN, START, CHANNEL];

/// All marks, which are special tokens.
pub(crate) const MARKS: [&str; 7] = [START, CHANNEL, MESSAGE, END, CALL, RETURN, CONSTRAIN];

/// Begins an answer without reasoning before it, at the end of a prompt.
pub(crate) const FINAL: &str = "<|channel|>final<|message|>";

/// Whether a model writes into channels.
pub(crate) fn has(model: &ServedModel) -> bool {
    [START, CHANNEL, MESSAGE, END].iter().all(|mark| model.tokenizer.token_to_id(mark).is_some())
}

/// Whether the answer to a prompt begins with the header of a message.
pub(crate) fn opens(prompt: &str) -> bool {
    prompt.ends_with("<|start|>assistant")
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Before a message.
    Header,
    /// In what is said to itself.
    Reasoning,
    /// In what is said to others.
    Content,
    /// In the arguments of a call.
    Call { name: String, arguments: String },
}

/// Reads the text of one choice as it comes. The pieces do not change what is read.
#[derive(Clone, Debug)]
pub(crate) struct ChannelReader {
    place: Place,
    /// A header so far, or what may be a part of a mark.
    held: String,
    calls: Vec<Call>,
}

impl ChannelReader {
    pub(crate) fn new() -> Self {
        Self { place: Place::Header, held: String::new(), calls: Vec::new() }
    }

    /// Whether what comes next is reasoning.
    pub(crate) fn is_reasoning(&self) -> bool {
        self.place == Place::Reasoning
    }

    /// Takes in more text. Returns what is certain by now: reasoning, and content.
    pub(crate) fn push(&mut self, text: &str) -> (String, String) {
        self.held.push_str(text);
        let (mut reasoning, mut content) = (String::new(), String::new());
        loop {
            if self.place == Place::Header {
                let Some((header, rest)) = self.held.split_once(MESSAGE) else { return (reasoning, content) };
                (self.place, self.held) = (place(header), rest.to_owned());
                continue;
            }
            let end = ENDS.iter().filter_map(|mark| Some((self.held.find(mark)?, *mark))).min();
            let held = ENDS.iter().map(|mark| begun(&self.held, mark)).max().unwrap_or(0);
            let free = end.map_or(self.held.len() - held, |(at, _)| at);
            let rest = self.held.split_off(free);
            let said = std::mem::replace(&mut self.held, rest);
            match &mut self.place {
                Place::Reasoning => reasoning += &said,
                Place::Call { arguments, .. } => arguments.push_str(&said),
                Place::Content | Place::Header => content += &said,
            }
            let Some((_, mark)) = end else { return (reasoning, content) };
            if ![START, CHANNEL].contains(&mark) {
                self.held.drain(..mark.len());
            }
            self.end_message();
        }
    }

    /// No text follows: returns what was held back, and the calls of functions that are known. Others are content.
    pub(crate) fn finish(&mut self, tools: Option<&Tools>) -> (String, String, Vec<Call>) {
        let held = std::mem::take(&mut self.held);
        let (mut reasoning, mut content) = (String::new(), String::new());
        match &mut self.place {
            Place::Reasoning => reasoning = held,
            Place::Call { arguments, .. } => arguments.push_str(&held),
            // A text without any channel is what it is.
            Place::Content => content = held,
            Place::Header if !MARKS.iter().any(|mark| held.contains(mark)) => content = held,
            Place::Header => {}
        }
        self.end_message();
        let is_call = |call: &Call| {
            let known =
                tools.is_some_and(|tools| tools.functions.iter().any(|function| function.name == call.name));
            known && serde_json::from_str::<Map<String, Value>>(&call.arguments).is_ok()
        };
        let (calls, other): (Vec<_>, Vec<_>) = std::mem::take(&mut self.calls).into_iter().partition(is_call);
        content.extend(other.into_iter().map(|call| call.arguments));
        (reasoning, content, calls)
    }

    fn end_message(&mut self) {
        if let Place::Call { name, arguments } = std::mem::replace(&mut self.place, Place::Header) {
            self.calls.push(Call { name, arguments });
        }
    }
}

/// What the message after a header is.
fn place(header: &str) -> Place {
    let until_mark = |text: &str| text.split(['<', ' ']).next().unwrap_or_default().to_owned();
    if let Some((_, function)) = header.split_once("to=functions.") {
        return Place::Call { name: until_mark(function), arguments: String::new() };
    }
    let channel = header.rsplit_once(CHANNEL).map(|(_, rest)| until_mark(rest));
    if channel.as_deref() == Some("analysis") { Place::Reasoning } else { Place::Content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Fields;
    use proptest::prelude::*;
    use serde_json::json;

    type Read = (String, String, Vec<(String, String)>);

    fn read(pieces: &[&str]) -> Read {
        let body = json!({"tools": [{"type": "function", "function": {"name": "look"}}]}).to_string();
        let tools = Tools::take(&mut Fields::parse(body.as_bytes()).unwrap()).unwrap();
        let mut reader = ChannelReader::new();
        let (mut reasoning, mut content) = (String::new(), String::new());
        for piece in pieces {
            let (more, said) = reader.push(piece);
            reasoning += &more;
            content += &said;
        }
        let (more, said, calls) = reader.finish(tools.as_ref());
        let calls = calls.into_iter().map(|call| (call.name, call.arguments)).collect();
        (reasoning + &more, content + &said, calls)
    }

    #[test]
    fn channels_part_an_answer() {
        let look = |arguments: &str| vec![("look".to_owned(), arguments.to_owned())];
        for (text, reasoning, content, calls) in [
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
                "Hm.",
                "Yes.",
                vec![],
            ),
            ("<|channel|>final<|message|>Yes.<|return|>", "", "Yes.", vec![]),
            ("<|channel|>analysis<|message|>cut", "cut", "", vec![]),
            ("<|channel|>anal", "", "", vec![]),
            ("no channel at all", "", "no channel at all", vec![]),
            (
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{\"n\": 1}<|call|>",
                "a",
                "",
                look("{\"n\": 1}"),
            ),
            (" to=functions.look<|channel|>commentary json<|message|>{}", "", "", look("{}")),
            ("<|channel|>commentary to=functions.other<|message|>{}<|call|>", "", "{}", vec![]),
            ("<|channel|>commentary to=functions.look<|message|>{\"n\"", "", "{\"n\"", vec![]),
            ("<|channel|>commentary<|message|>I look.<|end|>", "", "I look.", vec![]),
        ] {
            assert_eq!(read(&[text]), (reasoning.to_owned(), content.to_owned(), calls), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(prop::sample::select(vec![
                START, CHANNEL, MESSAGE, END, CALL, "analysis", "final", "commentary to=functions.look ", "{}", "<|", "a", "é", "<",
            ]), 0..12),
            cuts in prop::collection::vec(0_usize..120, 0..8),
        ) {
            let text = parts.concat();
            let mut ends: Vec<usize> = cuts.into_iter().filter(|&at| text.is_char_boundary(at)).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&text]));
        }
    }
}
