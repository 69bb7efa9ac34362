//! The sampler against a naive one that sorts the whole vocabulary in 64-bit arithmetic.

use pagoda_cpu::{RowLogits, Sampler, uniform};
use pagoda_sched::{
    ConstraintFault, RowFault, SampleIndex, SampleRequest, Sampled, SamplingParams, SharedConstraint,
    StepOutput, TokenConstraint, TokenId,
};
use std::sync::{Arc, Mutex};

/// A small generator for test inputs.
struct Inputs(u64);

impl Inputs {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        uniform(self.0, SampleIndex(999), 0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }

    /// Logits with ties, on a grid that 64-bit and 32-bit arithmetic agree on.
    fn logits(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.below(64) as f32 - 40.0) * 0.25).collect()
    }

    fn history(&mut self, len: usize, vocab: usize) -> Vec<TokenId> {
        (0..len).map(|_| self.below(vocab) as TokenId).collect()
    }
}

fn request(params: &SamplingParams) -> SampleRequest {
    SampleRequest {
        params: Arc::new(params.clone()),
        count: 1,
        generated: 0,
        history: 0..0,
        history_prompt: 0,
    }
}

fn sample_all(
    sampler: &mut Sampler,
    logits: &[f32],
    request: &SampleRequest,
    position: u32,
    history: &[TokenId],
) -> StepOutput {
    let mut output = StepOutput::default();
    let mut own = logits.to_vec();
    let mut row = RowLogits { logits: &mut own, position, first_sample: SampleIndex(0), request, history };
    sampler.sample(&mut row, &mut output);
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&own), bits(logits), "the raw logits are put back");
    output
}

fn sample(sampler: &mut Sampler, logits: &[f32], params: &SamplingParams, position: u32) -> TokenId {
    sample_all(sampler, logits, &request(params), position, &[]).samples[0].token.expect("a token")
}

/// Ids that remain, in the order in which a draw walks them, with their weights.
fn oracle(logits: &[f64], params: &SamplingParams) -> Vec<(TokenId, f64)> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |x: f64| ((x - max) / f64::from(params.temperature)).exp();
    let mut all: Vec<(TokenId, f64)> = (0..).zip(logits.iter().map(|&x| weight(x))).collect();
    if !(1..logits.len()).contains(&(params.top_k as usize)) && params.top_p == 1.0 {
        all.retain(|&(_, w)| w > 0.0 && w >= f64::from(params.min_p));
        return all;
    }
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN").then(a.0.cmp(&b.0)));
    if params.top_k > 0 {
        all.truncate(params.top_k as usize);
    }
    let mass = f64::from(params.top_p) * all.iter().map(|(_, w)| w).sum::<f64>();
    let mut sum = 0.0;
    all.retain(|&(_, w)| {
        let keep = params.top_p == 1.0 || sum < mass;
        sum += w;
        keep && w > 0.0 && w >= f64::from(params.min_p)
    });
    all
}

/// The oracle's answer to a draw, or `None` where it is too close to call in 32-bit weights.
fn oracle_draw(kept: &[(TokenId, f64)], u: f64) -> Option<TokenId> {
    let total: f64 = kept.iter().map(|(_, w)| w).sum();
    let target = u * total;
    let mut sum = 0.0;
    for &(token, weight) in kept {
        if (target - sum).abs() < 1e-5 * total {
            return None;
        }
        sum += weight;
        if target < sum - 1e-5 * total {
            return Some(token);
        }
    }
    None
}

