//! An executor without arithmetic whose answers are known in closed form and whose KV storage is checked on every read.

mod beams;
mod control;
mod model;
mod oracle;
mod prompts;

pub use beams::BeamAnswer;
pub use control::FakeControl;
pub use model::FakeModel;

use crate::{
    AdapterId, AdapterWeights, ConstraintFault, ExecError, Executor, KvCapacity, KvLayout, PromptLogprob,
    Readout, Request, RequestId, Row, RowFault, RowReport, SampleIndex, SampleRequest, Sampled, StepInput,
    StepOutput, TokenId, TokenLogprob,
};
use control::Fate;
use oracle::Oracle;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;

/// Stands in for a model in tests.
///
/// Each step writes what a token is (salt, hash of its prefix and adapter, position, id) through the real block tables into
/// storage of the real shape, and each row then reads every position that it can see and checks it. A wrong table, a
/// block that was freed too early, a stale or early published prefix, a missed copy: all end in a panic that names
/// row, position and block.
///
/// Requests that were [registered](Self::register) are checked against their own tokens; the others only for being one
/// unbroken chain. Register all requests of an executor or none.
#[derive(Debug)]
pub struct FakeExecutor {
    capacity: KvCapacity,
    model: FakeModel,
    oracle: Oracle,
    control: FakeControl,
    /// Adapters that rows may name, with what was given for them.
    adapters: FxHashMap<AdapterId, AdapterWeights>,
    /// Prefix hash after each row of the step; scratch.
    prefixes: Vec<u64>,
    /// Tokens that the constraint of a sample allows, as bits; scratch.
    allowed: Vec<u32>,
}

impl FakeExecutor {
    /// An executor of this capacity; the number of layers and heads does not matter.
    pub fn new(capacity: KvCapacity) -> Self {
        Self {
            capacity,
            model: FakeModel::new(capacity.vocab_size),
            oracle: Oracle::new(&capacity),
            control: FakeControl::default(),
            adapters: FxHashMap::default(),
            prefixes: Vec::new(),
            allowed: Vec::new(),
        }
    }

