//! Many clients at once, some of whom leave.

use crate::common::{Running, Setup, bytes, metric, prompt_for};
use pagoda_engine::{GenerateParams, Session, SessionEvent, SubmitError};
use pagoda_sched::{CompletionReason, Priority};

const CLIENTS: u64 = 6;
const REQUESTS: u64 = 60;

/// A small generator, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

/// What a client saw of its samples.
#[derive(Debug, Default)]
struct Seen {
    ended: u64,
    left: u64,
}

/// Reads a session to its end and checks the answer, or leaves after some events.
fn read(engine: &Running, mut session: Session, prompt: &str, patience: u64, seen: &mut Seen) {
    for _ in 0..patience {
        match session.next_blocking().expect("an end comes") {
            SessionEvent::Prompt(_) => panic!("nothing was asked of the prompt"),
            SessionEvent::Delta { .. } => {}
            SessionEvent::Failed(error) => panic!("{error}"),
            SessionEvent::Finished(result) => {
                let whole = engine.fake.answer(&bytes(prompt), result.sample, result.token_ids.len());
                assert_eq!(result.token_ids, whole, "{prompt}");
                assert!(matches!(result.reason, CompletionReason::MaxTokens | CompletionReason::Cancelled));
                seen.ended += 1;
                return;
            }
        }
    }
    seen.left += 1;
}

fn client(engine: &Running, number: u64) -> Seen {
    let mut dice = Dice(number);
    let mut seen = Seen::default();
    for request in 0..REQUESTS {
        let prompt = format!("a shared beginning, then client {} request {}", number % 2, request % 7);
        let params = GenerateParams {
            n: Some(1 + dice.roll(3) as u32),
            priority: Priority::ALL[dice.roll(4) as usize],
            ..prompt_for(&prompt, 1 + dice.roll(60) as u32)
        };
        let request = engine.handle.model().validate(params).expect("the parameters are valid");
        let sessions = match engine.handle.submit(request) {
            Ok(sessions) => sessions,
            Err(SubmitError::QueueFull { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        if dice.roll(8) == 0 {
            engine.handle.cancel(sessions[0].id());
        }
        for session in sessions {
            let patience = if dice.roll(3) == 0 { dice.roll(5) } else { u64::MAX };
            read(engine, session, &prompt, patience, &mut seen);
        }
    }
    seen
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    // The pool holds a few sequences only, so that they preempt each other.
    let mut setup = Setup::with_blocks(64);
    setup.config.scheduler.max_num_seqs = 8;
    let engine = setup.start();
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let engine = &engine;
            scope.spawn(move || client(engine, number))
        });
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (ended, left) = seen.iter().fold((0, 0), |sum, seen| (sum.0 + seen.ended, sum.1 + seen.left));
    assert!(ended > 100 && left > 50, "{seen:?}");
    let page = engine.handle.metrics_text();
    let total: f64 = ["stop", "length", "abort", "timeout", "repetition", "error"]
        .iter()
        .map(|reason| metric(&page, "vllm:request_success_total", &format!("\"{reason}\"")))
        .sum();
    assert_eq!(total as u64, ended + left, "every sample is counted once");
    assert_eq!(metric(&page, "vllm:request_success_total", "\"error\""), 0.0);
    engine.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_dropped_cancel_their_requests() {
    let engine = Setup::with_blocks(64).start();
    let mut tasks = Vec::new();
    for number in 0..40 {
        let session = engine.session(prompt_for(&format!("task {number}"), 50));
        tasks.push(tokio::spawn(session.result()));
    }
    for task in tasks.iter().step_by(2) {
        task.abort();
    }
    let mut ended = 0;
    for task in tasks {
        match task.await {
            Ok(result) => {
                assert_eq!(result.unwrap().reason, CompletionReason::MaxTokens);
                ended += 1;
            }
            Err(error) => assert!(error.is_cancelled()),
        }
    }
    assert!(ended >= 20);
    engine.handle.drain();
    engine.handle.ended().await;
    assert_eq!(engine.handle.snapshot().used_blocks, 0);
}
