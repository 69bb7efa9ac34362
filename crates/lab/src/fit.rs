//! Costs from measurements: least squares with no cost below 0.

use crate::{CostError, StepCost, StepWork};

/// Some measured steps together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// How many steps.
    pub steps: f64,
    /// Their work, summed.
    pub work: StepWork,
    /// Their time, summed, in seconds.
    pub seconds: f64,
}

/// Why there is no fit.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Nothing was measured.
    #[error("nothing with a time above 0 was measured, so there is nothing to fit costs to")]
    Empty,
    /// No costs explain the times.
    #[error("no costs fit the measurements: {0}")]
    Costs(#[from] CostError),
}

const TERMS: usize = 4;

/// What makes terms that always go together share their cost; relative to the squares of a term.
const RIDGE: f64 = 1e-9;

/// What a fit has to be closer by, in squares of parts, for each cost that is not 0.
const WORTH: f64 = 1e-6;

/// Most tokens that may be found to be free.
const MOST_FREE: u32 = 64;

/// The costs that come closest to the observations, in parts of each time. Where the observations do not tell two costs
/// apart, one of them is 0.
///
/// # Errors
/// [`FitError`] without observations, or if they say that steps are free.
pub fn fit(observations: &[Observation]) -> Result<StepCost, FitError> {
    let seen: Vec<&Observation> = observations.iter().filter(|seen| seen.seconds > 0.0).collect();
    if seen.is_empty() {
        return Err(FitError::Empty);
    }
    let fits = (0..=MOST_FREE).map(|free| with_free(&seen, f64::from(free)));
    let best = fits.min_by(|a, b| f64::total_cmp(&a.1, &b.1)).map_or(StepCost::NONE, |(cost, _)| cost);
    Ok(best.checked()?)
}

/// The best costs if so many tokens are free, and how far off they are.
fn with_free(seen: &[&Observation], free_tokens: f64) -> (StepCost, f64) {
    let rows: Vec<[f64; TERMS]> = seen.iter().map(|seen| terms(seen, free_tokens)).collect();
    let scale: [f64; TERMS] =
        std::array::from_fn(|term| rows.iter().map(|row| row[term]).fold(f64::MIN_POSITIVE, f64::max));
    let scaled: Vec<[f64; TERMS]> =
        rows.iter().map(|row| std::array::from_fn(|term| row[term] / scale[term])).collect();
    // Four terms leave few enough choices of which costs are 0 to try them all.
    let fits = (1..1u32 << TERMS).filter_map(|kept| {
        let costs = solve(&scaled, kept)?;
        Some((error(&scaled, &costs) + WORTH * f64::from(kept.count_ones()), costs))
    });
    let (off, best) = fits.min_by(|a, b| f64::total_cmp(&a.0, &b.0)).unwrap_or((f64::INFINITY, [0.0; TERMS]));
    let [base_s, token_s, context_s, attended_s]: [f64; TERMS] =
        std::array::from_fn(|term| best[term] / scale[term]);
    (StepCost { base_s, token_s, free_tokens, context_s, attended_s }, off)
}

/// The terms of one observation over its time: their costs sum to 1 if the fit is exact.
fn terms(seen: &Observation, free_tokens: f64) -> [f64; TERMS] {
    let paid = (seen.work.tokens - seen.steps * free_tokens).max(0.0);
    [seen.steps, paid, seen.work.context, seen.work.attended].map(|term| term / seen.seconds)
}

fn error(rows: &[[f64; TERMS]], costs: &[f64; TERMS]) -> f64 {
    let square = |row: &[f64; TERMS]| (row.iter().zip(costs).map(|(x, c)| x * c).sum::<f64>() - 1.0).powi(2);
    rows.iter().map(square).sum()
}

/// Least squares over the terms in `kept`, by elimination on the normal equations; `None` if a cost comes out below 0.
fn solve(rows: &[[f64; TERMS]], kept: u32) -> Option<[f64; TERMS]> {
    let is_kept = |term: usize| kept >> term & 1 == 1;
    let mut equations = [[0.0; TERMS + 1]; TERMS];
    for (i, equation) in equations.iter_mut().enumerate() {
        if !is_kept(i) {
            equation[i] = 1.0;
            continue;
        }
        for j in (0..TERMS).filter(|&j| is_kept(j)) {
            equation[j] = rows.iter().map(|row| row[i] * row[j]).sum();
        }
        equation[i] += RIDGE * rows.len() as f64;
        equation[TERMS] = rows.iter().map(|row| row[i]).sum();
    }
    for pivot in 0..TERMS {
        let largest = (pivot..TERMS)
            .max_by(|&a, &b| f64::total_cmp(&equations[a][pivot].abs(), &equations[b][pivot].abs()))?;
        equations.swap(pivot, largest);
        let head = equations[pivot];
        for (_, equation) in equations.iter_mut().enumerate().filter(|(place, _)| *place != pivot) {
            let factor = equation[pivot] / head[pivot];
            equation.iter_mut().zip(head).for_each(|(value, head)| *value -= factor * head);
        }
    }
    let costs = std::array::from_fn(|term| equations[term][TERMS] / equations[term][term]);
    costs.iter().all(|cost: &f64| cost.is_finite() && *cost >= 0.0).then_some(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(cost: &StepCost, rows: u32, context: u32, chunk: u32) -> Observation {
        let decodes = (0..rows).fold(StepWork::default(), |work, _| work.with(context, 1));
        let work = if chunk > 0 { decodes.with(0, chunk) } else { decodes };
        Observation { steps: 1.0, work, seconds: cost.seconds(&work) }
    }

    #[test]
    fn a_machine_that_is_as_the_sum_is_found() {
        for free_tokens in [0.0, 10.0] {
            check_found(StepCost {
                base_s: 0.03,
                token_s: 0.002,
                free_tokens,
                context_s: 1e-6,
                attended_s: 4e-7,
            });
        }
    }

    fn check_found(cost: StepCost) {
        let seen: Vec<_> =
            [(1, 100, 0), (64, 300, 0), (24, 50, 0), (8, 2000, 0), (4, 100, 512), (0, 0, 2048)]
                .map(|(rows, context, chunk)| observe(&cost, rows, context, chunk))
                .to_vec();
        let found = fit(&seen).expect("a fit");
        for observation in &seen {
            let predicted = found.seconds(&observation.work);
            assert!((predicted / observation.seconds - 1.0).abs() < 1e-3, "{found:?}");
        }
        assert_eq!(found.free_tokens, cost.free_tokens, "{found:?}");
        assert!((found.base_s / cost.base_s - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.token_s / cost.token_s - 1.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn no_cost_is_below_zero() {
        // Steps that get faster with more tokens: only the base explains them.
        let work = |tokens| StepWork { tokens, ..StepWork::default() };
        let seen = [(1.0, 1.0), (100.0, 0.8)].map(|(tokens, seconds)| Observation {
            steps: 1.0,
            work: work(tokens),
            seconds,
        });
        let found = fit(&seen).expect("a fit");
        assert!(found.token_s == 0.0 && (0.8..1.0).contains(&found.base_s), "{found:?}");
    }

    #[test]
    fn without_measurements_there_is_no_fit() {
        assert!(matches!(fit(&[]), Err(FitError::Empty)));
        let nothing = Observation { steps: 0.0, work: StepWork::default(), seconds: 0.0 };
        assert!(matches!(fit(&[nothing]), Err(FitError::Empty)));
    }
}
