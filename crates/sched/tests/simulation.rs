//! Random traffic and faults, a little of it; `pagoda verify` runs any amount.

use pagoda_sched::sim::{SimOptions, SimReport, Simulation};

fn campaign(seeds: std::ops::Range<u64>, steps: u64, options: SimOptions) -> SimReport {
    let mut total = SimReport::default();
    for seed in seeds {
        let report = Simulation::run(seed, steps, options).unwrap_or_else(|failure| panic!("{failure}"));
        total.add(&report);
    }
    total
}

#[test]
fn nothing_is_lost_or_leaked_in_any_seed() {
    let total = campaign(0..60, 300, SimOptions::default());
    println!("{total}");
    assert!(total.counters.preemptions > 0 && total.counters.prefix_hits > 0 && total.copies > 0);
    assert!(total.forgotten > 0, "no cached block was forgotten with its adapter");
    assert!(total.searched > 300, "{} outputs of beam searches", total.searched);
    let unseen = total.finished.iter().find(|(_, count)| *count == 0);
    assert_eq!((unseen, total.failed == 0), (None, false), "an end that no request came to");
}

#[test]
fn colliding_hashes_change_nothing() {
    for seed in 100..120 {
        let runs = [32, 8, 1].map(|hash_bits| campaign(seed..seed + 1, 200, SimOptions { hash_bits }));
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 200..210 {
        let runs = [(); 2].map(|()| campaign(seed..seed + 1, 200, SimOptions::default()));
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0].trace, 0);
    }
}
