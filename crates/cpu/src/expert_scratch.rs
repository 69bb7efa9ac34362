//! Memory of mixtures of experts, sized once for the largest step.

use crate::{Cost, CpuError, CpuOptions};
use pagoda_kernels::{Buffer, GroupScratch, RoutedRow, RowGroup};
use pagoda_model::{DecoderSpec, ExpertSpec};

/// Rows that all experts of a wave take together, at least: enough for every expert to have some when few tokens are decoded, so
/// that these are one wave.
const WAVE_ROWS: usize = 256;

/// Buffers of the experts of one layer. T is the tokens of the step, W the rows of a wave: experts that run together.
#[derive(Debug)]
pub(crate) struct ExpertScratch {
    /// `[T, experts]` scores.
    pub(crate) scores: Buffer<f32>,
    /// `[T, per_token]` chosen experts.
    pub(crate) chosen: Buffer<u32>,
    /// `[T, per_token]` their weights.
    pub(crate) weights: Buffer<f32>,
    /// `[T, hidden]` sum of what the experts make.
    pub(crate) sum: Buffer<f32>,
    /// `[W, hidden]` rows of a wave.
    pub(crate) inputs: Buffer<f32>,
    /// `[W, intermediate]` between the two halves of the experts.
    pub(crate) gated: Buffer<f32>,
    /// `[W, hidden]` what the experts of a wave make; all rows for the shared one.
    pub(crate) outputs: Buffer<f32>,
    pub(crate) grouped: GroupScratch,
    /// Rows by expert, of each expert in order.
    rows: Vec<RoutedRow>,
    /// Where the rows of each expert start, and where the last ones end.
    starts: Vec<u32>,
    /// Experts of a wave with their rows.
    pub(crate) groups: Vec<RowGroup>,
    /// Rows of a wave, as its groups count them.
    pub(crate) wave_rows: Vec<RoutedRow>,
    /// Of gate and up, and of down, since [`start`](Self::start).
    pub(crate) costs: [Cost; 2],
    wave: usize,
}

/// Lengths of the allocations.
struct Lengths {
    floats: [usize; 6],
    choices: usize,
    experts: usize,
    wave: usize,
    widest: usize,
}

impl Lengths {
    /// None for a model without experts.
    fn new(spec: &DecoderSpec, options: &CpuOptions) -> Option<Self> {
        let experts = || spec.layers.iter().filter_map(|layer| layer.mlp.experts());
        let most = |size: fn(&ExpertSpec) -> u32| experts().map(size).max().unwrap_or(0) as usize;
        experts().next()?;
        let (count, per_token) = (most(|experts| experts.count), most(|experts| experts.per_token));
        let inner = most(|experts| experts.intermediate);
        let (tokens, hidden) = (options.max_tokens_per_step as usize, spec.hidden as usize);
        let choices = tokens * per_token;
        let wave = tokens.max(WAVE_ROWS).min(choices);
        Some(Self {
            floats: [tokens * count, choices, tokens * hidden, wave * hidden, wave * inner, wave * hidden],
            choices,
            experts: count,
            wave,
            widest: hidden.max(inner),
        })
    }
}

impl ExpertScratch {
    /// Buffers for the largest step that `options` allow; none for a model without experts.
    pub(crate) fn new(spec: &DecoderSpec, options: &CpuOptions) -> Result<Option<Self>, CpuError> {
        let Some(lengths) = Lengths::new(spec, options) else { return Ok(None) };
        let no_memory = |source| CpuError::OutOfMemory { purpose: "the activations of experts", source };
        let mut next = lengths.floats.into_iter();
        let mut buffer = || Buffer::zeroed(next.next().expect("a length per buffer")).map_err(no_memory);
        let groups = lengths.experts.min(lengths.wave);
        Ok(Some(Self {
            scores: buffer()?,
            chosen: Buffer::zeroed(lengths.choices).map_err(no_memory)?,
            weights: buffer()?,
            sum: buffer()?,
            inputs: buffer()?,
            gated: buffer()?,
            outputs: buffer()?,
            grouped: if spec.reordered {
                GroupScratch::for_orders(lengths.wave, lengths.widest, groups).map_err(no_memory)?
            } else {
                GroupScratch::new(lengths.wave, lengths.widest, groups).map_err(no_memory)?
            },
            rows: Vec::with_capacity(lengths.choices),
            starts: Vec::with_capacity(lengths.experts + 1),
            groups: Vec::with_capacity(groups),
            wave_rows: Vec::with_capacity(lengths.wave),
            costs: Default::default(),
            wave: lengths.wave,
        }))
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, options: &CpuOptions) -> u64 {
        let Some(Lengths { floats, choices, experts, wave, widest }) = Lengths::new(spec, options) else {
            return 0;
        };
        let groups = experts.min(wave);
        let words = floats.iter().sum::<usize>() + choices + experts + 1;
        let rows = (choices + wave) * size_of::<RoutedRow>() + groups * size_of::<RowGroup>();
        let grouped = if spec.reordered {
            GroupScratch::planned_bytes_for_orders(wave, widest, groups)
        } else {
            GroupScratch::planned_bytes(wave, widest, groups)
        };
        (4 * words + rows) as u64 + grouped
    }

    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> u64 {
        let floats = [&self.scores, &self.weights, &self.sum, &self.inputs, &self.gated, &self.outputs];
        let words = floats.iter().map(|buffer| buffer.len()).sum::<usize>()
            + self.chosen.len()
            + self.starts.capacity();
        let rows = (self.rows.capacity() + self.wave_rows.capacity()) * size_of::<RoutedRow>()
            + self.groups.capacity() * size_of::<RowGroup>();
        (4 * words + rows) as u64 + self.grouped.bytes()
    }

