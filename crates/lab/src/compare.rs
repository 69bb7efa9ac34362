//! The same requests with each rule switched off in turn.

use crate::summary::duration;
use crate::{LabError, Report, Rule, RuleSet, Setup, Source, Table, run};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The same requests under several sets of rules; the first report is that of all rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// One for each set.
    pub reports: Vec<Report>,
}

/// Runs `source` with all rules that `setup` has, then without each of them, then without any.
///
/// # Errors
/// [`LabError`] if the setup makes no sense or the trace cannot be used.
pub fn compare(source: &Source, setup: &Setup) -> Result<Comparison, LabError> {
    let of = |without| run(source, &Setup { without, ..setup.clone() });
    Ok(Comparison { reports: sets(setup.without).into_iter().map(of).collect::<Result<_, _>>()? })
}

/// `without`, then each other rule beside it, then all.
pub(crate) fn sets(without: RuleSet) -> Vec<RuleSet> {
    let held: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| !without.contains(*rule)).collect();
    let mut sets = vec![without];
    sets.extend(held.iter().map(|rule| without.iter().chain([*rule]).collect::<RuleSet>()));
    if held.len() > 1 {
        sets.push(RuleSet::all());
    }
    sets
}

impl Comparison {
    /// What each report is called: the rules that it goes without.
    pub fn names(&self) -> Vec<String> {
        let name = |report: &Report| match report.without.as_slice() {
            [] => "all rules".to_owned(),
            all if all.len() == Rule::ALL.len() => "no rules".to_owned(),
            names => format!("without {}", names.join(", ")),
        };
        self.reports.iter().map(name).collect()
    }

    fn table(&self) -> Table {
        let titles = [
            "",
            "tok/s",
            "×",
            "TTFT p90",
            "×",
            "ITL p99",
            "×",
            "e2e p90",
            "×",
            "running",
            "waste %",
            "hits %",
            "preempted %",
            "Jain",
        ];
        let mut table = Table::new(titles);
        let first = &self.reports[0];
        for (report, name) in self.reports.iter().zip(self.names()) {
            let mut cells = vec![name];
            let speed = |report: &Report| report.throughput.output_tok_s;
            cells.extend([format!("{:.1}", speed(report)), ratio(speed(report), speed(first))]);
            type Time = fn(&Report) -> f64;
            let times: [Time; 3] = [
                |report| report.latencies.ttft_s.p90,
                |report| report.latencies.itl_s.p99,
                |report| report.latencies.e2e_s.p90,
            ];
            for time in times {
                cells.extend([duration(time(report)), ratio(time(report), time(first))]);
            }
            cells.push(format!("{:.1}", report.throughput.mean_running));
            cells.push(format!("{:.1}", report.kv.waste_percent));
            cells.push(format!("{:.1}", report.cache.hit_percent));
            cells.push(format!("{:.1}", report.preemptions.requests_percent));
            cells.push(report.jain.map_or_else(String::new, |jain| format!("{jain:.3}")));
            table.row(cells);
        }
        table
    }
}

pub(crate) fn ratio(value: f64, of: f64) -> String {
    if of > 0.0 { format!("{:.2}", value / of) } else { String::new() }
}

/// One table with the ratio of each figure to that of the first report.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = &self.reports[0];
        writeln!(f, "{}; {} requests\n", first.source, first.outcomes.requests)?;
        f.write_str(&self.table().render())
    }
}
