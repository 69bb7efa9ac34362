//! The scheduler over the fake executor, rule by rule.

mod bench;
mod cancel;
mod classes;
mod deadlines;
mod faults;
mod generation;
mod limits;
mod pace;
mod preemption;
mod progress;