#[test]
fn filters_agree_with_a_full_sort() {
    let mut inputs = Inputs(1);
    let mut compared = 0;
    let mut disagreements = 0;
    for case in 0..4_000_u32 {
        let vocab = 1 + inputs.below(900);
        let logits = inputs.logits(vocab);
        let params = SamplingParams {
            temperature: [0.3, 0.7, 1.0, 1.7, 4.0][inputs.below(5)],
            top_k: [0, 0, 1, 2, 7, 40, 1_000][inputs.below(7)],
            top_p: [1.0, 1.0, 0.05, 0.5, 0.9, 0.99, 0.999_9][inputs.below(7)],
            min_p: [0.0, 0.0, 0.013, 0.2, 1.0][inputs.below(5)],
            seed: u64::from(case),
            ..SamplingParams::greedy()
        };
        let exact: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let kept = oracle(&exact, &params);
        let mut sampler = Sampler::new(vocab);
        for position in 0..4 {
            let token = sample(&mut sampler, &logits, &params, position);
            if let Some(expected) = oracle_draw(&kept, uniform(params.seed, SampleIndex(0), position)) {
                compared += 1;
                // A nucleus may end one id sooner or later where its mass meets top_p to within rounding.
                disagreements += u32::from(token != expected);
            }
        }
    }
    assert!(compared > 15_000, "{compared} draws compared");
    assert!(disagreements <= compared / 2_000, "{disagreements} of {compared} draws differ");
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let mut sampler = Sampler::new(5);
    let params = SamplingParams::greedy();
    assert_eq!(sample(&mut sampler, &[1.0, 4.0, 4.0, -2.0, 4.0], &params, 0), 1);
    assert_eq!(sample(&mut sampler, &[-0.0, 0.0, -1.0, -2.0, 0.0], &params, 0), 0);
    let top_1 = SamplingParams { temperature: 1.0, top_k: 1, ..params };
    assert_eq!(sample(&mut sampler, &[1.0, 4.0, 4.0, -2.0, 4.0], &top_1, 0), 1);
}

#[test]
fn penalties_bias_and_masks_apply_in_order() {
    let vocab = 50;
    let mut inputs = Inputs(2);
    let mut sampler = Sampler::new(vocab);
    for case in 0..300 {
        let logits = inputs.logits(vocab);
        let history = inputs.history(30, vocab);
        let prompt = inputs.below(31);
        let params = SamplingParams {
            repetition_penalty: [1.0, 1.3, 0.8][inputs.below(3)],
            presence_penalty: [0.0, 0.7, -1.0][inputs.below(3)],
            frequency_penalty: [0.0, 0.4][inputs.below(2)],
            logit_bias: vec![(inputs.below(vocab) as TokenId, 3.0)].into(),
            stop_ids: vec![3, 7].into(),
            min_tokens: 5,
            ..SamplingParams::greedy()
        };
        let generated = inputs.below(10) as u32;
        let expected = (0..vocab as TokenId)
            .map(|id| {
                let mut x = logits[id as usize];
                let seen = history.contains(&id);
                let count = history[prompt..].iter().filter(|&&t| t == id).count() as f32;
                if seen {
                    x = if x > 0.0 { x / params.repetition_penalty } else { x * params.repetition_penalty };
                }
                x -= count * params.frequency_penalty;
                x -= if count > 0.0 { params.presence_penalty } else { 0.0 };
                x += params.logit_bias.iter().filter(|(t, _)| *t == id).map(|(_, b)| b).sum::<f32>();
                if generated < 5 && [3, 7].contains(&id) { f32::NEG_INFINITY } else { x }
            })
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (id, x)| if x > best.1 { (id, x) } else { best });
        let history_range = if params.needs_history() { 0..30 } else { 0..0 };
        let request = SampleRequest {
            generated,
            history: history_range.clone(),
            history_prompt: if params.needs_history() { prompt as u32 } else { 0 },
            ..request(&params)
        };
        let seen = &history[history_range.start as usize..history_range.end as usize];
        let output = sample_all(&mut sampler, &logits, &request, 9, seen);
        assert_eq!(output.samples[0].token, Ok(expected.0 as TokenId), "case {case}");
    }
}

