//! `pagoda bench serve`: load on a server.

use super::super::exit::{CliError, Failure};
use super::args::{Backend, ServeLoadArgs};
use super::files::write_json;
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use pagoda::bench::serve::{
    Arrivals, BodySettings, Load, LoadOutcome, Metric, PromptForm, PromptSettings, Summary, SummarySettings,
    details,
};
use pagoda::bench::{compact_utc, iso_utc};
use pagoda::client::{Client, ClientError, Target};
use pagoda::text::{Tokenizer, TokenizerFiles};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Pause between attempts to reach a server that is not ready.
const READY_PAUSE: Duration = Duration::from_millis(500);

/// Sends the load, prints the figures and writes the result; fails if a request did.
pub(crate) fn serve(args: &ServeLoadArgs) -> Result<(), CliError> {
    let usage = |error: anyhow::Error| CliError::new(Failure::Usage, error);
    let summary = summary_settings(args).map_err(usage)?;
    let metadata = pairs(&args.results.metadata, '=').map_err(usage)?;
    let client = Arc::new(client(args).map_err(usage)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Failure::Runtime, error))?;
    runtime.block_on(async {
        let load = load(args, &client).await?;
        wait_until_ready(args, &client, &load).await?;
        let model = load.body.model.clone();
        let outcome = run(args, client, load).await;
        let figures = summary.summarize(&outcome);
        print!("{}", figures.text);
        if args.results.save_result || args.results.result_filename.is_some() {
            save(args, &model, &metadata, &figures, &outcome)?;
        }
        verdict(&figures, &outcome)
    })
}

fn client(args: &ServeLoadArgs) -> anyhow::Result<Client> {
    let url = args.base_url.clone().unwrap_or_else(|| format!("http://{}:{}", args.host, args.port));
    let headers = pairs(&args.header, '=')?.into_iter().map(|(name, value)| {
        Ok((
            name.parse().with_context(|| format!("--header {name:?} is no name of a header"))?,
            value.parse().with_context(|| format!("--header {name} has a value that cannot be sent"))?,
        ))
    });
    let headers: anyhow::Result<Vec<_>> = headers.collect();
    Ok(Client::new(Target::parse(&url)?, headers?))
}

/// Splits `name<separator>value`.
fn pairs(texts: &[String], separator: char) -> anyhow::Result<Vec<(String, String)>> {
    let split = |text: &String| {
        let pair = text.split_once(separator).filter(|(name, _)| !name.is_empty());
        let (name, value) =
            pair.with_context(|| format!("{text:?} is not of the form NAME{separator}VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(split).collect()
}

fn summary_settings(args: &ServeLoadArgs) -> anyhow::Result<SummarySettings> {
    let goodput: anyhow::Result<Vec<(Metric, f64)>> = pairs(&args.results.goodput, ':')?
        .into_iter()
        .map(|(metric, limit)| {
            let limit =
                limit.parse().with_context(|| format!("--goodput {metric}:{limit} has no number of ms"))?;
            Ok((metric.parse().map_err(|error: String| anyhow!("--goodput: {error}"))?, limit))
        })
        .collect();
    Ok(SummarySettings {
        metrics: args.results.percentile_metrics.clone(),
        percentiles: args.results.metric_percentiles.clone(),
        goodput: goodput?,
        max_concurrency: args.max_concurrency.map(|most| most as usize),
        request_rate: args.request_rate,
    })
}

async fn load(args: &ServeLoadArgs, client: &Client) -> Result<Load, CliError> {
    let usage = |error: anyhow::Error| CliError::new(Failure::Usage, error);
    let endpoint = args.endpoint.clone().unwrap_or_else(|| match args.backend {
        Backend::Openai => "/v1/completions".to_owned(),
        Backend::OpenaiChat => "/v1/chat/completions".to_owned(),
    });
    if !endpoint.starts_with('/') {
        return Err(usage(anyhow!(
            "--endpoint {endpoint} has to start with /, for instance /v1/completions"
        )));
    }
    let chat = endpoint.ends_with("/chat/completions");
    let extra = extra_body(args.extra_body.as_deref()).map_err(usage)?;
    let form = prompt_form(args, chat).map_err(usage)?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => first_model(args, client).await?,
    };
    let dataset = &args.dataset;
    Ok(Load {
        endpoint,
        prompts: PromptSettings {
            input_len: dataset.random_input_len,
            output_len: dataset.random_output_len,
            prefix_len: dataset.random_prefix_len,
            range_ratio: dataset.random_range_ratio,
            seed: dataset.seed,
            form,
        },
        body: BodySettings { model, chat, temperature: args.temperature, ignore_eos: args.ignore_eos, extra },
        requests: dataset.num_prompts as usize,
        arrivals: Arrivals { rate: args.request_rate, burstiness: args.burstiness, seed: dataset.seed },
        max_concurrency: args.max_concurrency.map(|most| most as usize),
        timeout: Duration::from_secs(args.request_timeout),
    })
}

fn extra_body(text: Option<&str>) -> anyhow::Result<Map<String, Value>> {
    let Some(text) = text else { return Ok(Map::new()) };
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(anyhow!("--extra-body is no JSON object")),
        Err(error) => Err(anyhow!("--extra-body is no JSON: {error}")),
    }
}

fn prompt_form(args: &ServeLoadArgs, chat: bool) -> anyhow::Result<PromptForm> {
    match &args.dataset.tokenizer {
        Some(folder) => Ok(PromptForm::Text(Arc::new(read_tokenizer(folder)?))),
        None if chat => Ok(PromptForm::Words),
        // Ids near 0 are often special tokens.
        None => Ok(PromptForm::Ids(args.dataset.vocab_size.min(600) / 2..args.dataset.vocab_size)),
    }
}

fn read_tokenizer(folder: &Path) -> anyhow::Result<Tokenizer> {
    let file = folder.join("tokenizer.json");
    let tokenizer_json = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Tokenizer::from_files(&TokenizerFiles {
        origin: &folder.display().to_string(),
        tokenizer_json: &tokenizer_json,
        ..TokenizerFiles::default()
    })?)
}

