//! What steps cost, from a throughput measurement.

use super::report::{Point, Report, Settings};
use pagoda_lab::{FitError, Observation, StepCost, StepWork, fit};

/// The costs of a step that explain the figures of a report best. Each concurrency whose prompts were sent at once tells two: that
/// of a decode step and that of the prefill.
///
/// # Errors
/// [`FitError`] if no prompts were sent at once.
pub fn step_cost(report: &Report) -> Result<StepCost, FitError> {
    let settings = &report.settings;
    let of = |point| [decode(settings, point), prefill(settings, point)];
    let observations: Vec<Observation> = report.points.iter().flat_map(of).flatten().collect();
    fit(&observations)
}

/// A step of all rows halfway through their answers.
fn decode(settings: &Settings, point: &Point) -> Option<Observation> {
    let rate = point.steady_decode_tok_s?.median;
    let rows = f64::from(point.concurrency);
    let tokens = settings.prefix_len + settings.input_len + settings.output_len / 2;
    let work = StepWork { tokens: rows, context: rows * f64::from(tokens), attended: 0.0 };
    Some(Observation { steps: 1.0, work, seconds: rows / rate })
}

/// All prompts, in steps that are full. One that shares a prefix tells too little of what was computed.
fn prefill(settings: &Settings, point: &Point) -> Option<Observation> {
    let rate = point.prefill_tok_s?.median;
    let length = f64::from(settings.input_len);
    if settings.prefix_len > 0 || length == 0.0 {
        return None;
    }
    let (tokens, budget) =
        (f64::from(point.concurrency) * length, f64::from(settings.max_num_batched_tokens));
    let chunks = (length / budget).ceil();
    let context = tokens * (chunks + 1.0) / 2.0;
    let work = StepWork { tokens, context, attended: tokens * length / 2.0 };
    Some(Observation { steps: (tokens / budget).ceil(), work, seconds: tokens / rate })
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::stats::Spread;
    use super::*;

    const COST: StepCost = StepCost { base_s: 0.02, token_s: 1e-3, ..StepCost::NONE };

    fn settings() -> Settings {
        Settings { max_num_seqs: 64, input_len: 128, output_len: 64, ..Settings::example() }
    }

    fn point(rows: u32) -> Point {
        let spread = |median| Some(Spread { median, min: median, max: median });
        let rows_s = f64::from(rows);
        let tokens = 128.0 * rows_s;
        let prefill_s = COST.base_s * (tokens / 512.0).ceil() + COST.token_s * tokens;
        Point {
            concurrency: rows,
            num_prompts: rows,
            prefill_tok_s: spread(tokens / prefill_s),
            decode_tok_s: None,
            steady_decode_tok_s: spread(rows_s / (COST.base_s + COST.token_s * rows_s)),
            output_tok_s: None,
            limit: None,
            peak_rss_bytes: None,
            output_hash: String::new(),
            repetitions: Vec::new(),
        }
    }

    #[test]
    fn the_costs_of_a_machine_come_out_of_its_report() {
        let mut report = Report::new(settings(), Machine::look());
        assert!(matches!(step_cost(&report), Err(FitError::Empty)));
        report.points = [1, 8, 64].map(point).into();
        let found = step_cost(&report).expect("a fit");
        assert!((found.base_s / COST.base_s - 1.0).abs() < 0.02, "{found:?}");
        assert!((found.token_s / COST.token_s - 1.0).abs() < 0.02, "{found:?}");
    }
}
