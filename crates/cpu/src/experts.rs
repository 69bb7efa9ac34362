//! Mixtures of experts: each token passes those that its router chooses.
//!
//! The rows of a step are sorted by expert; the gated unit of each expert that has rows runs once over them, and what it makes of a
//! row is added to the row's sum. The sum starts with the shared expert and goes on with the chosen ones by their numbers, so that
//! its order, and with it the bits of a row, depends on the row's own choice alone.

use crate::expert_scratch::ExpertScratch;
use crate::forward::{Forward, glu, linear};
use crate::scratch::Scratch;
use crate::weights::{GatedUnit, Linear};
use crate::{Cost, Operation};
use pagoda_kernels::{GroupedInput, LinearRef, RouteWeights};
use pagoda_model::{DecoderSpec, ExpertSpec, ExpertWeights};

/// The experts of a layer.
#[derive(Debug)]
pub(crate) struct Experts {
    pub(crate) spec: ExpertSpec,
    /// `[experts, hidden]`, f32 in every format of the rest: a rounded score may choose another expert.
    pub(crate) router: Linear,
    /// By number.
    pub(crate) units: Vec<GatedUnit>,
    pub(crate) shared: Option<SharedUnit>,
}

/// The expert that all tokens pass.
#[derive(Debug)]
pub(crate) struct SharedUnit {
    pub(crate) unit: GatedUnit,
    /// `[1, hidden]`, f32: the sigmoid of its output is a factor.
    pub(crate) gate: Option<Linear>,
}

impl Experts {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let shared = self
            .shared
            .as_ref()
            .map_or(0, |shared| shared.unit.bytes() + shared.gate.as_ref().map_or(0, Linear::bytes));
        self.router.bytes() + self.units.iter().map(GatedUnit::bytes).sum::<u64>() + shared
    }

    fn rule(&self) -> RouteWeights {
        match self.spec.weights {
            ExpertWeights::Softmax => RouteWeights::All,
            ExpertWeights::Renormalised => RouteWeights::Chosen,
        }
    }
}

/// Width of the widest gated unit that all tokens of a step pass together.
pub(crate) fn common_width(spec: &DecoderSpec) -> usize {
    let width = |mlp: &pagoda_model::Mlp| match mlp.experts() {
        None => spec.intermediate,
        Some(experts) => experts.shared.map_or(0, |shared| shared.intermediate),
    };
    spec.layers.iter().map(|layer| width(&layer.mlp)).max().unwrap_or(0) as usize
}