#[test]
fn masked_ids_are_never_chosen() {
    let mut inputs = Inputs(3);
    for case in 0..400_u32 {
        let vocab = 2 + inputs.below(300);
        let logits = inputs.logits(vocab);
        let mut sampler = Sampler::new(vocab);
        let free = inputs.below(vocab) as TokenId;
        // All but a few ids are masked, among them usually the most likely ones.
        let stop_ids: Box<[TokenId]> = (0..vocab as TokenId).filter(|&t| t != free && t % 7 != 3).collect();
        let params = SamplingParams {
            temperature: 2.0,
            top_k: [0, 5][inputs.below(2)],
            top_p: [1.0, 0.9][inputs.below(2)],
            min_p: [0.0, 0.1][inputs.below(2)],
            seed: u64::from(case),
            stop_ids: stop_ids.clone(),
            min_tokens: 1,
            ..SamplingParams::greedy()
        };
        for position in 0..20 {
            let token = sample(&mut sampler, &logits, &params, position);
            assert!((token as usize) < vocab && !stop_ids.contains(&token), "case {case}: {token}");
        }
    }
}

#[test]
fn a_row_that_cannot_be_sampled_is_its_own_fault() {
    let mut sampler = Sampler::new(300);
    let faulty = Sampled { token: Err(RowFault::NonFiniteLogits), logprob: 0.0, top: 0..0 };
    let params = SamplingParams { logprobs: Some(3), ..SamplingParams::greedy() };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = vec![0.5; 300];
        logits[271] = bad;
        let twice = SampleRequest { count: 2, ..request(&params) };
        let output = sample_all(&mut sampler, &logits, &twice, 0, &[]);
        assert_eq!(output.samples, [faulty.clone(), faulty.clone()], "{bad}");
        assert!(output.top.is_empty());
    }
    let all_masked = SamplingParams { stop_ids: (0..300).collect(), min_tokens: 1, ..params };
    let output = sample_all(&mut sampler, &[0.5; 300], &request(&all_masked), 0, &[]);
    assert_eq!(output.samples, [faulty]);
}

#[test]
fn extreme_parameters_stay_in_range() {
    let mut sampler = Sampler::new(4);
    let logits = [f32::MAX, f32::MIN, 0.0, 1.0];
    for temperature in [0.0, f32::from_bits(1), 1e-20, 1e20, f32::MAX] {
        let params = SamplingParams {
            temperature,
            repetition_penalty: f32::MIN_POSITIVE,
            presence_penalty: f32::MAX,
            frequency_penalty: f32::MAX,
            logit_bias: vec![(0, f32::MAX), (1, f32::MIN), (9_999, 1.0)].into(),
            top_p: 1e-30,
            logprobs: Some(20),
            ..SamplingParams::greedy()
        };
        let history = [0, 1, 2, 2, 2];
        let request = SampleRequest { history: 0..5, history_prompt: 1, ..request(&params) };
        let output = sample_all(&mut sampler, &logits, &request, 0, &history);
        assert_eq!(output.samples[0].token, Ok(0));
        assert!(output.samples[0].logprob <= 0.0);
        assert_eq!(output.top.len(), 4, "no more alternatives than tokens");
    }
}

#[test]
fn logprobs_are_those_of_the_raw_logits() {
    let mut inputs = Inputs(4);
    for case in 0..200_u32 {
        let vocab = 30 + inputs.below(400);
        let logits = inputs.logits(vocab);
        let total = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let params = SamplingParams {
            temperature: 0.8,
            logit_bias: vec![(3, 2.0)].into(),
            logprobs: Some(5),
            seed: u64::from(case),
            ..SamplingParams::greedy()
        };
        let output = sample_all(
            &mut Sampler::new(vocab),
            &logits,
            &SampleRequest { count: 3, ..request(&params) },
            8,
            &[],
        );
        for sampled in &output.samples {
            let token = sampled.token.expect("a token");
            let exact = f64::from(logits[token as usize]) - total;
            assert!((f64::from(sampled.logprob) - exact).abs() < 1e-5, "case {case}");
            assert_eq!(sampled.top, 0..5, "samples of one row share their alternatives");
        }
        let mut ids: Vec<TokenId> = (0..vocab as TokenId).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        assert_eq!(output.top.iter().map(|t| t.token).collect::<Vec<_>>(), ids[..5], "case {case}");
        for top in &output.top {
            let exact = f64::from(logits[top.token as usize]) - total;
            assert!((f64::from(top.logprob) - exact).abs() < 1e-5, "case {case}");
        }
    }
}

