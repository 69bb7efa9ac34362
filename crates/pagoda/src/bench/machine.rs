//! What this machine is, as far as speed depends on it.

use crate::memory::available_bytes;
use pagoda_kernels::{Isa, WorkerPool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;

/// What this machine is. Fields are absent where the system does not tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: Option<String>,
    /// Processors, hardware threads included, of the whole machine.
    pub cpus: Option<usize>,
    /// Physical cores of the whole machine.
    pub cores: Option<usize>,
    /// Processors that this process may run on, as the system lists them.
    pub allowed_cpus: Option<String>,
    /// Workers that an engine starts by default.
    pub default_threads: usize,
    /// Instruction sets that the kernels can use here, weakest first.
    pub isas: Vec<String>,
    /// Processor time that the control group allows.
    pub quota: Option<CpuQuota>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory that this process may still take.
    pub available_bytes: Option<u64>,
    /// Setting of transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// NUMA nodes with memory.
    pub numa_nodes: Option<usize>,
    /// Processes that wanted to run, on average over the last minute.
    pub load_average: Option<f64>,
    /// Kernel of the operating system.
    pub kernel: Option<String>,
    /// Whether a hypervisor runs below.
    pub virtualized: bool,
}

/// Processor time that a control group allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Cores' worth of time.
    pub cores: f64,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let status = read("/proc/self/status").unwrap_or_default();
        let list = field(&status, "Cpus_allowed_list");
        Self {
            cpu: field(&cpuinfo, "model name"),
            cpus: Some(cpuinfo.lines().filter(|line| line.starts_with("processor")).count())
                .filter(|n| *n > 0),
            cores: physical_cores(&cpuinfo),
            allowed_cpus: list,
            default_threads: WorkerPool::default_threads(),
            isas: Isa::available().map(|isa| isa.to_string()).collect(),
            quota: read("/sys/fs/cgroup/cpu.max").and_then(|text| quota(&text)),
            memory_bytes: field(&meminfo, "MemTotal").and_then(|kib| kibibytes(&kib)),
            available_bytes: available_bytes(),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)),
            numa_nodes: numa_nodes(),
            load_average: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            virtualized: flags(&cpuinfo).contains("hypervisor"),
        }
    }
}

/// Features of the processor, as the kernel names them.
pub(super) fn cpu_flags() -> BTreeSet<String> {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    flags(&cpuinfo).into_iter().map(str::to_owned).collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn flags(cpuinfo: &str) -> BTreeSet<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(BTreeSet::new, |(_, f)| f.split_whitespace().collect())
}

/// Different pairs of socket and core; `None` where the kernel names none, as on some virtual machines.
fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let pairs: BTreeSet<(String, String)> = cpuinfo
        .split("\n\n")
        .filter_map(|cpu| Some((field(cpu, "physical id")?, field(cpu, "core id")?)))
        .collect();
    Some(pairs.len()).filter(|count| *count > 0)
}

fn kibibytes(value: &str) -> Option<u64> {
    Some(value.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// `max 100000` sets no quota.
fn quota(cpu_max: &str) -> Option<CpuQuota> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    Some(CpuQuota { cores: quota.parse::<f64>().ok()? / period.parse::<f64>().ok()? })
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn numa_nodes() -> Option<usize> {
    let names = fs::read_dir("/sys/devices/system/node").ok()?.flatten().map(|entry| entry.file_name());
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok());
    Some(names.filter(|name| name.to_str().is_some_and(is_node)).count()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Big CPU: fast\nphysical id\t: 0\ncore id\t: 0\n\
                       flags\t\t: fma avx2 hypervisor\n\nprocessor\t: 1\nphysical id\t: 0\ncore id\t: 0\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("Big CPU: fast"));
        assert_eq!(physical_cores(cpuinfo), Some(1));
        assert!(flags(cpuinfo).contains("avx2") && !flags("").contains("avx2"));
        assert_eq!(kibibytes("8 kB"), Some(8192));
        assert_eq!(quota("150000 100000\n"), Some(CpuQuota { cores: 1.5 }));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
    }

    #[test]
    fn this_machine_has_an_instruction_set_and_a_worker() {
        let machine = Machine::look();
        assert!(!machine.isas.is_empty() && machine.default_threads >= 1);
        let json = serde_json::to_string(&machine).expect("plain data");
        assert_eq!(serde_json::from_str::<Machine>(&json).expect("it was just written"), machine);
    }
}
