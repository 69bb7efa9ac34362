//! `pagoda plan`: whether a model fits, and what other formats of weights and of the KV cache would change.

use super::args::{KvCacheDtype, PlanArgs};
use super::exit::{CliError, Failure};
use super::inspect::describe;
use super::options::builder;
use super::progress::LoadBar;
use super::size::show_bytes;
use pagoda::bench::{Table, peak_rss_bytes, rss_bytes};
use pagoda::{Engine, GenerateParams, Prepared, Prompt};
use pagoda_kernels::QuantFormat;

/// Context of a request in the column that compares how many fit.
const SHORT: u64 = 2048;

/// Prints the plan of what was asked, then a table with the alternatives. What does not fit is the error of the command,
/// after the table.
pub(crate) fn plan(args: &PlanArgs) -> Result<(), CliError> {
    let asked = builder(args.model.as_deref(), &args.engine)?.prepare();
    if args.measure {
        // The alternatives would leave memory of their own.
        let prepared = asked?;
        println!("{}", describe(&prepared));
        return measure(prepared);
    }
    let mut table = Table::new([
        "weights",
        "KV cache",
        "bytes of weights",
        "of KV",
        "in all",
        "longest request",
        "requests of it",
        "of 2k",
    ]);
    if let Ok(prepared) = &asked {
        println!("{}", describe(prepared));
        table.row(row(prepared));
    }
    for prepared in alternatives(args)? {
        let known = asked.as_ref().is_ok_and(|asked| formats(asked) == formats(&prepared));
        if !known {
            table.row(row(&prepared));
        }
    }
    print!("{}", table.render());
    asked.map(drop).map_err(CliError::from)
}

/// Loads the model, fills its KV cache and prints what it took beside what was planned.
fn measure(prepared: Prepared) -> Result<(), CliError> {
    let program = rss_bytes().unwrap_or(0);
    let planned = program + prepared.memory.total();
    let layout = prepared.memory.layout;
    let slots = u64::from(layout.blocks - 1) * u64::from(layout.block_size);
    let (longest, vocabulary) = (prepared.model.max_model_len, prepared.model.vocab_size);
    let mut bar = LoadBar::new();
    let engine = prepared.load(&mut |at| bar.show(at.fraction()))?;
    let mut filled = 0;
    // Prompts that begin with different tokens have no blocks in common.
    for first in 0..vocabulary {
        let length = u64::from(longest - 1).min(slots - filled);
        let tokens = (0..length).map(|at| (first + at as u32) % vocabulary).collect();
        fill(&engine, tokens)?;
        filled += length + 1;
        if filled + u64::from(layout.block_size) > slots {
            break;
        }
    }
    let peak = peak_rss_bytes().unwrap_or(0);
    println!(
        "measured {} MiB at most, with {filled} tokens in the KV cache; planned {} = program {} + {}: {:+.1} %",
        peak >> 20,
        planned >> 20,
        program >> 20,
        (planned - program) >> 20,
        100.0 * (planned as f64 / peak.max(1) as f64 - 1.0),
    );
    Ok(())
}

/// Computes a prompt and one token after it.
fn fill(engine: &Engine, tokens: Vec<u32>) -> Result<(), CliError> {
    let failed = |error: anyhow::Error| CliError::new(Failure::Runtime, error);
    let params = GenerateParams { max_tokens: Some(1), ignore_eos: true, ..GenerateParams::default() };
    let session = engine.generate(Prompt::Tokens(tokens), params).map_err(|error| failed(error.into()))?;
    session.result_blocking().map(drop).map_err(|error| failed(error.into()))
}

/// The same with other formats, those that fit.
fn alternatives(args: &PlanArgs) -> Result<Vec<Prepared>, CliError> {
    let mut found: Vec<Prepared> = Vec::new();
    for quantize in [args.engine.quantize, Some(QuantFormat::INT8), Some(QuantFormat::INT4)] {
        for kv_cache_dtype in [KvCacheDtype::Auto, KvCacheDtype::Int8] {
            let mut engine = args.engine.clone();
            (engine.quantize, engine.kv_cache_dtype) = (quantize, kv_cache_dtype);
            if let Ok(prepared) = builder(args.model.as_deref(), &engine)?.prepare()
                && !found.iter().any(|other| formats(other) == formats(&prepared))
            {
                found.push(prepared);
            }
        }
    }
    Ok(found)
}

fn formats(prepared: &Prepared) -> [String; 2] {
    [prepared.memory.weight_formats.to_string(), prepared.memory.kv_dtype.to_string()]
}

fn row(prepared: &Prepared) -> Vec<String> {
    let (memory, longest) = (&prepared.memory, prepared.model.max_model_len);
    let rows = u64::from(prepared.engine.scheduler.max_num_seqs);
    let tokens = u64::from(memory.layout.blocks - 1) * u64::from(memory.layout.block_size);
    let fitting = |length: u64| if length <= u64::from(longest) { (tokens / length).min(rows) } else { 0 };
    let [weights, kv] = formats(prepared);
    vec![
        weights,
        kv,
        show_bytes(memory.weights),
        show_bytes(memory.kv),
        show_bytes(memory.total()),
        longest.to_string(),
        fitting(u64::from(longest)).to_string(),
        fitting(SHORT).to_string(),
    ]
}
