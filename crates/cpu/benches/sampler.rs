//! Time of a row of logits in the sampler, by what the request asks for:
//!
//! ```sh
//! cargo bench -p pagoda-cpu --bench sampler
//! ```

use pagoda_cpu::{RowLogits, Sampler, uniform};
use pagoda_sched::{SampleIndex, SampleRequest, SamplingParams, StepOutput, TokenId};
use std::sync::Arc;
use std::time::Instant;

const VOCAB: usize = 151_936;
const ROWS: usize = 64;
const REPEATS: usize = 15;

fn main() {
    // Roughly normal with a deviation of 2.5, as a model's logits are over most of the vocabulary.
    let draw = |i: usize, j: u32| uniform(7, SampleIndex(j as u16), i as u32);
    let logit = |i| ((0..6).map(|j| draw(i, j)).sum::<f64>() - 3.0) as f32 * 3.5;
    let mut logits: Vec<f32> = (0..VOCAB * ROWS).map(logit).collect();
    let history: Vec<TokenId> = (0..256).map(|i| (i * 593) % VOCAB as TokenId).collect();
    let greedy = SamplingParams::greedy();
    let drawn = SamplingParams { temperature: 0.8, ..greedy.clone() };
    let cases = [
        ("greedy", greedy.clone()),
        (
            "greedy, penalties",
            SamplingParams { repetition_penalty: 1.1, presence_penalty: 0.3, ..greedy.clone() },
        ),
        ("greedy, 5 logprobs", SamplingParams { logprobs: Some(5), ..greedy }),
        ("temperature", drawn.clone()),
        ("top-k 50", SamplingParams { top_k: 50, ..drawn.clone() }),
        ("top-p 0.9", SamplingParams { top_p: 0.9, ..drawn.clone() }),
        ("min-p 0.05", SamplingParams { min_p: 0.05, ..drawn.clone() }),
        (
            "top-k 50, top-p 0.9, penalties",
            SamplingParams { top_k: 50, top_p: 0.9, repetition_penalty: 1.1, ..drawn },
        ),
    ];
    println!("{ROWS} rows of {VOCAB} logits, one thread; median of {REPEATS}");
    let mut sampler = Sampler::new(VOCAB);
    let mut output = StepOutput::default();
    for (name, params) in cases {
        let history = if params.needs_history() { &*history } else { &[] };
        let mut times: Vec<f64> = (0..REPEATS)
            .map(|_| {
                let start = Instant::now();
                run(&mut sampler, &params, history, &mut logits, &mut output);
                start.elapsed().as_secs_f64() * 1e6 / ROWS as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name:32} {:8.1} us per row", times[REPEATS / 2]);
    }
}

fn run(
    sampler: &mut Sampler,
    params: &SamplingParams,
    history: &[TokenId],
    logits: &mut [f32],
    output: &mut StepOutput,
) {
    let request = SampleRequest {
        params: Arc::new(params.clone()),
        count: 1,
        generated: 0,
        history: 0..history.len() as u32,
        history_prompt: history.len() as u32 / 2,
    };
    output.clear();
    for (position, logits) in (0..).zip(logits.chunks_exact_mut(VOCAB)) {
        let request = &request;
        let mut row = RowLogits { logits, position, first_sample: SampleIndex(0), request, history };
        sampler.sample(&mut row, output);
    }
    assert!(output.samples.iter().all(|sampled| sampled.token.is_ok()));
}