    /// Begins a step.
    pub(crate) fn start(&mut self) {
        self.costs = Default::default();
    }

    /// Sorts the choices of `tokens` rows by expert.
    pub(crate) fn sort(&mut self, experts: usize, per_token: usize, tokens: usize) {
        let chosen = &self.chosen[..tokens * per_token];
        let starts = &mut self.starts;
        starts.clear();
        starts.resize(experts + 1, 0);
        for &expert in chosen {
            starts[expert as usize + 1] += 1;
        }
        for expert in 0..experts {
            starts[expert + 1] += starts[expert];
        }
        self.rows.clear();
        self.rows.resize(chosen.len(), RoutedRow::default());
        for (choice, (&expert, &weight)) in chosen.iter().zip(&self.weights[..]).enumerate() {
            let place = &mut starts[expert as usize];
            self.rows[*place as usize] = RoutedRow { row: (choice / per_token) as u32, weight };
            *place += 1;
        }
        // Each start has become the end of its expert's rows: the start of the next one.
        starts.rotate_right(1);
        starts[0] = 0;
    }

    /// Takes the experts from `next` on whose rows fit in a wave; false where no rows are left.
    pub(crate) fn next_wave(&mut self, next: &mut usize) -> bool {
        self.groups.clear();
        self.wave_rows.clear();
        while *next + 1 < self.starts.len() {
            let (start, end) = (self.starts[*next] as usize, self.starts[*next + 1] as usize);
            let before = self.wave_rows.len();
            if before + end - start > self.wave {
                break;
            }
            if start < end {
                self.wave_rows.extend(&self.rows[start..end]);
                let rows = before as u32..self.wave_rows.len() as u32;
                self.groups.push(RowGroup { weights: *next as u32, rows });
            }
            *next += 1;
        }
        !self.wave_rows.is_empty()
    }

    /// Makes all rows one wave whose weights are the sigmoids of the first `tokens` scores.
    pub(crate) fn share_all(&mut self, tokens: usize) {
        let weight = |score: f32| 1.0 / (1.0 + (-score).exp());
        self.wave_rows.clear();
        let scores = self.scores[..tokens].iter();
        self.wave_rows
            .extend((0..).zip(scores).map(|(row, &score)| RoutedRow { row, weight: weight(score) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_model::Checkpoint;

    #[test]
    fn rows_are_sorted_by_expert_and_waves_take_whole_experts() {
        let spec = Checkpoint::random("tiny-moe".parse().expect("a known shape"), 0).spec().clone();
        let options = CpuOptions { max_tokens_per_step: 300, ..CpuOptions::default() };
        let mut memory = ExpertScratch::new(&spec, &options).expect("memory").expect("experts");
        assert_eq!(memory.bytes(), ExpertScratch::planned_bytes(&spec, &options));
        let (experts, per_token, tokens) = (12, 3, 300);
        for choice in 0..tokens * per_token {
            // Expert 7 has no rows, expert 0 one of every token.
            let (token, place) = (choice / per_token, choice % per_token);
            memory.chosen[choice] = [0, 1 + token as u32 % 6, 8 + token as u32 % 4][place];
            memory.weights[choice] = choice as f32;
        }
        memory.sort(experts, per_token, tokens);
        let (mut next, mut seen, mut waves) = (0, Vec::new(), 0);
        while memory.next_wave(&mut next) {
            waves += 1;
            assert!(memory.wave_rows.len() <= 300 && memory.groups[0].rows.start == 0);
            for group in &memory.groups {
                let rows = &memory.wave_rows[group.rows.start as usize..group.rows.end as usize];
                assert!(rows.is_sorted_by_key(|row| row.row) && !rows.is_empty());
                seen.extend(rows.iter().map(|row| (row.weight as usize, row.row as usize, group.weights)));
            }
        }
        assert_eq!(waves, 3);
        seen.sort_unstable();
        let all = (0..tokens * per_token).map(|choice| (choice, choice / per_token, memory.chosen[choice]));
        assert!(seen.into_iter().eq(all));
    }
}
