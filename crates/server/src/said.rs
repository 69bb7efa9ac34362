//! What an answer consists of: reasoning, text, and calls of functions.

use crate::call_forms::CallMarks;
use crate::channels::ChannelReader;
use crate::reasoning::{Reasoning, ReasoningReader};
use crate::tool_calls::{ToolCall, ToolReader, named};
use crate::wire::tools::Tools;
use std::sync::Arc;

/// How the text of an answer is to be read. By default all of it is content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    /// How reasoning is marked, where it may occur.
    pub(crate) reasoning: Option<Reasoning>,
    /// Whether reasoning is left out.
    pub(crate) hides_reasoning: bool,
    /// What the model may call.
    pub(crate) tools: Option<Arc<Tools>>,
    /// What begins a call.
    pub(crate) marks: CallMarks,
    /// Special tokens that belong to these forms, and so to the text.
    pub(crate) kept: Arc<[u32]>,
}

/// A part of an answer, in the order of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) calls: Vec<ToolCall>,
}

/// Reads the text of one choice as it comes. The pieces do not change what is read.
#[derive(Debug)]
pub(crate) struct Reader {
    form: Form,
    hides_reasoning: bool,
}

#[derive(Debug)]
enum Form {
    /// Reasoning between marks, then content, then calls.
    Marked { reasoning: Option<ReasoningReader>, tools: Option<ToolReader> },
    /// All in channels.
    Channels { reader: ChannelReader, tools: Option<Arc<Tools>> },
}

impl Reader {
    pub(crate) fn new(speech: &Speech) -> Self {
        let tools = || speech.tools.as_ref().map(|tools| ToolReader::new(tools, speech.marks));
        let form = match speech.reasoning {
            Some(Reasoning::Channels) => {
                Form::Channels { reader: ChannelReader::new(), tools: speech.tools.clone() }
            }
            Some(Reasoning::Marked { marks, opened }) => {
                Form::Marked { reasoning: Some(ReasoningReader::new(marks, opened)), tools: tools() }
            }
            None => Form::Marked { reasoning: None, tools: tools() },
        };
        Self { form, hides_reasoning: speech.hides_reasoning }
    }

    /// Reads a text that is whole.
    pub(crate) fn read(speech: &Speech, text: String) -> Said {
        let mut reader = Self::new(speech);
        let Said { reasoning, content, .. } = reader.push(text);
        let rest = reader.finish();
        Said { reasoning: reasoning + &rest.reasoning, content: content + &rest.content, calls: rest.calls }
    }

    /// Takes in more text and returns what is certain by now.
    pub(crate) fn push(&mut self, text: String) -> Said {
        let (reasoning, content) = match &mut self.form {
            Form::Channels { reader, .. } => reader.push(&text),
            Form::Marked { reasoning, tools } => {
                let (reasoning, text) = match reasoning {
                    Some(reader) => reader.push(&text),
                    None => (String::new(), text),
                };
                let content = match tools {
                    Some(reader) => reader.push(&text),
                    None => text,
                };
                (reasoning, content)
            }
        };
        Said { reasoning: self.shown(reasoning), content, calls: Vec::new() }
    }

    /// No text follows: returns what was held back.
    pub(crate) fn finish(&mut self) -> Said {
        let (reasoning, content, calls) = match &mut self.form {
            Form::Channels { reader, tools } => {
                let (reasoning, content, mut calls) = reader.finish(tools.as_deref());
                let parallel = tools.as_ref().is_none_or(|tools| tools.parallel);
                calls.truncate(if parallel { usize::MAX } else { 1 });
                (reasoning, content, calls.into_iter().map(named).collect())
            }
            Form::Marked { reasoning, tools } => {
                let (reasoning, text) = reasoning.as_mut().map(ReasoningReader::finish).unwrap_or_default();
                match tools {
                    None => (reasoning, text, Vec::new()),
                    Some(reader) => {
                        let content = reader.push(&text);
                        let rest = reader.finish();
                        (reasoning, content + &rest.content, rest.calls)
                    }
                }
            }
        };
        Said { reasoning: self.shown(reasoning), content, calls }
    }

    fn shown(&self, reasoning: String) -> String {
        if self.hides_reasoning { String::new() } else { reasoning }
    }
}
