//! The lab: workloads through the real scheduler in virtual time.
//!
//! A run takes requests from a [`Source`], gives them to a [`Scheduler`](pagoda_sched::Scheduler) as an engine would, and
//! lets each step take the time that a [`StepCost`] says. Rules of the scheduler can be switched off, so that what each is
//! worth is a number.
//!
//! Invariants: no clock, thread or randomness but that of the seed; the same source and setup give the same report. Memory
//! follows the requests that are live, not those that have been: prompts are made when they arrive and results are counted
//! into histograms.
#![forbid(unsafe_code)]

mod arrival;
pub mod chart;
mod compare;
mod cost;
mod fairness;
mod fit;
mod histogram;
mod meter;
mod plot;
mod prompt;
mod random;
mod report;
mod rules;
mod run;
mod search;
mod setup;
mod source;
pub mod stats;
mod summary;
mod table;
mod timeline;
pub mod trace;
mod workload;

pub use arrival::{Arrival, Prefix};
pub use compare::{Comparison, compare};
pub use cost::{CostError, StepCost, StepWork};
pub use fit::{FitError, Observation, fit};
pub use histogram::Histogram;
pub use plot::{pages, pictures};
pub use random::Random;
pub use report::{Cache, Curves, Group, Kv, Latencies, Outcomes, Preemptions, Report, Throughput};
pub use rules::{Rule, RuleSet, UnknownRule};
pub use run::{LabError, run};
pub use search::{Capacities, Capacity, Compared, highest_rate, highest_rates};
pub use setup::{Setup, SetupError, Slo};
pub use source::{Feed, Source};
pub use table::Table;
pub use timeline::{Sample, Timeline};
pub use workload::{Process, Shape, UnknownShape, Workload};
