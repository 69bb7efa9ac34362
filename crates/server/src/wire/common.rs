//! What both generating endpoints share.

use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::constraint::take_constraint;
use pagoda_engine::{Deadlines, EarlyStopping, GenerateParams, Priority, RequestResult, Retention};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest time limit that a request can ask for: a day.
const LONGEST_LIMIT: Duration = Duration::from_secs(86_400);

/// How the answer is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Server-sent events instead of one body.
    pub(crate) stream: bool,
    /// A last event with the usage.
    pub(crate) include_usage: bool,
    /// The usage so far on every event.
    pub(crate) continuous_usage: bool,
    /// Seconds of silence after which the stream is kept alive, instead of the server's; 0: never.
    pub(crate) ping_interval: Option<u32>,
    /// A comment at the beginning that tells the place in the queue. Some readers break on comments.
    pub(crate) queue_comment: bool,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
    queue_position: Option<bool>,
}

/// One string or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Takes `stream` and `stream_options`.
///
/// # Errors
/// For wrong types.
pub(crate) fn take_delivery(fields: &mut Fields<'_>) -> Result<Delivery, ApiError> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let options: Option<StreamOptions> = fields
        .take("stream_options", "an object with include_usage, continuous_usage_stats and queue_position")?;
    let options = options.unwrap_or_default();
    Ok(Delivery {
        stream,
        include_usage: options.include_usage.unwrap_or(false),
        continuous_usage: options.continuous_usage_stats.unwrap_or(false),
        ping_interval: take_ping_interval(fields)?,
        queue_comment: options.queue_position.unwrap_or(false),
    })
}

impl Delivery {
    /// Silence after which the stream is kept alive, where it is `own` for streams that say nothing of it.
    pub(crate) fn keep_alive(&self, own: Option<Duration>) -> Option<Duration> {
        match self.ping_interval {
            None => own,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        }
    }
}

/// llama.cpp's name; there, below 0 means never.
fn take_ping_interval(fields: &mut Fields<'_>) -> Result<Option<u32>, ApiError> {
    let seconds = fields.integer("sse_ping_interval")?;
    Ok(seconds.map(|seconds| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)))
}

/// Which numbers are shown beside an answer, and how tokens are named in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Most likely tokens beside each token of the text; `None` without log-probabilities.
    pub(crate) logprobs: Option<usize>,
    /// Most likely tokens beside each token of the prompt, in vLLM's shape; `None` without that.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Names that no two tokens have in common.
    pub(crate) tokens_as_ids: bool,
    /// Whether special tokens are left out of texts.
    pub(crate) skip_special: bool,
}

impl Shown {
    /// Takes `prompt_logprobs` and `return_tokens_as_token_ids`, beside the `logprobs` that were asked for.
    ///
    /// # Errors
    /// For wrong types.
    pub(crate) fn take(fields: &mut Fields<'_>, logprobs: Option<u32>) -> Result<Self, ApiError> {
        Ok(Self {
            logprobs: logprobs.map(|most| most as usize),
            prompt_logprobs: fields.count("prompt_logprobs")?.map(|most| most as usize),
            tokens_as_ids: fields.flag("return_tokens_as_token_ids")?.unwrap_or(false),
            skip_special: true,
        })
    }
}

/// Fewest tokens that a limit may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeastTokens {
    /// None, where something is said of the prompt.
    Zero,
    /// One.
    One,
}

