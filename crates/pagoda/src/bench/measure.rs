//! One run of a workload through the engine, timed.

use super::process::{Disturbance, Usage, peak_rss_bytes, reset_peak_rss};
use super::profile::{PhaseProfiles, Profiler};
use super::stats::Distribution;
use super::workload::Workload;
use crate::{
    Engine, GenerateError, GenerateParams, Prompt, RequestError, RequestResult, Session, SessionEvent,
};
use pagoda_engine::CacheSalt;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::time::Instant;
use tokio::task::JoinSet;

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A request was not accepted.
    #[error("request {index} was not accepted: {source}")]
    Submit {
        /// Number of the prompt.
        index: u32,
        /// The engine's reason.
        source: GenerateError,
    },
    /// A request was not completed.
    #[error("request {index} was not completed: {source}")]
    Request {
        /// Number of the prompt.
        index: u32,
        /// The engine's reason.
        source: RequestError,
    },
    /// An answer was shorter than asked.
    #[error("answer {index} has {tokens} tokens instead of {expected}: {reason}")]
    Short {
        /// Number of the prompt.
        index: u32,
        /// Tokens that came.
        tokens: u32,
        /// Tokens that were asked for.
        expected: u32,
        /// Why it ended.
        reason: &'static str,
    },
    /// No thread for the clients.
    #[error("cannot start the clients: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Seconds from the first step to the last token.
    pub seconds: f64,
    /// Prompt tokens over the seconds until every sequence has its first token; absent unless all were sent at once.
    pub prefill_tok_s: Option<f64>,
    /// (Generated tokens - sequences) over the seconds after that, as other benchmarks count: tokens that came beside
    /// the prefill of other prompts are in it. Absent for a single token and unless all were sent at once.
    pub decode_tok_s: Option<f64>,
    /// Tokens generated in the seconds after that, and no others, over these seconds; absent likewise.
    pub steady_decode_tok_s: Option<f64>,
    /// Generated tokens over all seconds.
    pub output_tok_s: f64,
    /// Times to first token in milliseconds.
    pub ttft_ms: Distribution,
    /// Times between tokens in milliseconds.
    pub itl_ms: Distribution,
    /// Peak of resident memory.
    pub peak_rss_bytes: Option<u64>,
    /// Prompt tokens that came from the prefix cache.
    pub cached_tokens: u64,
    /// Times that a sequence lost its blocks.
    pub preemptions: u64,
    /// Hash of each answer's token ids, in the order of the prompts.
    pub answers: Vec<String>,
    /// What else went on; absent where the system does not tell.
    pub cores: Option<Disturbance>,
    /// Where the time of the steps went; absent unless it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<PhaseProfiles>,
}

impl Repetition {
    /// Hash of all answers.
    pub fn output_hash(&self) -> String {
        output_hash(&self.answers)
    }
}

/// Hash of the hashes of `answers`.
pub(crate) fn output_hash(answers: &[String]) -> String {
    hash(answers.iter().flat_map(|answer| answer.bytes()))
}

/// Runs `load` once: greedy, the end-of-sequence token ignored. `salt` keeps the prefix caches of runs apart. The steps
/// are profiled if `profiler` is given.
///
/// # Errors
/// [`BenchError`] at the first request that does not come to its full length.
pub fn measure(
    engine: &Engine,
    load: &Workload,
    salt: u64,
    profiler: Option<&Profiler<'_>>,
) -> Result<Repetition, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    reset_peak_rss();
    let usage = Usage::look();
    profiler.iter().for_each(|profiler| profiler.profile.start());
    let (answers, seconds) = runtime.block_on(drive(engine, load, salt))?;
    let cores = usage.and_then(|usage| usage.until_now());
    profiler.iter().for_each(|profiler| profiler.profile.stop());
    let profile = profiler.map(Profiler::phases);
    Ok(Repetition { profile, ..repetition(load, &answers, seconds, cores) })
}

