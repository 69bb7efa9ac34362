//! The model as the front ends see it: names, tokenizer, limits and defaults. No weights.

use crate::Grammars;
use pagoda_grammar::GrammarLimits;
use pagoda_sched::TokenId;
use pagoda_text::Tokenizer;
use std::sync::Arc;

/// A model that the engine serves; shared by the engine, its sessions and every front end.
#[derive(Clone, Debug)]
pub struct ServedModel {
    /// Names that clients may use; the first one is reported. Never empty.
    pub names: Vec<String>,
    /// Tokenizer of the model.
    pub tokenizer: Arc<Tokenizer>,
    /// Longest sequence, prompt and output together, in tokens.
    pub max_model_len: u32,
    /// Token ids below this are valid.
    pub vocab_size: u32,
    /// End-of-sequence ids: the union of the model's configuration, generation configuration and tokenizer.
    pub stop_ids: Box<[TokenId]>,
    /// Sampling defaults from the model's generation configuration.
    pub defaults: SamplingDefaults,
    /// Bounds on what one request may ask for.
    pub limits: RequestLimits,
    /// When the model was loaded, in seconds since the Unix epoch.
    pub created: u64,
    /// Number of parameters; 0 if unknown.
    pub parameters: u64,
    /// Bytes of the stored weights; 0 if unknown.
    pub stored_bytes: u64,
    /// Longest sequence that the model was made for, in tokens, whatever the server admits; 0 if unknown.
    pub trained_context: u32,
    /// Bytes of keys and values of one token; 0 if unknown.
    pub kv_token_bytes: u64,
    /// Width of the residual stream, and so of an embedding; 0 if unknown, and then no embeddings are offered.
    pub hidden: u32,
    /// Format of the stored weights, such as `bf16`; `None` if unknown.
    pub dtype: Option<String>,
    /// Format to which the weights were quantised while they were loaded.
    pub quantization: Option<String>,
    /// What compiles the constraints of requests.
    pub grammars: Grammars,
}

impl ServedModel {
    /// A model with no defaults of its own and the usual limits; the other fields may be set afterwards.
    pub fn new(name: impl Into<String>, tokenizer: Arc<Tokenizer>, max_model_len: u32) -> Self {
        let vocab_size = tokenizer.vocab_size();
        let stop_ids = tokenizer.eos_ids().into();
        Self {
            names: vec![name.into()],
            tokenizer,
            max_model_len,
            vocab_size,
            stop_ids,
            defaults: SamplingDefaults::default(),
            limits: RequestLimits::default(),
            created: 0,
            parameters: 0,
            stored_bytes: 0,
            trained_context: 0,
            kv_token_bytes: 0,
            hidden: 0,
            dtype: None,
            quantization: None,
            grammars: Grammars::default(),
        }
    }

    /// The name that replies carry.
    pub fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }

    /// Whether a client that asks for `name` means this model. `default` always does.
    pub fn answers_to(&self, name: &str) -> bool {
        name == "default" || self.names.iter().any(|known| known == name)
    }
}

/// Sampling defaults of a model; `None` where it states none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// Temperature; 0 for a model that is greedy unless the request asks otherwise.
    pub temperature: Option<f32>,
    /// Number of most likely tokens kept; 0 keeps all.
    pub top_k: Option<u32>,
    /// Probability mass kept.
    pub top_p: Option<f32>,
    /// Smallest probability kept, relative to the highest.
    pub min_p: Option<f32>,
    /// Repetition penalty; 1 is off.
    pub repetition_penalty: Option<f32>,
}

/// Bounds on what one request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Samples (`n`, `best_of`), and the width of a beam search.
    pub samples: u16,
    /// Number of stop strings.
    pub stop_strings: usize,
    /// Bytes of one stop string.
    pub stop_string_bytes: usize,
    /// Number of stop token ids.
    pub stop_token_ids: usize,
    /// Number of logit biases.
    pub logit_bias: usize,
    /// Most likely tokens reported per generated token.
    pub top_logprobs: u8,
    /// What a constraint on the output may be and cost.
    pub grammar: GrammarLimits,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            samples: 8,
            stop_strings: 16,
            stop_string_bytes: 256,
            stop_token_ids: 64,
            logit_bias: 1024,
            top_logprobs: 20,
            grammar: GrammarLimits::default(),
        }
    }
}
