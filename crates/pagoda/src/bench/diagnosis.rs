//! What limits this machine, and what is wrong with it.

use super::limits::MachineLimits;
use super::machine::Machine;
use super::process::{Disturbance, Usage};
use super::roofline::Cost;
use super::workload::Workload;
use crate::model::DecoderSpec;
use pagoda_kernels::{Isa, Kernels, QuantFormat, WeightFormat, WorkerPool};
use serde::Serialize;
use std::time::Duration;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Version of this program.
    pub version: String,
    /// When, in UTC.
    pub date: String,
    /// The machine.
    pub machine: Machine,
    /// Every instruction set that there are kernels for.
    pub isas: Vec<IsaFinding>,
    /// What one worker reaches.
    pub one: Option<MachineLimits>,
    /// What all workers together reach.
    pub all: Option<MachineLimits>,
    /// What else went on while nothing was measured.
    pub idle: Option<Disturbance>,
    /// Balance points of the formats.
    pub balance: Vec<Balance>,
    /// What a model can reach, if one was given.
    pub expectations: Vec<Expectation>,
    /// What is wrong, and what to do.
    pub warnings: Vec<String>,
}

/// Whether an instruction set can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IsaFinding {
    /// Its name.
    pub isa: String,
    /// Whether the kernels can use it.
    pub usable: bool,
    /// Whether it is the default.
    pub chosen: bool,
    /// Why it cannot be used.
    pub reason: Option<String>,
}

/// From how many sequences on arithmetic takes longer than reading the weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// Format of the weights.
    pub format: String,
    /// Bits of a weight, its scales included.
    pub bits: f64,
    /// Number of sequences.
    pub sequences: f64,
}

/// What a model can reach in one format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Format of the weights.
    pub format: String,
    /// Bytes of the weights that a decode step reads.
    pub weight_bytes: u64,
    /// Whether they fit into the memory that is free.
    pub fits: bool,
    /// Decode tokens per second of one sequence.
    pub decode_one_tok_s: f64,
    /// Decode tokens per second of 64 sequences.
    pub decode_many_tok_s: f64,
    /// What limits a step of 64 sequences: `reads` or `arithmetic`.
    pub many_limited_by: &'static str,
    /// Prefill tokens per second of prompts of 1,024 tokens.
    pub prefill_tok_s: f64,
}

/// Time in which the use of the machine by others is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Sequences of the second expectation.
const MANY: u32 = 64;

/// Formats that are compared.
pub const FORMATS: [WeightFormat; 3] = [
    WeightFormat::Bf16,
    WeightFormat::Quantized(QuantFormat::INT8),
    WeightFormat::Quantized(QuantFormat::INT4),
];

