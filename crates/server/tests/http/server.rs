//! A running server to talk to.

use crate::client::{Exchange, Reply, request, request_with};
use crate::toy;
use pagoda_engine::{AdapterSource, Engine, EngineConfig, EngineHandle, EngineSnapshot};
use pagoda_sched::fake::{FakeControl, FakeExecutor};
use pagoda_sched::{Deadlines, SchedulerConfig};
use pagoda_server::{ServerConfig, ServerState, serve, serve_admin};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How to start a server.
pub(crate) struct Setup {
    pub(crate) config: ServerConfig,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) max_model_len: u32,
    /// KV blocks of 4 tokens.
    pub(crate) blocks: u32,
    /// The chat template.
    pub(crate) template: Option<&'static str>,
    /// Special tokens besides the toy's own.
    pub(crate) added: &'static [&'static str],
    /// Tokens of every answer, the last one repeated; `None`: a hash of what came before.
    pub(crate) script: Option<Vec<u32>>,
    /// Step that fails.
    pub(crate) fail_at: Option<u64>,
    pub(crate) deadlines: Deadlines,
    /// Whether there is a listener for the operator.
    pub(crate) admin: bool,
    /// States of the lexer of a constrained output.
    pub(crate) lexer_states: Option<usize>,
    /// The model counts as loaded once this sender sends or is dropped.
    pub(crate) loading: Option<Receiver<()>>,
    /// An engine without progress is stalled after this time, and given up after three times as long.
    pub(crate) stall_after: Option<Duration>,
    pub(crate) adapters: Option<AdapterSource>,
}

impl Default for Setup {
    fn default() -> Self {
        let scheduler = SchedulerConfig { max_num_seqs: 16, ..SchedulerConfig::default() };
        let config = ServerConfig { keep_alive: None, ..ServerConfig::default() };
        Self {
            config,
            scheduler,
            max_model_len: 64,
            blocks: 4096,
            template: Some(toy::TEMPLATE),
            added: &[],
            script: None,
            fail_at: None,
            deadlines: Deadlines::default(),
            admin: false,
            lexer_states: None,
            loading: None,
            stall_after: None,
            adapters: None,
        }
    }
}

impl Setup {
    /// A server whose every answer is `text` and then ends.
    pub(crate) fn saying(text: &str) -> Self {
        let mut script = toy::ids(text);
        script.push(toy::EOS);
        Self { script: Some(script), ..Self::default() }
    }

    /// A server whose answers are `text` and then its last byte for ever.
    pub(crate) fn repeating(text: &str) -> Self {
        Self { script: Some(toy::ids(text)), ..Self::default() }
    }

    pub(crate) async fn start(self) -> Server {
        let mut model = toy::model_with(self.max_model_len, self.template, self.added);
        if let Some(states) = self.lexer_states {
            model.limits.grammar.lexer_states = states;
        }
        let capacity = FakeExecutor::capacity_of(self.blocks, 4, self.max_model_len, model.vocab_size);
        let mut executor = FakeExecutor::new(capacity);
        if let Some(script) = self.script {
            executor = executor.with_script(script);
        }
        if let Some(step) = self.fail_at {
            executor = executor.failing_at(step);
        }
        let control = executor.control();
        let mut config =
            EngineConfig { scheduler: self.scheduler, deadlines: self.deadlines, ..EngineConfig::default() };
        config.adapters = self.adapters;
        if let Some(limit) = self.stall_after {
            (config.stall_after, config.give_up_after) = (limit, 3 * limit);
        }
        let model = Arc::new(model);
        let engine = match self.loading {
            None => Engine::start(model, executor, config),
            Some(loaded) => Engine::load(model, config, move |report| {
                report(0.63);
                let _ = loaded.recv();
                Ok(executor)
            }),
        };
        let engine = engine.unwrap();
        let state = ServerState::new(engine.handle().clone(), self.config);
        let (listener, address) = listen();
        let admin = if self.admin {
            let (listener, address) = listen();
            tokio::spawn(serve_admin(listener, state.clone(), std::future::pending()));
            Some(address)
        } else {
            None
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(listener, state.clone(), async move {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        Server { address, admin, state, control, engine, stop: Some(stop), task }
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    // What overflows it is lost before the server hears of it.
    let listener = socket.listen(4_096).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) state: ServerState,
    pub(crate) control: FakeControl,
    pub(crate) engine: Engine,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) fn handle(&self) -> &EngineHandle {
        self.engine.handle()
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> Exchange {
        Exchange::send(self.address, &request("POST", path, &body.to_string())).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.open(path, body).await.reply().await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Reply {
        Exchange::send(self.address, &request("POST", path, body)).await.reply().await
    }

    /// Posts as whom `lines` of the header name.
    pub(crate) async fn post_as(&self, lines: &str, path: &str, body: &Value) -> Reply {
        self.open_as(lines, path, body).await.reply().await
    }

    /// Sends any request as whom `lines` name.
    pub(crate) async fn send(&self, method: &str, path: &str, lines: &str, body: &str) -> Reply {
        Exchange::send(self.address, &request_with(method, path, lines, body)).await.reply().await
    }

    /// Sends any request to the operator's listener.
    pub(crate) async fn order(&self, method: &str, path: &str) -> Reply {
        Exchange::send(self.admin.unwrap(), &request(method, path, "")).await.reply().await
    }

    /// Posts to the operator's listener.
    pub(crate) async fn order_with(&self, path: &str, body: &Value) -> Reply {
        Exchange::send(self.admin.unwrap(), &request("POST", path, &body.to_string())).await.reply().await
    }

    /// Value of the series whose name and labels begin with `series`; 0 if there is none.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let page = self.get("/metrics").await;
        let line = page.text().lines().find(|line| line.starts_with(series)).map(str::to_owned);
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Posts as `post_as` does and leaves the answer to be read.
    pub(crate) async fn open_as(&self, lines: &str, path: &str, body: &Value) -> Exchange {
        Exchange::send(self.address, &request_with("POST", path, lines, &body.to_string())).await
    }

    /// Gets as whom `lines` of the header name.
    pub(crate) async fn get_as(&self, lines: &str, path: &str) -> Reply {
        Exchange::send(self.address, &request_with("GET", path, lines, "")).await.reply().await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Exchange::send(self.address, &request("GET", path, "")).await.reply().await
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the server to have stopped.
    pub(crate) async fn stopped(self) {
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the engine's load satisfies `done`.
    pub(crate) async fn load(&self, mut done: impl FnMut(&EngineSnapshot) -> bool) {
        eventually(|| done(&self.handle().snapshot())).await;
    }

    /// Waits until nothing runs, waits, or holds a block.
    pub(crate) async fn idle(&self) {
        self.load(|load| load.running == 0 && load.waiting == 0 && load.used_blocks == 0).await;
        eventually(|| self.state.in_flight() == 0).await;
    }
}

/// Waits for what other threads will bring about.
pub(crate) async fn eventually(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Resident memory of this process, KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len() as u64) as usize]
    }
}

/// How many times a test does what it does: as often as the environment says, or `few` times.
pub(crate) fn times(variable: &str, few: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.map_or(few, |count| {
        count.parse().unwrap_or_else(|_| panic!("{variable} is {count:?} and no number"))
    })
}
