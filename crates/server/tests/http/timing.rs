//! Whether the time to a first token tells one tenant what another has sent.

use crate::server::{Server, Setup, times};
use pagoda_sched::SchedulerConfig;
use serde_json::json;
use std::time::{Duration, Instant};

const VICTIM: &str = "x-tenant: victim\r\n";
const OTHER: &str = "x-tenant: other\r\n";

/// A text of many blocks, all of which are its own.
fn text(number: u64) -> String {
    format!("{number:04x} is what somebody may have said, or not: {number:016x}")
}

/// Steps and time to the first token.
async fn first_token(server: &Server, tenant: &str, prompt: &str) -> (u64, Duration) {
    let (steps, begun) = (server.control.steps(), Instant::now());
    let reply = server.post_as(tenant, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 1})).await;
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    (server.control.steps() - steps, begun.elapsed())
}

/// How often a text that was sent looks faster than one that was not; half for a tie: the area under the curve of the
/// classifier that goes by time.
fn area<T: PartialOrd>(sent: &[T], fresh: &[T]) -> f64 {
    let mut wins = 0.0;
    for one in sent {
        for other in fresh {
            wins += if one < other {
                1.0
            } else if one == other {
                0.5
            } else {
                0.0
            };
        }
    }
    wins / (sent.len() * fresh.len()) as f64
}

/// What `tenant` can tell of `probes` texts, half of which the victim has sent: by steps, and by time.
async fn classify(server: &Server, tenant: &str, probes: u64, first: u64) -> (f64, f64) {
    let (mut sent, mut fresh) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for probe in first..first + probes {
        let was_sent = probe % 2 == 0;
        if was_sent {
            first_token(server, VICTIM, &text(probe)).await;
        }
        let (steps, time) = first_token(server, tenant, &text(probe)).await;
        let of = if was_sent { &mut sent } else { &mut fresh };
        of.0.push(steps);
        of.1.push(time);
    }
    (area(&sent.0, &fresh.0), area(&sent.1, &fresh.1))
}

/// 100 probes, or as many as `PAGODA_PROBES` says.
#[tokio::test]
async fn time_tells_a_tenant_of_its_own_prompts_alone() {
    // A prompt that is not cached takes many steps.
    let scheduler =
        SchedulerConfig { max_num_batched_tokens: 8, max_num_seqs: 4, ..SchedulerConfig::default() };
    let server = Setup { scheduler, max_model_len: 256, ..Setup::saying("A") }.start().await;
    server.control.set_delay(Duration::from_micros(300));
    let probes = times("PAGODA_PROBES", 100);
    let own = classify(&server, VICTIM, probes, 0).await;
    let other = classify(&server, OTHER, probes, probes).await;
    println!(
        "{probes} probes: own prompts {:.3} by steps, {:.3} by time; others' {:.3}, {:.3}",
        own.0, own.1, other.0, other.1
    );
    assert_eq!(own.0, 1.0, "a classifier that works finds what is its own");
    assert_eq!(other.0, 0.5, "what another has sent takes as many steps as what nobody has");
}