impl Diagnosis {
    /// Looks at the machine and measures its limits with `threads` workers and with one; takes a few seconds. `spec` is
    /// the model whose speed is predicted.
    pub fn make(threads: usize, spec: Option<&DecoderSpec>) -> Self {
        let machine = Machine::look();
        let usage = Usage::look();
        std::thread::sleep(LOOK);
        let idle = usage.and_then(|usage| usage.until_now());
        let measure = |threads| MachineLimits::measure(&WorkerPool::new(threads).ok()?);
        let all = measure(threads);
        let one = if threads == 1 { all.clone() } else { measure(1) };
        let balance =
            all.as_ref().map_or_else(Vec::new, |limits| FORMATS.map(|f| Balance::of(f, limits)).to_vec());
        let expect = |(spec, limits)| FORMATS.map(|format| expectation(spec, format, limits)).to_vec();
        let mut diagnosis = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            date: super::iso_utc(std::time::SystemTime::now()),
            isas: isa_findings(),
            idle,
            balance,
            expectations: spec.zip(all.as_ref()).map_or_else(Vec::new, expect),
            machine,
            one,
            all,
            warnings: Vec::new(),
        };
        diagnosis.warnings = diagnosis.find_faults(threads);
        diagnosis
    }

    /// What is wrong, and what to do.
    fn find_faults(&self, threads: usize) -> Vec<String> {
        let machine = &self.machine;
        let busy = self.idle.map_or(0.0, |idle| idle.other_cores);
        let stolen = self.idle.map_or(0.0, |idle| idle.steal_cores);
        let quota = machine.quota.map(|quota| quota.cores).filter(|cores| *cores < threads as f64);
        let pages = machine.huge_pages.as_deref();
        let slow = cfg!(debug_assertions);
        let faults = [
            (busy > 0.2).then(|| format!("other processes use {busy:.1} cores: figures are lower bounds while they run")),
            (stolen > 0.05).then(|| format!("the host takes {stolen:.2} cores away from this virtual machine")),
            quota.map(|cores| {
                format!("the control group allows {cores:.2} cores, fewer than the {threads} workers: give --threads {}", cores.floor().max(1.0))
            }),
            (pages == Some("never")).then(|| {
                "transparent huge pages are off, which costs 5 to 10 % of read bandwidth: \
                 echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".to_owned()
            }),
            machine.numa_nodes.filter(|nodes| *nodes > 1).map(|nodes| {
                format!("{nodes} NUMA nodes: bind the process to one (numactl --cpunodebind=0 --membind=0) unless the model needs more")
            }),
            (threads > machine.default_threads).then(|| {
                format!("{threads} workers on {} cores that this process may use: they will wait for each other", machine.default_threads)
            }),
            slow.then(|| "this is a development build: build with --release before measuring".to_owned()),
        ];
        let unfit = self.expectations.iter().filter(|expectation| !expectation.fits).map(|expectation| {
            format!("the weights in {} do not fit into the memory that is free", expectation.format)
        });
        faults.into_iter().flatten().chain(unfit).collect()
    }
}

impl Balance {
    fn of(format: WeightFormat, limits: &MachineLimits) -> Self {
        let shape = pagoda_kernels::LinearShape { n: 4096, k: 4096 };
        let bytes =
            pagoda_kernels::PackedLinear::packed_bytes(shape, format) as f64 / (shape.n * shape.k) as f64;
        let sequences = bytes / limits.read_gbs * limits.best_peak(format) / 2.0;
        Self { format: format.to_string(), bits: 8.0 * bytes, sequences }
    }
}

fn expectation(spec: &DecoderSpec, format: WeightFormat, limits: &MachineLimits) -> Expectation {
    // Keys and values in bf16.
    let cost = Cost::of(spec, format, 4.0 * f64::from(spec.kv_width()));
    let load = |concurrency, input_len, output_len| Workload {
        concurrency,
        prompts: concurrency,
        prefix_len: 0,
        input_len,
        output_len,
        seed: 0,
    };
    let bound = |load: &Workload| cost.bound(limits, load);
    let many = load(MANY, 128, 128);
    let arithmetic = cost.step_operations(f64::from(MANY)) / (1e9 * limits.best_peak(format));
    let step = cost.decode_seconds(limits, f64::from(MANY), 192.0, 0.0);
    Expectation {
        format: format.to_string(),
        weight_bytes: cost.weight_bytes as u64,
        fits: crate::memory::available_bytes().is_none_or(|free| cost.total_bytes() < free as f64),
        decode_one_tok_s: bound(&load(1, 128, 128)).map_or(0.0, |bound| bound.decode_tok_s),
        decode_many_tok_s: bound(&many).map_or(0.0, |bound| bound.decode_tok_s),
        many_limited_by: if arithmetic >= 0.999 * step { "arithmetic" } else { "reads" },
        prefill_tok_s: bound(&load(1, 1024, 1)).map_or(0.0, |bound| bound.prefill_tok_s),
    }
}