impl Forward<'_> {
    /// `h = shared(h) + Σ weight · expert(h)`
    pub(crate) fn experts(&mut self, experts: &Experts) {
        self.route(experts);
        let width = self.tokens * self.spec.hidden as usize;
        memory_of(self.scratch).sum[..width].fill(0.0);
        if let Some(shared) = &experts.shared {
            self.shared_expert(shared);
        }
        let mut next = 0;
        while memory_of(self.scratch).next_wave(&mut next) {
            self.wave(experts);
        }
        let Scratch { h, experts, .. } = &mut *self.scratch;
        std::mem::swap(h, &mut experts.as_mut().expect(MEMORY).sum);
    }

    /// Chooses the experts of every row.
    fn route(&mut self, experts: &Experts) {
        let hidden = self.tokens * self.spec.hidden as usize;
        let (count, per_token) = (experts.spec.count as usize, experts.spec.per_token as usize);
        let Scratch { h, linear: staging, experts: memory, .. } = &mut *self.scratch;
        let memory = memory.as_mut().expect(MEMORY);
        let scores = &mut memory.scores[..self.tokens * count];
        linear(self.kernels, self.pool, &h[..hidden], &experts.router, staging, scores);
        let choices = self.tokens * per_token;
        let (chosen, weights) = (&mut memory.chosen[..choices], &mut memory.weights[..choices]);
        self.kernels.route(self.pool, (scores, count), experts.rule(), chosen, weights);
        memory.sort(count, per_token, self.tokens);
        self.watch.lap(Operation::Route);
    }

    /// Adds what the shared expert makes of every row.
    fn shared_expert(&mut self, SharedUnit { unit, gate }: &SharedUnit) {
        let hidden = self.spec.hidden as usize;
        let width = self.tokens * hidden;
        let Scratch { h, gated, linear: staging, experts: memory, .. } = &mut *self.scratch;
        let memory = memory.as_mut().expect(MEMORY);
        let h = &h[..width];
        let gated = &mut gated[..self.tokens * unit.down.weight.k()];
        let (weight, bias) = (&unit.gate_up.weight, unit.gate_up.bias.as_deref());
        self.kernels.stacked_gated_linear(self.pool, h, (weight, glu(self.spec)), bias, staging, gated);
        self.watch.lap(Operation::GateUp);
        linear(self.kernels, self.pool, gated, &unit.down, staging, &mut memory.outputs[..width]);
        self.watch.lap(Operation::Down);
        let factors = &mut memory.scores[..self.tokens];
        match gate {
            Some(gate) => linear(self.kernels, self.pool, h, gate, staging, factors),
            None => factors.fill(f32::INFINITY),
        }
        memory.share_all(self.tokens);
        let (outputs, sum) = (&memory.outputs[..width], &mut memory.sum[..width]);
        self.kernels.add_weighted_rows(self.pool, outputs, hidden, &memory.wave_rows, sum);
        self.watch.lap(Operation::Route);
    }

    /// Adds what the experts of a wave make of their rows.
    fn wave(&mut self, experts: &Experts) {
        let (hidden, inner) = (self.spec.hidden as usize, experts.spec.intermediate as usize);
        let (kernels, pool, tokens) = (self.kernels, self.pool, self.tokens);
        let Scratch { h, experts: memory, .. } = &mut *self.scratch;
        let ExpertScratch { inputs, gated, outputs, sum, groups, wave_rows: rows, grouped, .. } =
            memory.as_mut().expect(MEMORY);
        let inputs = &mut inputs[..rows.len() * hidden];
        kernels.gather_rows(pool, &h[..tokens * hidden], hidden, rows, inputs);
        self.watch.lap(Operation::Route);

        let gated = &mut gated[..rows.len() * inner];
        let weights = |index: u32| experts.units[index as usize].gate_up.as_ref();
        let input = GroupedInput { x: inputs, groups, weights: &weights };
        kernels.grouped_gated_linear(pool, input, glu(self.spec), grouped, gated);
        self.watch.lap(Operation::GateUp);

        let outputs = &mut outputs[..rows.len() * hidden];
        let weights = |index: u32| experts.units[index as usize].down.as_ref();
        let input = GroupedInput { x: gated, groups, weights: &weights };
        kernels.grouped_linear(pool, input, grouped, outputs);
        self.watch.lap(Operation::Down);

        kernels.add_weighted_rows(pool, outputs, hidden, rows, &mut sum[..tokens * hidden]);
        memory_of(self.scratch).count(experts);
        self.watch.lap(Operation::Route);
    }
}

const MEMORY: &str = "a model with experts has memory for them";

fn memory_of(scratch: &mut Scratch) -> &mut ExpertScratch {
    scratch.experts.as_mut().expect(MEMORY)
}

impl ExpertScratch {
    /// Counts what the wave reads and computes.
    fn count(&mut self, experts: &Experts) {
        for group in &self.groups {
            let GatedUnit { gate_up, down } = &experts.units[group.weights as usize];
            for (cost, linear) in self.costs.iter_mut().zip([gate_up, down]) {
                let products = linear.weight.n() as u64 * linear.weight.k() as u64;
                cost.weight_bytes += linear.bytes();
                cost.flops += 2 * products * group.rows.len() as u64;
            }
        }
    }

    /// Adds what the experts of a step read and computed to the costs of the step.
    pub(crate) fn add_costs(&self, costs: &mut [Cost]) {
        for (cost, operation) in self.costs.iter().zip([Operation::GateUp, Operation::Down]) {
            costs[operation as usize].weight_bytes += cost.weight_bytes;
            costs[operation as usize].flops += cost.flops;
        }
    }
}

impl Linear {
    fn as_ref(&self) -> LinearRef<'_> {
        LinearRef { weight: self.weight.only(), bias: self.bias.as_deref() }
    }
}