/// Takes every field that says how tokens are chosen and where generation ends, except logprobs and the prompt.
///
/// # Errors
/// Names the field, the value and what is expected. Ranges are checked when the request is validated.
pub(crate) fn take_generation(
    fields: &mut Fields<'_>,
    least: LeastTokens,
) -> Result<GenerateParams, ApiError> {
    let max_tokens = smaller(
        take_limit(fields, "max_tokens", least)?,
        take_limit(fields, "max_completion_tokens", least)?,
    );
    let n = fields.count("n")?;
    Ok(GenerateParams {
        max_tokens,
        n,
        best_of: fields.count("best_of")?,
        use_beam_search: fields.flag("use_beam_search")?.unwrap_or(false),
        length_penalty: fields.number("length_penalty")?,
        early_stopping: take_early_stopping(fields)?,
        temperature: fields.number("temperature")?,
        top_k: fields.integer("top_k")?,
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        repetition_penalty: take_repetition(fields)?,
        presence_penalty: fields.number("presence_penalty")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        logit_bias: take_logit_bias(fields)?,
        seed: take_seed(fields)?,
        stop: take_stops(fields)?,
        include_stop: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
        stop_token_ids: fields.take("stop_token_ids", "a list of token ids")?.unwrap_or_default(),
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        min_tokens: fields.count("min_tokens")?,
        constraint: take_constraint(fields)?,
        skip_special_tokens: fields.flag("skip_special_tokens")?,
        priority: take_priority(fields)?,
        deadlines: take_deadlines(fields)?,
        retention: take_retention(fields)?,
        ..GenerateParams::default()
    })
}

/// When a beam search has found enough, in the words of Hugging Face and vLLM.
fn take_early_stopping(fields: &mut Fields<'_>) -> Result<Option<EarlyStopping>, ApiError> {
    const NAME: &str = "early_stopping";
    const EXPECTED: &str = "true, false or \"never\"";
    let Some(raw) = fields.take_raw(NAME) else { return Ok(None) };
    match raw {
        "true" => Ok(Some(EarlyStopping::Yes)),
        "false" => Ok(Some(EarlyStopping::No)),
        "\"never\"" => Ok(Some(EarlyStopping::Never)),
        _ => Err(mistyped(NAME, EXPECTED, raw)),
    }
}

/// Takes the repetition penalty under vLLM's name, else under llama.cpp's.
fn take_repetition(fields: &mut Fields<'_>) -> Result<Option<f32>, ApiError> {
    const ALIAS: &str = "repeat_penalty";
    let (own, alias) = (fields.number("repetition_penalty")?, fields.number(ALIAS)?);
    match alias {
        // Later checks know the other name only.
        Some(penalty) if own.is_none() && !(penalty > 0.0 && penalty <= 100.0) => {
            Err(ApiError::invalid(ALIAS, format!("{ALIAS} is {penalty}; allowed: above 0, up to 100")))
        }
        _ => Ok(own.or(alias)),
    }
}

/// Interfaces whose answers are one have no place for several.
///
/// # Errors
/// Names the field that asks for them.
pub(crate) fn check_single(params: &GenerateParams) -> Result<(), ApiError> {
    for (name, count) in [("n", params.n), ("best_of", params.best_of)] {
        if let Some(count) = count.filter(|&count| count != 1) {
            return Err(ApiError::invalid(name, format!("{name} is {count}; this endpoint gives 1 answer")));
        }
    }
    if params.use_beam_search {
        return Err(ApiError::unsupported("use_beam_search", "use /v1/chat/completions"));
    }
    Ok(())
}

pub(crate) fn take_limit(
    fields: &mut Fields<'_>,
    name: &str,
    least: LeastTokens,
) -> Result<Option<u32>, ApiError> {
    match fields.count(name)? {
        Some(0) if least == LeastTokens::One => {
            Err(ApiError::invalid(name, format!("{name} is 0; allowed: 1 or more")))
        }
        limit => Ok(limit),
    }
}

/// A seed is 64 bits without meaning, so a negative one is as good as any.
fn take_seed(fields: &mut Fields<'_>) -> Result<Option<u64>, ApiError> {
    let Some(raw) = fields.take_raw("seed") else { return Ok(None) };
    let signed = || serde_json::from_str(raw).map(i64::cast_unsigned);
    match serde_json::from_str(raw).or_else(|_| signed()) {
        Ok(seed) => Ok(Some(seed)),
        Err(_) => Err(mistyped("seed", "a 64-bit integer", raw)),
    }
}