fn isa_findings() -> Vec<IsaFinding> {
    let best = Kernels::best().isa();
    let flags = super::machine::cpu_flags();
    let finding = |isa: Isa| {
        let usable = isa.is_available();
        let missing: Vec<&str> =
            features(isa.name()).iter().copied().filter(|feature| !flags.contains(*feature)).collect();
        let reason = (!usable).then(|| match missing.as_slice() {
            [] => "the operating system does not allow it".to_owned(),
            missing => format!("the processor has no {}", missing.join(", ")),
        });
        IsaFinding { isa: isa.to_string(), usable, chosen: isa == best, reason }
    };
    Isa::ALL.into_iter().map(finding).collect()
}

/// What the processor needs for an instruction set, by the kernel's names.
fn features(isa: &str) -> &'static [&'static str] {
    match isa {
        "avx2" => &["avx2", "fma", "f16c"],
        "avx512" => &["avx512f", "avx512bw", "avx512dq", "avx512vl"],
        "avx512bf16" => &["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"],
        "amx" => &["amx_tile", "amx_bf16", "amx_int8", "avx512f", "avx512bw"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_kernels::limits::Unit;

    fn limits() -> MachineLimits {
        let peak_gops =
            [(Unit::F32, 290.0), (Unit::Int8Dot, 1420.0)].map(|(unit, peak)| (unit.name().to_owned(), peak));
        MachineLimits { threads: 2, read_gbs: 30.0, peak_gops: peak_gops.into() }
    }

    fn diagnosis() -> Diagnosis {
        Diagnosis {
            version: String::new(),
            date: String::new(),
            machine: Machine { default_threads: 2, ..Machine::look() },
            isas: Vec::new(),
            one: None,
            all: None,
            idle: None,
            balance: Vec::new(),
            expectations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn balance_points_are_bytes_over_bandwidth_times_peak() {
        // 2 bytes at 30 GB/s are a fifteenth of a nanosecond, in which 290 GFLOP/s do 9.7 multiply-adds.
        let bf16 = Balance::of(WeightFormat::Bf16, &limits());
        assert!((bf16.sequences - 9.67).abs() < 0.01 && (bf16.bits - 16.0).abs() < 1e-9, "{bf16:?}");
        let int8 = Balance::of(WeightFormat::Quantized(QuantFormat::INT8), &limits());
        assert!((8.0..8.5).contains(&int8.bits) && (23.0..25.0).contains(&int8.sequences), "{int8:?}");
    }

    #[test]
    fn smaller_weights_are_expected_to_be_faster_for_one_sequence() {
        let prepared = crate::Engine::builder().prepare().expect("the embedded model");
        let speeds = FORMATS.map(|format| expectation(prepared.checkpoint.spec(), format, &limits()));
        assert!(speeds.is_sorted_by(|a, b| a.decode_one_tok_s < b.decode_one_tok_s), "{speeds:?}");
        assert!(speeds.iter().all(|speed| speed.fits && speed.prefill_tok_s > speed.decode_one_tok_s));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let mut found = diagnosis();
        found.machine.quota = Some(super::super::CpuQuota { cores: 1.5 });
        found.machine.huge_pages = Some("never".to_owned());
        found.machine.numa_nodes = Some(2);
        found.idle = Some(Disturbance { own_cores: 0.0, other_cores: 1.2, steal_cores: 0.1 });
        let warnings = found.find_faults(3).join("\n");
        for expected in ["1.2 cores", "--threads 1", "madvise", "numactl", "3 workers", "the host takes"] {
            assert!(warnings.contains(expected), "{expected} is missing in\n{warnings}");
        }
        found.machine = Machine {
            quota: None,
            huge_pages: Some("madvise".to_owned()),
            numa_nodes: Some(1),
            ..found.machine
        };
        found.idle = None;
        assert!(found.find_faults(2).iter().all(|warning| warning.contains("development build")));
    }

    #[test]
    fn every_instruction_set_is_usable_or_has_a_reason() {
        let findings = isa_findings();
        assert_eq!(findings.len(), Isa::ALL.len());
        assert!(findings.iter().all(|finding| finding.usable != finding.reason.is_some()), "{findings:?}");
        assert_eq!(findings.iter().filter(|finding| finding.chosen && finding.usable).count(), 1);
    }
}