/// One answer and when its tokens came, in seconds since the start.
#[derive(Debug)]
struct Answer {
    index: u32,
    sent: f64,
    times: Vec<f64>,
    hash: String,
    cached_tokens: u32,
    preemptions: u32,
}

/// Sends all requests, at most `concurrency` at once, and waits for them.
async fn drive(engine: &Engine, load: &Workload, salt: u64) -> Result<(Vec<Answer>, f64), BenchError> {
    // The first ones arrive together: no step begins before the last of them is in the queue.
    engine.handle().pause();
    let mut clients = JoinSet::new();
    let mut next = 0..load.prompts;
    let start = Instant::now();
    for index in next.by_ref().take(load.concurrency as usize) {
        clients.spawn(client(engine, load, salt, index, start)?);
    }
    let start_steps = start.elapsed().as_secs_f64();
    engine.handle().resume();
    let mut answers = Vec::with_capacity(load.prompts as usize);
    while let Some(answer) = clients.join_next().await {
        answers.push(answer.expect("a client does not panic")?);
        if let Some(index) = next.next() {
            clients.spawn(client(engine, load, salt, index, start)?);
        }
    }
    let end = answers.iter().filter_map(|answer| answer.times.last()).copied().fold(0.0, f64::max);
    answers.sort_by_key(|answer| answer.index);
    // Time counts from the first step for those that waited for it.
    for answer in &mut answers {
        answer.sent = answer.sent.max(start_steps) - start_steps;
        answer.times.iter_mut().for_each(|time| *time -= start_steps);
    }
    Ok((answers, end - start_steps))
}

/// Submits request `index` and returns what waits for its answer.
fn client(
    engine: &Engine,
    load: &Workload,
    salt: u64,
    index: u32,
    start: Instant,
) -> Result<impl Future<Output = Result<Answer, BenchError>> + use<>, BenchError> {
    let params = GenerateParams {
        max_tokens: Some(load.output_len),
        temperature: Some(0.0),
        repetition_penalty: Some(1.0),
        ignore_eos: true,
        tokens_only: true,
        salt: CacheSalt(salt),
        ..GenerateParams::default()
    };
    let prompt = Prompt::Tokens(load.prompt(index, engine.model().vocab_size));
    let sent = start.elapsed().as_secs_f64();
    let session = engine.generate(prompt, params).map_err(|source| BenchError::Submit { index, source })?;
    let expected = load.output_len;
    Ok(async move { receive(session, Answer::new(index, sent), expected, start).await })
}

impl Answer {
    /// Takes the engine's own times of the first and the last token, since a client that had to wait for a processor
    /// saw them late.
    fn correct(&mut self, result: &RequestResult) {
        if let (Some(first), Some(wait)) = (self.times.first_mut(), result.time_to_first_token) {
            *first = first.min(self.sent + wait.as_secs_f64());
        }
        if let [.., before, last] = self.times.as_mut_slice() {
            *last = last.min(self.sent + result.processing_time.as_secs_f64()).max(*before);
        }
    }

    fn new(index: u32, sent: f64) -> Self {
        Self { index, sent, times: Vec::new(), hash: String::new(), cached_tokens: 0, preemptions: 0 }
    }
}

async fn receive(
    mut session: Session,
    mut answer: Answer,
    expected: u32,
    start: Instant,
) -> Result<Answer, BenchError> {
    let index = answer.index;
    loop {
        match session.next().await {
            Some(SessionEvent::Delta { tokens, .. }) => {
                let now = start.elapsed().as_secs_f64();
                answer.times.extend(tokens.iter().map(|_| now));
            }
            Some(SessionEvent::Prompt(_)) => {}
            Some(SessionEvent::Finished(result)) if result.tokens_generated == expected => {
                answer.correct(&result);
                answer.hash = hash(result.token_ids.iter().flat_map(|id| id.to_le_bytes()));
                answer.cached_tokens = result.cached_tokens;
                answer.preemptions = result.preemptions;
                return Ok(answer);
            }
            Some(SessionEvent::Finished(result)) => {
                let (tokens, reason) = (result.tokens_generated, result.reason.name());
                return Err(BenchError::Short { index, tokens, expected, reason });
            }
            Some(SessionEvent::Failed(source)) => return Err(BenchError::Request { index, source }),
            None => return Err(BenchError::Request { index, source: RequestError::Shutdown }),
        }
    }
}

