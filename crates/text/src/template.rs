//! Chat templates: messages to the one text that the model was trained on.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::Map;

use crate::special::SpecialTokens;
use crate::template_env::{self, Raised};
use crate::tokenizer::panic_message;
use crate::{TextError, chat_messages, strftime, template_source};

/// Name of the template that is used unless another fits better.
const DEFAULT: &str = "default";
/// Name of the template that is used when tools are passed.
const TOOL_USE: &str = "tool_use";

/// Variables and functions of every template that a caller may not replace. The names of special tokens belong to
/// them too.
const RESERVED: [&str; 8] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "raise_exception",
    "strftime_now",
    "range",
    "namespace",
    "dict",
];

/// What one template run may cost. Together with the absence of any I/O this is the sandbox. Intermediate values are
/// bounded by the instructions only: a hostile template can still double a text until memory ends, so a model's
/// template deserves the trust that the model gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Template instructions executed.
    pub instructions: u64,
    /// Length of the rendered text.
    pub output_bytes: usize,
    /// Nested calls of macros and loops, at most 500.
    pub recursion: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self { instructions: 1_000_000, output_bytes: 4 << 20, recursion: 200 }
    }
}

/// One conversation to render.
#[derive(Clone, Copy, Debug)]
pub struct ChatInput<'a> {
    /// A list of objects with `role` and `content`, as in the chat API. The order of keys is kept.
    pub messages: &'a serde_json::Value,
    /// Tool definitions, as in the chat API.
    pub tools: Option<&'a serde_json::Value>,
    /// Ends the text with the beginning of an assistant's turn.
    pub add_generation_prompt: bool,
    /// Ends the text where the last message ends, so that it can be gone on with.
    pub continue_final: bool,
    /// Further variables of the caller (`enable_thinking`, `documents`, …).
    pub extra: Option<&'a Map<String, serde_json::Value>>,
    /// What `strftime_now` tells, in UTC; without it the template sees no such function.
    pub now: Option<SystemTime>,
}

impl<'a> ChatInput<'a> {
    /// The messages followed by the beginning of the assistant's answer, nothing else set.
    pub fn new(messages: &'a serde_json::Value) -> Self {
        Self {
            messages,
            tools: None,
            add_generation_prompt: true,
            continue_final: false,
            extra: None,
            now: None,
        }
    }
}

/// The chat template of a model, compiled once.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    sources: Vec<(String, String)>,
    tokens: SpecialTokens,
    limits: TemplateLimits,
    /// The first template that did not compile, and why.
    broken: Vec<(String, TextError)>,
}

impl ChatTemplate {
    /// Compiles a single template.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`] with the line.
    pub fn new(source: &str, tokens: SpecialTokens) -> Result<Self, TextError> {
        let template = Self::deferred(vec![(DEFAULT.to_owned(), source.to_owned())], tokens);
        template.check()?;
        Ok(template)
    }

    /// Compiles named templates; what does not compile fails when it is used, so that a model whose template is
    /// broken can still complete plain prompts.
    pub(crate) fn deferred(sources: Vec<(String, String)>, tokens: SpecialTokens) -> Self {
        let limits = TemplateLimits::default();
        let mut environment = template_env::environment(&limits);
        let mut broken = Vec::new();
        for (name, source) in &sources {
            if let Err((line, problem)) = compile(&mut environment, name, source) {
                let template = name.clone();
                broken.push((name.clone(), TextError::TemplateSyntax { template, line, problem }));
            }
        }
        Self { environment, sources, tokens, limits, broken }
    }

    /// Replaces the limits.
    pub fn with_limits(mut self, limits: TemplateLimits) -> Self {
        template_env::set_limits(&mut self.environment, &limits);
        self.limits = limits;
        self
    }

    /// Whether all templates of the model compiled.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`] of the first that did not.
    pub fn check(&self) -> Result<(), TextError> {
        self.broken.first().map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Source of the template that is used without tools.
    pub fn source(&self) -> &str {
        let (_, source) = &self.sources[self.select(false)];
        source
    }

    /// Whether any of the templates contains `text`, such as `'developer'` or `tools`: how a caller finds out which
    /// roles and features the model knows.
    pub fn mentions(&self, text: &str) -> bool {
        self.sources.iter().any(|(_, source)| source.contains(text))
    }

    /// Renders one conversation.
    ///
    /// # Errors
    /// [`TextError::TemplateRaised`] when the template itself refuses the messages, [`TextError::TemplateLimit`],
    /// [`TextError::ReservedVariable`], [`TextError::TemplateRender`] and [`TextError::TemplateSyntax`];
    /// [`TextError::NotContinued`] when the last message cannot be gone on with.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        let mut messages = chat_messages::plain(input.messages);
        if input.continue_final {
            chat_messages::mark_end(messages.to_mut()).ok_or(TextError::NotContinued)?;
        }
        let text = self.render_messages(&ChatInput { messages: &messages, ..*input })?;
        if !input.continue_final {
            return Ok(text);
        }
        chat_messages::up_to_mark(text).ok_or(TextError::NotContinued)
    }