#[test]
fn a_draw_depends_on_seed_sample_and_position_alone() {
    let mut inputs = Inputs(5);
    let logits = inputs.logits(700);
    let other = inputs.logits(700);
    let params = SamplingParams { temperature: 1.5, top_p: 0.95, seed: 42, ..SamplingParams::greedy() };
    let mut fresh = Sampler::new(700);
    let mut used = Sampler::new(700);
    for position in 0..200 {
        let expected = sample(&mut fresh, &logits, &params, position);
        let noise = SamplingParams { top_p: 1.0, top_k: 9, seed: u64::from(position), ..params.clone() };
        sample(&mut used, &other, &noise, 1_000 - position);
        assert_eq!(sample(&mut used, &logits, &params, position), expected);
    }
    let four = sample_all(&mut fresh, &logits, &SampleRequest { count: 4, ..request(&params) }, 5, &[]);
    for index in 0..4 {
        let one = request(&params);
        let mut row = RowLogits {
            logits: &mut logits.clone(),
            position: 5,
            first_sample: SampleIndex(index),
            request: &one,
            history: &[],
        };
        let mut output = StepOutput::default();
        used.sample(&mut row, &mut output);
        assert_eq!(output.samples[0].token, four.samples[usize::from(index)].token);
    }
}

/// Chi-square over draws at successive positions; the seeds are fixed, so the outcome is too.
#[test]
fn draws_follow_the_distribution() {
    const DRAWS: u32 = 20_000;
    let mut inputs = Inputs(6);
    let mut worst = f64::NEG_INFINITY;
    for case in 0..50_u64 {
        let vocab = 3 + inputs.below(40) + 600 * usize::from(case % 5 == 0);
        let logits: Vec<f32> = (0..vocab).map(|_| inputs.next() as f32 * 3.0).collect();
        let params = SamplingParams {
            temperature: 1.3,
            top_k: [0, 10][inputs.below(2)],
            top_p: [1.0, 0.9][inputs.below(2)],
            min_p: [0.0, 0.1][inputs.below(2)],
            seed: case,
            ..SamplingParams::greedy()
        };
        let exact: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let kept = oracle(&exact, &params);
        let total: f64 = kept.iter().map(|(_, w)| w).sum();
        let mut counts = vec![0_u32; vocab];
        let mut sampler = Sampler::new(vocab);
        for position in 0..DRAWS {
            counts[sample(&mut sampler, &logits, &params, position) as usize] += 1;
        }
        let chi_square: f64 = kept
            .iter()
            .map(|&(token, weight)| {
                let expected = f64::from(DRAWS) * weight / total;
                (f64::from(counts[token as usize]) - expected).powi(2) / expected
            })
            .sum();
        assert_eq!(kept.iter().map(|&(t, _)| counts[t as usize]).sum::<u32>(), DRAWS, "case {case}: outside");
        let freedom = (kept.len() - 1) as f64;
        worst = worst.max(standard_score(chi_square, freedom));
    }
    // 3.7 standard deviations: p of about 1e-4.
    assert!(worst < 3.7, "largest standard score {worst}");
}

