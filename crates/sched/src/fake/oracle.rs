//! KV storage that knows what must be in it.

use super::FakeModel;
use crate::{AdapterId, KvCapacity, Request, RequestId, Row, SampleIndex, StepInput, TokenId, TokenLogprob};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// What one token slot holds instead of a key and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Salt of the request that wrote it, if that was registered.
    salt: u64,
    /// Hash of all tokens up to this one.
    prefix: u64,
    position: u32,
    token: TokenId,
    /// Step that wrote it; 0 for never, [`SPOILED`] for what nobody may read.
    step: u64,
}

const SPOILED: u64 = u64::MAX;
const NEVER: Cell = Cell { salt: 0, prefix: 0, position: 0, token: 0, step: 0 };

#[derive(Debug)]
pub(super) struct Oracle {
    block_size: u32,
    window: Option<u32>,
    /// `[blocks * block_size]`.
    cells: Vec<Cell>,
    expected: FxHashMap<RequestId, Expected>,
    /// Steps begun; stamps the cells.
    step: u64,
}

/// What a registered request must find: its prompt, then each sample's own output.
#[derive(Debug)]
struct Expected {
    salt: u64,
    adapter: AdapterId,
    prompt: Arc<[TokenId]>,
    /// Prefix hash after each prompt token.
    prefixes: Vec<u64>,
    samples: Vec<Vec<(TokenId, u64)>>,
    /// Of a beam search instead: prefix hashes of all continuations that were offered.
    offered: Option<FxHashSet<u64>>,
}

impl Expected {
    /// Token and prefix hash that must follow the prefix `last` at a position. Which of the offered tokens a beam has, only
    /// its cell tells.
    fn after(&self, last: u64, cell: &Cell, sample: SampleIndex, position: usize) -> Option<(TokenId, u64)> {
        match &self.offered {
            Some(offered) if position >= self.prompt.len() => {
                let prefix = FakeModel::extend(last, cell.token);
                offered.contains(&prefix).then_some((cell.token, prefix))
            }
            _ => self.at(sample, position),
        }
    }

    /// Token and prefix hash at a position of a sample.
    fn at(&self, sample: SampleIndex, position: usize) -> Option<(TokenId, u64)> {
        match position.checked_sub(self.prompt.len()) {
            None => Some((self.prompt[position], self.prefixes[position])),
            Some(generated) => self.samples.get(usize::from(sample.0))?.get(generated).copied(),
        }
    }
}

impl Oracle {
    pub(super) fn new(capacity: &KvCapacity) -> Self {
        let layout = &capacity.layout;
        let slots = layout.blocks as usize * layout.block_size as usize;
        Self {
            block_size: layout.block_size,
            window: capacity.window,
            cells: vec![NEVER; slots],
            expected: FxHashMap::default(),
            step: 0,
        }
    }

    pub(super) fn register(&mut self, request: &Request) {
        let mut prefix = FakeModel::empty_prefix(request.adapter);
        let extend = |&token: &TokenId| {
            prefix = FakeModel::extend(prefix, token);
            prefix
        };
        let prefixes = request.prompt.iter().map(extend).collect();
        let samples = vec![Vec::new(); usize::from(request.samples)];
        let offered = request.sampling.beam.map(|_| FxHashSet::default());
        let (salt, prompt) = (request.salt.0, request.prompt.clone());
        let adapter = request.adapter;
        let expected = Expected { salt, adapter, prompt, prefixes, samples, offered };
        self.expected.insert(request.id, expected);
    }

    pub(super) fn forget(&mut self, id: RequestId) {
        self.expected.remove(&id);
    }

    /// Checks the shape of a step and makes its copies.
    pub(super) fn begin_step(&mut self, input: &StepInput) {
        self.step += 1;
        let tokens = input.rows.last().map_or(0, |row| row.tokens.end as usize);
        let lengths = [input.tokens.len(), input.positions.len(), input.write_slots.len()];
        assert_eq!(lengths, [tokens; 3], "tokens, positions and write slots of step {:?}", input.batch);
        assert_eq!(input.block_size, self.block_size, "block size of step {:?}", input.batch);
        let size = self.block_size as usize;
        for copy in &input.copies {
            let (from, to) = (copy.from.0 as usize * size, copy.to.0 as usize * size);
            assert!(from > 0 && to > 0, "the null block takes part in {copy:?}");
            self.cells.copy_within(from..from + size, to);
        }
    }

    /// Writes the tokens of a row where the step says, each as the successor of what its table holds before it.
    pub(super) fn write_row(&mut self, input: &StepInput, row: &Row) {
        let table = input.table(row);
        assert_eq!(table.len() as u32, row.context.div_ceil(self.block_size), "table of {}", name(row));
        let salt = self.expected.get(&row.id).map_or(0, |expected| expected.salt);
        let first = row.context - (row.tokens.end - row.tokens.start);
        let mut prefix = match first.checked_sub(1) {
            None => FakeModel::empty_prefix(row.adapter),
            Some(before) => self.cells[self.slot(table, before)].prefix,
        };
        for (index, position) in row.tokens.clone().zip(first..) {
            let index = index as usize;
            assert_eq!(input.positions[index], position, "position of a token of {}", name(row));
            let slot = self.slot(table, position);
            assert_eq!(input.write_slots[index].0 as usize, slot, "slot of {} at {position}", name(row));
            assert_ne!(
                self.cells[slot].step,
                self.step,
                "{} writes slot {slot} after another row",
                name(row)
            );
            let token = input.tokens[index];
            prefix = FakeModel::extend(prefix, token);
            self.cells[slot] = Cell { salt, prefix, position, token, step: self.step };
        }
    }

