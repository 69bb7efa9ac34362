//! Memory: nothing is allocated per decode step, and a waiting request takes little beside its tokens.

use pagoda_sched::fake::FakeExecutor;
use pagoda_sched::{
    Deadlines, Effects, Priority, Request, RequestId, Sampled, SamplingParams, Scheduler, SchedulerConfig,
    StepOutput,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts what the calling thread allocates.
struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged; the counters are plain thread-local cells, which
// neither allocate nor unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as i64);
        // SAFETY: `at` came from `System` with this layout, because `alloc` passes it on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn request(tokens: u32, max_tokens: u32) -> Request {
    Request {
        id: RequestId::new(),
        prompt: (0..tokens).collect(),
        sampling: Arc::new(SamplingParams::greedy()),
        max_tokens,
        samples: 1,
        priority: Priority::Normal,
        tenant: Default::default(),
        salt: Default::default(),
        enqueued_at: Instant::now(),
        deadlines: Deadlines { total: Some(Duration::from_secs(600)), ..Deadlines::default() },
    }
}

/// Plans, answers every row with a token and commits. Returns the number of rows.
fn step(scheduler: &mut Scheduler, output: &mut StepOutput, effects: &mut Effects, now: Instant) -> usize {
    scheduler.reap(now, effects);
    let Some(input) = scheduler.plan(now) else { return 0 };
    output.clear();
    let rows = input.rows.len();
    for row in input.rows.iter().filter(|row| row.sampling.is_some()) {
        output.samples.push(Sampled { token: Ok(row.context % 100), logprob: 0.0, top: 0..0 });
    }
    scheduler.commit(Ok(output), now, effects);
    effects.clear();
    rows
}

#[test]
fn decoding_allocates_nothing() {
    let capacity = FakeExecutor::capacity_of(4097, 16, 4096, 1000);
    let config = SchedulerConfig { max_num_seqs: 64, ..SchedulerConfig::default() };
    let mut scheduler = Scheduler::new(config, capacity).unwrap();
    let mut now = Instant::now();
    for length in 0..64 {
        scheduler.enqueue(request(10 + length, 900), now).unwrap();
    }
    // Some requests wait, and none of them fits.
    for _ in 0..32 {
        scheduler.enqueue(request(100, 100), now).unwrap();
    }
    let (mut output, mut effects) = (StepOutput::default(), Effects::default());
    for _ in 0..20 {
        step(&mut scheduler, &mut output, &mut effects, now);
    }
    assert_eq!((scheduler.batch().len(), scheduler.queue().len()), (64, 32));
    let before = ALLOCATIONS.get();
    for _ in 0..800 {
        now += Duration::from_millis(5);
        assert_eq!(step(&mut scheduler, &mut output, &mut effects, now), 64);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in 800 decode steps of 64 rows");
    assert!(scheduler.counters().generated_tokens > 50_000 && scheduler.pool().epoch() > 3_000);
}

#[test]
fn a_waiting_request_takes_at_most_512_bytes_beside_its_tokens() {
    const COUNT: u32 = 14_000;
    const TOKENS: u32 = 50;
    let capacity = FakeExecutor::capacity_of(65, 16, 4096, 1000);
    let config = SchedulerConfig {
        max_waiting_requests: COUNT,
        max_waiting_tokens: u64::MAX,
        ..SchedulerConfig::default()
    };
    let mut scheduler = Scheduler::new(config, capacity).unwrap();
    let now = Instant::now();
    let before = BYTES.get();
    // Requests with equal parameters share them.
    let sampling = Arc::new(SamplingParams::greedy());
    for _ in 0..COUNT {
        let request = Request { sampling: Arc::clone(&sampling), ..request(TOKENS, 100) };
        scheduler.enqueue(request, now).unwrap();
    }
    let bytes = (BYTES.get() - before) / i64::from(COUNT) - 4 * i64::from(TOKENS);
    println!("{bytes} bytes per waiting request beside its tokens");
    assert!(bytes <= 512, "{bytes} bytes");
}
