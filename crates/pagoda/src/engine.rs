//! The engine as a library: text in, a stream of text out.

use crate::EngineBuilder;
use pagoda_engine::{
    EngineError, EngineHandle, GenerateParams, InvalidRequest, ServedModel, Session, SubmitError,
};
use pagoda_text::{Special, TextError};
use std::sync::Arc;

/// A running engine. Dropping it ends all generations.
#[derive(Debug)]
pub struct Engine {
    inner: pagoda_engine::Engine,
}

/// What to continue.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text, tokenized with the special tokens that the tokenizer adds.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

/// Why a generation did not start.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The text cannot be tokenized.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A parameter has a value that cannot be used.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The engine did not accept the request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Engine {
    /// Options of an engine, all at their defaults.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    pub(crate) fn new(inner: pagoda_engine::Engine) -> Self {
        Self { inner }
    }

    /// The model that the engine serves.
    pub fn model(&self) -> &Arc<ServedModel> {
        self.inner.handle().model()
    }

    /// A cheap, cloneable way to the engine, for servers and other threads.
    pub fn handle(&self) -> &EngineHandle {
        self.inner.handle()
    }

    /// Starts one generation and returns its stream; drop the stream to cancel. It is the only sample, or the best output of
    /// a beam search of width `params.best_of`.
    ///
    /// # Errors
    /// [`GenerateError`] when the prompt or a parameter cannot be used or the queue is full.
    pub fn generate(
        &self,
        prompt: impl Into<Prompt>,
        params: GenerateParams,
    ) -> Result<Session, GenerateError> {
        let best_of = params.best_of.filter(|_| params.use_beam_search);
        let mut sessions = self.generate_samples(prompt, GenerateParams { n: Some(1), best_of, ..params })?;
        Ok(sessions.pop().expect("a request of one sample has one session"))
    }

    /// Starts a generation of `params.n` samples that share the prompt, or of `params.best_of` to choose from with
    /// [`best_of`](pagoda_engine::best_of), or of the `params.n` best outputs of a beam search; one stream for each.
    ///
    /// # Errors
    /// [`GenerateError`] when the prompt or a parameter cannot be used or the queue is full.
    pub fn generate_samples(
        &self,
        prompt: impl Into<Prompt>,
        params: GenerateParams,
    ) -> Result<Vec<Session>, GenerateError> {
        let prompt_tokens = match prompt.into() {
            Prompt::Text(text) => self.model().tokenizer.encode(&text, Special::Add)?,
            Prompt::Tokens(tokens) => tokens,
        };
        let request = self.model().validate(GenerateParams { prompt_tokens, ..params })?;
        Ok(self.handle().submit(request)?)
    }

    /// Waits for the engine to end after [`EngineHandle::drain`] or a failure.
    ///
    /// # Errors
    /// [`EngineError::Failed`] when the engine ended on an error.
    pub fn join(self) -> Result<(), EngineError> {
        self.inner.join()
    }
}