    fn render_messages(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        let context = self.context(input)?;
        let (name, _) = &self.sources[self.select(input.tools.is_some())];
        if let Some((_, error)) = self.broken.iter().find(|(broken, _)| broken == name) {
            return Err(error.clone());
        }
        // The engine keeps nothing between two runs that a panic could leave half-written.
        let run = catch_unwind(AssertUnwindSafe(|| self.run(name, context)));
        run.unwrap_or_else(|panic| {
            let problem = format!("the template engine panicked: {}", panic_message(panic.as_ref()));
            Err(TextError::TemplateRender { template: name.clone(), line: 0, problem })
        })
    }

    fn run(&self, name: &str, context: Value) -> Result<String, TextError> {
        let failed = |error: Error| self.render_error(name, &error);
        let template = self.environment.get_template(name).map_err(failed)?;
        let mut output = Bounded { bytes: Vec::new(), limit: self.limits.output_bytes };
        template.render_captured_to(context, &mut output).map_err(failed)?;
        String::from_utf8(output.bytes).map_err(|_| TextError::TemplateRender {
            template: name.to_owned(),
            line: 0,
            problem: "the output is not valid UTF-8".to_owned(),
        })
    }

    /// With tools the template made for them, otherwise the default one, otherwise the first.
    fn select(&self, tools: bool) -> usize {
        let place = |wanted: &str| self.sources.iter().position(|(name, _)| name == wanted);
        tools.then(|| place(TOOL_USE)).flatten().or_else(|| place(DEFAULT)).unwrap_or(0)
    }

    fn context(&self, input: &ChatInput<'_>) -> Result<Value, TextError> {
        let mut variables: Vec<(String, Value)> = Vec::new();
        for (name, value) in input.extra.into_iter().flatten() {
            if RESERVED.contains(&name.as_str()) || name.ends_with("_token") || name.ends_with("_tokens") {
                return Err(TextError::ReservedVariable { name: name.clone() });
            }
            variables.push((name.clone(), Value::from(Serde(value))));
        }
        let mut set = |name: &str, value: Value| variables.push((name.to_owned(), value));
        if !input.extra.is_some_and(|extra| extra.contains_key("documents")) {
            set("documents", Value::from(()));
        }
        set("messages", Value::from(Serde(input.messages)));
        set("tools", input.tools.map_or(Value::from(()), |tools| Value::from(Serde(tools))));
        set("add_generation_prompt", Value::from(input.add_generation_prompt));
        for (role, text) in self.tokens.entries() {
            set(role, Value::from(text));
        }
        if !self.tokens.additional().is_empty() {
            set("additional_special_tokens", Value::from(self.tokens.additional().to_vec()));
        }
        if let Some(now) = input.now {
            set("strftime_now", strftime::function(now));
        }
        Ok(Value::from_pairs(variables))
    }

    fn render_error(&self, name: &str, error: &Error) -> TextError {
        if let Some(raised) = find_source::<Raised>(error) {
            return TextError::TemplateRaised { message: raised.0.clone() };
        }
        let limit = |limit: u64, unit| TextError::TemplateLimit { template: name.to_owned(), limit, unit };
        let kinds = |kind: ErrorKind| chain(error).any(|error| error.kind() == kind);
        if kinds(ErrorKind::OutOfFuel) {
            return limit(self.limits.instructions, "instructions");
        }
        if find_source::<io::Error>(error).is_some() {
            return limit(self.limits.output_bytes as u64, "bytes of output");
        }
        let line = chain(error).filter_map(Error::line).last().unwrap_or(0);
        TextError::TemplateRender { template: name.to_owned(), line, problem: problem_of(error) }
    }
}

/// Compiles a template under `name`; otherwise the line and what is wrong there.
fn compile(environment: &mut Environment<'static>, name: &str, source: &str) -> Result<(), (usize, String)> {
    let source = template_source::prepare(source).map_err(|refused| (refused.line, refused.problem))?;
    let added = environment.add_template_owned(name.to_owned(), source);
    added.map_err(|error| (error.line().unwrap_or(0), problem_of(&error)))
}

/// The engine's words, from the innermost cause.
fn problem_of(error: &Error) -> String {
    let innermost = chain(error).last().unwrap_or(error);
    match innermost.detail() {
        Some(detail) => format!("{}: {detail}", innermost.kind()),
        None => innermost.kind().to_string(),
    }
}

/// The error and the template errors that caused it.
fn chain(error: &Error) -> impl Iterator<Item = &Error> {
    std::iter::successors(Some(error), |error| {
        std::error::Error::source(*error).and_then(|source| source.downcast_ref::<Error>())
    })
}

fn find_source<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Collects output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + text.len() > self.limit {
            return Err(io::Error::other("the rendered text is too long"));
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
