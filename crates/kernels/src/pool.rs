//! Worker threads that run one closure together, many thousand times a second.
//!
//! Workers spin for a few microseconds after a run, since the next one usually follows at once, and then sleep.
//! A run allocates nothing. [`WorkerPool::run`] calls every worker; [`WorkerPool::share`] divides items so that worker
//! `i` of `n` begins in part `i`, and thus reads the same weights in every step from its own memory node, and helps the
//! others when it is done. A shared run waits for the workers that have begun, not for those that the operating
//! system has not let run yet: on a busy machine the others do their part.

use crate::affinity;
use crate::chunks::Chunks;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
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
    /// What is left of a shared run; owned by whoever has the turn.
    chunks: Chunks,
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// The current run, see [`Round`].
    round: AtomicU64,
    /// The closure of the current run; written by the caller while no worker is inside a run.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have left the current run.
    left: AtomicUsize,
    stop: AtomicBool,
    spins: u32,
    start: Gate,
    finish: Gate,
    /// First panic of the current run.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync`. The caller writes it before the change of `round` that opens a run,
// and a run opens only after every worker that joined the one before has left it; workers read it between joining and
// leaving. So reads and writes never overlap. What it points to is `Sync` and outlives the run because the caller does
// not return or unwind before all that joined have left.
unsafe impl Sync for Shared {}
// SAFETY: see `Sync`; nothing in it is bound to a thread.
unsafe impl Send for Shared {}

/// A run in one word, so that joining and closing it cannot miss each other: its number, whether it is closed to workers
/// that have not joined, how many have joined.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Round(u64);

impl Round {
    const CLOSED: u64 = 1 << 31;

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn is_closed(self) -> bool {
        self.0 & Round::CLOSED != 0
    }

    fn joined(self) -> usize {
        (self.0 & (Round::CLOSED - 1)) as usize
    }

    /// The run after this one: open, nobody in it.
    fn next(self) -> Round {
        Round(u64::from(self.number().wrapping_add(1)) << 32)
    }
}

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
            round: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            left: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spins,
            start: Gate::default(),
            finish: Gate::default(),
            panic: Mutex::new(None),
        });
        let handles = Vec::with_capacity(threads - 1);
        let mut pool =
            WorkerPool { shared, handles, cpus, turn: Mutex::new(()), chunks: Chunks::new(threads) };
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
        self.open(job);
        let mine = guarded(job, 0);
        self.wait_for(self.handles.len());
        self.end(turn, mine);
    }

    /// Calls `job` on consecutive ranges that together are `0..items`, about `grain` items each. A worker takes the ranges
    /// of its own part first and then those that are left of the others' parts.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn share(&self, items: usize, grain: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        assert!(!INSIDE.get(), "WorkerPool::share was called from inside a run");
        if self.handles.is_empty() || items <= grain {
            let whole = |_| {
                if items > 0 {
                    job(0..items)
                }
            };
            return guarded(&whole, 0).unwrap_or_else(|panic| resume_unwind(panic));
        }
        let turn = lock(&self.turn);
        self.chunks.deal(items, grain);
        let take = |worker| self.chunks.take(worker).for_each(job);
        self.open(&take);
        let mine = guarded(&take, 0);
        // What has not been taken yet, because of a panic, is nobody's any more.
        let joined = Round(self.shared.round.fetch_or(Round::CLOSED, SeqCst)).joined();
        self.wait_for(joined);
        self.end(turn, mine);
    }

    /// Publishes the job and lets the workers join.
    fn open(&self, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The callers of `open` wait for all workers that joined before they return or
        // unwind, and no worker uses the pointer after leaving, so the closure outlives every use.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: `turn` is held and the previous run has ended, so no other thread reads or writes the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.left.store(0, SeqCst);
        let next = Round(shared.round.load(SeqCst)).next();
        shared.round.store(next.0, SeqCst);
        shared.start.notify();
    }

    /// Returns when `workers` have left the run.
    fn wait_for(&self, workers: usize) {
        let shared = &*self.shared;
        shared.finish.wait(shared.spins, || shared.left.load(SeqCst) == workers);
    }

    /// Gives the turn back, and goes on with the first panic of the run.
    fn end(&self, turn: MutexGuard<'_, ()>, mine: Result<(), Box<dyn Any + Send>>) {
        let theirs = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = mine.err().or(theirs) {
            resume_unwind(panic);
        }
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
        let shared = &*self.shared;
        shared.stop.store(true, SeqCst);
        shared.round.store(Round(shared.round.load(SeqCst)).next().0, SeqCst);
        shared.start.notify();
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
        let round = || Round(shared.round.load(SeqCst));
        shared.start.wait(shared.spins, || round().number() != seen);
        if shared.stop.load(SeqCst) {
            return;
        }
        seen = round().number();
        if !join(shared, seen) {
            continue;
        }
        // SAFETY: the caller wrote the cell before it opened the run that was just joined, and leaves it alone until all
        // that joined have left.
        let job = unsafe { *shared.job.get() }.expect("a run has a job");
        // SAFETY: the closure lives until all that joined have left, which needs the increment below.
        let result = guarded(unsafe { &*job }, worker);
        if let Err(panic) = result {
            lock(&shared.panic).get_or_insert(panic);
        }
        shared.left.fetch_add(1, SeqCst);
        shared.finish.notify();
    }
}

/// Joins run `number`, unless it is closed or over.
fn join(shared: &Shared, number: u32) -> bool {
    let joined = |round: u64| {
        let open = Round(round).number() == number && !Round(round).is_closed();
        open.then_some(round + 1)
    };
    shared.round.fetch_update(SeqCst, SeqCst, joined).is_ok()
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
