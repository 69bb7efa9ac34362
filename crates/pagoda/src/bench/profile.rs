//! Where the time of the steps goes, beside what each operation needs at least.

use super::limits::MachineLimits;
use super::roofline::head_format;
use crate::{Operation, Profile, ProfileReport, StepKind};
use pagoda_kernels::WeightFormat;
use serde::{Deserialize, Serialize};

/// How steps are profiled.
#[derive(Clone, Debug)]
pub struct Profiler<'a> {
    /// The profile of the executor.
    pub profile: &'a Profile,
    /// Format of the layers' weights.
    pub format: WeightFormat,
    /// The machine's limits, if they are known.
    pub limits: Option<&'a MachineLimits>,
}

/// The steps of a run by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseProfiles {
    /// Steps that read prompts, maybe beside decoding rows.
    pub prefill: StepProfile,
    /// Steps in which every row computes one token; empty when there is nothing to decode.
    pub decode: StepProfile,
}

/// The average step of some steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepProfile {
    /// Number of steps.
    pub steps: u64,
    /// Tokens of a step.
    pub tokens: f64,
    /// Milliseconds of a step.
    pub ms: f64,
    /// The operations, in the order of a step.
    pub operations: Vec<OperationShare>,
}

/// One operation in the average step, summed over the layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationShare {
    /// Its name.
    pub operation: String,
    /// Milliseconds of a step.
    pub ms: f64,
    /// Part of the step, from 0 to 1.
    pub share: f64,
    /// Bytes of weights, keys and values, in GB/s.
    pub gbs: f64,
    /// Multiplications and additions, in GFLOP/s.
    pub gflops: f64,
    /// The least time that the machine needs over the time taken; absent for operations other than linear ones and
    /// attention, and where the limits are not known.
    pub limit_share: Option<f64>,
}

impl Profiler<'_> {
    /// What was measured since the profile was started.
    pub fn phases(&self) -> PhaseProfiles {
        let [prefill, decode] =
            [StepKind::Prefill, StepKind::Decode].map(|kind| self.describe(&self.profile.report_of(kind)));
        PhaseProfiles { prefill, decode }
    }

    /// The average step of `report`.
    fn describe(&self, report: &ProfileReport) -> StepProfile {
        let steps = report.steps.max(1) as f64;
        let total = report.time.as_secs_f64().max(1e-12);
        let operations = report.operations.iter().filter(|operation| operation.calls > 0).map(|operation| {
            let seconds = operation.time.as_secs_f64();
            let bytes = (operation.cost.weight_bytes + operation.cost.kv_bytes) as f64;
            let flops = operation.cost.flops as f64;
            let least = self.least_seconds(operation.operation, bytes, flops);
            OperationShare {
                operation: operation.operation.to_string(),
                ms: 1e3 * seconds / steps,
                share: seconds / total,
                gbs: 1e-9 * bytes / seconds.max(1e-12),
                gflops: 1e-9 * flops / seconds.max(1e-12),
                limit_share: least.map(|least| least / seconds.max(1e-12)),
            }
        });
        StepProfile {
            steps: report.steps,
            tokens: report.tokens as f64 / steps,
            ms: 1e3 * report.time.as_secs_f64() / steps,
            operations: operations.collect(),
        }
    }

    fn least_seconds(&self, operation: Operation, bytes: f64, flops: f64) -> Option<f64> {
        // The other operations are short and work on what the caches hold.
        let limits = self.limits.filter(|_| flops > 0.0)?;
        let peak = match operation {
            Operation::Attention => limits.attention_peak(),
            Operation::Head => limits.best_peak(head_format(self.format)),
            _ => limits.best_peak(self.format),
        };
        let seconds = (bytes / (1e9 * limits.read_gbs)).max(flops / (1e9 * peak));
        Some(seconds).filter(|seconds| seconds.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Workload, measure};

    #[test]
    fn the_operations_sum_to_the_step_in_both_phases() {
        let prepared = crate::Engine::builder().threads(1).prepare().expect("the embedded model");
        let (profile, format) = (prepared.profile.clone(), prepared.memory.weight_formats.layers);
        let engine = prepared.load(&mut |_| {}).expect("it loads");
        let limits = MachineLimits {
            threads: 1,
            read_gbs: 30.0,
            peak_gops: [("f32 multiply-add".to_owned(), 100.0)].into(),
        };
        let profiler = Profiler { profile: &profile, format, limits: Some(&limits) };
        let load =
            Workload { concurrency: 2, prompts: 2, prefix_len: 0, input_len: 40, output_len: 6, seed: 0 };
        let run = measure(&engine, &load, 1, Some(&profiler)).expect("a run");
        let phases = run.profile.expect("it was asked for");
        for phase in [&phases.prefill, &phases.decode] {
            let sum: f64 = phase.operations.iter().map(|operation| operation.ms).sum();
            assert!(phase.steps > 0 && (sum / phase.ms - 1.0).abs() < 0.02, "{phase:?}");
            let head = phase.operations.iter().find(|operation| operation.operation == "head");
            assert!(head.is_some_and(|head| head.gbs > 0.0 && head.limit_share > Some(0.0)), "{phase:?}");
        }
        assert!(phases.prefill.tokens > phases.decode.tokens);
        assert_eq!(measure(&engine, &load, 2, None).expect("a run").profile, None);
    }
}
