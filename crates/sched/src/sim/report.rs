//! What a simulation saw.

use crate::{CompletionReason, Counters, RequestStats};
use std::fmt;

/// Figures of one simulated run, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimReport {
    /// Runs added up.
    pub runs: u64,
    /// Loop passes, the drain at the end included.
    pub steps: u64,
    /// Samples by the name of their completion reason.
    pub finished: [(&'static str, u64); REASONS.len()],
    /// Samples that failed.
    pub failed: u64,
    /// Tokens generated; each was compared with the closed form.
    pub tokens: u64,
    /// Outputs of beam searches, each compared with the plain way.
    pub searched: u64,
    /// Reports on prompts, all of which were compared with the closed form.
    pub reports: u64,
    /// Blocks copied because samples or beams parted.
    pub copies: u64,
    /// Cached blocks that were forgotten with their adapter.
    pub forgotten: u64,
    /// Most preemptions of one sample.
    pub max_preemptions: u32,
    /// The scheduler's own counts.
    pub counters: Counters,
    /// Hash of all effects in order; equal for equal seeds and options. Combined by exclusive or.
    pub trace: u64,
}

/// Reasons in the order of [`SimReport::finished`].
const REASONS: [&str; 5] = ["eos", "max_tokens", "cancelled", "length_limit", "timeout"];

impl SimReport {
    pub(super) fn new() -> Self {
        Self { runs: 1, finished: REASONS.map(|name| (name, 0)), ..Self::default() }
    }

    pub(super) fn finish(&mut self, reason: &CompletionReason, stats: &RequestStats) {
        let slot = self.finished.iter_mut().find(|(name, _)| *name == reason.name());
        slot.expect("a simulated request ends for a known reason").1 += 1;
        self.max_preemptions = self.max_preemptions.max(stats.preemptions);
    }

    pub(super) fn fail(&mut self, stats: &RequestStats) {
        self.failed += 1;
        self.max_preemptions = self.max_preemptions.max(stats.preemptions);
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        for (mine, theirs) in self.finished.iter_mut().zip(&other.finished) {
            *mine = (theirs.0, mine.1 + theirs.1);
        }
        self.failed += other.failed;
        self.tokens += other.tokens;
        self.searched += other.searched;
        self.reports += other.reports;
        self.copies += other.copies;
        self.forgotten += other.forgotten;
        self.max_preemptions = self.max_preemptions.max(other.max_preemptions);
        self.counters.add(&other.counters);
        self.trace ^= other.trace;
    }
}

impl fmt::Display for SimReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { accepted, refused, preemptions, displaced, failed_steps, .. } = self.counters;
        let Counters { prefix_queries, prefix_hits, computed_tokens, recomputed_tokens, .. } = self.counters;
        writeln!(
            f,
            "{} runs, {} steps ({failed_steps} failed), trace {:016x}",
            self.runs, self.steps, self.trace
        )?;
        writeln!(f, "requests: {accepted} accepted, {refused} refused")?;
        write!(f, "samples:")?;
        for (name, count) in self.finished {
            write!(f, " {count} {name},")?;
        }
        writeln!(f, " {} failed", self.failed)?;
        writeln!(
            f,
            "tokens: {computed_tokens} computed, {recomputed_tokens} of them again, {} generated; {} outputs of searches, {} reports on prompts",
            self.tokens, self.searched, self.reports
        )?;
        writeln!(
            f,
            "prefix cache: {prefix_hits} of {prefix_queries} tokens; {} blocks copied, {} forgotten with adapters",
            self.copies, self.forgotten
        )?;
        write!(
            f,
            "preemptions: {preemptions}, {displaced} for a higher class, at most {} of one sample",
            self.max_preemptions
        )
    }
}
