//! One step as flat arrays, reused for ever.

use crate::{
    AdapterId, BatchId, BlockId, PromptLogprob, RequestId, RowReport, SampleIndex, SamplingParams, Slot,
    TokenId,
};
use std::ops::Range;
use std::sync::Arc;

/// What the executor is to compute in one step. T tokens over R rows.
#[derive(Debug, Default)]
pub struct StepInput {
    /// Sequential number of the step.
    pub batch: BatchId,
    /// Tokens per KV block.
    pub block_size: u32,
    /// `[T]` token ids, row after row.
    pub tokens: Vec<TokenId>,
    /// `[T]` absolute position of each token in its sequence.
    pub positions: Vec<u32>,
    /// `[T]` where the key and value of each token are written.
    pub write_slots: Vec<Slot>,
    /// `[R]` rows.
    pub rows: Vec<Row>,
    /// Block tables, row after row; [`Row::table`] is a range of it.
    pub tables: Vec<BlockId>,
    /// Whole-block copies to make before anything is written.
    pub copies: Vec<BlockCopy>,
    /// Tokens before the sampled one, for the rows whose sampling needs them; [`SampleRequest::history`].
    pub history: Vec<TokenId>,
    /// Tokens after those whose likelihood is reported; [`Readout::Logprobs`](crate::Readout::Logprobs).
    pub next: Vec<TokenId>,
}

/// Some consecutive tokens of one sequence: a prefill chunk or one decode token.
#[derive(Clone, Debug)]
pub struct Row {
    /// Request that the row belongs to.
    pub id: RequestId,
    /// Sample of that request.
    pub sample: SampleIndex,
    /// What the model is changed by for this row.
    pub adapter: AdapterId,
    /// Range of [`StepInput::tokens`].
    pub tokens: Range<u32>,
    /// Tokens of the sequence that are in KV storage after the step: the last one's position + 1.
    pub context: u32,
    /// Range of [`StepInput::tables`]: `ceil(context / block_size)` blocks.
    pub table: Range<u32>,
    /// What to sample from the logits of the row's last token; `None` inside a prompt.
    pub sampling: Option<SampleRequest>,
    /// What to report of the row's own tokens; `None` outside of prompts, and for nearly all of them.
    pub report: Option<RowReport>,
}

/// Asks for tokens sampled from one row of logits.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// Resolved parameters.
    pub params: Arc<SamplingParams>,
    /// Samples drawn from the same logits: the `n` of a request at its first token, else 1. The first is
    /// [`Row::sample`], the others follow it.
    pub count: u16,
    /// Tokens generated so far, for `min_tokens`.
    pub generated: u32,
    /// Range of [`StepInput::history`]: prompt then output; empty unless [`SamplingParams::needs_history`].
    pub history: Range<u32>,
    /// How many of `history` are prompt.
    pub history_prompt: u32,
}

/// Copy of a whole block, all layers, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// Source block.
    pub from: BlockId,
    /// Destination block.
    pub to: BlockId,
}

/// What the executor computed.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// One entry per requested sample, in row order.
    pub samples: Vec<Sampled>,
    /// Most likely tokens of the samples that asked for them; [`Sampled::top`] is a range of it.
    pub top: Vec<TokenLogprob>,
    /// One entry per token whose successor's likelihood is reported, in row order.
    pub prompt: Vec<PromptLogprob>,
    /// The most likely tokens of each of those places, most likely first: as many as the row asks for, place after place.
    pub prompt_top: Vec<TokenLogprob>,
    /// `[rows that report them, width]` sums of hidden states, in row order. They are exact whatever the chunks, so that they
    /// can be added in any order.
    pub hidden: Vec<f64>,
}

/// One sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token, or why there is none.
    pub token: Result<TokenId, RowFault>,
    /// Log-probability of the token under the raw logits; 0 unless asked for.
    pub logprob: f32,
    /// Range of [`StepOutput::top`], most likely first.
    pub top: Range<u32>,
}

/// Why a row has no token. It ends that request alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFault {
    /// A logit was NaN or infinite.
    NonFiniteLogits,
    /// No token can follow within the constraint of the request.
    Constraint,
}

/// A token and its log-probability under the raw logits (before temperature, penalties and bias).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Its natural log-probability.
    pub logprob: f32,
}

impl StepInput {
    /// Empties all arrays and keeps their memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.clear_but_rows();
    }

    /// Empties all arrays but the rows, which the next step overwrites.
    pub(crate) fn clear_but_rows(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.write_slots.clear();
        self.tables.clear();
        self.copies.clear();
        self.history.clear();
        self.next.clear();
    }

    /// Block table of `row`.
    pub fn table(&self, row: &Row) -> &[BlockId] {
        &self.tables[row.table.start as usize..row.table.end as usize]
    }
}

impl StepOutput {
    /// Empties all arrays and keeps their memory.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.top.clear();
        self.prompt.clear();
        self.prompt_top.clear();
        self.hidden.clear();
    }
}
