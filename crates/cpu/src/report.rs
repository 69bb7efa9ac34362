//! What is asked of prompts beside their keys and values: how likely their tokens are, and their hidden states.

use crate::Operation;
use crate::forward::{Forward, finish_logits};
use crate::sampling::{Place, RowSamplers};
use crate::scratch::{Kept, Scratch};
use pagoda_sched::{Readout, StepInput, StepOutput};

/// Hidden states are rounded to multiples of one part in so many before they are added: sums below 2^27 are then exact, so that
/// they do not depend on how a prompt was cut into chunks. The step is that of f32 at 1/8.
const GRID: f64 = (1_u64 << 26) as f64;

impl Forward<'_> {
    /// Reports on the rows that ask for it, from the hidden states that the layers left.
    ///
    /// The head runs for as many places at a time as the step has rows of logits, and each piece is reduced at once, so that no
    /// prompt needs memory for the logits of all of its tokens. The numbers are those that come with a sampled token: the same
    /// head, in the same order of summation, and the same sums over the vocabulary.
    pub(crate) fn report(&mut self, input: &StepInput, samplers: &RowSamplers, output: &mut StepOutput) {
        self.gather(input, output);
        let (hidden, vocab) = (self.spec.hidden as usize, self.spec.vocab_size as usize);
        let Scratch { x, logits, linear, places, .. } = &mut *self.scratch;
        let most = logits.len() / vocab;
        for (piece, x) in places.chunks(most).zip(x.chunks(most * hidden)) {
            let (x, logits) = (&x[..piece.len() * hidden], &mut logits[..piece.len() * vocab]);
            self.kernels.linear(self.pool, x, &self.weights.head, None, linear, logits);
            finish_logits(self.kernels, self.pool, self.spec, logits);
            self.watch.lap(Operation::Head);
            samplers.rate(self.pool, piece, logits, output);
            self.watch.lap(Operation::Sample);
        }
    }

    /// Adds up the hidden states that are asked for, and copies those whose logits are to `x`, one after the other: nothing reads
    /// the residual stream any more.
    fn gather(&mut self, input: &StepInput, output: &mut StepOutput) {
        let hidden = self.spec.hidden as usize;
        let Scratch { x, h, kept, places, .. } = &mut *self.scratch;
        places.clear();
        let mut at = 0;
        for Kept { row, tokens } in kept.iter() {
            let first = at;
            at += tokens.len();
            let Some(report) = &input.rows[*row as usize].report else { continue };
            let first = first + (report.tokens.start - tokens.start) as usize;
            let states = &h[first * hidden..(first + report.tokens.len()) * hidden];
            match &report.readout {
                Readout::Hidden => add_up(states, hidden, &mut output.hidden),
                Readout::Logprobs { top, next } => {
                    let to = places.len() * hidden;
                    x[to..to + states.len()].copy_from_slice(states);
                    let next = &input.next[next.start as usize..next.end as usize];
                    places.extend(next.iter().map(|&token| Place { token, top: *top }));
                }
            }
        }
        self.watch.lap(Operation::Other);
    }
}

/// Appends the sum of `states`, `[tokens, width]`.
fn add_up(states: &[f32], width: usize, sums: &mut Vec<f64>) {
    let start = sums.len();
    sums.resize(start + width, 0.0);
    for state in states.chunks_exact(width) {
        for (sum, &element) in sums[start..].iter_mut().zip(state) {
            *sum += (f64::from(element) * GRID).round() / GRID;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_their_parts() {
        let mut word = 1_u64;
        let states: Vec<f32> = (0..3 * 1000)
            .map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((word >> 40) as f32 - 8_388_608.0) / 65_536.0 * (1.0 + (word % 7) as f32 / 3.0)
            })
            .collect();
        let mut whole = Vec::new();
        add_up(&states, 3, &mut whole);
        for tokens in [1, 7, 64] {
            let mut sums = vec![0.0; 3];
            for part in states.chunks(3 * tokens) {
                let mut sum = Vec::new();
                add_up(part, 3, &mut sum);
                sums.iter_mut().zip(sum).for_each(|(all, more)| *all += more);
            }
            assert_eq!(sums, whole, "parts of {tokens} tokens");
        }
        for (at, &sum) in whole.iter().enumerate() {
            let exact: f64 = states.iter().skip(at).step_by(3).map(|&element| f64::from(element)).sum();
            assert!((sum - exact).abs() < 1e-5, "{sum} for {exact}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let mut sums = vec![1.0];
        add_up(&[1.0, f32::INFINITY, f32::NAN, 2.0, 0.0, 0.0], 3, &mut sums);
        assert!(sums[0] == 1.0 && sums[1] == 3.0 && sums[2].is_infinite() && sums[3].is_nan());
    }
}
