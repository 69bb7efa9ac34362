//! Scores of a model on texts.

use crate::{Engine, GenerateError, GenerateParams, Prompt, RequestError, Session, SessionEvent};
use pagoda_engine::PromptResult;
use pagoda_text::{Special, TextError};
use std::collections::VecDeque;

/// Windows that are computed at a time.
const AT_ONCE: usize = 16;

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of the text.
    pub bytes: u64,
    /// Windows that the text was cut into.
    pub windows: u64,
    /// Sum of the natural log-probabilities of the tokens; at most 0.
    pub logprob: f64,
}

/// Why a text could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The text cannot be tokenized.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Nothing to predict.
    #[error("the text has no tokens; give one that is not empty")]
    Empty,
    /// The window does not suit the model.
    #[error("a window of {window} tokens cannot be used; allowed: 1 to {longest}")]
    Window {
        /// Tokens asked for.
        window: u32,
        /// Most that the context has room for, after the token before them.
        longest: u32,
    },
    /// A window was not accepted.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A window was not completed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Perplexity {
    /// `exp` of the mean negative log-probability; 1 is certainty.
    pub fn perplexity(&self) -> f64 {
        (-self.logprob / self.tokens.max(1) as f64).exp()
    }

    /// Information per byte of the text, in bits.
    pub fn bits_per_byte(&self) -> f64 {
        -self.logprob / std::f64::consts::LN_2 / self.bytes.max(1) as f64
    }
}

/// Cuts `text` into windows of `window` tokens, each predicted after the token before it; the first after the token that begins a
/// text. `None` is as many as the context holds.
///
/// The numbers are summed as a client does that reads them from `/v1/completions` with `echo`, window after window, so that both
/// come to the same bits.
///
/// # Errors
/// [`EvalError`] when the text or the window cannot be used, or when the engine does not do its work.
pub fn perplexity(engine: &Engine, text: &str, window: Option<u32>) -> Result<Perplexity, EvalError> {
    let longest = engine.model().max_model_len.saturating_sub(1);
    let window = window.unwrap_or(longest);
    if !(1..=longest).contains(&window) {
        return Err(EvalError::Window { window, longest });
    }
    let windows = windows(engine, text, window as usize)?;
    let mut scores =
        Perplexity { bytes: text.len() as u64, windows: windows.len() as u64, ..Perplexity::default() };
    let mut running: VecDeque<Session> = VecDeque::new();
    let mut waiting = windows.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some(window) = waiting.next()
        {
            let params =
                GenerateParams { max_tokens: Some(0), prompt_logprobs: Some(0), ..GenerateParams::default() };
            running.push_back(engine.generate(Prompt::Tokens(window), params)?);
        }
        let Some(session) = running.pop_front() else { return Ok(scores) };
        scores.add(session)?;
    }
}

impl Perplexity {
    /// Adds what a session finds in its prompt.
    fn add(&mut self, mut session: Session) -> Result<(), EvalError> {
        while let Some(event) = session.next_blocking() {
            match event {
                SessionEvent::Prompt(found) => {
                    self.tokens += found.tokens().len() as u64;
                    self.logprob += sum(&found);
                }
                SessionEvent::Failed(error) => return Err(error.into()),
                SessionEvent::Delta { .. } | SessionEvent::Finished(_) => {}
            }
        }
        Ok(())
    }
}

/// The sum of all log-probabilities, each as a reader of JSON has it: the nearest number in 64 bits to the shortest decimal that
/// tells it from its neighbours in 32.
fn sum(found: &PromptResult) -> f64 {
    let read = |logprob: f32| logprob.to_string().parse::<f64>().expect("a number is printed as one");
    found.tokens().map(|token| read(token.logprob)).sum()
}

/// The tokens of each window after the one before them.
fn windows(engine: &Engine, text: &str, window: usize) -> Result<Vec<Vec<u32>>, EvalError> {
    let model = engine.model();
    let tokens = model.tokenizer.encode(text, Special::Add)?;
    // A text that no token of the tokenizer's own begins follows the end of another.
    let begins = tokens.first().is_some_and(|&first| model.tokenizer.is_special(first));
    let before = if begins { None } else { model.stop_ids.first().copied() };
    let tokens: Vec<u32> = before.into_iter().chain(tokens).collect();
    if tokens.len() < 2 {
        return Err(EvalError::Empty);
    }
    let last = tokens.len() - 1;
    Ok((0..last).step_by(window).map(|start| tokens[start..=last.min(start + window)].to_vec()).collect())
}
