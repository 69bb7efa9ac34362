//! The one way from parameters to a request that the engine accepts.

use crate::beam::check_beam;
use crate::invalid::{above_zero, at_most, integer, invalid, number};
use crate::{GenerateParams, InvalidCode, InvalidRequest, ServedModel};
use pagoda_sched::{
    AdapterId, CacheSalt, Deadlines, Priority, PromptReport, Request, RequestId, Retention, SamplingParams,
    Tenant, TokenId,
};
use pagoda_text::{StopMatcher, TextStart};
use std::sync::Arc;
use std::time::Instant;

/// Below this a temperature is greedy: division by it would only produce infinities.
const GREEDY_BELOW: f32 = 1e-5;
const MAX_TEMPERATURE: f32 = 100.0;
const MAX_BIAS: f32 = 100.0;
const MAX_PENALTY: f32 = 2.0;
const MAX_REPETITION_PENALTY: f32 = 100.0;

/// A request whose every value is resolved and in range. Made by [`ServedModel::validate`] only.
#[derive(Debug)]
pub struct ValidatedRequest {
    id: RequestId,
    prompt: Arc<[TokenId]>,
    sampling: Arc<SamplingParams>,
    max_tokens: u32,
    samples: u16,
    /// At most `samples`.
    returned: u16,
    priority: Priority,
    tenant: Tenant,
    salt: CacheSalt,
    adapter: Option<Arc<str>>,
    retention: Retention,
    deadlines: Deadlines,
    max_unread: Option<usize>,
    text: TextOptions,
}

/// How generated tokens become text.
#[derive(Clone, Debug)]
pub(crate) struct TextOptions {
    pub(crate) stops: Arc<[String]>,
    /// Looks for `stops`; a clone per sample shares its tables.
    pub(crate) matcher: StopMatcher,
    pub(crate) include_stop: bool,
    pub(crate) skip_special: bool,
    pub(crate) kept_special: Arc<[TokenId]>,
    pub(crate) tokens_only: bool,
    pub(crate) start: TextStart,
}

impl ValidatedRequest {
    /// Name of the request.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Tokens of the prompt; at least 1.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt.len() as u32
    }

    /// Upper bound of generated tokens per sample, which fits the context; 0 if the prompt is all that was asked for.
    pub fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// Number of sessions: samples, or outputs of a beam search; at least 1.
    pub fn samples(&self) -> u16 {
        self.samples
    }

    /// How many of the [`samples`](Self::samples) the client asked to see; where that is fewer, the best of them, by
    /// [`best_of`](crate::best_of).
    pub fn returned(&self) -> u16 {
        self.returned
    }

    /// Rows of a step that the request takes: its samples or its beams.
    pub(crate) fn rows(&self) -> u16 {
        self.sampling.beam.map_or(self.samples, |beam| beam.width)
    }

    /// Resolved sampling parameters.
    pub fn sampling(&self) -> &Arc<SamplingParams> {
        &self.sampling
    }

    /// The adapter that the request names.
    pub fn adapter(&self) -> Option<&str> {
        self.adapter.as_deref()
    }

    pub(crate) fn retention(&self) -> Retention {
        self.retention
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    pub(crate) fn max_unread(&self) -> Option<usize> {
        self.max_unread
    }

    pub(crate) fn text(&self) -> &TextOptions {
        &self.text
    }

    /// The scheduler's view; `limits` can only be shortened by the request, and `adapter` is the one that it names.
    pub(crate) fn into_request(self, now: Instant, limits: &Deadlines, adapter: AdapterId) -> Request {
        Request {
            id: self.id,
            prompt: self.prompt,
            sampling: self.sampling,
            max_tokens: self.max_tokens,
            samples: self.samples,
            priority: self.priority,
            tenant: self.tenant,
            salt: self.salt,
            adapter,
            retention: self.retention,
            enqueued_at: now,
            deadlines: Deadlines {
                queue: shorter(self.deadlines.queue, limits.queue),
                first_token: shorter(self.deadlines.first_token, limits.first_token),
                total: shorter(self.deadlines.total, limits.total),
            },
        }
    }
}