    /// Checks every position that a row sees and returns the hash of all its tokens.
    pub(super) fn read_row(&self, input: &StepInput, row: &Row) -> u64 {
        match self.expected.get(&row.id) {
            Some(expected) => self.read_registered(input, row, expected),
            None => self.read_chain(input, row),
        }
    }

    fn read_registered(&self, input: &StepInput, row: &Row, expected: &Expected) -> u64 {
        assert_eq!(row.adapter, expected.adapter, "adapter of {}", name(row));
        let table = input.table(row);
        // Which prefix a beam has, only its whole table tells.
        let first = if expected.offered.is_some() { 0 } else { self.first_seen(row) };
        let before = first.checked_sub(1).and_then(|before| expected.at(row.sample, before as usize));
        let mut last = before.map_or(FakeModel::empty_prefix(expected.adapter), |(_, prefix)| prefix);
        for position in first..row.context {
            let cell = &self.cells[self.slot(table, position)];
            let Some((token, prefix)) = expected.after(last, cell, row.sample, position as usize) else {
                panic!("{} reads position {position}, which it never generated", name(row));
            };
            let right = cell.position == position && cell.token == token && cell.prefix == prefix;
            if !right || cell.salt != expected.salt || cell.step == SPOILED {
                let block = table[(position / self.block_size) as usize];
                let want = (expected.salt, prefix, token);
                panic!(
                    "{} at {position} in {block:?}: found {cell:?}, expected salt, prefix, token {want:?}",
                    name(row)
                );
            }
            last = prefix;
        }
        last
    }

    fn read_chain(&self, input: &StepInput, row: &Row) -> u64 {
        let table = input.table(row);
        let mut prefix = FakeModel::empty_prefix(row.adapter);
        let first = self.first_seen(row);
        for position in first..row.context {
            let cell = &self.cells[self.slot(table, position)];
            // What is before the window only its end tells of.
            let within = position > first || first == 0;
            prefix = if within { FakeModel::extend(prefix, cell.token) } else { cell.prefix };
            let right = cell.position == position && cell.prefix == prefix && cell.step != 0;
            if !right || cell.step == SPOILED {
                let block = table[(position / self.block_size) as usize];
                panic!("{} at {position} in {block:?}: found {cell:?}, expected prefix {prefix}", name(row));
            }
        }
        prefix
    }

    /// First position that a token of a row sees.
    fn first_seen(&self, row: &Row) -> u32 {
        let first = row.context - (row.tokens.end - row.tokens.start);
        self.window.map_or(0, |window| (first + 1).saturating_sub(window))
    }

    /// Hash of a row's tokens up to `token` of the step, which it has written.
    pub(super) fn prefix_at(&self, input: &StepInput, row: &Row, token: u32) -> u64 {
        self.cells[self.slot(input.table(row), input.positions[token as usize])].prefix
    }

    /// Records a token that the model generated, as what a registered request must find later.
    pub(super) fn generated(&mut self, id: RequestId, sample: SampleIndex, index: u32, token: TokenId) {
        let Some(expected) = self.expected.get_mut(&id) else { return };
        let before = expected.prefixes.last().copied();
        let before = before.unwrap_or_else(|| FakeModel::empty_prefix(expected.adapter));
        let output = &mut expected.samples[usize::from(sample.0)];
        assert_eq!(output.len() as u32, index, "tokens generated so far by {id}#{}", sample.0);
        let before = output.last().map_or(before, |&(_, prefix)| prefix);
        output.push((token, FakeModel::extend(before, token)));
    }

    /// Records the continuations of a beam that a registered request may be found with later.
    pub(super) fn offered(&mut self, id: RequestId, prefix: u64, tokens: &[TokenLogprob]) {
        let offered = self.expected.get_mut(&id).and_then(|expected| expected.offered.as_mut());
        if let Some(offered) = offered {
            offered.extend(tokens.iter().map(|next| FakeModel::extend(prefix, next.token)));
        }
    }

    /// Makes what a row wrote in this step unreadable: its logits were not finite.
    pub(super) fn poison_last_write(&mut self, input: &StepInput, row: &Row) {
        for index in row.tokens.clone() {
            self.cells[input.write_slots[index as usize].0 as usize].step = SPOILED;
        }
    }

    /// Leaves every other token of a failed step written and unreadable.
    pub(super) fn spoil_half(&mut self, input: &StepInput) {
        for slot in input.write_slots.iter().step_by(2) {
            self.cells[slot.0 as usize].step = SPOILED;
        }
    }

    fn slot(&self, table: &[crate::BlockId], position: u32) -> usize {
        let block = table[(position / self.block_size) as usize].0;
        assert!(block != 0, "a table points to the null block at position {position}");
        (block * self.block_size + position % self.block_size) as usize
    }
}

fn name(row: &Row) -> String {
    format!("row {}#{}", row.id, row.sample.0)
}
