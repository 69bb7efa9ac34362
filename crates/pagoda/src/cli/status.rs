//! The line that says every so often what a server does, while it does something.

use pagoda::EngineSnapshot;
use pagoda::server::ServerState;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Logs a line every ten seconds in which there was something to do; never returns.
pub(crate) async fn report(state: ServerState) {
    let mut status = Status { at: Instant::now(), before: state.current_engine().snapshot() };
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(line) = status.line(Instant::now(), state.current_engine().snapshot()) {
            tracing::info!(target: "status", "{line}");
        }
    }
}

/// What was counted last.
struct Status {
    at: Instant,
    before: EngineSnapshot,
}

impl Status {
    /// The line for the time since the last one; `None` if nothing ran, waited or was counted.
    fn line(&mut self, now: Instant, next: EngineSnapshot) -> Option<String> {
        let seconds = (now - self.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let before = std::mem::replace(&mut self.before, next);
        self.at = now;
        let since = |count: fn(&EngineSnapshot) -> u64| count(&next).saturating_sub(count(&before));
        let (prompt, generated) = (since(|at| at.prompt_tokens), since(|at| at.generated_tokens));
        if next.running + next.waiting + prompt + generated == 0 {
            return None;
        }
        let part = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let mut line = format!(
            "run {} wait {} · prompt {:.0} tok/s · gen {:.0} tok/s · kv {:.0}%",
            next.running,
            next.waiting,
            prompt as f64 / seconds,
            generated as f64 / seconds,
            part(next.used_blocks, next.total_blocks),
        );
        let queries = since(|at| at.prefix_queries);
        if queries > 0 {
            // Writing to a String cannot fail.
            let _ = write!(line, " (prefix hit {:.0}%)", part(since(|at| at.prefix_hits), queries));
        }
        let steps = since(|at| at.steps);
        if steps > 0 {
            let milliseconds = since(|at| at.step_micros) as f64 / 1e3 / steps as f64;
            // Each row that decodes draws one token.
            let rows = generated as f64 / steps as f64;
            let _ = write!(line, " · step {milliseconds:.1} ms (b={rows:.1})");
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        let (start, idle) =
            (Instant::now(), EngineSnapshot { total_blocks: 100, ..EngineSnapshot::default() });
        let mut status = Status { at: start, before: idle };
        assert_eq!(status.line(start + EVERY, idle), None);
        let busy = EngineSnapshot {
            running: 7,
            waiting: 2,
            used_blocks: 31,
            prompt_tokens: 4_120,
            generated_tokens: 880,
            prefix_queries: 1_000,
            prefix_hits: 640,
            steps: 100,
            step_micros: 4_100_000,
            ..idle
        };
        let line = status.line(start + 2 * EVERY, busy);
        let expected =
            "run 7 wait 2 · prompt 412 tok/s · gen 88 tok/s · kv 31% (prefix hit 64%) · step 41.0 ms (b=8.8)";
        assert_eq!(line.as_deref(), Some(expected));
        let waiting = EngineSnapshot { running: 0, waiting: 1, ..busy };
        assert_eq!(
            status.line(start + 3 * EVERY, waiting).as_deref(),
            Some("run 0 wait 1 · prompt 0 tok/s · gen 0 tok/s · kv 31%")
        );
        let done = EngineSnapshot { running: 0, waiting: 0, ..busy };
        assert_eq!(status.line(start + 4 * EVERY, done), None);
    }
}
