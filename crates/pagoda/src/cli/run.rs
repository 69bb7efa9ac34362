//! `pagoda run`: continue one prompt.

use super::args::RunArgs;
use super::exit::{CliError, Failure};
use super::find_model::next_steps;
use super::options::builder;
use super::progress::LoadBar;
use super::quantize;
use super::talk::{Conversation, Partner, converse};
use anyhow::{Context, anyhow};
use pagoda::text::{ChatInput, ChatTemplate, Special, TextError};
use pagoda::{Engine, GenerateParams, Prompt, RequestResult, ServedModel, SessionEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, Instant};

/// Streams the continuation to stdout and its figures to stderr; without a prompt, at a terminal, holds a conversation.
pub(crate) fn run(args: &RunArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let Some(text) = read_prompt(args)? else {
        let (engine, _) = load(args, started)?;
        return converse(&mut Local { engine, params: params(args) }, &mut Conversation::new(None));
    };
    let (engine, loaded) = load(args, started)?;
    let prompt = prepare_prompt(engine.model(), &text, args.sampling.raw)
        .map_err(|error| CliError::new(Failure::Usage, error))?;
    let mut out = std::io::stdout().lock();
    if prompt.continues {
        write(&mut out, &text)?;
    }
    let result = stream(&engine, prompt.tokens, params(args), &mut out)?;
    write(&mut out, "\n")?;
    report(&result, loaded.as_secs_f64());
    Ok(())
}

/// Loads the model; the time is that since the start.
fn load(args: &RunArgs, started: Instant) -> Result<(Engine, Duration), CliError> {
    let prepared = builder(args.model.as_deref(), &args.engine)?.prepare()?;
    quantize::announce(&prepared);
    let (quantized, begun) = (prepared.cpu.quantize, Instant::now());
    let mut bar = LoadBar::new();
    let engine = prepared.load(&mut |at| bar.show(at.fraction()))?;
    if let Some(format) = quantized {
        quantize::report(format, begun.elapsed());
    }
    Ok((engine, started.elapsed()))
}

/// What to continue: the argument, or what stdin holds. `None` at a terminal where there is no argument.
fn read_prompt(args: &RunArgs) -> Result<Option<String>, CliError> {
    match args.prompt.as_deref() {
        Some(prompt) if prompt != "-" => return Ok(Some(prompt.to_owned())),
        None if std::io::stdin().is_terminal() => return Ok(None),
        _ => {}
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin");
    read.map_err(|error| CliError::new(Failure::Runtime, error))?;
    if text.is_empty() && args.prompt.is_none() {
        eprint!("{}", next_steps("run"));
        let error =
            anyhow!("there is no prompt: give one, such as pagoda run \"Once upon a time\", or pipe it in");
        return Err(CliError::new(Failure::Usage, error));
    }
    Ok(Some(text))
}

/// The model of this process as a partner in a conversation.
struct Local {
    engine: Engine,
    params: GenerateParams,
}

impl Partner for Local {
    fn name(&self) -> String {
        self.engine.model().name().to_owned()
    }

    fn answer(&mut self, conversation: &Conversation) -> Result<String, CliError> {
        let tokens = conversation_tokens(self.engine.model(), &conversation.messages())
            .map_err(|error| CliError::new(Failure::Usage, error))?;
        let mut session = self
            .engine
            .generate(Prompt::Tokens(tokens), self.params.clone())
            .map_err(|error| CliError::new(Failure::Usage, error))?;
        let mut text = String::new();
        super::server::runtime()?.block_on(async {
            loop {
                // Dropping the session ends the answer.
                let event = tokio::select! {
                    event = session.next() => event,
                    _ = tokio::signal::ctrl_c() => None,
                };
                match event {
                    Some(SessionEvent::Delta { text: more, .. }) => {
                        write(&mut std::io::stdout().lock(), &more)?;
                        text += &more;
                    }
                    Some(SessionEvent::Prompt(_)) => {}
                    Some(SessionEvent::Failed(error)) => return Err(CliError::new(Failure::Runtime, error)),
                    Some(SessionEvent::Finished(_)) | None => return Ok(()),
                }
            }
        })?;
        write(&mut std::io::stdout().lock(), "\n")?;
        Ok(text)
    }

    fn set(&mut self, name: &str, value: Option<Value>) -> Result<(), String> {
        set(&mut self.params, name, value)
    }
}

/// Sets a field of the requests that follow.
fn set(params: &mut GenerateParams, name: &str, value: Option<Value>) -> Result<(), String> {
    fn of<T: DeserializeOwned>(name: &str, value: Option<Value>) -> Result<Option<T>, String> {
        let read = |value| serde_json::from_value(value).map_err(|error| format!("{name}: {error}"));
        value.map(read).transpose()
    }
    match name {
        "max_tokens" => params.max_tokens = of(name, value)?,
        "temperature" => params.temperature = of(name, value)?,
        "top_p" => params.top_p = of(name, value)?,
        "top_k" => params.top_k = of(name, value)?,
        "min_p" => params.min_p = of(name, value)?,
        "repetition_penalty" => params.repetition_penalty = of(name, value)?,
        "seed" => params.seed = of(name, value)?,
        "stop" => params.stop = of(name, value)?.unwrap_or_default(),
        _ => {
            let known = "max_tokens, temperature, top_p, top_k, min_p, repetition_penalty, seed and stop";
            return Err(format!("{name} cannot be set here; {known} can"));
        }
    }
    Ok(())
}

/// The conversation in the form of the model's chat template, or joined for a model that has none.
fn conversation_tokens(model: &ServedModel, messages: &Value) -> Result<Vec<u32>, TextError> {
    let tokenizer = &model.tokenizer;
    let Some(template) = tokenizer.chat_template() else {
        let texts =
            messages.as_array().into_iter().flatten().filter_map(|message| message["content"].as_str());
        return tokenizer.encode(&texts.collect::<Vec<_>>().join("\n"), Special::Add);
    };
    let text = template.render(&ChatInput { add_generation_prompt: true, ..ChatInput::new(messages) })?;
    tokenizer.encode(&text, Special::Skip)
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

fn params(RunArgs { sampling: args, engine, .. }: &RunArgs) -> GenerateParams {
    GenerateParams {
        adapter: engine.adapters.lora.first().map(|adapter| adapter.name.as_str().into()),
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
    Err(CliError::new(Failure::Internal, anyhow!("the stream ended without an end event")))
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
