//! Continuous against static batching on this machine: `cargo run --release --example batching [ROWS [REQUESTS]]`.
//!
//! The same requests, of as many prompt tokens and outputs of very different lengths, all there at once, in batches that others
//! join and leave at every step, and in batches of which the longest decides.

use pagoda::sched::Batching;
use pagoda::{Engine, GenerateParams};
use std::error::Error;
use std::time::{Duration, Instant};

const PROMPT: u32 = 32;

/// Output tokens of request `i`: most short, some long, as answers of chats are; 4 to 512.
fn output(i: u32) -> u32 {
    // The bits of i in reverse order spread evenly over 0 to 1.
    let even = f64::from(i.reverse_bits()) / f64::from(u32::MAX);
    (4.0 * 128f64.powf(even)) as u32
}

/// What a run took and how long after the start each request ended, sorted.
async fn run(
    batching: Batching,
    rows: u32,
    requests: u32,
) -> Result<(Duration, Vec<Duration>), Box<dyn Error>> {
    let mut builder = Engine::builder()
        .random("qwen2.5-0.5b".parse()?, 1)
        .quantize("w4a8".parse()?)
        .max_model_len(1024)
        .max_num_seqs(rows)
        .itl_target(Duration::from_secs(3600))
        .prefix_cache(false);
    let scheduler = &mut builder.engine_config().scheduler;
    scheduler.batching = batching;
    scheduler.max_waiting_requests = requests;
    let engine = builder.build()?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..requests)
        .map(|i| {
            let prompt: Vec<u32> = (0..PROMPT).map(|at| (i * 7919 + at * 104_729) % 100_000).collect();
            let params =
                GenerateParams { max_tokens: Some(output(i)), ignore_eos: true, ..GenerateParams::default() };
            let session = engine.generate(prompt, params)?;
            Ok(tokio::spawn(async move { session.result().await.map(|_| begun.elapsed()) }))
        })
        .collect::<Result<_, Box<dyn Error>>>()?;
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await??);
    }
    ends.sort();
    Ok((begun.elapsed(), ends))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let rows = arguments.next().transpose()?.unwrap_or(16);
    let requests = arguments.next().transpose()?.unwrap_or(64);
    let tokens: u32 = (0..requests).map(output).sum();
    for round in 0..2 {
        for batching in [Batching::Continuous, Batching::Static] {
            let (took, ends) = run(batching, rows, requests).await?;
            let p90 = ends[ends.len() * 9 / 10];
            println!(
                "round {round}, {batching:?}: {:.1} tokens/s, p90 of ends {:.1} s",
                f64::from(tokens) / took.as_secs_f64(),
                p90.as_secs_f64()
            );
        }
    }
    Ok(())
}
