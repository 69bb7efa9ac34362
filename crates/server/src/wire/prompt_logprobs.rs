//! How likely the tokens of a prompt are, in vLLM's shape.

use crate::logprobs::{finite, text};
use pagoda_engine::{PromptResult, PromptToken, ServedModel};
use pagoda_text::Tokenizer;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A list with an entry for each token: `null` for the first, then a map from ids to numbers that has the token itself and the
/// most likely ones. Written as it is serialised, so that it takes no memory of its own.
pub(crate) struct PromptLogprobs {
    pub(crate) model: Arc<ServedModel>,
    pub(crate) found: Arc<PromptResult>,
    /// Most likely tokens of each place.
    pub(crate) most: usize,
}

impl Serialize for PromptLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokenizer = &self.model.tokenizer;
        let mut list = serializer.serialize_seq(Some(self.found.prompt().len()))?;
        list.serialize_element(&None::<()>)?;
        for token in self.found.tokens() {
            list.serialize_element(&Place { token, tokenizer, most: self.most })?;
        }
        list.end()
    }
}

struct Place<'a> {
    token: PromptToken<'a>,
    tokenizer: &'a Tokenizer,
    most: usize,
}

#[derive(Serialize)]
struct Numbers {
    logprob: f32,
    rank: u32,
    decoded_token: String,
}

impl Serialize for Place<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PromptToken { token: own, logprob, rank, top } = self.token;
        let numbers = |token: u32, logprob: f32, rank: u32| Numbers {
            logprob: finite(logprob),
            rank,
            decoded_token: text(self.tokenizer, token),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&own, &numbers(own, logprob, rank))?;
        for (rank, likely) in (1..).zip(top.iter().take(self.most)) {
            if likely.token != own {
                map.serialize_entry(&likely.token, &numbers(likely.token, likely.logprob, rank))?;
            }
        }
        map.end()
    }
}
