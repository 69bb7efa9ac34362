//! Throughput over concurrency as a picture, with the roofline drawn in.

use super::chart::{Chart, Line, Mark, Series};
use super::report::{Point, Report};
use super::stats::Spread;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Generated tokens per second end to end.
    Output,
    /// Generated tokens per second after the prefill.
    Decode,
    /// Prompt tokens per second.
    Prefill,
}

impl Quantity {
    fn measured(self, point: &Point) -> Option<Spread> {
        match self {
            Self::Output => point.output_tok_s,
            Self::Decode => point.steady_decode_tok_s,
            Self::Prefill => point.prefill_tok_s,
        }
    }

    fn limit(self, point: &Point) -> Option<f64> {
        let limit = point.limit.as_ref()?;
        Some(match self {
            Self::Output => limit.output_tok_s,
            Self::Decode => limit.decode_tok_s,
            Self::Prefill => limit.prefill_tok_s,
        })
    }

    fn label(self) -> &'static str {
        match self {
            Self::Output => "output tokens per second, end to end",
            Self::Decode => "decode tokens per second",
            Self::Prefill => "prefill tokens per second",
        }
    }
}

/// Draws `quantity` of one or more reports over their concurrencies. Lines are named by what differs between the
/// reports.
pub fn chart(reports: &[Report], quantity: Quantity) -> Chart {
    let names = names(reports);
    let series = reports.iter().zip(names).map(|(report, name)| series(report, name, quantity)).collect();
    Chart {
        title: title(reports),
        subtitle: subtitle(reports),
        x_label: "concurrent sequences".to_owned(),
        y_label: quantity.label().to_owned(),
        series,
        ..Chart::default()
    }
}

fn series(report: &Report, name: String, quantity: Quantity) -> Series {
    let x = |point: &Point| f64::from(point.concurrency);
    let marks = report.points.iter().filter_map(|point| {
        let spread = quantity.measured(point)?;
        Some(Mark { x: x(point), y: spread.median, low: spread.min, high: spread.max })
    });
    let limit: Vec<(f64, f64)> =
        report.points.iter().filter_map(|point| Some((x(point), quantity.limit(point)?))).collect();
    let limit = (!limit.is_empty())
        .then(|| Line { name: format!("limit of the machine, {}", report.settings.weights), points: limit });
    Series { name, marks: marks.collect(), limit, ..Series::default() }
}

/// What tells the reports apart, or the format of the weights if nothing does.
fn names(reports: &[Report]) -> Vec<String> {
    type Field = fn(&Report) -> String;
    let fields: [Field; 7] = [
        |r| r.settings.model.clone(),
        |r| r.settings.weights.clone(),
        |r| r.settings.isa.clone(),
        |r| format!("KV {}", r.settings.kv),
        |r| format!("{} threads", r.settings.threads),
        |r| lengths(r),
        |r| r.version.clone(),
    ];
    let differs = |field: &Field| reports.iter().any(|report| field(report) != field(&reports[0]));
    let telling: Vec<Field> = fields.into_iter().filter(differs).collect();
    let name = |report: &Report| match telling.as_slice() {
        [] => report.settings.weights.clone(),
        fields => fields.iter().map(|field| field(report)).collect::<Vec<_>>().join(", "),
    };
    reports.iter().map(name).collect()
}

fn lengths(report: &Report) -> String {
    let settings = &report.settings;
    match settings.prefix_len {
        0 => format!("{} + {} tokens", settings.input_len, settings.output_len),
        prefix => format!("{prefix} shared + {} + {} tokens", settings.input_len, settings.output_len),
    }
}

fn title(reports: &[Report]) -> String {
    let Some(first) = reports.first() else { return "Throughput over concurrency".to_owned() };
    let same = reports.iter().all(|report| report.settings.model == first.settings.model);
    if same { format!("{}: throughput over concurrency", first.settings.model) } else { title(&[]) }
}

fn subtitle(reports: &[Report]) -> String {
    let Some(first) = reports.first() else { return String::new() };
    let cpu = first.machine.cpu.as_deref().unwrap_or("unknown processor");
    let settings = &first.settings;
    format!(
        "{cpu} · {} threads · {} · {} · pagoda {}",
        settings.threads,
        settings.isa,
        lengths(first),
        first.version
    )
}
