//! From one row of logits to tokens.
//!
//! The order is: log-probabilities from the raw logits; repetition, then presence and frequency penalties; logit
//! bias; stop ids masked below `min_tokens`; what the constraint does not allow masked; temperature; top-k; top-p over what
//! top-k left; min-p; one draw per sample. Temperature 0 takes the most likely token, the lowest id among equals.
//!
//! A token is a pure function of the row's logits, its history, its parameters, the sample index and the
//! position: neither the batch nor the thread plays a part.

use crate::candidates::Candidates;
use crate::mask::Mask;
use crate::rng;
use crate::softmax::{self, Weigher};
use pagoda_kernels::{Kernels, RowStats};
use pagoda_sched::{
    PromptLogprob, RowFault, SampleIndex, SampleRequest, Sampled, SamplingParams, StepOutput, TokenId,
    TokenLogprob,
};

/// Ids per partial sum of a draw over the whole vocabulary.
const SPAN: usize = 256;

/// Set in a mark when the token occurs in prompt or output; the low bits count its occurrences in the output.
const SEEN: u32 = 1 << 31;
/// Set in a mark when the token's raw logit is kept in `undo`.
const SAVED: u32 = 1 << 30;

/// What one row asks for.
#[derive(Debug)]
pub struct RowLogits<'a> {
    /// `[vocab_size]` raw logits of the row's last token. Penalties, bias and masks change them in place while the row is
    /// sampled; afterwards they are as they were.
    pub logits: &'a mut [f32],
    /// Absolute position of the token that is to be chosen.
    pub position: u32,
    /// Index of the first sample; the others follow it.
    pub first_sample: SampleIndex,
    /// Parameters and counts.
    pub request: &'a SampleRequest,
    /// Prompt then output, where the parameters need it; ids below `vocab_size`.
    pub history: &'a [TokenId],
}

/// Chooses tokens; holds the scratch memory of one row, so that no call allocates.
#[derive(Debug)]
pub struct Sampler {
    kernels: &'static Kernels,
    /// Ids whose logit is changed, with the raw one.
    undo: Vec<(TokenId, f32)>,
    /// `[vocab_size]` weights by id, or by rank where only the most likely ids are kept.
    weights: Vec<f32>,
    /// `[vocab_size / SPAN]` partial sums of `weights`.
    spans: Vec<f64>,
    /// `[vocab_size]` occurrences in the history; all zero between calls.
    marks: Vec<u32>,
    /// What the constraint of the row leaves.
    mask: Mask,
    candidates: Candidates,
}

/// What a draw chooses from.
#[derive(Clone, Copy, Debug)]
enum Distribution {
    /// One id is certain.
    Certain(TokenId),
    /// `weights` by id, summed in `spans`.
    Vocabulary { total: f64 },
    /// `weights` by rank of the first `kept` candidates.
    Ranked { kept: usize, total: f64 },
}

impl Sampler {
    /// A sampler for rows of `vocab_size` logits, on the best kernels of the machine.
    pub fn new(vocab_size: usize) -> Self {
        Self::with_kernels(vocab_size, Kernels::best())
    }

    /// A sampler for rows of `vocab_size` logits.
    pub fn with_kernels(vocab_size: usize, kernels: &'static Kernels) -> Self {
        Self {
            kernels,
            undo: Vec::with_capacity(vocab_size),
            weights: vec![0.0; vocab_size],
            spans: Vec::with_capacity(vocab_size.div_ceil(SPAN)),
            marks: vec![0; vocab_size],
            mask: Mask::with_capacity(vocab_size),
            candidates: Candidates::with_capacity(vocab_size),
        }
    }

    /// Bytes that a sampler for `vocab_size` logits holds.
    pub fn bytes(vocab_size: usize) -> u64 {
        let per_id =
            size_of::<f32>() + size_of::<u32>() + size_of::<(TokenId, f32)>() + Candidates::ENTRY_BYTES;
        (vocab_size * per_id + vocab_size.div_ceil(SPAN) * size_of::<f64>() + Mask::bytes(vocab_size)) as u64
    }

