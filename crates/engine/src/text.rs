//! Tokens of one sample to text.

use crate::validate::TextOptions;
use pagoda_sched::{SamplingParams, TokenId};
use pagoda_text::{Detokenizer, StopMatcher, Tokenizer};
use std::sync::Arc;

/// The text of one sample as it grows: whole characters, cut at a stop string, without the stop token.
#[derive(Debug)]
pub(crate) struct TextAssembler {
    detokenizer: Detokenizer,
    stops: Arc<[String]>,
    matcher: StopMatcher,
    sampling: Arc<SamplingParams>,
    include_stop: bool,
    tokens_only: bool,
    tokens: Vec<TokenId>,
    /// Whether the last token is a stop id whose text is held back: it is text only if another token follows.
    holds_stop_id: bool,
    text: String,
    sent: usize,
    scratch: String,
    stopped: Option<usize>,
}

impl TextAssembler {
    pub(crate) fn new(
        tokenizer: &Arc<Tokenizer>,
        sampling: Arc<SamplingParams>,
        options: &TextOptions,
    ) -> Self {
        Self {
            detokenizer: Detokenizer::starting(Arc::clone(tokenizer), options.start, options.skip_special)
                .keeping(Arc::clone(&options.kept_special)),
            stops: Arc::clone(&options.stops),
            matcher: options.matcher.clone(),
            sampling,
            include_stop: options.include_stop,
            tokens_only: options.tokens_only,
            tokens: Vec::new(),
            holds_stop_id: false,
            text: String::new(),
            sent: 0,
            scratch: String::new(),
            stopped: None,
        }
    }

    /// Whether tokens are handed out without text.
    pub(crate) fn is_tokens_only(&self) -> bool {
        self.tokens_only
    }

    /// The stop string that ended the text.
    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.map(|index| self.stops[index].as_str())
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn token_ids(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Adds a token. Not to be called after a stop string was met.
    pub(crate) fn push(&mut self, token: TokenId) {
        if self.tokens_only {
            return self.tokens.push(token);
        }
        if std::mem::take(&mut self.holds_stop_id) {
            let held = *self.tokens.last().expect("a held token has been pushed");
            self.detokenize(held);
        }
        self.tokens.push(token);
        let ends = self.sampling.stop_ids.binary_search(&token).is_ok();
        if ends && !self.include_stop {
            self.holds_stop_id = true;
        } else {
            self.detokenize(token);
        }
    }

    /// No token follows: releases what was held back as a possible part of a character or of a stop string.
    pub(crate) fn finish(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.scratch.clear();
        self.detokenizer.finish(&mut self.scratch);
        self.match_scratch();
        if self.stopped.is_none() {
            self.matcher.finish(&mut self.text);
        }
    }

    /// Text that has not been handed out yet.
    pub(crate) fn take_unsent(&mut self) -> String {
        let unsent = self.text[self.sent..].to_owned();
        self.sent = self.text.len();
        unsent
    }

    fn detokenize(&mut self, token: TokenId) {
        self.scratch.clear();
        self.detokenizer.push(token, &mut self.scratch);
        self.match_scratch();
    }

    fn match_scratch(&mut self) {
        if self.tokens.len() <= self.sampling.min_tokens as usize {
            self.text.push_str(&self.scratch);
        } else if let Some(found) = self.matcher.push(&self.scratch, &mut self.text) {
            self.stopped = Some(found.index);
        }
    }
}
