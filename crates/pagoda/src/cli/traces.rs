//! OpenTelemetry: a span for each call that the log tells of, with a child for each of its phases. Names are those of the semantic
//! conventions for generative AI; no text of a prompt or an answer is in them.

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::collections::HashMap;
use std::env;
use std::fmt::Debug;
use std::time::{Duration, SystemTime};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{self, Layer};
use tracing_subscriber::registry::LookupSpan;

/// The tracing target of the log of calls.
const TARGET: &str = "access";

/// Where the collector is; without one of them nothing is exported.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Sends spans in batches, from a thread of its own, and what is left when it is dropped.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Traces to the collector that the environment names; `None` if it names none.
    ///
    /// # Errors
    /// What is wrong with the environment's settings.
    pub(crate) fn of_environment() -> Result<Option<Self>, anyhow::Error> {
        if !ENDPOINTS.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty())) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build()?;
        Ok(Some(Self { provider: SdkTracerProvider::builder().with_batch_exporter(exporter).build() }))
    }

    /// What turns lines of the log into spans, whatever of the log is shown.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let calls = Targets::new().with_target(TARGET, tracing::Level::INFO);
        CallLayer { tracer: self.provider.tracer("pagoda") }.with_filter(calls)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            eprintln!("the last traces were not sent: {error}");
        }
    }
}

/// Makes a span of each line in the log of calls.
struct CallLayer {
    tracer: SdkTracer,
}

impl<S: tracing::Subscriber> Layer<S> for CallLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.span(&fields, SystemTime::now());
    }
}

impl CallLayer {
    fn span(&self, call: &Fields, end: SystemTime) {
        let at = |name| call.time(name).map(|time| (end - call.total()) + time);
        let begin = end - call.total();
        let operation = operation(call.text("route"));
        let name = [operation, call.text("model")].join(" ");
        let span = self.tracer.span_builder(name.trim_end().to_owned()).with_kind(SpanKind::Server);
        let span = span.with_start_time(begin).with_attributes(call.attributes(operation));
        let mut span = span.start_with_context(&self.tracer, &call.caller());
        if call.number("status") >= Some(500.0) {
            span.set_status(Status::error(""));
        }
        let inside = Context::new().with_remote_span_context(span.span_context().clone());
        let (queued, first) = (at("queue_ms"), at("ttft_ms"));
        let phases =
            [("queue", Some(begin), queued), ("prefill", queued, first), ("decode", first, Some(end))];
        for (name, from, to) in phases {
            let (Some(from), Some(to)) = (from, to) else { continue };
            let phase = self.tracer.span_builder(name).with_start_time(from);
            phase.start_with_context(&self.tracer, &inside).end_with_timestamp(to.max(from));
        }
        span.end_with_timestamp(end);
    }
}

/// `gen_ai.operation.name` of a route.
fn operation(route: &str) -> &'static str {
    match route.trim_start_matches("/v1") {
        "/completions" | "/completion" | "/infill" => "text_completion",
        "/embeddings" => "embeddings",
        route if route.ends_with("/completions") || route == "/messages" || route == "/responses" => "chat",
        _ => "request",
    }
}

/// The fields of a line.
#[derive(Default)]
struct Fields {
    texts: HashMap<&'static str, String>,
    numbers: HashMap<&'static str, f64>,
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.texts.insert(field.name(), value.to_owned());
    }

    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.numbers.insert(field.name(), value);
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.numbers.insert(field.name(), value as f64);
    }
}

impl Fields {
    fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// A field in milliseconds.
    fn time(&self, name: &str) -> Option<Duration> {
        Duration::try_from_secs_f64(self.number(name)? / 1e3).ok()
    }

    fn total(&self) -> Duration {
        self.time("total_ms").unwrap_or_default()
    }

    /// The span of another service that asked, where the call names one.
    fn caller(&self) -> Context {
        let ids = (TraceId::from_hex(self.text("trace_id")), SpanId::from_hex(self.text("parent_id")));
        let (Ok(trace), Ok(parent)) = ids else { return Context::new() };
        let caller = SpanContext::new(trace, parent, TraceFlags::SAMPLED, true, TraceState::NONE);
        Context::new().with_remote_span_context(caller)
    }

    fn attributes(&self, operation: &'static str) -> Vec<KeyValue> {
        let fixed = [
            KeyValue::new("gen_ai.operation.name", operation),
            KeyValue::new("gen_ai.provider.name", "pagoda"),
        ];
        let texts = [
            ("id", "gen_ai.response.id"),
            ("model", "gen_ai.response.model"),
            ("finish_reason", "gen_ai.response.finish_reasons"),
            ("method", "http.request.method"),
            ("route", "http.route"),
            ("client", "client.address"),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, attribute)| Some(KeyValue::new(attribute, self.texts.get(name)?.clone())));
        let numbers = [
            ("status", "http.response.status_code"),
            ("prompt_tokens", "gen_ai.usage.input_tokens"),
            ("output_tokens", "gen_ai.usage.output_tokens"),
            ("cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
            ("preemptions", "pagoda.preemptions"),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(name, attribute)| Some(KeyValue::new(attribute, self.number(name)? as i64)));
        fixed.into_iter().chain(texts).chain(numbers).collect()
    }
}