    /// Bytes that this sampler holds.
    pub fn held_bytes(&self) -> u64 {
        let words = self.weights.capacity() + self.marks.capacity();
        let spans = self.spans.capacity() * size_of::<f64>();
        let undo = self.undo.capacity() * size_of::<(TokenId, f32)>();
        (words * size_of::<f32>() + undo + spans + self.mask.held_bytes() + self.candidates.held_bytes())
            as u64
    }

    /// Appends one [`Sampled`] per requested sample, and the row's most likely tokens if they were asked for.
    ///
    /// A NaN or infinite logit, a row whose ids are all masked, or a constraint that allows no token, is the fault of that
    /// row.
    ///
    /// # Panics
    /// If `row.logits` has another length than the sampler was made for.
    pub fn sample(&mut self, row: &mut RowLogits<'_>, output: &mut StepOutput) {
        assert_eq!(row.logits.len(), self.weights.len(), "a row has one logit per token of the vocabulary");
        let params = &*row.request.params;
        let raw = self.kernels.row_stats(row.logits);
        if !raw.finite {
            return fault(row, RowFault::NonFiniteLogits, output);
        }
        if let Some(constraint) = &params.constraint {
            // Samples that share a row have the same tokens, so what may follow is the same too.
            let (sample, generated) = (row.first_sample, row.request.generated);
            if constraint.allowed(sample, generated, self.mask.words()).is_err() {
                return fault(row, RowFault::Constraint, output);
            }
        }
        let reported = params.reported();
        let log_total =
            reported.map(|_| softmax::log_sum_exp(self.kernels, row.logits, raw.max, &mut self.weights));
        self.adjust(row);
        let distribution = if params.constraint.is_some() {
            self.masked_distribution(row.logits, params)
        } else {
            let stats = if self.undo.is_empty() { raw } else { self.kernels.row_stats(row.logits) };
            self.distribution(row.logits, &stats, params).ok_or(RowFault::NonFiniteLogits)
        };
        self.restore(row.logits);
        let distribution = match distribution {
            Ok(distribution) => distribution,
            Err(reason) => return fault(row, reason, output),
        };
        let first = output.samples.len();
        for offset in 0..row.request.count {
            let sample = SampleIndex(row.first_sample.0 + offset);
            let token = self.draw(distribution, || rng::uniform(params.seed, sample, row.position));
            if let Some(constraint) = &params.constraint {
                constraint.chosen(sample, row.request.generated, token);
            }
            let logprob = log_total.map_or(0.0, |total| logprob(row.logits[token as usize], total));
            output.samples.push(Sampled { token: Ok(token), logprob, top: 0..0 });
        }
        if let (Some(total), Some(count)) = (log_total, reported) {
            let start = output.top.len() as u32;
            self.most_likely(row.logits, count, total, &mut output.top);
            let top = start..output.top.len() as u32;
            output.samples[first..].iter_mut().for_each(|sampled| sampled.top = top.clone());
        }
    }

