//! What a step costs, learnt from the steps that ran.
//!
//! `seconds = a + b tokens + c Σ context + d Σ chunk · context`, fitted by recursive least squares that forget in the
//! direction of what they learn (Kulhavý, "Restricted exponential forgetting in real-time identification", Automatica 23, 1987).

use std::time::Duration;

/// What the time of a step depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepShape {
    /// Tokens computed.
    tokens: u32,
    /// Tokens of the rows' sequences, summed: what attention reads.
    context: u64,
    /// Tokens of each chunk times those that one of them attends to on average, summed: what attention computes.
    attended: u64,
}

impl StepShape {
    /// With `tokens` more of a sequence that has `computed` before them.
    pub(crate) fn with(mut self, computed: u32, tokens: u32) -> Self {
        let (computed, count) = (u64::from(computed), u64::from(tokens));
        self.tokens += tokens;
        self.context += computed + count;
        if tokens > 1 {
            self.attended += count * (computed + count / 2);
        }
        self
    }

    /// With another part of the same step.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            context: self.context + other.context,
            attended: self.attended + other.attended,
        }
    }

    /// The terms of the sum, each about 1 in a large step.
    fn terms(&self) -> Terms {
        [
            1.0,
            f64::from(self.tokens) / 256.0,
            self.context as f64 / 65_536.0,
            self.attended as f64 / 1_048_576.0,
        ]
    }
}

const TERMS: usize = 4;
type Terms = [f64; TERMS];

/// Weight of what was known, at the next step that tells the same: of like steps half is forgotten in 34, of steps that differ
/// in all terms in about 140.
const KEPT: f64 = 0.98;

/// Variance of a coefficient before the first step, in that of a step.
const UNKNOWN: f64 = 100.0;

/// Steps after which one that takes much longer than predicted is taken for a disturbance.
const LEARNT: u64 = 16;

/// How much longer.
const DISTURBED: f64 = 4.0;

/// Predicts the time of steps.
#[derive(Debug)]
pub(crate) struct StepCost {
    coefficients: Terms,
    /// Of the coefficients, in the variance of a step.
    covariance: [Terms; TERMS],
    observed: u64,
    /// Most tokens of a step so far.
    largest: u32,
}

impl Default for StepCost {
    fn default() -> Self {
        let covariance = std::array::from_fn(|i| std::array::from_fn(|j| if i == j { UNKNOWN } else { 0.0 }));
        Self { coefficients: [0.0; TERMS], covariance, observed: 0, largest: 0 }
    }
}

impl StepCost {
    /// The predicted time of a step. No part of it is below 0, so more work never seems cheaper.
    pub(crate) fn predict(&self, shape: &StepShape) -> Duration {
        let seconds: f64 = shape.terms().iter().zip(&self.coefficients).map(|(x, c)| x * c.max(0.0)).sum();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Learns from a step that took `took`.
    pub(crate) fn observe(&mut self, shape: &StepShape, took: Duration) {
        let predicted = self.predict(shape).as_secs_f64();
        let mut seconds = took.as_secs_f64();
        if self.observed >= LEARNT {
            seconds = seconds.min(DISTURBED * predicted.max(1e-6));
        }
        self.observed += 1;
        self.largest = self.largest.max(shape.tokens);
        let x = shape.terms();
        let projected: Terms = std::array::from_fn(|i| dot(&self.covariance[i], &x));
        let known = dot(&x, &projected);
        let error = seconds - dot(&x, &self.coefficients);
        for (coefficient, projected) in self.coefficients.iter_mut().zip(&projected) {
            *coefficient += projected / (1.0 + known) * error;
        }
        // Only what this step tells anew is forgotten, so that a long run of like steps neither blows up the rest nor ends
        // the learning.
        let weight = KEPT - (1.0 - KEPT) / known.max(f64::MIN_POSITIVE);
        let factor = 1.0 / (1.0 / weight + known);
        for (row, a) in self.covariance.iter_mut().zip(&projected) {
            for (covariance, b) in row.iter_mut().zip(&projected) {
                *covariance -= factor * a * b;
            }
        }
    }

    /// The most tokens of a sequence with `computed` before them, up to `most`, that leave a step of `shape` within `target`
    /// and at most twice as large as any that was seen: beyond that nothing is known.
    pub(crate) fn room(&self, shape: StepShape, computed: u32, most: u32, target: Duration) -> u32 {
        let seen = (2 * u64::from(self.largest)).saturating_sub(u64::from(shape.tokens));
        let (mut fits, mut above) = (0, u64::from(most).min(seen) as u32 + 1);
        while above - fits > 1 {
            let middle = fits + (above - fits) / 2;
            if self.predict(&shape.with(computed, middle)) <= target {
                fits = middle;
            } else {
                above = middle;
            }
        }
        fits
    }
}

fn dot(a: &Terms, b: &Terms) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a step on an imagined machine.
    fn seconds(shape: &StepShape) -> f64 {
        0.010 + 0.0004 * f64::from(shape.tokens) + 2e-7 * shape.context as f64 + 3e-8 * shape.attended as f64
    }

