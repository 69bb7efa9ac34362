//! Worker threads that run one closure together, many thousand times a second.
//!
//! Workers spin for a few microseconds after a run, since the next one usually follows at once, and then sleep.
//! A run allocates nothing. Work is divided statically: worker `i` of `n` takes part `i`, so that a worker reads
//! the same weights in every step and they stay in its cache and on its memory node.

use crate::affinity;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Spins before sleeping, each one `pause`: 20 to 60 microseconds on current machines.
const SPINS: u32 = 1_500;

/// A fixed set of threads. The thread that calls [`run`](Self::run) works too, as worker 0.
///
/// Worker `i > 0` is pinned to the `i`-th CPU that the process may use (one per physical core first), unless there are
/// more workers than CPUs; then none is pinned and none spins. Dropping the pool ends its threads.
pub struct WorkerPool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    cpus: Vec<usize>,
    /// Held during a run, so that callers on several threads take turns.
    turn: Mutex<()>,
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Incremented at the start of every run; a worker runs when it sees a value it has not seen.
    generation: AtomicU32,
    /// The closure of the current run; written by the caller while no worker is inside a run.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have yet to finish the current run.
    remaining: AtomicUsize,
    stop: AtomicBool,
    spins: u32,
    start: Gate,
    finish: Gate,
    /// First panic of the current run.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync`. The caller writes it before the increment of `generation` that
// releases the workers and after `remaining` has reached 0, so reads and writes never overlap. What it points to is
// `Sync` and outlives the run because `run` does not return or unwind before `remaining` is 0.
unsafe impl Sync for Shared {}
// SAFETY: see `Sync`; nothing in it is bound to a thread.
unsafe impl Send for Shared {}

/// Where threads sleep until a condition over atomics holds.
#[derive(Default)]
struct Gate {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    signal: Condvar,
}

