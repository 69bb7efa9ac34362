//! Worker pool.

use pagoda_kernels::{WorkerPool, partition};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn counts(pool: &WorkerPool, counts: &[AtomicUsize]) {
    pool.run(&|worker| {
        counts[worker].fetch_add(1, SeqCst);
    });
}

#[test]
fn every_worker_is_called_once_per_run() {
    for threads in [0, 1, 2, 3, 9, 33] {
        let pool = WorkerPool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads.max(1));
        let calls: Vec<_> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
        (0..200).for_each(|_| counts(&pool, &calls));
        assert!(calls.iter().all(|calls| calls.load(SeqCst) == 200), "{threads} threads: {calls:?}");
    }
}

#[test]
fn runs_after_a_pause_wake_the_sleepers() {
    let pool = WorkerPool::new(3).unwrap();
    let calls = [const { AtomicUsize::new(0) }; 3];
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        counts(&pool, &calls);
    }
    assert!(calls.iter().all(|calls| calls.load(SeqCst) == 5));
}

#[test]
fn writes_of_workers_are_visible_to_the_caller() {
    let pool = WorkerPool::new(4).unwrap();
    for round in 0..500 {
        let cells = [const { AtomicUsize::new(0) }; 4];
        pool.run(&|worker| cells[worker].store(round + worker, std::sync::atomic::Ordering::Relaxed));
        let seen: Vec<_> = cells.iter().map(|cell| cell.load(std::sync::atomic::Ordering::Relaxed)).collect();
        assert_eq!(seen, [round, round + 1, round + 2, round + 3]);
    }
}

#[test]
fn a_panic_of_any_worker_reaches_the_caller_and_the_pool_lives_on() {
    let pool = WorkerPool::new(3).unwrap();
    for guilty in 0..3 {
        let others = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|worker| {
                if worker == guilty {
                    std::panic::panic_any(guilty);
                }
                others.fetch_add(1, SeqCst);
            });
        }));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&guilty));
        assert_eq!(others.load(SeqCst), 2, "the others finish first");
        counts(&pool, &[const { AtomicUsize::new(0) }; 3]);
    }
}

#[test]
fn callers_on_several_threads_take_turns() {
    let (pool, inside, runs) = (WorkerPool::new(2).unwrap(), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    pool.run(&|_| {
                        assert!(inside.fetch_add(1, SeqCst) < 2, "two runs at once");
                        runs.fetch_add(1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(runs.load(SeqCst), 800);
}

#[test]
fn a_run_inside_a_run_is_refused_instead_of_waiting_for_ever() {
    for threads in [1, 2] {
        let pool = WorkerPool::new(threads).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(&|_| pool.run(&|_| {}))));
        assert!(result.is_err());
        let calls = [const { AtomicUsize::new(0) }; 2];
        counts(&pool, &calls);
        assert_eq!(calls[0].load(SeqCst), 1);
    }
}

#[test]
fn parts_cover_everything_once_in_order() {
    for items in [0, 1, 2, 7, 32, 1000] {
        for parts in [1, 2, 3, 7, 64] {
            let ranges: Vec<_> = (0..parts).map(|i| partition(items, parts, i)).collect();
            assert_eq!(ranges[0].start, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(ranges[parts - 1].end, items);
            let sizes = || ranges.iter().map(ExactSizeIterator::len);
            assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }
    }
}

#[test]
fn the_default_fits_the_machine() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!((1..=cpus).contains(&WorkerPool::default_threads()));
}

#[test]
fn a_shared_run_covers_every_item_once() {
    for threads in [1, 2, 3, 9] {
        let pool = WorkerPool::new(threads).unwrap();
        for (items, grain) in [(0, 1), (1, 1), (5, 8), (64, 1), (1000, 7)] {
            for _ in 0..50 {
                let calls: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.share(items, grain, &|range| {
                    assert!(!range.is_empty());
                    calls[range].iter().for_each(|calls| _ = calls.fetch_add(1, SeqCst));
                });
                assert!(calls.iter().all(|calls| calls.load(SeqCst) == 1), "{threads}, {items}, {grain}");
            }
        }
    }
}

#[test]
fn a_shared_run_needs_no_worker_but_the_caller() {
    let (pool, busy) = (WorkerPool::new(2).unwrap(), std::sync::Barrier::new(2));
    let main = std::thread::current().id();
    // The other worker is held inside its first chunk until the caller has taken all the rest.
    let left = AtomicUsize::new(100);
    pool.share(100, 1, &|range| {
        if std::thread::current().id() != main {
            while left.load(SeqCst) > 1 {
                std::thread::yield_now();
            }
        }
        left.fetch_sub(range.len(), SeqCst);
    });
    assert_eq!(left.load(SeqCst), 0);
    pool.run(&|_| _ = busy.wait());
}

#[test]
fn a_panic_in_a_shared_run_reaches_the_caller_and_the_pool_lives_on() {
    let pool = WorkerPool::new(3).unwrap();
    for guilty in [0, 50, 99] {
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.share(100, 1, &|range| {
                if range.contains(&guilty) {
                    std::panic::panic_any(guilty);
                }
            });
        }));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&guilty));
        let sum = AtomicUsize::new(0);
        pool.share(100, 3, &|range| _ = sum.fetch_add(range.sum::<usize>(), SeqCst));
        assert_eq!(sum.load(SeqCst), 4950);
    }
}
