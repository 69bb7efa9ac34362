//! Measurements: the engine on this machine, its kernels, and any server over HTTP.
//!
//! Every figure stands beside the limit of the machine that it was measured on, and the limits are measured before and
//! after, because shared machines change their speed.

pub mod diagnosis;
mod fit;
pub mod kernels;
mod limits;
pub mod load;
mod machine;
mod measure;
pub mod plot;
mod process;
mod profile;
mod report;
mod roofline;
pub mod serve;
mod time;
mod workload;

pub use fit::step_cost;
pub use limits::MachineLimits;
pub use machine::{CpuQuota, Machine};
pub use measure::{BenchError, Repetition, measure};
pub use pagoda_lab::{Random, Table, chart, stats};
pub use process::{Disturbance, Usage, peak_rss_bytes, reset_peak_rss, rss_bytes};
pub use profile::{OperationShare, PhaseProfiles, Profiler, StepProfile};
pub use report::{BOUND_DIGITS, Point, Report, ReportError, Settings};
pub use roofline::{Bound, Cost};
pub use time::{compact_utc, iso_utc};
pub use workload::Workload;