/// Wilson and Hilferty's normal approximation of a chi-square variable.
fn standard_score(chi_square: f64, freedom: f64) -> f64 {
    if freedom == 0.0 {
        return f64::NEG_INFINITY;
    }
    let spread = 2.0 / (9.0 * freedom);
    ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// Allows the same ids everywhere and keeps what it is told.
#[derive(Debug, Default)]
struct Fixed {
    words: Vec<u32>,
    told: Mutex<Vec<(u16, u32, TokenId)>>,
}

impl TokenConstraint for Fixed {
    fn allowed(&self, _: SampleIndex, _: u32, words: &mut Vec<u32>) -> Result<(), ConstraintFault> {
        words.clear();
        words.extend(&self.words);
        if self.words.is_empty() { Err(ConstraintFault) } else { Ok(()) }
    }

    fn chosen(&self, sample: SampleIndex, generated: u32, token: TokenId) {
        self.told.lock().expect("no panic").push((sample.0, generated, token));
    }
}

fn constrained(words: Vec<u32>, params: SamplingParams) -> (Arc<Fixed>, SamplingParams) {
    let fixed = Arc::new(Fixed { words, ..Fixed::default() });
    let constraint = Some(SharedConstraint(Arc::clone(&fixed) as Arc<dyn TokenConstraint>));
    (fixed, SamplingParams { constraint, ..params })
}

#[test]
fn what_a_constraint_leaves_is_drawn_as_if_there_were_nothing_else() {
    let mut inputs = Inputs(31);
    for case in 0..60_u32 {
        let vocab = 1 + inputs.below(900);
        let logits = inputs.logits(vocab);
        let mut words: Vec<u32> = (0..vocab.div_ceil(32)).map(|_| inputs.below(1 << 32) as u32).collect();
        words[0] |= 1;
        let is_allowed = |id: usize| words[id / 32] >> (id % 32) & 1 == 1;
        let params = SamplingParams {
            temperature: [0.0, 0.7, 2.0][inputs.below(3)],
            top_k: [0, 5][inputs.below(2)],
            top_p: [1.0, 0.9][inputs.below(2)],
            min_p: [0.0, 0.1][inputs.below(2)],
            repetition_penalty: [1.0, 1.3][inputs.below(2)],
            seed: u64::from(case),
            logprobs: Some(4),
            ..SamplingParams::greedy()
        };
        let history = inputs.history(20, vocab);
        let history = if params.needs_history() { &*history } else { &[] };
        let mut masked = logits.clone();
        // A logit so low that no draw takes it is as good as none.
        masked
            .iter_mut()
            .enumerate()
            .filter(|(id, _)| !is_allowed(*id))
            .for_each(|(_, logit)| *logit = -1e30);
        let (_, params) = constrained(words.clone(), params);
        let mut sampler = Sampler::new(vocab);
        for position in 0..20 {
            let output = sample_all(&mut sampler, &logits, &request(&params), position, history);
            let free = SamplingParams { constraint: None, ..params.clone() };
            let plain = sample_all(&mut sampler, &logits, &request(&free), position, history);
            let expected = sample_all(&mut sampler, &masked, &request(&free), position, history);
            let token = output.samples[0].token.expect("a token");
            assert!(is_allowed(token as usize), "case {case}: {token}");
            assert_eq!(Ok(token), expected.samples[0].token, "case {case}");
            assert_eq!(output.top, plain.top, "case {case}: the model's own, not what is left");
            assert!(output.samples[0].logprob <= plain.top[0].logprob);
        }
    }
}

#[test]
fn each_sample_of_a_row_tells_its_token() {
    let (fixed, params) =
        constrained(vec![0b1010], SamplingParams { temperature: 1.0, ..SamplingParams::greedy() });
    let thrice = SampleRequest { count: 3, generated: 7, ..request(&params) };
    let output = sample_all(&mut Sampler::new(40), &[0.0; 40], &thrice, 0, &[]);
    let tokens = output.samples.iter().map(|sampled| sampled.token.expect("a token"));
    let expected: Vec<_> = (0..).zip(tokens).map(|(sample, token)| (sample, 7, token)).collect();
    assert_eq!(*fixed.told.lock().expect("no panic"), expected);
    assert!(expected.iter().all(|&(_, _, token)| token == 1 || token == 3));
}

#[test]
fn a_row_that_its_constraint_leaves_nothing_is_its_own_fault() {
    let faulty = Sampled { token: Err(RowFault::Constraint), logprob: 0.0, top: 0..0 };
    let params = SamplingParams { logprobs: Some(1), ..SamplingParams::greedy() };
    for words in [vec![], vec![0, 0], vec![0, 0, 1]] {
        let (_, params) = constrained(words, params.clone());
        let output = sample_all(&mut Sampler::new(40), &[0.0; 40], &request(&params), 0, &[]);
        assert_eq!(output.samples, std::slice::from_ref(&faulty));
        assert!(output.top.is_empty());
    }
}