/// Time limits in seconds, which OpenAI's interface does not have. Each can only shorten the server's own.
pub(crate) fn take_deadlines(fields: &mut Fields<'_>) -> Result<Deadlines, ApiError> {
    Ok(Deadlines {
        queue: fields.seconds("queue_timeout", LONGEST_LIMIT)?,
        first_token: fields.seconds("first_token_timeout", LONGEST_LIMIT)?,
        total: fields.seconds("timeout", LONGEST_LIMIT)?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionField {
    pin: Option<bool>,
    ttl: Option<f64>,
}

/// How long the prompt stays in the prefix cache, which OpenAI's interface does not have.
fn take_retention(fields: &mut Fields<'_>) -> Result<Retention, ApiError> {
    const NAME: &str = "cache_retention";
    let longest = LONGEST_LIMIT.as_secs_f64();
    let asked: Option<RetentionField> =
        fields.take(NAME, "an object, either {\"pin\": true} or {\"ttl\": seconds}")?;
    let Some(RetentionField { pin, ttl }) = asked else { return Ok(Retention::ORDINARY) };
    match (pin.unwrap_or(false), ttl) {
        (true, Some(_)) => {
            Err(ApiError::invalid(NAME, "cache_retention has both pin and ttl; give one of them"))
        }
        (true, None) => Ok(Retention::PINNED),
        (false, None) => Ok(Retention::ORDINARY),
        (false, Some(ttl)) if ttl > 0.0 && ttl <= longest => Ok(Retention::ttl(Duration::from_secs_f64(ttl))),
        (false, Some(ttl)) => {
            let message = format!("cache_retention.ttl is {ttl}; allowed: above 0, up to {longest} seconds");
            Err(ApiError::invalid(NAME, message))
        }
    }
}

/// Takes the name of a prefix cache, which only requests of the same tenant that give the same can share.
///
/// # Errors
/// For anything but a string of 1 to 256 bytes.
pub(crate) fn take_cache_salt(fields: &mut Fields<'_>) -> Result<Option<String>, ApiError> {
    let salt = fields.string("cache_salt")?;
    match salt.as_ref().map(String::len) {
        None | Some(1..=256) => Ok(salt),
        Some(bytes) => {
            let message = format!("cache_salt has {bytes} bytes; allowed: 1 to 256 bytes");
            Err(ApiError::invalid("cache_salt", message))
        }
    }
}

/// Both names mean an upper bound, so the smaller one holds.
pub(crate) fn smaller(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => a.or(b),
    }
}

fn take_stops(fields: &mut Fields<'_>) -> Result<Vec<String>, ApiError> {
    Ok(match fields.take::<OneOrMany>("stop", "a string or a list of strings")? {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    })
}

fn take_logit_bias(fields: &mut Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let entries: BTreeMap<String, f32> =
        fields.take(NAME, "an object of token id to number")?.unwrap_or_default();
    let parse = |(id, bias): (String, f32)| match id.parse() {
        Ok(token) => Ok((token, bias)),
        Err(_) => Err(mistyped(NAME, "keyed by token ids", &format!("{id:?}"))),
    };
    entries.into_iter().map(parse).collect()
}

/// A class by name, or vLLM's number, of which lower goes first and 0 is normal.
pub(crate) fn take_priority(fields: &mut Fields<'_>) -> Result<Priority, ApiError> {
    const EXPECTED: &str = "low, normal, high, urgent or an integer (lower goes first, 0 is normal)";
    let Some(raw) = fields.take_raw("priority") else { return Ok(Priority::default()) };
    match serde_json::from_str::<PriorityField>(raw) {
        Ok(PriorityField::Number(number)) => Ok(match number {
            ..=-2 => Priority::Urgent,
            -1 => Priority::High,
            0 => Priority::Normal,
            1.. => Priority::Low,
        }),
        Ok(PriorityField::Name(name)) => match name.as_str() {
            "low" => Ok(Priority::Low),
            "normal" => Ok(Priority::Normal),
            "high" => Ok(Priority::High),
            "urgent" => Ok(Priority::Urgent),
            _ => Err(mistyped("priority", EXPECTED, raw)),
        },
        Err(_) => Err(mistyped("priority", EXPECTED, raw)),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PriorityField {
    Number(i64),
    Name(String),
}

/// Token counts of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) total_tokens: u64,
    pub(crate) prompt_tokens_details: PromptDetails,
    pub(crate) completion_tokens_details: CompletionDetails,
}

/// More about the prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PromptDetails {
    /// Taken from the prefix cache.
    pub(crate) cached_tokens: u64,
}

/// More about the generated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CompletionDetails {
    pub(crate) reasoning_tokens: u64,
}

impl Usage {
    /// Usage of a call whose prompts have `prompt_tokens` in all, before anything is generated.
    pub(crate) fn of_prompt(prompt_tokens: u64) -> Self {
        Self { prompt_tokens, total_tokens: prompt_tokens, ..Self::default() }
    }

    /// Counts generated tokens.
    pub(crate) fn generated(&mut self, tokens: u64) {
        self.completion_tokens += tokens;
        self.total_tokens += tokens;
    }

    /// Counts what one finished choice took from the cache; samples of one prompt share it.
    pub(crate) fn finished(&mut self, result: &RequestResult) {
        if result.sample.0 == 0 {
            self.prompt_tokens_details.cached_tokens += u64::from(result.cached_tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(body: &str) -> Result<GenerateParams, ApiError> {
        take_generation(&mut Fields::parse(body.as_bytes()).unwrap(), LeastTokens::One)
    }

    fn refused(body: &str, param: &str, text: &str) {
        match generation(body).unwrap_err() {
            ApiError::Field { param: named, message, .. } => {
                assert_eq!(named, param, "{message}");
                assert!(message.contains(text), "{message:?} lacks {text:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_smaller_of_two_limits_holds() {
        let limit = |body| generation(body).unwrap().max_tokens;
        assert_eq!(limit(r#"{"max_tokens": 5, "max_completion_tokens": 3}"#), Some(3));
        assert_eq!(limit(r#"{"max_tokens": 5, "max_completion_tokens": null}"#), Some(5));
        assert_eq!(limit("{}"), None);
        assert_eq!(limit(r#"{"max_tokens": 99999999999999999999}"#), Some(u32::MAX));
    }

    #[test]
    fn stops_come_alone_or_in_a_list() {
        let stops = |body| generation(body).unwrap().stop;
        assert_eq!(stops(r#"{"stop": "a"}"#), ["a"]);
        assert_eq!(stops(r#"{"stop": ["a", "b"]}"#), ["a", "b"]);
        assert!(stops(r#"{"stop": null}"#).is_empty());
        assert!(stops(r#"{"stop": []}"#).is_empty());
        refused(r#"{"stop": [1]}"#, "stop", "a string or a list of strings, got [1]");
    }

    #[test]
    fn a_search_stops_early_in_three_ways() {
        let stopping =
            |text: &str| generation(&format!(r#"{{"early_stopping": {text}}}"#)).unwrap().early_stopping;
        assert_eq!(stopping("null"), None);
        assert_eq!(stopping("true"), Some(EarlyStopping::Yes));
        assert_eq!(stopping("false"), Some(EarlyStopping::No));
        assert_eq!(stopping("\"never\""), Some(EarlyStopping::Never));
        refused(r#"{"early_stopping": "soon"}"#, "early_stopping", "or \"never\", got \"soon\"");
        refused(r#"{"use_beam_search": 1}"#, "use_beam_search", "true or false, got 1");
    }

    #[test]
    fn every_64_bit_integer_is_a_seed() {
        let seed = |text: &str| generation(&format!(r#"{{"seed": {text}}}"#)).unwrap().seed;
        assert_eq!(seed("18446744073709551615"), Some(u64::MAX));
        assert_eq!(seed("-1"), Some(u64::MAX));
        assert_eq!(seed("1234"), Some(1234));
        assert_eq!(seed("null"), None);
    }

    #[test]
    fn biases_are_keyed_by_strings_of_ids() {
        let bias = |body| generation(body).unwrap().logit_bias;
        assert_eq!(bias(r#"{"logit_bias": {"3": -100, "1": 2.5}}"#), [(1, 2.5), (3, -100.0)]);
        refused(r#"{"logit_bias": {"the": 1}}"#, "logit_bias", "\"the\"");
        refused(r#"{"logit_bias": {"3": 1e999}}"#, "logit_bias", "must be an object");
        refused(r#"{"logit_bias": [1]}"#, "logit_bias", "must be an object");
    }

    #[test]
    fn priorities_have_names_and_numbers() {
        let class = |text: &str| generation(&format!(r#"{{"priority": {text}}}"#)).unwrap().priority;
        assert_eq!(class("null"), Priority::Normal);
        assert_eq!(class("\"urgent\""), Priority::Urgent);
        assert_eq!(class("-1"), Priority::High);
        assert_eq!(class("-9"), Priority::Urgent);
        assert_eq!(class("7"), Priority::Low);
        refused(r#"{"priority": "asap"}"#, "priority", "\"asap\"");
    }

    #[test]
    fn time_limits_are_seconds() {
        let limits = generation(r#"{"queue_timeout": 2, "first_token_timeout": 0.5, "timeout": 60}"#)
            .unwrap()
            .deadlines;
        let expected = [Some(2_000), Some(500), Some(60_000)].map(|ms| ms.map(Duration::from_millis));
        assert_eq!([limits.queue, limits.first_token, limits.total], expected);
        assert_eq!(generation("{}").unwrap().deadlines, Deadlines::default());
        refused(r#"{"timeout": 0}"#, "timeout", "timeout is 0; allowed: above 0, up to 86400 seconds");
        refused(r#"{"queue_timeout": -1}"#, "queue_timeout", "is -1");
        refused(r#"{"first_token_timeout": "soon"}"#, "first_token_timeout", "got \"soon\"");
    }

    #[test]
    fn a_prompt_is_kept_for_a_time_or_pinned() {
        let kept = |text: &str| generation(&format!(r#"{{"cache_retention": {text}}}"#)).unwrap().retention;
        assert_eq!(kept(r#"{"pin": true}"#), Retention::PINNED);
        assert_eq!(kept(r#"{"ttl": 60}"#), Retention::ttl(Duration::from_secs(60)));
        for ordinary in ["null", "{}", r#"{"pin": false}"#, r#"{"pin": false, "ttl": null}"#] {
            assert_eq!(kept(ordinary), Retention::ORDINARY, "{ordinary}");
        }
        for (text, part) in [
            (r#"{"pin": true, "ttl": 1}"#, "both pin and ttl"),
            (r#"{"ttl": 0}"#, "cache_retention.ttl is 0; allowed: above 0, up to 86400 seconds"),
            (r#"{"ttl": 1e9}"#, "cache_retention.ttl is 1000000000"),
            (r#"{"ttl": "60"}"#, "must be an object, either"),
            (r#"{"tll": 60}"#, "must be an object, either"),
            ("true", "must be an object, either"),
        ] {
            refused(&format!(r#"{{"cache_retention": {text}}}"#), "cache_retention", part);
        }
    }

    #[test]
    fn wrong_types_name_the_field_and_the_value() {
        refused(r#"{"temperature": "hot"}"#, "temperature", "a finite number, got \"hot\"");
        refused(r#"{"temperature": 1e309}"#, "temperature", "a finite number, got 1e309");
        refused(r#"{"seed": 1.5}"#, "seed", "a 64-bit integer, got 1.5");
        refused(r#"{"stop_token_ids": [-1]}"#, "stop_token_ids", "[-1]");
        refused(r#"{"ignore_eos": 1}"#, "ignore_eos", "true or false, got 1");
        refused(r#"{"max_tokens": -5}"#, "max_tokens", "got -5");
    }
}
