//! The scheduler over the fake executor, rule by rule.

mod adapters;
mod baselines;
mod beams;
mod bench;
mod cancel;
mod classes;
mod deadlines;
mod explain;
mod faults;
mod generation;
mod limits;
mod pace;
mod passing;
mod preemption;
mod progress;
mod prompts;
mod tenants;
mod windows;
