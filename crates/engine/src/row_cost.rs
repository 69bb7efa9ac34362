//! What a step of one row costs, measured before requests come.

use pagoda_sched::{
    AdapterId, BlockId, ExecError, Executor, RequestId, Row, SampleIndex, SampleRequest, SamplingParams,
    Slot, StepInput, StepOutput,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps measured; the fastest counts, since the first finds cold memory.
const STEPS: u32 = 3;

/// Time of the fastest of a few steps that compute one token in the first block of the pool, which nobody reads.
pub(crate) fn measure(executor: &mut impl Executor) -> Result<Duration, ExecError> {
    let block_size = executor.capacity().layout.block_size;
    let sampling = SampleRequest {
        params: Arc::new(SamplingParams::greedy()),
        count: 1,
        generated: 0,
        history: 0..0,
        history_prompt: 0,
    };
    let row = Row {
        id: RequestId::new(),
        sample: SampleIndex(0),
        adapter: AdapterId::NONE,
        tokens: 0..1,
        context: 1,
        table: 0..1,
        sampling: Some(sampling),
        report: None,
    };
    let input = StepInput {
        block_size,
        tokens: vec![0],
        positions: vec![0],
        write_slots: vec![Slot(block_size)],
        rows: vec![row],
        tables: vec![BlockId(1)],
        ..StepInput::default()
    };
    let mut output = StepOutput::default();
    let mut fastest = Duration::MAX;
    for _ in 0..STEPS {
        output.samples.clear();
        output.top.clear();
        let begun = Instant::now();
        executor.execute(&input, &mut output)?;
        fastest = fastest.min(begun.elapsed());
    }
    Ok(fastest)
}
