//! The scheduler over the fake executor, rule by rule.

mod bench;
mod generation;