    /// The capacity of a pool without a model: one layer, one head of one element.
    pub fn capacity_of(blocks: u32, block_size: u32, max_context: u32, vocab_size: u32) -> KvCapacity {
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size,
            element_bytes: 1,
            scale_bytes: 0,
            blocks,
        };
        KvCapacity { layout, max_context, vocab_size, window: None }
    }

    /// Makes every sequence generate `script`, and its last token for ever after.
    pub fn with_script(mut self, script: impl Into<Arc<[TokenId]>>) -> Self {
        self.model = self.model.with_script(script);
        self
    }

    /// Makes every step last at least `delay`, by sleeping.
    pub fn with_delay(self, delay: Duration) -> Self {
        self.control.set_delay(delay);
        self
    }

    /// Makes step `step`, counted from 0, fail after half of it was written.
    pub fn failing_at(self, step: u64) -> Self {
        self.control.fail_at(step);
        self
    }

    /// Makes step `step`, counted from 0, panic.
    pub fn panicking_at(self, step: u64) -> Self {
        self.control.panic_at(step);
        self
    }

    /// Makes each sampled row have non-finite logits with this probability in parts per million, chosen by `seed`.
    pub fn with_nan_rows(self, parts_per_million: u32, seed: u64) -> Self {
        self.control.set_nan_rows(parts_per_million, seed);
        self
    }

    /// A handle that changes the knobs while the executor runs elsewhere.
    pub fn control(&self) -> FakeControl {
        self.control.clone()
    }

    /// The closed form of the answers.
    pub fn model(&self) -> &FakeModel {
        &self.model
    }

    /// Announces what a request is, so that its reads are checked against its own tokens.
    pub fn register(&mut self, request: &Request) {
        self.oracle.register(request);
    }

    /// Forgets a registered request that has ended.
    pub fn forget(&mut self, id: RequestId) {
        self.oracle.forget(id);
    }

    /// Writes the tokens of all rows, then has each row read all that it sees.
    fn run_rows(&mut self, input: &StepInput) {
        for row in &input.rows {
            let known = row.adapter == AdapterId::NONE || self.adapters.contains_key(&row.adapter);
            assert!(known, "row {}#{} names {:?}, which is not attached", row.id, row.sample.0, row.adapter);
            self.oracle.write_row(input, row);
        }
        self.prefixes.clear();
        for row in &input.rows {
            self.prefixes.push(self.oracle.read_row(input, row));
        }
    }

    /// Reports on the tokens of a row in closed form.
    fn report(&mut self, input: &StepInput, row: &Row, report: &RowReport, output: &mut StepOutput) {
        let nan = self.control.draw_nan();
        if nan {
            self.oracle.poison_last_write(input, row);
        }
        let prefixes = report.tokens.clone().map(|token| self.oracle.prefix_at(input, row, token));
        match &report.readout {
            Readout::Logprobs { top, next } => {
                for (prefix, next) in prefixes.zip(next.clone()) {
                    let mut entry = self.model.prompt_logprob(prefix, input.next[next as usize]);
                    if nan {
                        entry = PromptLogprob { logprob: f32::NAN, rank: 0 };
                    }
                    output.prompt.push(entry);
                    output.prompt_top.extend(self.model.prompt_top(prefix, usize::from(*top)));
                }
            }
            Readout::Hidden => {
                let sum = prefixes.fold([0.0; FakeModel::WIDTH], |sum, prefix| {
                    let hidden = FakeModel::hidden(prefix);
                    std::array::from_fn(|at| sum[at] + hidden[at])
                });
                output.hidden.extend(if nan { [f64::NAN; FakeModel::WIDTH] } else { sum });
            }
        }
    }

    fn sample(&mut self, input: &StepInput, row: usize, request: &SampleRequest, output: &mut StepOutput) {
        let (row, prefix) = (&input.rows[row], self.prefixes[row]);
        let nan = self.control.draw_nan();
        if nan {
            self.oracle.poison_last_write(input, row);
        }
        if request.params.beam.is_some() {
            return self.offer(row.id, prefix, (request, nan), output);
        }
        for offset in 0..request.count {
            let sample = SampleIndex(row.sample.0 + offset);
            let wanted = self.model.next(prefix, sample, &request.params, request.generated);
            let chosen =
                if nan { Err(RowFault::NonFiniteLogits) } else { self.constrain(wanted, sample, request) };
            let start = output.top.len() as u32;
            let Ok(token) = chosen else {
                output.samples.push(Sampled { token: chosen, logprob: 0.0, top: start..start });
                continue;
            };
            self.oracle.generated(row.id, sample, request.generated, token);
            let logprob = request.params.logprobs.map_or(0.0, |_| self.model.logprob(prefix, token));
            self.push_top((token, logprob), request, output);
            output.samples.push(Sampled { token: chosen, logprob, top: start..output.top.len() as u32 });
        }
    }

    /// The first token from `wanted` on, round the vocabulary, that the constraint allows.
    fn constrain(
        &mut self,
        wanted: TokenId,
        sample: SampleIndex,
        request: &SampleRequest,
    ) -> Result<TokenId, RowFault> {
        let Some(constraint) = &request.params.constraint else { return Ok(wanted) };
        constraint
            .allowed(sample, request.generated, &mut self.allowed)
            .map_err(|ConstraintFault| RowFault::Constraint)?;
        let size = self.capacity.vocab_size;
        let is_allowed =
            |id: &TokenId| self.allowed.get(*id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
        let token =
            (0..size).map(|step| (wanted + step) % size).find(is_allowed).ok_or(RowFault::Constraint)?;
        constraint.chosen(sample, request.generated, token);
        Ok(token)
    }

    /// Offers the most likely tokens after a beam; whichever of them are chosen, a registered request may go on with them.
    fn offer(
        &mut self,
        id: RequestId,
        prefix: u64,
        (request, nan): (&SampleRequest, bool),
        output: &mut StepOutput,
    ) {
        let start = output.top.len() as u32;
        let count = request.params.reported().unwrap_or(0);
        output.top.extend(self.model.candidates(prefix, request.generated, count));
        let best = output.top[start as usize];
        if nan {
            output.top.truncate(start as usize);
        }
        self.oracle.offered(id, prefix, &output.top[start as usize..]);
        output.samples.push(Sampled {
            token: if nan { Err(RowFault::NonFiniteLogits) } else { Ok(best.token) },
            logprob: if nan { 0.0 } else { best.logprob },
            top: start..output.top.len() as u32,
        });
    }

    /// The chosen token and its neighbours in the vocabulary, ever less likely.
    fn push_top(&self, (token, logprob): (TokenId, f32), request: &SampleRequest, output: &mut StepOutput) {
        let count = request.params.logprobs.map_or(0, u32::from).min(self.capacity.vocab_size);
        output.top.extend((0..count).map(|rank| TokenLogprob {
            token: (token + rank) % self.capacity.vocab_size,
            logprob: logprob - rank as f32,
        }));
    }
}

impl Executor for FakeExecutor {
    fn capacity(&self) -> KvCapacity {
        self.capacity
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        let fate = self.control.begin_step();
        self.oracle.begin_step(input);
        match fate {
            Fate::Run => self.run_rows(input),
            Fate::Fail(step) => {
                self.oracle.spoil_half(input);
                return Err(ExecError { message: format!("step {step} was told to fail") });
            }
            Fate::Panic(step) => panic!("step {step} was told to panic"),
        }
        for (index, row) in input.rows.iter().enumerate() {
            if let Some(report) = &row.report {
                self.report(input, row, report, output);
            }
            if let Some(request) = &row.sampling {
                self.sample(input, index, request, output);
            }
        }
        Ok(())
    }

    fn attach(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<(), ExecError> {
        let before = self.adapters.insert(id, adapter);
        assert!(before.is_none() && id != AdapterId::NONE, "{id:?} is attached twice");
        Ok(())
    }

    fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        self.adapters.remove(&id)
    }
}
