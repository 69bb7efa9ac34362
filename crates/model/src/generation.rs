//! What generation_config.json recommends, and which tokens end generation.

use crate::ModelError;
use crate::json::Object;

/// Sampling defaults that the model's authors recommend; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// 0 is greedy, also when the file says `"do_sample": false`.
    pub temperature: Option<f32>,
    /// In (0, 1].
    pub top_p: Option<f32>,
    /// 0 keeps all tokens.
    pub top_k: Option<u32>,
    /// In [0, 1].
    pub min_p: Option<f32>,
    /// Above 0; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Ids that end generation, each below the vocabulary size.
    pub eos_ids: Vec<u32>,
}

impl GenerationDefaults {
    pub(crate) fn read(config: &Object, vocab: u32) -> Result<Self, ModelError> {
        let greedy = config.flag("do_sample")? == Some(false);
        let temperature = config.number("temperature", "a number of at least 0", |n| n >= 0.0)?;
        Ok(Self {
            temperature: if greedy { Some(0.0) } else { temperature },
            top_p: config.number("top_p", "above 0 and at most 1", |n| n > 0.0 && n <= 1.0)?,
            top_k: config.integer("top_k", 0, u32::MAX)?,
            min_p: config.number("min_p", "from 0 to 1", |n| (0.0..=1.0).contains(&n))?,
            repetition_penalty: config.number("repetition_penalty", "a number above 0", |n| n > 0.0)?,
            eos_ids: config.token_ids("eos_token_id", vocab)?,
        })
    }
}

/// The union of both lists, ascending, each id once.
pub(crate) fn stop_ids(config: &[u32], generation: &[u32]) -> Vec<u32> {
    let mut ids = [config, generation].concat();
    ids.sort_unstable();
    ids.dedup();
    ids
}
