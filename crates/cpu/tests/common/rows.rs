//! Steps made by hand: sequences over blocks in a scattered order.

use pagoda_cpu::CpuExecutor;
use pagoda_sched::{
    AdapterId, BlockId, Executor, RequestId, Row, SampleIndex, SampleRequest, SamplingParams, Slot, StepInput,
};
use std::ops::Range;
use std::sync::Arc;

/// A sequence with the blocks that hold it.
#[derive(Clone)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) adapter: AdapterId,
}

impl Sequence {
    /// A sequence whose blocks are every `stride`-th of the pool, from the last one down.
    pub(crate) fn scattered(tokens: &[u32], executor: &CpuExecutor, start: u32, stride: u32) -> Self {
        let blocks = executor.capacity().layout.blocks;
        let ids = (0..).map(|i| BlockId(blocks - 1 - (start + i * stride) % (blocks - 1)));
        let count = (blocks - 1) / stride.max(1);
        Self { tokens: tokens.to_vec(), blocks: ids.take(count as usize).collect(), adapter: AdapterId::NONE }
    }
}

/// Appends the tokens `range` of `sequence` to `input`; the last one is sampled when `params` are given.
pub(crate) fn push_row(
    input: &mut StepInput,
    sequence: &Sequence,
    range: Range<u32>,
    params: Option<&Arc<SamplingParams>>,
) {
    let size = input.block_size;
    let first = input.tokens.len() as u32;
    for position in range.clone() {
        input.tokens.push(sequence.tokens[position as usize]);
        input.positions.push(position);
        let block = sequence.blocks[(position / size) as usize];
        input.write_slots.push(Slot(block.0 * size + position % size));
    }
    let table = input.tables.len() as u32;
    input.tables.extend(&sequence.blocks[..range.end.div_ceil(size) as usize]);
    input.rows.push(Row {
        id: RequestId::EMPTY,
        sample: SampleIndex(0),
        adapter: sequence.adapter,
        tokens: first..input.tokens.len() as u32,
        context: range.end,
        table: table..input.tables.len() as u32,
        report: None,
        sampling: params.map(|params| SampleRequest {
            params: Arc::clone(params),
            count: 1,
            generated: 0,
            history: 0..0,
            history_prompt: 0,
        }),
    });
}

/// An empty step for `executor`.
pub(crate) fn step(executor: &CpuExecutor) -> StepInput {
    StepInput { block_size: executor.capacity().layout.block_size, ..StepInput::default() }
}
