//! `pagoda run`: continue one prompt.

use super::args::{RunArgs, SamplingArgs};
use super::exit::{CliError, Failure};
use super::options::builder;
use super::progress::LoadBar;
use super::quantize;
use anyhow::Context;
use pagoda::text::{ChatInput, ChatTemplate, Special, TextError};
use pagoda::{Engine, GenerateParams, Prompt, RequestResult, ServedModel, SessionEvent};
use std::io::{Read, Write};
use std::time::Instant;

/// Streams the continuation to stdout and its figures to stderr.
pub(crate) fn run(args: &RunArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let prepared = builder(args.model.as_deref(), &args.engine)?.prepare()?;
    quantize::announce(&prepared);
    let (quantized, begun) = (prepared.cpu.quantize, Instant::now());
    let mut bar = LoadBar::new();
    let engine = prepared.load(&mut |at| bar.show(at.fraction()))?;
    if let Some(format) = quantized {
        quantize::report(format, begun.elapsed());
    }
    let loaded = started.elapsed();
    let text = read_prompt(&args.prompt)?;
    let prompt = prepare_prompt(engine.model(), &text, args.sampling.raw)
        .map_err(|error| CliError::new(Failure::Usage, error))?;
    let mut out = std::io::stdout().lock();
    if prompt.continues {
        write(&mut out, &text)?;
    }
    let params = params(&args.sampling);
    let result = stream(&engine, prompt.tokens, params, &mut out)?;
    write(&mut out, "\n")?;
    report(&result, loaded.as_secs_f64());
    Ok(())
}

fn read_prompt(prompt: &str) -> Result<String, CliError> {
    if prompt != "-" {
        return Ok(prompt.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin");
    read.map_err(|error| CliError::new(Failure::Runtime, error))?;
    Ok(text)
}

struct PreparedPrompt {
    tokens: Vec<u32>,
    /// The model goes on where the prompt ends, rather than answering it.
    continues: bool,
}

/// Puts `text` into the model's chat template, if it has one and `raw` does not forbid it.
fn prepare_prompt(model: &ServedModel, text: &str, raw: bool) -> Result<PreparedPrompt, TextError> {
    let tokenizer = &model.tokenizer;
    let Some(template) = tokenizer.chat_template().filter(|_| !raw) else {
        return Ok(PreparedPrompt { tokens: tokenizer.encode(text, Special::Add)?, continues: true });
    };
    let answer = render(template, text, true)?;
    // A template that has no place for the start of an answer only joins the messages: the model continues them.
    let continues = answer == render(template, text, false)?;
    Ok(PreparedPrompt { tokens: tokenizer.encode(&answer, Special::Skip)?, continues })
}

fn params(args: &SamplingArgs) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(args.max_tokens),
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k.map(i64::from),
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        ..GenerateParams::default()
    }
}

fn stream(
    engine: &Engine,
    tokens: Vec<u32>,
    params: GenerateParams,
    out: &mut impl Write,
) -> Result<RequestResult, CliError> {
    let mut session = engine
        .generate(Prompt::Tokens(tokens), params)
        .map_err(|error| CliError::new(Failure::Usage, error))?;
    while let Some(event) = session.next_blocking() {
        match event {
            SessionEvent::Delta { text, .. } => write(out, &text)?,
            SessionEvent::Prompt(_) => {}
            SessionEvent::Finished(result) => return Ok(*result),
            SessionEvent::Failed(error) => return Err(CliError::new(Failure::Runtime, error)),
        }
    }
    Err(CliError::new(Failure::Internal, anyhow::anyhow!("the stream ended without an end event")))
}

/// Writes `text` at once. A reader that has gone away, as in `pagoda run … | head`, ends the run in silence.
fn write(out: &mut impl Write, text: &str) -> Result<(), CliError> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => {
            Err(CliError::new(Failure::Runtime, anyhow::Error::new(error).context("cannot write to stdout")))
        }
    })
}

fn report(result: &RequestResult, load_seconds: f64) {
    let first = result.time_to_first_token.unwrap_or(result.processing_time).as_secs_f64();
    let decoding = result.processing_time.as_secs_f64() - first;
    let decoded = result.tokens_generated.saturating_sub(1);
    let speed = if decoding > 0.0 { f64::from(decoded) / decoding } else { 0.0 };
    eprintln!(
        "{} prompt + {} generated tokens · {speed:.1} tokens/s · first token {first:.3} s (loaded in \
         {load_seconds:.3} s) · finished: {}",
        result.prompt_tokens,
        result.tokens_generated,
        result.reason.name(),
    );
}

fn render(template: &ChatTemplate, text: &str, add_generation_prompt: bool) -> Result<String, TextError> {
    let messages = serde_json::json!([{ "role": "user", "content": text }]);
    template.render(&ChatInput { add_generation_prompt, ..ChatInput::new(&messages) })
}