impl Gate {
    /// Waits until `open`, spinning first.
    fn wait(&self, spins: u32, open: impl Fn() -> bool) {
        for _ in 0..spins {
            if open() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = lock(&self.lock);
        // Sequentially consistent with `notify`: either this thread sees the condition, or the notifier sees a sleeper.
        self.sleepers.fetch_add(1, SeqCst);
        while !open() {
            guard = self.signal.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }

    /// Wakes the sleepers after the condition was made true.
    fn notify(&self) {
        if self.sleepers.load(SeqCst) > 0 {
            let _guard = lock(&self.lock);
            self.signal.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Whether this thread is inside a run, of any pool.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl WorkerPool {
    /// A pool of `threads` workers, the caller included; 0 counts as 1.
    ///
    /// # Errors
    ///
    /// The operating system's, when a thread cannot be started.
    pub fn new(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let mut cpus = affinity::allowed_cpus();
        if threads > cpus.len() {
            cpus.clear();
        }
        let spins = if cpus.is_empty() && threads > 1 { 0 } else { SPINS };
        let shared = Arc::new(Shared {
            generation: AtomicU32::new(0),
            job: UnsafeCell::new(None),
            remaining: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spins,
            start: Gate::default(),
            finish: Gate::default(),
            panic: Mutex::new(None),
        });
        let mut pool =
            WorkerPool { shared, handles: Vec::with_capacity(threads - 1), cpus, turn: Mutex::new(()) };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let cpu = pool.cpus.get(worker).copied();
            let thread = std::thread::Builder::new().name(format!("kernel-{worker}"));
            pool.handles.push(thread.spawn(move || work(&shared, worker, cpu))?);
        }
        Ok(pool)
    }

    /// The number of workers that suits this machine: its physical cores, as far as this process may use them.
    pub fn default_threads() -> usize {
        affinity::physical_cores()
    }

    /// Workers, the caller included.
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// Pins the calling thread to the CPU that is left for worker 0; of use to the one thread that calls
    /// [`run`](Self::run) for most of its life. Does nothing in a pool that does not pin.
    ///
    /// # Errors
    ///
    /// The operating system's refusal.
    pub fn pin_caller(&self) -> io::Result<()> {
        self.cpus.first().map_or(Ok(()), |&cpu| affinity::pin_current_thread(cpu))
    }

    /// Calls `job` with each worker number from 0 to [`threads`](Self::threads), each on its own thread, and returns
    /// when all calls have. Calls from several threads take turns.
    ///
    /// # Panics
    ///
    /// With the panic of `job`, if one of its calls panicked (after all of them ended); when called from inside a run.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        assert!(!INSIDE.get(), "WorkerPool::run was called from inside a run");
        if self.handles.is_empty() {
            return guarded(job, 0).unwrap_or_else(|panic| resume_unwind(panic));
        }
        let turn = lock(&self.turn);
        self.release(job);
        let mine = guarded(job, 0);
        let shared = &*self.shared;
        shared.finish.wait(shared.spins, || shared.remaining.load(SeqCst) == 0);
        let theirs = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Publishes the job and lets the workers go.
    fn release(&self, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. `run` waits for `remaining` to reach 0 before it returns or unwinds, and
        // no worker uses the pointer after its decrement, so the closure outlives every use.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: `turn` is held and the previous run has ended, so no other thread reads or writes the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.remaining.store(self.handles.len(), SeqCst);
        shared.generation.fetch_add(1, SeqCst);
        shared.start.notify();
    }

    /// Calls `job(first, chunk)` for consecutive pieces of `out`, one per worker: `chunk` starts at row `first` of
    /// `row` elements. Fewer than `grain` elements per worker are not worth waking one.
    pub(crate) fn run_rows(
        &self,
        out: &mut [f32],
        row: usize,
        grain: usize,
        job: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        debug_assert!(row > 0 && out.len().is_multiple_of(row));
        let rows = out.len() / row;
        let parts = (out.len() / grain.max(1)).clamp(1, self.threads()).min(rows.max(1));
        if parts == 1 {
            return job(0, out);
        }
        let out = crate::shared::SharedOut::new(out);
        self.run(&|worker| {
            if worker < parts {
                let mine = partition(rows, parts, worker);
                // SAFETY: the ranges of the workers are disjoint.
                let chunk = unsafe { out.slice(mine.start * row..mine.end * row) };
                job(mine.start, chunk);
            }
        });
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.generation.fetch_add(1, SeqCst);
        self.shared.start.notify();
        for handle in self.handles.drain(..) {
            // A worker catches the panics of its jobs, so there is no result to lose.
            let _ = handle.join();
        }
    }
}

/// The life of a worker.
fn work(shared: &Shared, worker: usize, cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        // A refused pin costs speed only.
        let _ = affinity::pin_current_thread(cpu);
    }
    let mut seen = 0;
    loop {
        shared.start.wait(shared.spins, || shared.generation.load(SeqCst) != seen);
        seen = seen.wrapping_add(1);
        if shared.stop.load(SeqCst) {
            return;
        }
        // SAFETY: the caller wrote the cell before the increment just seen and leaves it alone until `remaining` is 0.
        let job = unsafe { *shared.job.get() }.expect("a run has a job");
        // SAFETY: the closure lives until `remaining` is 0, which needs the decrement below.
        let result = guarded(unsafe { &*job }, worker);
        if let Err(panic) = result {
            lock(&shared.panic).get_or_insert(panic);
        }
        if shared.remaining.fetch_sub(1, SeqCst) == 1 {
            shared.finish.notify();
        }
    }
}

/// Calls the job, marking the thread as inside a run, and catches its panic.
fn guarded(job: &(dyn Fn(usize) + Sync), worker: usize) -> Result<(), Box<dyn Any + Send>> {
    INSIDE.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| job(worker)));
    INSIDE.set(false);
    result
}

/// Part `index` of `0..items` cut into `parts` consecutive ranges whose lengths differ by at most 1.
pub fn partition(items: usize, parts: usize, index: usize) -> Range<usize> {
    let (each, rest) = (items / parts, items % parts);
    let start = index * each + index.min(rest);
    start..start + each + usize::from(index < rest)
}
