//! The load that a machine carries.

use crate::compare::{ratio, sets};
use crate::summary::duration;
use crate::{LabError, Process, Report, RuleSet, Setup, Source, Table, Workload, run};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The highest rate that keeps a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Requests per second.
    pub rate: f64,
    /// The run at that rate.
    pub report: Report,
}

/// How far apart the highest rate that keeps the bound and the lowest that does not may be, as a ratio.
const PRECISION: f64 = 1.03;

/// How many times the bound requests arrive at least, so that a load that cannot be sustained shows.
const SPAN: f64 = 16.0;

/// How much lower than what the machine can do at most a rate may be.
const LOWEST: f64 = 1.0 / 4096.0;

/// Finds the highest rate of a Poisson process at which `workload` comes to its end within `bound_s` seconds for 90 % of its
/// requests, all of which finish. `None` if none does. More requests than `workload` has are run where they would come too fast to
/// tell a load that can be sustained.
///
/// # Errors
/// [`LabError`] if the setup makes no sense.
pub fn highest_rate(workload: &Workload, setup: &Setup, bound_s: f64) -> Result<Option<Capacity>, LabError> {
    let at = |process, requests| run(&Source::Workload(Workload { process, requests, ..*workload }), setup);
    let keeps = |report: &Report| {
        report.latencies.e2e_s.p90 <= bound_s && report.outcomes.finished == report.outcomes.requests
    };
    let most = at(Process::Burst, workload.requests)?.throughput.requests_per_s;
    let (mut low, mut high) = (LOWEST * most, 2.0 * most);
    let mut best = None;
    while high / low > PRECISION {
        let rate = (low * high).sqrt();
        let requests = workload.requests.max((SPAN * bound_s * rate).ceil() as u64);
        let report = at(Process::Poisson { rate }, requests)?;
        if keeps(&report) {
            low = rate;
            best = Some(Capacity { rate, report });
        } else {
            high = rate;
        }
    }
    Ok(best)
}

/// The highest rates under several sets of rules; the first is that of all rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacities {
    /// The bound in seconds.
    pub bound_s: f64,
    /// What the rules are called, and the highest rate that keeps the bound.
    pub entries: Vec<(String, Option<Capacity>)>,
}

/// Finds the highest rate with the rules that `setup` has and, to `compare`, also without each of them and without any.
///
/// # Errors
/// [`LabError`] if the setup makes no sense.
pub fn highest_rates(
    workload: &Workload,
    setup: &Setup,
    bound_s: f64,
    compare: Compared,
) -> Result<Capacities, LabError> {
    let sets = match compare {
        Compared::Alone => vec![setup.without],
        Compared::Rules => sets(setup.without),
    };
    let of = |without: RuleSet| {
        let setup = Setup { without, ..setup.clone() };
        Ok((without.to_string(), highest_rate(workload, &setup, bound_s)?))
    };
    Ok(Capacities { bound_s, entries: sets.into_iter().map(of).collect::<Result<_, LabError>>()? })
}

/// What is run beside a setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Nothing.
    Alone,
    /// The same without each of its rules and without any.
    Rules,
}

/// A table with the ratio of each rate to the first.
impl fmt::Display for Capacities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "highest rate whose p90 end to end is within {}\n", duration(self.bound_s))?;
        let titles = ["", "requests/s", "×", "tok/s", "running", "TTFT p90", "ITL p99", "e2e p90"];
        let mut table = Table::new(titles);
        let rate = |entry: &Option<Capacity>| entry.as_ref().map_or(0.0, |capacity| capacity.rate);
        let first = self.entries.first().map_or(0.0, |(_, entry)| rate(entry));
        for (name, entry) in &self.entries {
            let Some(Capacity { rate, report }) = entry else {
                table.row([name.as_str(), "none"]);
                continue;
            };
            table.row([
                name.clone(),
                format!("{rate:.3}"),
                ratio(*rate, first),
                format!("{:.1}", report.throughput.output_tok_s),
                format!("{:.1}", report.throughput.mean_running),
                duration(report.latencies.ttft_s.p90),
                duration(report.latencies.itl_s.p99),
                duration(report.latencies.e2e_s.p90),
            ]);
        }
        f.write_str(&table.render())
    }
}
