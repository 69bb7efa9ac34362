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
        adapter: Default::default(),
        retention: Default::default(),
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

/// Bytes per waiting request beside its tokens, when `count` wait; with parameters of their own or one set for all.
fn bytes_per_waiting(count: u32, own_parameters: bool) -> i64 {
    const TOKENS: u32 = 50;
    let capacity = FakeExecutor::capacity_of(65, 16, 4096, 1000);
    let config = SchedulerConfig {
        max_waiting_requests: count,
        max_waiting_tokens: u64::MAX,
        ..SchedulerConfig::default()
    };
    let mut scheduler = Scheduler::new(config, capacity).expect("the configuration is valid");
    let now = Instant::now();
    let before = BYTES.get();
    let mut sampling = Arc::new(SamplingParams::greedy());
    for _ in 0..count {
        if own_parameters {
            sampling = Arc::new(SamplingParams::greedy());
        }
        let request = Request { sampling: Arc::clone(&sampling), ..request(TOKENS, 100) };
        scheduler.enqueue(request, now).expect("the queue has room");
    }
    (BYTES.get() - before) / i64::from(count) - 4 * i64::from(TOKENS)
}

/// The least that a request takes: 14,000 nearly fill tables that grow by doubling, and one set of parameters serves all.
/// The other figures are printed; they are larger, and a server's requests have parameters of their own.
#[test]
fn in_full_tables_a_waiting_request_without_own_parameters_takes_at_most_512_bytes_beside_its_tokens() {
    for (count, own_parameters) in [(14_000, true), (20_000, false), (20_000, true)] {
        let bytes = bytes_per_waiting(count, own_parameters);
        println!("{count} waiting, own parameters {own_parameters}: {bytes} bytes each beside the tokens");
    }
    let bytes = bytes_per_waiting(14_000, false);
    println!("14000 waiting, own parameters false: {bytes} bytes each beside the tokens");
    assert!(bytes <= 512, "{bytes} bytes");
}
