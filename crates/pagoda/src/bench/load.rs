//! Loading: how long it takes beside reading the files once, and how much memory it needs meanwhile.

use super::process::status_bytes;
use crate::{BuildError, Prepared};
use pagoda_cpu::{CpuExecutor, LoadProgress};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Stored bytes per second that a core should pack, the time of reading not counted.
pub const PACKING_RATE: f64 = 2e9;

/// Memory that a load may take beyond the stored bytes: a tenth, and this.
const ALLOWED_BYTES: u64 = 100_000_000;

/// Pause between two looks at the memory.
const LOOK: Duration = Duration::from_millis(2);

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadRun {
    /// From the first file to weights that are ready.
    pub seconds: f64,
    /// Most memory of its own that the process had, above what it had before. Pages of the files are not in it.
    pub own_bytes: u64,
    /// The same with the pages of the files that were mapped.
    pub resident_bytes: u64,
}

/// Loads, beside reading.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// Bytes of the tensors that are loaded, as stored.
    pub stored_bytes: u64,
    /// Bytes of the packed weights and everything else that is allocated.
    pub planned_bytes: u64,
    /// Workers.
    pub threads: usize,
    /// Bytes of the files; 0 for a model without files.
    pub file_bytes: u64,
    /// Seconds of reading the files from their beginning to their end: the first time, and again.
    pub read_seconds: Option<[f64; 2]>,
    /// In the order in which they were made.
    pub runs: Vec<LoadRun>,
}

impl LoadReport {
    /// Seconds that a load may take: reading, when the files were read before, and packing.
    pub fn limit_seconds(&self) -> f64 {
        let packing = self.stored_bytes as f64 / (PACKING_RATE * self.threads as f64);
        self.read_seconds.map_or(0.0, |[_, again]| again) + packing
    }

    /// Bytes that a load may take.
    pub fn limit_bytes(&self) -> u64 {
        self.stored_bytes + self.stored_bytes / 10 + ALLOWED_BYTES
    }

    /// The run of middle length; `None` without runs.
    pub fn middle(&self) -> Option<LoadRun> {
        let mut runs = self.runs.clone();
        runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        runs.get(runs.len() / 2).copied()
    }
}

/// Reads the files of the model twice and loads it `repetitions` times; `progress` hears of each load.
///
/// # Errors
/// [`BuildError`] when the model cannot be loaded.
pub fn measure(
    prepared: &Prepared,
    repetitions: usize,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<LoadReport, BuildError> {
    let files = prepared.checkpoint.weight_files();
    let read = || read_all(&files).ok();
    let (first, again) = (read(), read());
    let times = first.zip(again).filter(|_| !files.is_empty());
    let runs = (0..repetitions).map(|_| load(prepared, progress)).collect::<Result<_, _>>()?;
    Ok(LoadReport {
        stored_bytes: prepared.checkpoint.stored_bytes(),
        planned_bytes: prepared.memory.total() - prepared.memory.kv,
        threads: prepared.memory.threads,
        file_bytes: times.map_or(0, |(first, _)| first.1),
        read_seconds: times.map(|(first, again)| [first.0, again.0]),
        runs,
    })
}

fn load(prepared: &Prepared, progress: &mut dyn FnMut(LoadProgress)) -> Result<LoadRun, BuildError> {
    let watch = MemoryWatch::default();
    let (seconds, executor) = std::thread::scope(|scope| {
        scope.spawn(|| watch.follow());
        let begun = Instant::now();
        let executor = CpuExecutor::load(&prepared.checkpoint, &prepared.cpu, progress);
        let seconds = begun.elapsed().as_secs_f64();
        watch.stop.store(true, Relaxed);
        (seconds, executor)
    });
    drop(executor?);
    Ok(LoadRun { seconds, own_bytes: watch.own.load(Relaxed), resident_bytes: watch.resident.load(Relaxed) })
}

/// Looks at the memory of the process again and again.
#[derive(Default)]
struct MemoryWatch {
    stop: AtomicBool,
    own: AtomicU64,
    resident: AtomicU64,
}

impl MemoryWatch {
    fn follow(&self) {
        let look = |field| status_bytes(field).unwrap_or(0);
        let (own, resident) = (look("RssAnon:"), look("VmRSS:"));
        while !self.stop.load(Relaxed) {
            self.own.fetch_max(look("RssAnon:").saturating_sub(own), Relaxed);
            self.resident.fetch_max(look("VmRSS:").saturating_sub(resident), Relaxed);
            std::thread::sleep(LOOK);
        }
    }
}

/// Seconds and bytes of reading all of `files`.
fn read_all(files: &[PathBuf]) -> io::Result<(f64, u64)> {
    let mut buffer = vec![0; 1 << 20];
    let (begun, mut bytes) = (Instant::now(), 0);
    for file in files {
        let mut file = File::open(file)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    Ok((begun.elapsed().as_secs_f64(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_reading_and_packing() {
        let run = |seconds| LoadRun { seconds, own_bytes: 1, resident_bytes: 2 };
        let report = LoadReport {
            stored_bytes: 4_000_000_000,
            planned_bytes: 0,
            threads: 2,
            file_bytes: 4_000_000_000,
            read_seconds: Some([5.0, 0.5]),
            runs: vec![run(3.0), run(1.0), run(2.0)],
        };
        assert_eq!(report.limit_seconds(), 1.5);
        assert_eq!(report.limit_bytes(), 4_500_000_000);
        assert_eq!(report.middle(), Some(run(2.0)));
    }

    #[test]
    fn a_model_is_loaded_as_often_as_is_asked() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale");
        let prepared = crate::Engine::builder().model(folder).prepare().expect("the model is whole");
        let mut heard = 0;
        let report = measure(&prepared, 2, &mut |_| heard += 1).expect("the model loads");
        assert_eq!(report.runs.len(), 2);
        assert!(heard > 2 && report.file_bytes >= report.stored_bytes, "{report:?}");
    }
}
