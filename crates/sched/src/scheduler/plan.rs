//! Choosing the tokens of the next step.

use super::Scheduler;
use crate::batch::RowKey;
use crate::pace::StepLoad;
use crate::{
    Batching, BlockId, CompletionReason, LengthKind, Row, RowReport, SampleRequest, Sequence, Slot, StepInput,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Scheduler {
    /// Plans the next step: every decode row, then prefill chunks, then waiting requests. `None` if nothing can run.
    ///
    /// # Panics
    /// If the previous step was not committed.
    pub fn plan(&mut self, now: Instant) -> Option<&StepInput> {
        assert!(!self.step.in_flight, "plan was called before the previous step was committed");
        self.settle(now);
        self.step.input.clear_but_rows();
        self.step.keys.clear();
        self.step.planned_at = Some(now);
        self.begin_step(now);
        let before = self.counters.preemptions;
        self.plan_decodes(now);
        self.open_places();
        // After a preemption the freed blocks belong to the running rows.
        let admits = self.counters.preemptions == before || self.batch.is_empty();
        if admits && self.newcomers_first(now) {
            self.admit(now);
            self.plan_prefills();
        } else {
            self.plan_prefills();
            if admits {
                self.admit(now);
            }
            if admits && self.counters.preemptions > before {
                // What was displaced leaves its share of the step to rows that had none.
                self.plan_prefills();
            }
        }
        self.build(now);
        if self.step.keys.is_empty() {
            return None;
        }
        self.step.input.batch = self.batch.begin(now);
        self.step.in_flight = true;
        Some(&self.step.input)
    }

    /// Sets how many requests may still join: any number, or in static batches those that wait when the last one is done.
    fn open_places(&mut self) {
        match self.config.batching {
            Batching::Continuous => self.step.places = u32::MAX,
            Batching::Static if self.batch.is_empty() => self.step.places = self.queue.len() as u32,
            Batching::Static => {}
        }
    }

    /// Empties the load of the step.
    pub(super) fn begin_step(&mut self, now: Instant) {
        self.step.budget = self.config.max_num_batched_tokens;
        self.step.load = StepLoad::default();
        let rows_are_free = self.batch.rows() < self.config.max_num_seqs;
        self.pace.begin(if rows_are_free { self.queue.longest_wait(now) } else { Duration::ZERO });
    }

    /// Gives each decode row its token and leaves the other rows in `order`.
    fn plan_decodes(&mut self, now: Instant) {
        let mut order = std::mem::take(&mut self.step.order);
        order.clear();
        order.extend(self.batch.keys());
        // Nothing is admitted meanwhile, so a key cannot be reused.
        order.retain(|&key| {
            if !self.batch.holds(key) {
                return false;
            }
            let sequence = self.batch.at(key);
            if sequence.held {
                return false;
            }
            let prefill = sequence.gap() > 1;
            if !prefill {
                self.plan_decode(key, now);
            }
            prefill
        });
        self.step.order = order;
    }

    /// Whether prompts that are not begun go before the one that is: in every other step, where the next of them lacks less. So a
    /// short prompt passes a long one, which would else take the whole room, and equal ones go one after the other.
    pub(super) fn newcomers_first(&mut self, now: Instant) -> bool {
        let [open] = self.step.order[..] else { return false };
        let lacks = self.batch.at(open).gap();
        let next = self.queue.head(now).and_then(|head| self.queue.get(head));
        self.shorter_first() && next.is_some_and(|next| next.total() < lacks)
    }

    /// Whether of the open prompts the one that lacks least goes first in this step, instead of the oldest.
    fn shorter_first(&self) -> bool {
        self.batch.id().0 % 2 == 1
    }

    /// Gives each row in `order` a chunk of its prompt, as far as there is room.
    pub(super) fn plan_prefills(&mut self) {
        let mut order = std::mem::take(&mut self.step.order);
        if self.shorter_first() {
            order.sort_by_key(|&key| self.batch.holds(key).then(|| self.batch.at(key).gap()));
        }
        for &key in &order {
            // A row may have been preempted, and its key given to one that was admitted and has its chunk.
            if self.batch.holds(key) && self.batch.at(key).scheduled == 0 {
                let sequence = self.batch.at(key);
                let chunk = self.chunk(sequence.computed, sequence.runnable());
                self.schedule(key, chunk);
            }
        }
        self.step.order = order;
    }

    /// Prompts in the batch of which this step leaves a part.
    pub(super) fn open_prefills(&self) -> u32 {
        let open = |sequence: &&Sequence| !sequence.held && sequence.gap() > sequence.scheduled.max(1);
        self.batch.iter().filter(open).count() as u32
    }

    /// Schedules one token of a sequence and the block it is written to, preempting until there is one.
    fn plan_decode(&mut self, key: RowKey, now: Instant) {
        loop {
            let need = self.block_need(key);
            let sequence = self.batch.at(key);
            let alone = sequence.beams == 0 && sequence.table.held() as u32 >= self.pool.usable();
            if matches!(need, BlockNeed::New) && alone && self.leave_windows() == 0 {
                return self.end_row(key, CompletionReason::LengthLimit(LengthKind::Pool), now);
            }
            if matches!(need, BlockNeed::None) || self.pool.available() > 0 {
                self.take_block(key, &need);
                return self.schedule(key, 1);
            }
            if self.leave_windows() > 0 {
                continue;
            }
            self.preempt_for_block(key, now);
            // The victim may be the sequence itself, or a beam of the same search.
            if !self.batch.holds(key) {
                return;
            }
        }
    }

    /// What the next token of a decode row is written to.
    fn block_need(&self, key: RowKey) -> BlockNeed {
        let sequence = self.batch.at(key);
        let index = (sequence.computed / self.layout.block_size) as usize;
        match sequence.table.get(index) {
            None => BlockNeed::New,
            // Only the samples or beams of one request share a block that is not full.
            Some(block) if sequence.shares_blocks() && self.pool.refs(block) > 1 => BlockNeed::Copy(index),
            Some(_) => BlockNeed::None,
        }
    }

    fn take_block(&mut self, key: RowKey, need: &BlockNeed) {
        let sequence = self.batch.at_mut(key);
        match *need {
            BlockNeed::None => {}
            BlockNeed::New => {
                self.pool.allocate_many(1, &mut sequence.table).expect("a block is available");
            }
            BlockNeed::Copy(index) => {
                let copy = self.pool.make_unique(&mut sequence.table, index).expect("a block is available");
                // Order matters: a source may be freed and become the target of a later copy.
                self.step.input.copies.push(copy.expect("the block is shared"));
            }
        }
    }

    /// How many of `gap` tokens to prefill after `computed`, within the budget and, where decode rows wait for the step, the room
    /// that their pace leaves.
    ///
    /// Chunks end at block boundaries. Only where a whole block is out of reach does the first chunk of a step, or one
    /// that the chunk limit makes short, end inside a block, so that prefill always advances.
    pub(super) fn chunk(&self, computed: u32, gap: u32) -> u32 {
        let most = self.step.budget.min(self.config.max_prefill_chunk);
        let first = self.step.load.chunks == 0;
        let block = self.layout.block_size - computed % self.layout.block_size;
        let room = self.pace.room(&self.step.load, computed, most);
        let limit = if first { room.max(block.min(most)) } else { room };
        if gap <= limit {
            return gap;
        }
        let aligned = (computed + limit) / self.layout.block_size * self.layout.block_size;
        if aligned > computed {
            aligned - computed
        } else if first || limit == self.config.max_prefill_chunk {
            limit
        } else {
            0
        }
    }

    pub(super) fn schedule(&mut self, key: RowKey, tokens: u32) {
        let sequence = self.batch.at_mut(key);
        self.step.load.add(sequence.computed, sequence.gap(), tokens);
        sequence.scheduled = tokens;
        self.step.budget -= tokens;
    }

    /// Ends a running sequence that ran as asked.
    pub(super) fn end_row(&mut self, key: RowKey, reason: CompletionReason, now: Instant) {
        let mut sequence = self.batch.remove_key(key);
        self.pool.release_table(&mut sequence.table);
        self.observe_output(&sequence);
        self.finished(sequence.id(), reason, sequence.stats(now));
    }

    /// Counts the load anew: what is preempted after it was scheduled is not part of the step.
    pub(super) fn count_load(&mut self) {
        self.step.load = StepLoad::default();
        for sequence in self.batch.iter().filter(|sequence| sequence.scheduled > 0) {
            self.step.load.add(sequence.computed, sequence.gap(), sequence.scheduled);
        }
    }

    /// Writes the scheduled tokens as flat arrays, in order of admission.
    fn build(&mut self, now: Instant) {
        let step = &mut self.step;
        let mut order = std::mem::take(&mut step.order);
        order.clear();
        order.extend(self.batch.keys());
        for &key in &order {
            let sequence = self.batch.at_mut(key);
            if sequence.scheduled > 0 {
                sequence.note_scheduled(now);
                write_row(&mut step.input, step.keys.len(), sequence);
                step.keys.push(key);
            }
        }
        step.input.rows.truncate(step.keys.len());
        step.order = order;
    }
}

/// What a decode row needs before it can be written.
enum BlockNeed {
    None,
    New,
    /// The block at this index is shared.
    Copy(usize),
}

/// Writes row `index` over that of the step before: mostly the same sequence, whose parameters need no new reference.
fn write_row(input: &mut StepInput, index: usize, sequence: &Sequence) {
    let (first, context) = (sequence.computed, sequence.computed + sequence.scheduled);
    let size = input.block_size;
    let start = input.tokens.len() as u32;
    let table_start = input.tables.len() as u32;
    push_tokens(&mut input.tokens, sequence, first as usize..context as usize);
    input.positions.extend(first..context);
    input.tables.extend(sequence.table.ids().take(context.div_ceil(size) as usize));
    let table = &input.tables[table_start as usize..];
    let slot = |position: u32| {
        let BlockId(block) = table[(position / size) as usize];
        Slot(block * size + position % size)
    };
    input.write_slots.extend((first..context).map(slot));
    let sampled = context == sequence.total() && sequence.request.max_tokens > 0;
    let old = input.rows.get_mut(index).and_then(|row| row.sampling.take()).filter(|_| sampled);
    let row = Row {
        id: sequence.request.id,
        sample: sequence.sample,
        adapter: sequence.request.adapter,
        tokens: start..input.tokens.len() as u32,
        context,
        table: table_start..input.tables.len() as u32,
        sampling: sampled.then(|| sample_request(old, &mut input.history, sequence)),
        report: row_report(sequence, start, &mut input.next),
    };
    match input.rows.get_mut(index) {
        Some(place) => *place = row,
        None => input.rows.push(row),
    }
}

/// What is reported of a row whose first token is `start` of the step.
fn row_report(sequence: &Sequence, start: u32, next: &mut Vec<u32>) -> Option<RowReport> {
    let (request, first) = (&sequence.request, sequence.computed);
    let computed = first..first + sequence.scheduled;
    RowReport::of((request.sampling.report, &request.prompt), sequence.unread(), computed, start, next)
}

fn push_tokens(into: &mut Vec<u32>, sequence: &Sequence, range: Range<usize>) {
    let prompt = &sequence.request.prompt;
    let split = prompt.len();
    into.extend_from_slice(&prompt[range.start.min(split)..range.end.min(split)]);
    into.extend_from_slice(
        &sequence.output[range.start.saturating_sub(split)..range.end.saturating_sub(split)],
    );
}

fn sample_request(old: Option<SampleRequest>, history: &mut Vec<u32>, sequence: &Sequence) -> SampleRequest {
    let start = history.len() as u32;
    let params = &sequence.request.sampling;
    let needed = params.needs_history();
    if needed {
        history.extend_from_slice(&sequence.request.prompt);
        history.extend_from_slice(&sequence.output);
    }
    let kept = old.map(|old| old.params).filter(|kept| Arc::ptr_eq(kept, params));
    SampleRequest {
        params: kept.unwrap_or_else(|| Arc::clone(params)),
        count: if sequence.output.is_empty() && sequence.beams == 0 { sequence.request.samples } else { 1 },
        generated: sequence.generated(),
        history: start..history.len() as u32,
        history_prompt: if needed { sequence.request.prompt.len() as u32 } else { 0 },
    }
}