fn repetition(load: &Workload, answers: &[Answer], seconds: f64, cores: Option<Disturbance>) -> Repetition {
    let first = |answer: &Answer| answer.times.first().copied().unwrap_or(seconds);
    let prefilled = answers.iter().map(first).fold(0.0, f64::max);
    let decoded = load.output_tokens() as f64 - f64::from(load.prompts);
    let rest = seconds - prefilled;
    let steady = answers.iter().flat_map(|answer| &answer.times).filter(|time| **time > prefilled).count();
    let burst = load.is_one_burst();
    let gaps = answers.iter().flat_map(|answer| answer.times.windows(2).map(|pair| pair[1] - pair[0]));
    Repetition {
        seconds,
        prefill_tok_s: (burst && prefilled > 0.0).then(|| load.prompt_tokens() as f64 / prefilled),
        decode_tok_s: (burst && decoded > 0.0 && rest > 0.0).then(|| decoded / rest),
        steady_decode_tok_s: (burst && steady > 0 && rest > 0.0).then(|| steady as f64 / rest),
        output_tok_s: load.output_tokens() as f64 / seconds.max(1e-9),
        ttft_ms: Distribution::of(answers.iter().map(|answer| 1e3 * (first(answer) - answer.sent))),
        itl_ms: Distribution::of(gaps.map(|gap| 1e3 * gap)),
        peak_rss_bytes: peak_rss_bytes(),
        cached_tokens: answers.iter().map(|answer| u64::from(answer.cached_tokens)).sum(),
        preemptions: answers.iter().map(|answer| u64::from(answer.preemptions)).sum(),
        answers: answers.iter().map(|answer| answer.hash.clone()).collect(),
        cores,
        profile: None,
    }
}

/// FNV-1a in hexadecimal digits: the same on every machine and in every version, unlike the standard library's.
fn hash(bytes: impl Iterator<Item = u8>) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(index: u32, times: &[f64]) -> Answer {
        Answer { times: times.to_vec(), hash: format!("{index:016x}"), ..Answer::new(index, 0.0) }
    }

    #[test]
    fn phases_end_with_the_last_first_token() {
        let load =
            Workload { concurrency: 2, prompts: 2, prefix_len: 0, input_len: 50, output_len: 3, seed: 0 };
        let answers = [answer(0, &[0.1, 0.15, 0.4]), answer(1, &[0.2, 0.3, 0.6])];
        let run = repetition(&load, &answers, 0.6, None);
        assert!((run.prefill_tok_s.expect("a burst") - 500.0).abs() < 1e-9);
        assert!((run.decode_tok_s.expect("a burst") - 10.0).abs() < 1e-9);
        // The token at 0.15 s came beside the prefill of the other prompt.
        assert!((run.steady_decode_tok_s.expect("a burst") - 7.5).abs() < 1e-9);
        assert!((run.output_tok_s - 10.0).abs() < 1e-9);
        assert!((run.itl_ms.max - 300.0).abs() < 1e-9 && run.itl_ms.count == 4);
        let queued = Workload { concurrency: 1, ..load };
        let run = repetition(&queued, &answers, 0.6, None);
        assert_eq!((run.prefill_tok_s, run.decode_tok_s), (None, None));
    }

    #[test]
    fn hashes_tell_answers_and_their_order_apart() {
        let ids = |ids: &[u32]| hash(ids.iter().flat_map(|id| id.to_le_bytes()));
        assert_eq!(ids(&[1, 2]), ids(&[1, 2]));
        assert_ne!(ids(&[1, 2]), ids(&[2, 1]));
        // The published value of FNV-1a for "a".
        assert_eq!(hash(std::iter::once(b'a')), "af63dc4c8601ec8c");
    }
}
