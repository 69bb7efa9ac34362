//! What a step has to be before it is run.

use pagoda_sched::{ExecError, KvCapacity, Readout, Row, RowReport, StepInput};

/// Checks `input` against what the executor holds.
///
/// # Errors
/// A token id outside the vocabulary.
///
/// # Panics
/// If the arrays contradict each other or the capacity: that is a broken invariant of the scheduler, after which
/// nothing in KV storage could be trusted.
pub(crate) fn check(input: &StepInput, capacity: &KvCapacity, max_tokens: u32) -> Result<(), ExecError> {
    let tokens = input.tokens.len();
    assert!(tokens <= max_tokens as usize, "{tokens} tokens in a step; the most is {max_tokens}");
    assert_eq!(input.positions.len(), tokens, "one position per token");
    assert_eq!(input.write_slots.len(), tokens, "one slot per token");
    assert_eq!(input.block_size, capacity.layout.block_size, "one block size");
    let blocks = capacity.layout.blocks;
    assert!(
        input.tables.iter().all(|block| block.0 < blocks),
        "a block table names a block outside the pool"
    );
    let copied = |id: u32| id > 0 && id < blocks;
    assert!(
        input.copies.iter().all(|copy| copied(copy.from.0) && copied(copy.to.0)),
        "a copy is of real blocks"
    );
    let mut end = 0;
    for row in &input.rows {
        assert_eq!(row.tokens.start, end, "rows follow one another");
        assert!(row.tokens.end > row.tokens.start, "a row has a token");
        end = row.tokens.end;
        check_row(input, row, capacity);
    }
    assert_eq!(end as usize, tokens, "every token is in a row");
    check_ids(input, capacity.vocab_size)
}

fn check_row(input: &StepInput, row: &Row, capacity: &KvCapacity) {
    let size = input.block_size;
    let count = row.tokens.end - row.tokens.start;
    assert!(row.context >= count && row.context <= capacity.max_context, "{row:?}: context out of range");
    let table = input.table(row);
    assert_eq!(table.len(), row.context.div_ceil(size) as usize, "{row:?}: blocks for its context");
    for (offset, token) in row.tokens.clone().enumerate() {
        let position = row.context - count + offset as u32;
        assert_eq!(input.positions[token as usize], position, "{row:?}: positions follow one another");
        let block = table[(position / size) as usize];
        assert_ne!(block.0, 0, "{row:?}: the null block holds no tokens");
        let slot = block.0 * size + position % size;
        assert_eq!(input.write_slots[token as usize].0, slot, "{row:?}: a token goes where its table says");
    }
    if let Some(report) = &row.report {
        check_report(input, row, report, capacity.vocab_size);
    }
    if let Some(request) = &row.sampling {
        let history = request.history.start as usize..request.history.end as usize;
        assert!(input.history.get(history.clone()).is_some(), "{row:?}: history out of range");
        assert!(request.history_prompt as usize <= history.len(), "{row:?}: more prompt than history");
        assert!(request.count > 0, "{row:?}: a request for no sample");
    }
}

fn check_report(input: &StepInput, row: &Row, report: &RowReport, vocab_size: u32) {
    let (own, read) = (&row.tokens, &report.tokens);
    let within = own.start <= read.start && read.start < read.end && read.end <= own.end;
    assert!(within, "{row:?}: reports on tokens of its own");
    if let Readout::Logprobs { top, next } = &report.readout {
        let next = input.next.get(next.start as usize..next.end as usize);
        assert_eq!(next.map(<[_]>::len), Some(read.len()), "{row:?}: a token after each that is reported");
        assert!(u32::from(*top) <= vocab_size, "{row:?}: more likely tokens than there are");
    }
}

fn check_ids(input: &StepInput, vocab_size: u32) -> Result<(), ExecError> {
    let stray = |tokens: &[u32]| tokens.iter().position(|&token| token >= vocab_size);
    if let Some(index) = stray(&input.tokens) {
        let (token, position) = (input.tokens[index], input.positions[index]);
        let message = format!(
            "token id {token} at position {position} is outside the vocabulary of {vocab_size} tokens"
        );
        return Err(ExecError { message });
    }
    for (tokens, place) in [(&input.history, "a history"), (&input.next, "a prompt")] {
        if let Some(index) = stray(tokens) {
            let token = tokens[index];
            let message =
                format!("token id {token} in {place} is outside the vocabulary of {vocab_size} tokens");
            return Err(ExecError { message });
        }
    }
    Ok(())
}
