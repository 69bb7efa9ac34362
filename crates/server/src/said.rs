//! What an answer consists of: reasoning, text, and calls of functions.

use crate::call_forms::CallMarks;
use crate::reasoning::{Reasoning, ReasoningReader};
use crate::tool_calls::{ToolCall, ToolReader};
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
    reasoning: Option<ReasoningReader>,
    hides_reasoning: bool,
    tools: Option<ToolReader>,
}

impl Reader {
    pub(crate) fn new(speech: &Speech) -> Self {
        Self {
            reasoning: speech.reasoning.map(ReasoningReader::new),
            hides_reasoning: speech.hides_reasoning,
            tools: speech.tools.as_ref().map(|tools| ToolReader::new(tools, speech.marks)),
        }
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
        let (reasoning, text) = match &mut self.reasoning {
            Some(reader) => reader.push(&text),
            None => (String::new(), text),
        };
        let content = match &mut self.tools {
            Some(reader) => reader.push(&text),
            None => text,
        };
        Said { reasoning: self.shown(reasoning), content, calls: Vec::new() }
    }

    /// No text follows: returns what was held back.
    pub(crate) fn finish(&mut self) -> Said {
        let (reasoning, text) = self.reasoning.as_mut().map(ReasoningReader::finish).unwrap_or_default();
        let reasoning = self.shown(reasoning);
        let Some(reader) = &mut self.tools else {
            return Said { reasoning, content: text, calls: Vec::new() };
        };
        let content = reader.push(&text);
        let rest = reader.finish();
        Said { reasoning, content: content + &rest.content, calls: rest.calls }
    }

    fn shown(&self, reasoning: String) -> String {
        if self.hides_reasoning { String::new() } else { reasoning }
    }
}