    fn took(shape: &StepShape) -> Duration {
        Duration::from_secs_f64(seconds(shape))
    }

    fn rows(count: u32, computed: u32) -> StepShape {
        (0..count).fold(StepShape::default(), |shape, row| shape.with(computed + row, 1))
    }

    /// What 200 steps of many kinds tell, of up to 264 tokens.
    fn learnt() -> StepCost {
        let mut cost = StepCost::default();
        for step in 0..200 {
            let shape = rows(step % 9, 100 * step).with(64 * (step % 30), 16 * (step % 17));
            cost.observe(&shape, took(&shape));
        }
        cost
    }

    #[test]
    fn a_machine_that_is_as_the_sum_is_learnt() {
        let cost = learnt();
        for shape in [rows(8, 500), rows(1, 20), rows(4, 3000).with(2000, 128), rows(0, 0).with(0, 64)] {
            let predicted = cost.predict(&shape).as_secs_f64();
            assert!((predicted / seconds(&shape) - 1.0).abs() < 0.02, "{shape:?}: {predicted}");
        }
    }

    #[test]
    fn a_machine_that_becomes_slower_is_followed_and_a_single_pause_is_not() {
        let mut cost = StepCost::default();
        let shape = |step: u32| rows(1 + step % 8, 300).with(16 * step, 16 * (step % 3));
        (0..300).for_each(|step| cost.observe(&shape(step), took(&shape(step))));
        let before = cost.predict(&shape(7)).as_secs_f64();
        cost.observe(&shape(7), Duration::from_secs(20));
        assert!(cost.predict(&shape(7)).as_secs_f64() < 1.5 * before, "one pause is not the machine");
        (0..600).for_each(|step| cost.observe(&shape(step), 2 * took(&shape(step))));
        let after = cost.predict(&shape(7)).as_secs_f64();
        assert!((1.9..2.1).contains(&(after / before)), "{after} after {before}");
    }

    #[test]
    fn many_equal_steps_do_not_blow_up_what_they_do_not_tell() {
        let mut cost = StepCost::default();
        let mixed = rows(4, 100).with(0, 64);
        (0..50).for_each(|_| cost.observe(&mixed, took(&mixed)));
        let alone = rows(4, 100);
        (0..100_000).for_each(|_| cost.observe(&alone, took(&alone)));
        assert!((cost.predict(&alone).as_secs_f64() / seconds(&alone) - 1.0).abs() < 0.01);
        let predicted = cost.predict(&mixed).as_secs_f64();
        assert!((0.5..2.0).contains(&(predicted / seconds(&mixed))), "{predicted}");
        assert!(cost.covariance.iter().flatten().all(|x| x.is_finite() && x.abs() <= 2.0 * UNKNOWN));
        (0..600).for_each(|_| cost.observe(&alone, 2 * took(&alone)));
        assert!((cost.predict(&alone).as_secs_f64() / seconds(&alone) - 2.0).abs() < 0.02, "still learns");
    }

    #[test]
    fn the_room_is_the_largest_chunk_within_the_target() {
        let cost = learnt();
        let decodes = rows(8, 200);
        let target = Duration::from_millis(40);
        let room = cost.room(decodes, 1000, 4096, target);
        assert!(cost.predict(&decodes.with(1000, room)) <= target);
        assert!(cost.predict(&decodes.with(1000, room + 1)) > target, "{room}");
        assert_eq!(cost.room(decodes, 1000, 5, target), 5);
        assert_eq!(cost.room(decodes, 1000, 100, Duration::ZERO), 0);
        // 264 tokens were seen, so 528 is the end.
        assert_eq!(cost.room(decodes, 0, 4096, Duration::MAX), 2 * 264 - 8);
        assert_eq!(StepCost::default().room(decodes, 0, 100, Duration::MAX), 0);
    }
}
