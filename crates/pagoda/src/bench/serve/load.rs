//! A load: many requests, at their times, at most so many at once.

use super::arrivals::Arrivals;
use super::prompt::{BodySettings, PromptSettings};
use super::stream::{self, Outcome};
use crate::client::Client;
use hyper::body::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Path of the API, from `/v1` on.
    pub endpoint: String,
    /// The prompts.
    pub prompts: PromptSettings,
    /// The other fields of the requests.
    pub body: BodySettings,
    /// Number of requests.
    pub requests: usize,
    /// When they are sent.
    pub arrivals: Arrivals,
    /// Most requests that are under way at once; `None` sets no limit.
    pub max_concurrency: Option<usize>,
    /// Longest time of one request.
    pub timeout: Duration,
}

/// What came of a load.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// One for each request, in the order of sending.
    pub outcomes: Vec<Outcome>,
    /// Seconds from the start to the end of the last request.
    pub seconds: f64,
}

/// After so many refused connections in a row the server counts as gone and nothing more is sent.
const GONE: usize = 4;

impl Load {
    /// Sends one request and waits for its end; `index` chooses the prompt.
    pub async fn one(&self, client: &Client, index: u64) -> Outcome {
        let ask = self.prompts.ask(index);
        let body = Bytes::from(self.body.body(&ask).to_string());
        stream::run(client, &self.endpoint, body, ask.prompt_tokens, self.timeout).await
    }

    /// Sends all requests and waits for their ends. `progress` hears how many have ended.
    ///
    /// # Panics
    /// Outside an async runtime.
    pub async fn run(
        self,
        client: Arc<Client>,
        progress: impl Fn(usize) + Send + Sync + 'static,
    ) -> LoadOutcome {
        let places = self.max_concurrency.map(|most| Arc::new(Semaphore::new(most)));
        let shared =
            Arc::new(Shared { load: self, client, refused: AtomicUsize::new(0), ended: AtomicUsize::new(0) });
        let progress = Arc::new(progress);
        let times = shared.load.arrivals.times(shared.load.requests);
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, time) in times.into_iter().enumerate() {
            tokio::time::sleep_until((start + time).into()).await;
            let (shared, places, progress) = (Arc::clone(&shared), places.clone(), Arc::clone(&progress));
            tasks.spawn(async move {
                let arrived = Instant::now();
                let place = match places {
                    Some(places) => {
                        Some(places.acquire_owned().await.expect("the semaphore is never closed"))
                    }
                    None => None,
                };
                let outcome = shared.send(index, start, arrived).await;
                drop(place);
                progress(shared.ended.fetch_add(1, Ordering::Relaxed) + 1);
                (index, outcome)
            });
        }
        let mut outcomes = tasks.join_all().await;
        outcomes.sort_by_key(|(index, _)| *index);
        LoadOutcome {
            outcomes: outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
            seconds: start.elapsed().as_secs_f64(),
        }
    }
}

struct Shared {
    load: Load,
    client: Arc<Client>,
    /// Connections refused since one was made.
    refused: AtomicUsize,
    ended: AtomicUsize,
}

impl Shared {
    async fn send(&self, index: usize, start: Instant, arrived: Instant) -> Outcome {
        let sent = Instant::now();
        let mut outcome = if self.refused.load(Ordering::Relaxed) >= GONE {
            let error = "not sent, because the server no longer accepts connections".to_owned();
            Outcome { error: Some(error), unreachable: true, ..Outcome::default() }
        } else {
            self.load.one(&self.client, index as u64).await
        };
        if outcome.unreachable {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else {
            self.refused.store(0, Ordering::Relaxed);
        }
        outcome.start = (sent - start).as_secs_f64();
        outcome.queued = (sent - arrived).as_secs_f64();
        outcome
    }
}
