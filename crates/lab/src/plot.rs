//! Runs as pictures.

use crate::chart::{Chart, Scale, Series, page_of, stacked};
use crate::report::Curves;
use crate::{Comparison, Report, Sample};

/// Runs as one SVG document: latencies, then blocks and requests over time. Several runs are drawn over each other.
pub fn pictures(runs: &Comparison) -> String {
    stacked(&charts(runs))
}

/// Runs as an HTML page: `text`, and the pictures.
pub fn pages(runs: &Comparison, text: &str) -> String {
    let title = runs.reports.first().map_or("", |report| report.source.as_str());
    page_of(title, text, &charts(runs))
}

fn charts(runs: &Comparison) -> Vec<Chart> {
    let source = runs.reports.first().map_or("", |report| report.source.as_str());
    let subtitle = |chart: Chart| Chart { subtitle: source.to_owned(), ..chart };
    let both = match runs.reports.as_slice() {
        [one] => vec![latencies(one), blocks(one), requests(one)],
        _ => several(runs),
    };
    both.into_iter().map(subtitle).collect()
}

fn line(name: &str, points: impl Iterator<Item = (f64, f64)>) -> Series {
    Series { name: name.to_owned(), line: points.collect(), ..Series::default() }
}

/// The percentiles of a curve, seconds first.
fn percentiles(curve: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let percents = (1..=99).map(f64::from).chain([99.9]);
    curve.iter().copied().zip(percents).filter(|(seconds, _)| *seconds > 0.0)
}

fn over_time(report: &Report, value: impl Fn(&Sample) -> f64) -> impl Iterator<Item = (f64, f64)> {
    report.timeline.samples.iter().map(move |sample| (sample.at_s, value(sample)))
}

fn latency_chart(title: &str, series: Vec<Series>) -> Chart {
    Chart {
        title: title.to_owned(),
        x_label: "seconds".to_owned(),
        y_label: "percent within".to_owned(),
        x_scale: Scale::Log,
        y_scale: Scale::Linear,
        series,
        ..Chart::default()
    }
}

fn time_chart(title: &str, y_label: &str, series: Vec<Series>) -> Chart {
    Chart {
        title: title.to_owned(),
        x_label: "seconds".to_owned(),
        y_label: y_label.to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        series,
        ..Chart::default()
    }
}

fn latencies(report: &Report) -> Chart {
    let Curves { ttft_s, itl_s, e2e_s } = &report.latencies.curves;
    let named = [("time to first token", ttft_s), ("between tokens", itl_s), ("end to end", e2e_s)];
    let series = named.map(|(name, curve)| line(name, percentiles(curve)));
    latency_chart("Latencies", series.into())
}

fn blocks(report: &Report) -> Chart {
    let series = vec![
        line("in use", over_time(report, |sample| sample.used_percent)),
        line("free with cached content", over_time(report, |sample| sample.cached_percent)),
    ];
    time_chart("KV blocks over time", "percent of the pool", series)
}

fn requests(report: &Report) -> Chart {
    let series = vec![
        line("running", over_time(report, |sample| f64::from(sample.running))),
        line("waiting", over_time(report, |sample| f64::from(sample.waiting))),
    ];
    time_chart("Requests over time", "requests", series)
}

fn several(runs: &Comparison) -> Vec<Chart> {
    let names = runs.names();
    let each = |series: &dyn Fn(&Report, &str) -> Series| -> Vec<Series> {
        runs.reports.iter().zip(&names).map(|(report, name)| series(report, name)).collect()
    };
    let end = each(&|report, name| line(name, percentiles(&report.latencies.curves.e2e_s)));
    let between = each(&|report, name| line(name, percentiles(&report.latencies.curves.itl_s)));
    let running = each(&|report, name| line(name, over_time(report, |sample| f64::from(sample.running))));
    let used = each(&|report, name| line(name, over_time(report, |sample| sample.used_percent)));
    vec![
        latency_chart("End to end", end),
        latency_chart("Between tokens", between),
        time_chart("Running requests over time", "requests", running),
        time_chart("KV blocks in use or reserved over time", "percent of the pool", used),
    ]
}