/// The first model that the server lists.
async fn first_model(args: &ServeLoadArgs, client: &Client) -> Result<String, CliError> {
    let limit = Instant::now() + Duration::from_secs(args.ready_check_timeout_sec);
    loop {
        match client.first_model().await {
            Ok(id) => return Ok(id),
            // Only a server that is not there yet is worth waiting for.
            Err(error) if matches!(error, ClientError::Answer(_)) || Instant::now() >= limit => {
                let CliError { failure, error } = error.into();
                return Err(CliError::new(failure, error.context("cannot ask the server for its models")));
            }
            Err(_) => tokio::time::sleep(READY_PAUSE).await,
        }
    }
}

/// Sends requests that do not count until one comes to its end, then the warm-ups.
async fn wait_until_ready(args: &ServeLoadArgs, client: &Client, load: &Load) -> Result<(), CliError> {
    let limit = Instant::now() + Duration::from_secs(args.ready_check_timeout_sec);
    let first = load.requests as u64;
    loop {
        let outcome = load.one(client, first).await;
        match outcome.error {
            None => break,
            Some(error) if Instant::now() >= limit => {
                let error = anyhow!("the test request to {} failed: {error}", client.target().authority());
                return Err(CliError::new(Failure::Runtime, error));
            }
            Some(_) => tokio::time::sleep(READY_PAUSE).await,
        }
    }
    for index in 0..u64::from(args.num_warmups) {
        load.one(client, first + 1 + index).await;
    }
    Ok(())
}

async fn run(args: &ServeLoadArgs, client: Arc<Client>, load: Load) -> LoadOutcome {
    let bar = ProgressBar::hidden();
    if !args.results.quiet && std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("requests {bar:30} {pos}/{len} {elapsed}");
        bar.set_style(style.expect("the template is well-formed"));
    }
    bar.set_length(load.requests as u64);
    let moved = bar.clone();
    let outcome = load.run(client, move |ended| moved.set_position(ended as u64)).await;
    bar.finish_and_clear();
    outcome
}

/// Writes the result with the keys of `vllm bench serve`.
fn save(
    args: &ServeLoadArgs,
    model: &str,
    metadata: &[(String, String)],
    figures: &Summary,
    outcome: &LoadOutcome,
) -> Result<(), CliError> {
    let now = SystemTime::now();
    let backend = match args.backend {
        Backend::Openai => "openai",
        Backend::OpenaiChat => "openai-chat",
    };
    let tokenizer = args.dataset.tokenizer.as_deref().map(|folder| folder.display().to_string());
    let rate = if args.request_rate.is_finite() { json!(args.request_rate) } else { json!("inf") };
    let mut result = json!({
        "date": compact_utc(now),
        "date_utc": iso_utc(now),
        "endpoint_type": backend,
        "backend": backend,
        "label": args.results.label,
        "model_id": model,
        "tokenizer_id": tokenizer,
        "num_prompts": args.dataset.num_prompts,
        "request_rate": rate,
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
    });
    let fields = result.as_object_mut().expect("an object was written");
    fields.extend(metadata.iter().map(|(key, value)| (key.clone(), json!(value))));
    fields.extend(figures.json.clone());
    if args.results.save_detailed {
        fields.extend(details(outcome));
    }
    let path = result_path(args, backend, model, now);
    write_json(&path, &result)
}

fn result_path(args: &ServeLoadArgs, backend: &str, model: &str, now: SystemTime) -> PathBuf {
    let name = args.results.result_filename.clone().unwrap_or_else(|| {
        let label = args.results.label.as_deref().unwrap_or(backend);
        let most = args.max_concurrency.map_or_else(String::new, |most| format!("-concurrency{most}"));
        let model = model.rsplit('/').next().unwrap_or(model);
        format!("{label}-{}qps{most}-{model}-{}.json", args.request_rate, compact_utc(now)).into()
    });
    args.results.result_dir.clone().unwrap_or_default().join(name)
}

/// Most failures that are printed one by one.
const SHOWN_FAILURES: usize = 5;

fn verdict(figures: &Summary, outcome: &LoadOutcome) -> Result<(), CliError> {
    if figures.failed == 0 {
        return Ok(());
    }
    let failures = outcome.outcomes.iter().enumerate().filter_map(|(i, one)| Some((i, one.error.as_ref()?)));
    for (index, error) in failures.take(SHOWN_FAILURES) {
        eprintln!("request {index}: {error}");
    }
    let error = anyhow!("{} of {} requests failed", figures.failed, outcome.outcomes.len());
    Err(CliError::new(Failure::Runtime, error))
}
