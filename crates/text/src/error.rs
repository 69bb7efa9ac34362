//! What can go wrong with text, with the file and field or the template line in the message.

use thiserror::Error;

/// Errors of this crate. `Clone`, so that a template that failed to compile can say so at every use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A tokenizer file cannot be used.
    #[error("{file}: {field}: {problem}")]
    File {
        /// Path or label of the file.
        file: String,
        /// Dotted path of the field inside the file, or "whole file".
        field: String,
        /// What is wrong with the value and what to do.
        problem: String,
    },
    /// The tokenizer refused a text.
    #[error("cannot tokenize {bytes} bytes of text: {problem}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// The tokenizer's own words.
        problem: String,
    },
    /// A prompt is so long that it was not tokenized to its end.
    #[error("the beginning of {bytes} bytes of text alone has {tokens} tokens; at most {most} can be used")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// Tokens of its beginning.
        tokens: usize,
        /// Tokens that can be used.
        most: usize,
    },
    /// The model has no chat template.
    #[error(
        "{origin} has no chat template (it looks like a base model). /v1/completions works. For chat start the server with \
         --chat-template chatml|llama3|mistral|zephyr|FILE"
    )]
    NoChatTemplate {
        /// The model's folder or label.
        origin: String,
    },
    /// The chat template cannot be compiled.
    #[error("chat template `{template}`, line {line}: {problem}")]
    TemplateSyntax {
        /// Name of the template, "default" unless the file names several.
        template: String,
        /// Line in the template, from 1; 0 when unknown.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The chat template failed on these messages.
    #[error("chat template `{template}`, line {line}: {problem}")]
    TemplateRender {
        /// Name of the template.
        template: String,
        /// Line in the template, from 1; 0 when unknown.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The chat template called `raise_exception`: it refuses this conversation.
    #[error("the chat template refuses this conversation: {message}")]
    TemplateRaised {
        /// The template author's words.
        message: String,
    },
    /// The chat template exceeded a limit.
    #[error("chat template `{template}` exceeds the limit of {limit} {unit}; shorten the conversation")]
    TemplateLimit {
        /// Name of the template.
        template: String,
        /// The limit.
        limit: u64,
        /// What is counted: "instructions" or "bytes of output".
        unit: &'static str,
    },
    /// The last message cannot be gone on with.
    #[error("the chat template does not write the last of messages as it is, so it cannot be gone on with")]
    NotContinued,
    /// A caller's template variable would shadow one that the server sets.
    #[error("template variable `{name}` is set by the server and cannot be passed; use another name")]
    ReservedVariable {
        /// The variable.
        name: String,
    },
}

impl TextError {
    pub(crate) fn file(
        file: impl Into<String>,
        field: impl Into<String>,
        problem: impl std::fmt::Display,
    ) -> Self {
        Self::File { file: file.into(), field: field.into(), problem: problem.to_string() }
    }
}
