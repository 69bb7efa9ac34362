//! What a step costs on some machine.

use pagoda_sched::StepInput;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What the time of a step depends on, as the scheduler's own model counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepWork {
    /// Tokens computed.
    pub tokens: f64,
    /// Tokens of the rows' sequences, summed: what attention reads.
    pub context: f64,
    /// Tokens of each chunk times those that one of them attends to on average, summed: what attention computes.
    pub attended: f64,
}

impl StepWork {
    /// The work of a planned step.
    pub fn of(input: &StepInput) -> Self {
        input.rows.iter().fold(Self::default(), |work, row| {
            let count = row.tokens.end - row.tokens.start;
            work.with(row.context - count, count)
        })
    }

    /// With `count` more tokens of a sequence that has `computed` before them.
    #[must_use]
    pub fn with(self, computed: u32, count: u32) -> Self {
        let (before, tokens) = (f64::from(computed), f64::from(count));
        let attended = if count > 1 { tokens * (before + tokens / 2.0) } else { 0.0 };
        Self {
            tokens: self.tokens + tokens,
            context: self.context + before + tokens,
            attended: self.attended + attended,
        }
    }
}

/// Seconds of a step: `base_s + token_s · max(0, tokens - free_tokens) + context_s · Σ context + attended_s · Σ chunk · context`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepCost {
    /// Seconds of any step: the weights are read once.
    pub base_s: f64,
    /// Seconds per token.
    pub token_s: f64,
    /// Tokens whose arithmetic hides behind the reading of the weights.
    #[serde(default)]
    pub free_tokens: f64,
    /// Seconds per token of the context of a row.
    #[serde(default)]
    pub context_s: f64,
    /// Seconds per pair of a prompt token and one that it attends to.
    #[serde(default)]
    pub attended_s: f64,
}

/// Two virtual cores of an AMD EPYC (Zen 4) with Qwen2.5-0.5B in bf16.
impl Default for StepCost {
    fn default() -> Self {
        Self { base_s: 32e-3, token_s: 2.6e-3, free_tokens: 11.0, context_s: 1.2e-6, attended_s: 0.4e-6 }
    }
}

/// Why costs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// A coefficient is no time, or no number of tokens.
    #[error("{field} is {value}; it must be a number from 0 to 86400")]
    Invalid {
        /// The coefficient.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// Time would stand still.
    #[error("base_s is 0, so a step may take no time; give it a value")]
    Free,
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} has no costs such as {{\"base_s\": 0.03, \"token_s\": 0.002, \"free_tokens\": 8, \"context_s\": 1e-6, \"attended_s\": 5e-7}}: {problem}"
    )]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl StepCost {
    /// Steps that cost nothing; not to run on, but to set fields of.
    pub const NONE: Self =
        Self { base_s: 0.0, token_s: 0.0, free_tokens: 0.0, context_s: 0.0, attended_s: 0.0 };

    /// Seconds of a step.
    pub fn seconds(&self, work: &StepWork) -> f64 {
        self.base_s
            + self.token_s * (work.tokens - self.free_tokens).max(0.0)
            + self.context_s * work.context
            + self.attended_s * work.attended
    }

    /// The same costs, if they are times.
    ///
    /// # Errors
    /// [`CostError`] names the coefficient.
    pub fn checked(self) -> Result<Self, CostError> {
        let fields = [
            ("base_s", self.base_s),
            ("token_s", self.token_s),
            ("context_s", self.context_s),
            ("attended_s", self.attended_s),
            ("free_tokens", self.free_tokens),
        ];
        let day = 0.0..=86_400.0;
        if let Some(&(field, value)) = fields.iter().find(|(_, value)| !day.contains(value)) {
            return Err(CostError::Invalid { field, value });
        }
        if self.base_s <= 0.0 { Err(CostError::Free) } else { Ok(self) }
    }

    /// Reads costs from a JSON file.
    ///
    /// # Errors
    /// [`CostError`] with the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, CostError> {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => return Err(CostError::Read { path: name, source }),
        };
        let cost: Self = serde_json::from_str(&text)
            .map_err(|error| CostError::Format { path: name, problem: error.to_string() })?;
        cost.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_costs_the_sum_of_its_parts() {
        let cost =
            StepCost { base_s: 1.0, token_s: 0.1, context_s: 0.01, attended_s: 0.001, ..StepCost::NONE };
        let work = StepWork::default().with(99, 1).with(10, 20);
        assert_eq!(work, StepWork { tokens: 21.0, context: 130.0, attended: 400.0 });
        assert!((cost.seconds(&work) - (1.0 + 2.1 + 1.3 + 0.4)).abs() < 1e-12);
        for (free_tokens, paid) in [(5.0, 1.6), (21.0, 0.0), (90.0, 0.0)] {
            let cost = StepCost { free_tokens, ..cost };
            assert!((cost.seconds(&work) - (1.0 + paid + 1.3 + 0.4)).abs() < 1e-12);
        }
    }

    #[test]
    fn costs_that_are_no_times_are_refused() {
        let good = StepCost::default();
        assert!(good.checked().is_ok());
        for (bad, named) in [
            (StepCost { base_s: -1.0, ..good }, "base_s is -1"),
            (StepCost { token_s: f64::NAN, ..good }, "token_s is NaN"),
            (StepCost { context_s: f64::INFINITY, ..good }, "context_s is inf"),
            (StepCost { free_tokens: -3.0, ..good }, "free_tokens is -3"),
            (StepCost { base_s: 0.0, ..good }, "no time"),
        ] {
            let message = bad.checked().expect_err("no times").to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn costs_read_back_and_other_files_are_named() {
        let path = std::env::temp_dir().join(format!("pagoda-cost-{}.json", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("a file can be written");
        write("{\"base_s\": 0.5, \"token_s\": 0.25}");
        let cost = StepCost::read(&path).expect("costs");
        assert_eq!((cost.base_s, cost.token_s, cost.context_s), (0.5, 0.25, 0.0));
        for (text, named) in
            [("{\"base\": 1}", "base_s"), ("[", "pagoda-cost"), ("{\"base_s\":-1,\"token_s\":1}", "-1")]
        {
            write(text);
            let message = StepCost::read(&path).expect_err("no costs").to_string();
            assert!(message.contains(named), "{message}");
        }
        std::fs::remove_file(&path).expect("the file exists");
        assert!(StepCost::read(&path).expect_err("gone").to_string().starts_with("cannot read"));
    }
}