fn shorter<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl ServedModel {
    /// Fills in the defaults of the model, then checks every value.
    ///
    /// `max_tokens` is an upper bound: it is reduced to the room that the prompt leaves in the context. The
    /// prompt itself is never cut.
    ///
    /// # Errors
    /// The first parameter that is out of range, with the value given and the values allowed.
    pub fn validate(&self, params: GenerateParams) -> Result<ValidatedRequest, InvalidRequest> {
        // An embedding is over with its prompt.
        let asked = if params.pooling.is_some() { Some(0) } else { params.max_tokens };
        let room = self.check_prompt(&params.prompt_tokens, asked != Some(0))?;
        let most = u32::from(self.limits.samples);
        let returned = integer("n", params.n.unwrap_or(1), 1, most)?;
        let best_of = integer("best_of", params.best_of.unwrap_or(returned), returned, most)?;
        let samples = if params.use_beam_search { returned } else { best_of } as u16;
        let returned = returned as u16;
        let max_tokens = asked.map_or(room, |asked| asked.min(room));
        let min_tokens = check_min_tokens(&params, max_tokens)?;
        let id = match params.id {
            Some(id) => id,
            None => RequestId::new(),
        };
        let beam = check_beam(&params, best_of as u16)?;
        let mut sampling = self.sampling(&params, min_tokens, id)?;
        if beam.is_some() {
            // The defaults of the model are for drawing.
            let SamplingParams { seed, stop_ids, logprobs, .. } = sampling;
            sampling =
                SamplingParams { beam, seed, stop_ids, min_tokens, logprobs, ..SamplingParams::greedy() };
        }
        if returned < samples {
            // The choice among them needs what each token cost.
            sampling.logprobs.get_or_insert(0);
        }
        if params.tokens_only && !params.stop.is_empty() {
            return Err(invalid(
                "stop",
                "stop strings need text, and tokens_only makes none; drop one".to_owned(),
            ));
        }
        sampling.constraint = self.check_constraint(&params, samples, &sampling.stop_ids)?;
        sampling.report = self.check_report(&params)?;
        let stops = self.check_stops(params.stop)?;
        Ok(ValidatedRequest {
            id,
            prompt: params.prompt_tokens.into(),
            sampling: Arc::new(sampling),
            max_tokens,
            samples,
            returned,
            priority: params.priority,
            tenant: params.tenant,
            salt: params.salt,
            adapter: params.adapter,
            retention: params.retention,
            deadlines: params.deadlines,
            max_unread: params.max_unread.filter(|_| !params.use_beam_search),
            text: TextOptions {
                matcher: StopMatcher::new(Arc::clone(&stops), params.include_stop),
                stops,
                include_stop: params.include_stop,
                skip_special: params.skip_special_tokens.unwrap_or(true),
                kept_special: params.kept_special,
                tokens_only: params.tokens_only,
                start: params.text_start,
            },
        })
    }

    /// Returns the room left for output; at least 1 if something is to be generated.
    fn check_prompt(&self, prompt: &[TokenId], generates: bool) -> Result<u32, InvalidRequest> {
        if prompt.is_empty() {
            return Err(invalid("prompt", "the prompt has no tokens; give at least one".to_owned()));
        }
        for (index, &token) in prompt.iter().enumerate() {
            self.check_token("prompt", token, || format!("token {index} of the prompt"))?;
        }
        let context = self.max_model_len;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let output = u32::from(generates);
        if length.saturating_add(output) > context {
            return Err(InvalidRequest {
                param: "prompt",
                code: InvalidCode::ContextLengthExceeded { prompt_tokens: length, context },
                message: self.too_long(length, output),
            });
        }
        Ok(context - length)
    }

    /// What to tell of a prompt of `length` tokens that leaves no room for `output`.
    fn too_long(&self, length: u32, output: u32) -> String {
        let (context, needed) = (self.max_model_len, length.saturating_add(output));
        let with = if output > 0 { " with one for the output" } else { "" };
        let mut message = format!(
            "This model's maximum context length is {context} tokens; your prompt has {length} and{with} exceeds the \
             available context size by {}. Shorten it",
            needed - context
        );
        if needed <= self.trained_context {
            let longer = needed.next_multiple_of(1024).min(self.trained_context);
            message += &format!(", or restart with --max-model-len {longer}");
            let more = u64::from(longer - context) * self.kv_token_bytes;
            if more > 0 {
                message += &format!(" (needs +{} MiB per request)", more.div_ceil(1 << 20));
            }
        }
        message + "."
    }

    fn check_token(
        &self,
        param: &'static str,
        token: TokenId,
        what: impl Fn() -> String,
    ) -> Result<(), InvalidRequest> {
        if token < self.vocab_size {
            return Ok(());
        }
        let last = self.vocab_size.saturating_sub(1);
        Err(invalid(param, format!("{} is {token}; token ids of this model are 0 to {last}", what())))
    }

    fn sampling(
        &self,
        params: &GenerateParams,
        min_tokens: u32,
        id: RequestId,
    ) -> Result<SamplingParams, InvalidRequest> {
        let defaults = &self.defaults;
        let temperature = params.temperature.or(defaults.temperature).unwrap_or(1.0);
        let temperature = number("temperature", temperature, 0.0, MAX_TEMPERATURE)?;
        let repetition = params.repetition_penalty.or(defaults.repetition_penalty).unwrap_or(1.0);
        let penalty =
            |param, given: Option<f32>| number(param, given.unwrap_or(0.0), -MAX_PENALTY, MAX_PENALTY);
        Ok(SamplingParams {
            temperature: if temperature < GREEDY_BELOW { 0.0 } else { temperature },
            top_k: self.check_top_k(params.top_k)?,
            top_p: above_zero("top_p", params.top_p.or(defaults.top_p).unwrap_or(1.0), 1.0)?,
            min_p: number("min_p", params.min_p.or(defaults.min_p).unwrap_or(0.0), 0.0, 1.0)?,
            repetition_penalty: above_zero("repetition_penalty", repetition, MAX_REPETITION_PENALTY)?,
            presence_penalty: penalty("presence_penalty", params.presence_penalty)?,
            frequency_penalty: penalty("frequency_penalty", params.frequency_penalty)?,
            logit_bias: self.check_bias(&params.logit_bias)?,
            // The low half of a request id is random, and the id is in every log line, so a run can be repeated.
            seed: params.seed.unwrap_or(id.0.as_u128() as u64),
            stop_ids: self.check_stop_ids(params)?,
            min_tokens,
            logprobs: self.check_logprobs("logprobs", params.logprobs)?,
            beam: None,
            constraint: None,
            report: PromptReport::Nothing,
        })
    }

    fn check_top_k(&self, given: Option<i64>) -> Result<u32, InvalidRequest> {
        let top_k = given.or(self.defaults.top_k.map(i64::from)).unwrap_or(0);
        match u32::try_from(top_k.max(0)) {
            _ if top_k < -1 => Err(invalid(
                "top_k",
                format!("top_k is {top_k}; allowed: 1 or more, or 0 or -1 to keep all tokens"),
            )),
            Ok(top_k) if top_k < self.vocab_size => Ok(top_k),
            _ => Ok(0),
        }
    }

    fn check_bias(&self, given: &[(TokenId, f32)]) -> Result<Box<[(TokenId, f32)]>, InvalidRequest> {
        at_most("logit_bias", "entries", given.len(), self.limits.logit_bias)?;
        let mut bias: Box<[_]> = given.into();
        bias.sort_by_key(|&(token, _)| token);
        for &(token, value) in &bias {
            self.check_token("logit_bias", token, || "a token id of logit_bias".to_owned())?;
            if !(-MAX_BIAS..=MAX_BIAS).contains(&value) {
                let message =
                    format!("the bias of token {token} is {value}; allowed: {} to {MAX_BIAS}", -MAX_BIAS);
                return Err(invalid("logit_bias", message));
            }
        }
        if let Some(pair) = bias.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(invalid("logit_bias", format!("token {} is named twice; name it once", pair[0].0)));
        }
        Ok(bias)
    }

    fn check_stop_ids(&self, params: &GenerateParams) -> Result<Box<[TokenId]>, InvalidRequest> {
        let given = &params.stop_token_ids;
        at_most("stop_token_ids", "ids", given.len(), self.limits.stop_token_ids)?;
        for &token in given {
            self.check_token("stop_token_ids", token, || "an id of stop_token_ids".to_owned())?;
        }
        let own: &[TokenId] = if params.ignore_eos { &[] } else { &self.stop_ids };
        let mut ids = [given, own].concat();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids.into())
    }

    fn check_logprobs(&self, param: &'static str, given: Option<u32>) -> Result<Option<u8>, InvalidRequest> {
        let limit = u32::from(self.limits.top_logprobs).min(self.vocab_size);
        given.map(|k| integer(param, k, 0, limit).map(|k| k as u8)).transpose()
    }

    fn check_report(&self, params: &GenerateParams) -> Result<PromptReport, InvalidRequest> {
        match (params.pooling, self.check_logprobs("prompt_logprobs", params.prompt_logprobs)?) {
            (None, None) => Ok(PromptReport::Nothing),
            (None, Some(top)) => Ok(PromptReport::Logprobs { top }),
            (Some(pooling), None) => Ok(PromptReport::Hidden(pooling)),
            (Some(_), Some(top)) => Err(invalid(
                "prompt_logprobs",
                format!("prompt_logprobs is {top}; an embedding comes without, so leave it out"),
            )),
        }
    }

    fn check_stops(&self, stops: Vec<String>) -> Result<Arc<[String]>, InvalidRequest> {
        at_most("stop", "strings", stops.len(), self.limits.stop_strings)?;
        for stop in &stops {
            if stop.is_empty() {
                return Err(invalid(
                    "stop",
                    "a stop string is empty; give at least one character".to_owned(),
                ));
            }
            at_most("stop", "bytes in one string", stop.len(), self.limits.stop_string_bytes)?;
        }
        Ok(stops.into())
    }
}

fn check_min_tokens(params: &GenerateParams, max_tokens: u32) -> Result<u32, InvalidRequest> {
    let min_tokens = params.min_tokens.unwrap_or(0);
    if let Some(asked) = params.max_tokens {
        integer("min_tokens", min_tokens, 0, asked)?;
    }
    Ok(min_tokens.min(max_tokens))
}
