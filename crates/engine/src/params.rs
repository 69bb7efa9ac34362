//! What a front end asks for, before validation.

use crate::ConstraintParam;
use pagoda_sched::{
    CacheSalt, Deadlines, EarlyStopping, Pooling, Priority, RequestId, Retention, Tenant, TokenId,
};
use pagoda_text::TextStart;
use std::sync::Arc;

/// Parameters of one generation as the client gave them. `None` means "the default of the model".
///
/// [`ServedModel::validate`](crate::ServedModel::validate) turns it into the
/// [`ValidatedRequest`](crate::ValidatedRequest) that the engine accepts.
#[derive(Clone, Debug, Default)]
pub struct GenerateParams {
    /// Name of the request; `None` makes a fresh one.
    pub id: Option<RequestId>,
    /// Prompt as token ids.
    pub prompt_tokens: Vec<TokenId>,
    /// Upper bound of generated tokens per sample; reduced to the room left in the context. `None`: all the room. 0 ends the
    /// request when its prompt is computed.
    pub max_tokens: Option<u32>,
    /// Tokens that must be generated before a stop id or stop string may end the text.
    pub min_tokens: Option<u32>,
    /// Number of samples, or of outputs that a beam search returns.
    pub n: Option<u32>,
    /// Number of samples that are drawn so that the best `n` of them can be chosen, at least `n`; the width of a beam search.
    /// `None` is `n`. See [`best_of`](crate::best_of).
    pub best_of: Option<u32>,
    /// Search for the likeliest outputs instead of drawing them. Excludes what draws from or changes logits, and stop
    /// strings. All tokens come at the end, the best output in the first session.
    pub use_beam_search: bool,
    /// Exponent of the length that the outputs of a beam search are weighed by, in [-10, 10]; `None` is 1.
    pub length_penalty: Option<f32>,
    /// When a beam search has found enough; `None` is [`EarlyStopping::No`].
    pub early_stopping: Option<EarlyStopping>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Number of most likely tokens kept; 0 and -1 keep all.
    pub top_k: Option<i64>,
    /// Probability mass kept, in (0, 1].
    pub top_p: Option<f32>,
    /// Smallest probability kept, relative to the highest, in [0, 1].
    pub min_p: Option<f32>,
    /// Repetition penalty, above 0; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Presence penalty in [-2, 2]; 0 is off.
    pub presence_penalty: Option<f32>,
    /// Frequency penalty in [-2, 2]; 0 is off.
    pub frequency_penalty: Option<f32>,
    /// Added to the logits of these tokens, each in [-100, 100].
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Seed of the random numbers; `None` draws one.
    pub seed: Option<u64>,
    /// Strings that end the text when they appear in it.
    pub stop: Vec<String>,
    /// Leave the stop string, or the text of the stop token, in the text.
    pub include_stop: bool,
    /// Token ids that end generation, besides the model's own.
    pub stop_token_ids: Vec<TokenId>,
    /// Ignore the model's own end-of-sequence ids.
    pub ignore_eos: bool,
    /// Leave special tokens out of the text; the default is to.
    pub skip_special_tokens: Option<bool>,
    /// Special tokens that stay in the text even where the others are left out.
    pub kept_special: Arc<[TokenId]>,
    /// Deliver each token at once and make no text of it; for measurements. Excludes `stop`.
    pub tokens_only: bool,
    /// What stands before the generated text; it decides about SentencePiece's leading space.
    pub text_start: TextStart,
    /// `Some(k)`: report log-probabilities of the chosen token and of the `k` most likely ones.
    pub logprobs: Option<u32>,
    /// What the output has to be. It ends where that does, so `ignore_eos` and `min_tokens` are excluded.
    pub constraint: Option<ConstraintParam>,
    /// `Some(k)`: report how likely each token of the prompt is, and the `k` most likely ones in its place. The prompt is then
    /// computed whole, whatever of it is cached.
    pub prompt_logprobs: Option<u32>,
    /// Report hidden states of the prompt for an embedding, and generate nothing.
    pub pooling: Option<Pooling>,
    /// Scheduling class.
    pub priority: Priority,
    /// Who pays.
    pub tenant: Tenant,
    /// Which prefix cache may be shared.
    pub salt: CacheSalt,
    /// Name of the adapter that the model is changed by; `None` is the model as it is.
    pub adapter: Option<Arc<str>>,
    /// How long the prompt stays in that cache.
    pub retention: Retention,
    /// Most bytes of tokens and their log-probabilities that may wait for each session to be read; a sample with more is ended
    /// with [`RequestError::TooSlow`](crate::RequestError::TooSlow). `None`: all that is generated may. Not for beam searches,
    /// whose tokens come all at once.
    pub max_unread: Option<usize>,
    /// Time limits; each can only shorten the engine's own.
    pub deadlines: Deadlines,
}