    /// Applies penalties, bias and masks, and keeps the raw logits of the ids that they change.
    fn adjust(&mut self, row: &mut RowLogits<'_>) {
        let params = &*row.request.params;
        if params.needs_history() {
            self.penalise(row);
        }
        for &(token, bias) in &params.logit_bias {
            if let Some(logit) = self.change(row.logits, token) {
                *logit = bounded(*logit + bias);
            }
        }
        if row.request.generated < params.min_tokens {
            for &token in &params.stop_ids {
                if let Some(logit) = self.change(row.logits, token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// The logit of `token`, whose raw value is kept; `None` outside the vocabulary.
    fn change<'a>(&mut self, logits: &'a mut [f32], token: TokenId) -> Option<&'a mut f32> {
        let logit = logits.get_mut(token as usize)?;
        let mark = &mut self.marks[token as usize];
        if *mark != SAVED {
            *mark = SAVED;
            self.undo.push((token, *logit));
        }
        Some(logit)
    }

    /// Puts the raw logits back.
    fn restore(&mut self, logits: &mut [f32]) {
        for (token, raw) in self.undo.drain(..) {
            logits[token as usize] = raw;
            self.marks[token as usize] = 0;
        }
    }

    /// Applies the penalties once to each id of the history.
    fn penalise(&mut self, row: &mut RowLogits<'_>) {
        let (params, history) = (&*row.request.params, row.history);
        let prompt = row.request.history_prompt as usize;
        for &token in &history[..prompt] {
            self.marks[token as usize] |= SEEN;
        }
        for &token in &history[prompt..] {
            self.marks[token as usize] = (self.marks[token as usize] | SEEN) + 1;
        }
        for &token in history {
            let mark = self.marks[token as usize];
            if mark == SAVED {
                continue;
            }
            let Some(logit) = self.change(row.logits, token) else { continue };
            let penalty = params.repetition_penalty;
            let repeated = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            let count = (mark & !SEEN) as f32;
            let present = if count > 0.0 { params.presence_penalty } else { 0.0 };
            *logit = bounded(bounded(repeated) - bounded(count * params.frequency_penalty) - present);
        }
    }

    /// Prepares the draws from what the constraint leaves of adjusted `logits`.
    fn masked_distribution(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
    ) -> Result<Distribution, RowFault> {
        let mut mask = std::mem::take(&mut self.mask);
        let left = mask.apply(logits);
        let stats = self.kernels.row_stats(left);
        let distribution = self.distribution(left, &stats, params);
        self.mask = mask;
        distribution.ok_or(RowFault::Constraint)
    }

    /// Prepares the draws from adjusted `logits`; `None` if every id is masked.
    fn distribution(
        &mut self,
        logits: &[f32],
        stats: &RowStats,
        params: &SamplingParams,
    ) -> Option<Distribution> {
        if stats.max == f32::NEG_INFINITY {
            return None;
        }
        if params.temperature == 0.0 || params.top_k == 1 {
            return Some(Distribution::Certain(stats.argmax as TokenId));
        }
        let weigher = Weigher::new(stats.max, params.temperature);
        let top_k = params.top_k as usize;
        if (1..logits.len()).contains(&top_k) {
            self.candidates.select_top(logits, top_k);
            let total: f64 = self.candidates.iter().map(|c| f64::from(weigher.weight(c.logit))).sum();
            return Some(self.nucleus(&weigher, params, total));
        }
        weigher.weigh(self.kernels, logits, &mut self.weights);
        if params.top_p < 1.0 {
            let total = softmax::sum(&self.weights);
            // Ids lighter than this weigh less than (1 - top_p) of the total even together, so the nucleus has
            // none of them; half of it leaves room for rounding.
            let cutoff = 0.5 * (1.0 - f64::from(params.top_p)) * total / logits.len() as f64;
            self.candidates.collect_heavy(logits, &self.weights, (cutoff as f32).max(params.min_p));
            return Some(self.nucleus(&weigher, params, total));
        }
        if params.min_p > 0.0 {
            self.weights.iter_mut().for_each(|w| *w = if *w >= params.min_p { *w } else { 0.0 });
        }
        self.spans.clear();
        self.spans.extend(self.weights.chunks(SPAN).map(softmax::sum));
        Some(Distribution::Vocabulary { total: self.spans.iter().sum() })
    }

    /// Keeps the shortest run of candidates with `top_p` of `total`, cut where the weight falls below `min_p`.
    fn nucleus(&mut self, weigher: &Weigher, params: &SamplingParams, total: f64) -> Distribution {
        let mass = if params.top_p < 1.0 { f64::from(params.top_p) * total } else { f64::INFINITY };
        let mut kept = 0;
        let mut sum = 0.0;
        while sum < mass
            && let Some(candidate) = self.candidates.ranked(kept)
        {
            let weight = weigher.weight(candidate.logit);
            if weight == 0.0 || weight < params.min_p {
                break;
            }
            self.weights[kept] = weight;
            sum += f64::from(weight);
            kept += 1;
        }
        Distribution::Ranked { kept, total: sum }
    }

    fn draw(&self, distribution: Distribution, uniform: impl FnOnce() -> f64) -> TokenId {
        match distribution {
            Distribution::Certain(token) => token,
            Distribution::Ranked { kept, total } => {
                let (rank, _) = walk(self.weights[..kept].iter().map(|&w| f64::from(w)), uniform() * total);
                self.candidates.get(rank).id
            }
            Distribution::Vocabulary { total } => {
                let (span, rest) = walk(self.spans.iter().copied(), uniform() * total);
                let start = span * SPAN;
                let end = (start + SPAN).min(self.weights.len());
                let (offset, _) = walk(self.weights[start..end].iter().map(|&w| f64::from(w)), rest);
                (start + offset) as TokenId
            }
        }
    }

    /// Appends how likely `token` is under `logits`, `[vocab_size]` raw ones, and the `top` most likely tokens: the numbers that
    /// [`sample`](Self::sample) reports with a token.
    ///
    /// # Panics
    /// If `logits` has another length than the sampler was made for, or if `token` is none of its ids.
    pub fn rate(&mut self, logits: &[f32], token: TokenId, top: usize, output: &mut StepOutput) {
        assert_eq!(logits.len(), self.weights.len(), "a row has one logit per token of the vocabulary");
        let top = top.min(logits.len());
        let raw = self.kernels.row_stats(logits);
        if !raw.finite {
            output.prompt.push(PromptLogprob { logprob: f32::NAN, rank: 0 });
            let none = TokenLogprob { token: 0, logprob: f32::NAN };
            return output.prompt_top.extend(std::iter::repeat_n(none, top));
        }
        let log_total = softmax::log_sum_exp(self.kernels, logits, raw.max, &mut self.weights);
        let own = logits[token as usize];
        output.prompt.push(PromptLogprob { logprob: logprob(own, log_total), rank: rank(logits, token) });
        self.most_likely(logits, top, log_total, &mut output.prompt_top);
    }

    /// Appends the `count` most likely tokens of the raw logits, lowest id first among equals.
    fn most_likely(&mut self, raw: &[f32], count: usize, log_total: f64, top: &mut Vec<TokenLogprob>) {
        self.candidates.select_top(raw, count);
        let likely = self.candidates.iter();
        top.extend(likely.map(|c| TokenLogprob { token: c.id, logprob: logprob(c.logit, log_total) }));
    }
}

/// The first index at which the running sum of `weights` exceeds `target`, and what of `target` was left there.
///
/// An index of weight zero is never chosen: where rounding carries `target` past the end, the answer is the last
/// index of positive weight.
fn walk(weights: impl Iterator<Item = f64>, target: f64) -> (usize, f64) {
    let mut rest = target;
    let mut last = (0, 0.0);
    for (index, weight) in weights.enumerate() {
        if weight > 0.0 {
            if rest < weight {
                return (index, rest);
            }
            last = (index, rest);
            rest -= weight;
        }
    }
    last
}

/// Place of `token` among all by logit, from 1; the lowest id first among equals.
fn rank(logits: &[f32], token: TokenId) -> u32 {
    let own = logits[token as usize];
    let count = |logits: &[f32], before: fn(f32, f32) -> bool| -> u32 {
        logits.iter().map(|&logit| u32::from(before(logit, own))).sum()
    };
    1 + count(logits, |logit, own| logit > own) + count(&logits[..token as usize], |logit, own| logit == own)
}

fn fault(row: &RowLogits<'_>, reason: RowFault, output: &mut StepOutput) {
    let faulty = Sampled { token: Err(reason), logprob: 0.0, top: 0..0 };
    output.samples.extend(std::iter::repeat_n(faulty, usize::from(row.request.count)));
}

fn logprob(logit: f32, log_total: f64) -> f32 {
    // A sum rounded down may put the most likely token a hair above certainty.
    ((f64::from(logit) - log_total) as f32).min(0.0)
}

/// Extreme penalties and biases saturate, so that they cannot make a row non-finite.
fn bounded(logit: f32) -> f32 {
    logit.clamp(f32::MIN, f32::MAX)
}
