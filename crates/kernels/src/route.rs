//! Which experts a token goes to, and the way there and back.
//!
//! The sums here are plain Rust in a fixed order, the same bits on every instruction set: they are a small part of what the
//! experts themselves compute.

use crate::norm::GRAIN;
use crate::pool::WorkerPool;
use crate::shared::SharedOut;
use crate::weigh::weight;

/// What the weights of the experts of a token sum to 1 over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteWeights {
    /// All experts: the softmax of all scores, of which those of the chosen experts are taken.
    All,
    /// The chosen ones: the softmax of their scores, or of all scores, divided by the sum of those taken, which is the same.
    Chosen,
}

/// One of the rows that go to an expert.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoutedRow {
    /// Which row.
    pub row: u32,
    /// Factor of what the expert makes of it.
    pub weight: f32,
}

/// Columns that one worker takes at least when rows come back: some cache lines.
const COLUMNS: usize = 64;

/// Chooses the experts of the rows of `scores`, `[m, experts]`, to `chosen` and `weights`, `[m, per_row]`.
pub(crate) fn route(
    pool: &WorkerPool,
    (scores, experts): (&[f32], usize),
    rule: RouteWeights,
    chosen: &mut [u32],
    weights: &mut [f32],
) {
    let m = scores.len().checked_div(experts).unwrap_or(0);
    assert!(scores.len() == m * experts, "scores are [m, {experts}]");
    if m == 0 {
        return;
    }
    let per_row = chosen.len() / m;
    assert!(per_row > 0 && per_row <= experts, "{per_row} of {experts} experts");
    assert!(chosen.len() == m * per_row && weights.len() == chosen.len(), "choices are [{m}, {per_row}]");
    let chosen = SharedOut::new(chosen);
    pool.run_rows(weights, per_row, GRAIN.div_ceil(experts), &|first, weights| {
        // SAFETY: these are the rows of `weights`, which `run_rows` gives to one worker.
        let chosen = unsafe { chosen.slice(first * per_row..first * per_row + weights.len()) };
        let scores = scores[first * experts..].chunks_exact(experts);
        let rows = chosen.chunks_exact_mut(per_row).zip(weights.chunks_exact_mut(per_row));
        rows.zip(scores).for_each(|((chosen, weights), scores)| route_row(scores, rule, chosen, weights));
    });
}

/// The largest of `scores`, the first among equals, in falling order, and their weights; of scores that are not all numbers the
/// first ones, with NaN.
fn route_row(scores: &[f32], rule: RouteWeights, chosen: &mut [u32], weights: &mut [f32]) {
    if scores.iter().any(|score| score.is_nan()) {
        chosen.iter_mut().zip(0..).for_each(|(chosen, expert)| *chosen = expert);
        weights.fill(f32::NAN);
        return;
    }
    let mut found = 0;
    for (expert, &score) in (0..).zip(scores) {
        let place = weights[..found].partition_point(|&better| better >= score);
        if place == weights.len() {
            continue;
        }
        found = (found + 1).min(weights.len());
        weights.copy_within(place..found - 1, place + 1);
        chosen.copy_within(place..found - 1, place + 1);
        (weights[place], chosen[place]) = (score, expert);
    }
    let largest = weights[0];
    let sum = match rule {
        RouteWeights::All => exponentials(scores, largest),
        RouteWeights::Chosen => exponentials(weights, largest),
    };
    weights.iter_mut().for_each(|score| *score = (f64::from(weight(*score - largest)) / sum) as f32);
}

fn exponentials(scores: &[f32], largest: f32) -> f64 {
    scores.iter().map(|score| f64::from(weight(score - largest))).sum()
}

/// `out[i] = x[rows[i]]`: `x` is `[m, width]`, `out` `[rows, width]`.
pub(crate) fn gather(pool: &WorkerPool, x: &[f32], width: usize, rows: &[RoutedRow], out: &mut [f32]) {
    assert!(width > 0 && out.len() == rows.len() * width, "out is [{}, {width}]", rows.len());
    pool.run_rows(out, width, GRAIN, &|first, out| {
        for (routed, out) in rows[first..].iter().zip(out.chunks_exact_mut(width)) {
            let start = routed.row as usize * width;
            out.copy_from_slice(&x[start..start + width]);
        }
    });
}

/// `out[rows[i]] += weight * y[i]`, in the order of `rows`: `y` is `[rows, width]`, `out` `[m, width]`.
pub(crate) fn add_weighted(pool: &WorkerPool, y: &[f32], width: usize, rows: &[RoutedRow], out: &mut [f32]) {
    assert!(width > 0 && y.len() == rows.len() * width, "y is [{}, {width}]", rows.len());
    assert!(rows.iter().all(|row| (row.row as usize + 1) * width <= out.len()), "a row that is not there");
    let out = SharedOut::new(out);
    let grain = GRAIN.div_ceil((COLUMNS * rows.len()).max(1));
    pool.share(width.div_ceil(COLUMNS), grain, &|blocks| {
        let columns = blocks.start * COLUMNS..(blocks.end * COLUMNS).min(width);
        for (routed, y) in rows.iter().zip(y.chunks_exact(width)) {
            let start = routed.row as usize * width;
            // SAFETY: the columns belong to one worker, which takes one row at a time.
            let out = unsafe { out.slice(start + columns.start..start + columns.end) };
            for (out, y) in out.iter_mut().zip(&y[columns.clone()]) {
                *out += routed.weight * y;
            }
        }
    });
}
