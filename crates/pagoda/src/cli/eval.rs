//! `pagoda eval`: how well a model predicts texts.

use super::args::EngineArgs;
use super::exit::{CliError, Failure};
use super::options::builder;
use super::progress::LoadBar;
use anyhow::Context;
use clap::{Args, Subcommand};
use pagoda::eval::{EvalError, perplexity};
use std::io::Read;
use std::time::Instant;

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Perplexity of a text.
    ///
    /// Example: pagoda eval ppl book.txt --window 512
    Ppl(PplArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PplArgs {
    /// File with the text; `-` reads it from stdin.
    pub(crate) file: String,

    /// Folder of the model in Hugging Face form, or a GGUF file; the embedded story model if absent.
    #[arg(short, long, env = "PAGODA_MODEL", value_name = "FOLDER")]
    pub(crate) model: Option<String>,

    /// Tokens of each window that the text is cut into; as many as the context holds if absent.
    #[arg(long, alias = "ctx", value_name = "N")]
    pub(crate) window: Option<u32>,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Runs the command that was typed.
pub(crate) fn eval(command: &EvalCommand) -> Result<(), CliError> {
    match command {
        EvalCommand::Ppl(args) => ppl(args),
    }
}

fn ppl(args: &PplArgs) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let prepared = builder(args.model.as_deref(), &args.engine)?.prepare()?;
    let mut bar = LoadBar::new();
    let engine = prepared.load(&mut |at| bar.show(at.fraction()))?;
    let begun = Instant::now();
    let scores = perplexity(&engine, &text, args.window).map_err(|error| {
        let failure = match &error {
            EvalError::Empty | EvalError::Window { .. } | EvalError::Text(_) => Failure::Usage,
            EvalError::Generate(_) | EvalError::Request(_) => Failure::Runtime,
        };
        CliError::new(failure, error)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let (perplexity, bits) = (scores.perplexity(), scores.bits_per_byte());
    if args.json {
        let figures = serde_json::json!({
            "perplexity": perplexity, "bits_per_byte": bits, "logprob": scores.logprob, "tokens": scores.tokens,
            "bytes": scores.bytes, "windows": scores.windows, "seconds": seconds,
        });
        println!("{figures}");
    } else {
        println!("perplexity {perplexity:.4}, {bits:.4} bits per byte");
        println!(
            "{} tokens in {} windows, log-probability {:.4}, {seconds:.1} s",
            scores.tokens, scores.windows, scores.logprob
        );
    }
    Ok(())
}

fn read(file: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match file {
        "-" => {
            std::io::stdin().read_to_string(&mut text).map(drop).context("cannot read the text from stdin")
        }
        file => std::fs::read_to_string(file)
            .map(|found| text = found)
            .with_context(|| format!("cannot read {file}")),
    };
    read.map_err(|error| CliError::new(Failure::Usage, error))?;
    Ok(text)
}
