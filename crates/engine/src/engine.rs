//! The engine thread and its supervision.

use crate::health::EngineState;
use crate::row_cost;
use crate::run::EngineLoop;
use crate::shared::Shared;
use crate::watch::Watch;
use crate::{EngineConfig, EngineHandle, InitialAdapter, ServedModel};
use pagoda_sched::{ConfigError, ExecError, Executor, Scheduler};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A running engine: one thread that owns the scheduler and the backend, and one that looks whether it lives. Dropping it shuts
/// the engine down and waits for the step in progress, unless the engine was given up.
#[derive(Debug)]
pub struct Engine {
    handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
    _watch: Watch,
}

/// Why an engine could not start, or how it came to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The settings do not fit together, or not with the backend.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Valid token ids would be out of the backend's range.
    #[error(
        "the served model has {model} token ids and the backend has {backend}; set the model's vocab_size to the \
         backend's"
    )]
    Vocabulary {
        /// Ids below this are accepted from clients.
        model: u32,
        /// Ids below this are known to the backend.
        backend: u32,
    },
    /// The ITL target cannot be kept by any step.
    #[error(
        "the ITL target is {target:?} and a step of one row takes {row:?} on this machine; give a longer target, or leave it \
         to be derived"
    )]
    ItlTarget {
        /// As configured.
        target: Duration,
        /// Fastest of a few steps.
        row: Duration,
    },
    /// An adapter that the engine was to start with could not be loaded.
    #[error("adapter {name:?} could not be loaded: {reason}")]
    Adapter {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The backend failed before any request came.
    #[error("a first step failed: {0}")]
    FirstStep(#[from] ExecError),
    /// The operating system refused a thread.
    #[error("cannot start the engine thread: {0}")]
    Thread(String),
    /// The engine ended on an error; the process should exit non-zero.
    #[error("the engine failed: {0}")]
    Failed(String),
}

/// Reports how much of a model is loaded, from 0 to 1.
pub type LoadReport<'a> = &'a (dyn Fn(f32) + Sync);

impl Engine {
    /// Starts the engine with a backend that is ready.
    ///
    /// # Errors
    /// [`EngineError`] when the settings are unusable or there is no thread.
    pub fn start(
        model: Arc<ServedModel>,
        executor: impl Executor + 'static,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared::new(model, config));
        let engine_loop = prepare(&shared, executor)?;
        Self::spawn(shared, move |shared| supervise(&shared, engine_loop))
    }

    /// Starts the engine thread, loads the backend on it and then serves. The handle is there at once, in state
    /// [`EngineState::Loading`], so that health can be answered meanwhile; a failed load ends in
    /// [`EngineState::Failed`].
    ///
    /// # Errors
    /// [`EngineError::Thread`] when there is no thread.
    pub fn load<E, F>(model: Arc<ServedModel>, config: EngineConfig, loader: F) -> Result<Self, EngineError>
    where
        E: Executor + 'static,
        F: FnOnce(LoadReport<'_>) -> Result<E, String> + Send + 'static,
    {
        let shared = Arc::new(Shared::new(model, config));
        Self::spawn(shared, move |shared| {
            let loaded = catch_unwind(AssertUnwindSafe(|| loader(&|part| shared.pulse.set_loaded(part))));
            let loaded = loaded.unwrap_or_else(|panic| Err(panic_message(&*panic)));
            let prepared =
                loaded.and_then(|executor| prepare(&shared, executor).map_err(|error| error.to_string()));
            match prepared {
                Ok(engine_loop) => supervise(&shared, engine_loop),
                Err(message) => {
                    tracing::error!(%message, "the model could not be loaded");
                    shared.end(Some(message));
                }
            }
        })
    }

    fn spawn(
        shared: Arc<Shared>,
        body: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<Self, EngineError> {
        let refused = |error: std::io::Error| EngineError::Thread(error.to_string());
        let handle = EngineHandle { shared: Arc::clone(&shared) };
        let watch = Watch::start(Arc::clone(&shared)).map_err(refused)?;
        let thread = std::thread::Builder::new()
            .name("pagoda-engine".to_owned())
            .spawn(move || body(shared))
            .map_err(refused)?;
        Ok(Self { handle, thread: Some(thread), _watch: watch })
    }

    /// The way to the engine; clone it freely.
    pub fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// What ended the engine, if it failed.
    pub fn failed(&self) -> Option<String> {
        self.handle.shared.pulse.failure().map(str::to_owned)
    }

    /// Waits for the engine to end; it does so after [`EngineHandle::drain`], [`EngineHandle::shutdown`] or a
    /// failure.
    ///
    /// # Errors
    /// [`EngineError::Failed`] when it ended on an error.
    pub fn join(mut self) -> Result<(), EngineError> {
        self.join_thread();
        self.failed().map_or(Ok(()), |message| Err(EngineError::Failed(message)))
    }

    fn join_thread(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let mut pause = Duration::from_micros(100);
        while !thread.is_finished() {
            if self.handle.shared.pulse.is_given_up() {
                // It hangs, and is left to itself.
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        if thread.join().is_err() {
            self.handle.shared.end(Some("the engine thread panicked while it ended".to_owned()));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.join_thread();
    }
}

fn prepare<E: Executor>(shared: &Arc<Shared>, mut executor: E) -> Result<EngineLoop<E>, EngineError> {
    let capacity = executor.capacity();
    let (model, backend) = (shared.model.vocab_size, capacity.vocab_size);
    if model > backend {
        return Err(EngineError::Vocabulary { model, backend });
    }
    let mut config = shared.config.scheduler;
    config.max_model_len = config.max_model_len.min(shared.model.max_model_len);
    let scheduler = Scheduler::new(config, capacity)?;
    if let Some(target) = config.itl_target {
        check_itl_target(target, &mut executor)?;
    }
    load_adapters(shared, &mut executor)?;
    shared.metrics.set_capacity(&capacity);
    shared.capacity.set(capacity).expect("an engine is prepared once");
    shared.pulse.beat(std::time::Instant::now());
    shared.pulse.advance(EngineState::Ready);
    Ok(EngineLoop::new(Arc::clone(shared), executor, scheduler))
}

/// Loads the adapters that the engine starts with.
fn load_adapters(shared: &Arc<Shared>, executor: &mut impl Executor) -> Result<(), EngineError> {
    let Some(source) = &shared.config.adapters else { return Ok(()) };
    for InitialAdapter { name, path, required } in &source.initial {
        let refused = |reason: String| EngineError::Adapter { name: name.clone(), reason };
        let outcome = shared.read_adapter(source, name, path).map_err(|error| refused(error.to_string()));
        let outcome = outcome.and_then(|(reservation, weights)| {
            executor.attach(reservation.id, weights).map_err(|error| refused(error.message))?;
            shared.adapters.announce(reservation.id);
            reservation.keep();
            Ok(())
        });
        match outcome {
            Err(error) if *required => return Err(error),
            Err(error) => tracing::error!(%error, "an adapter is lost"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Refuses a target that is below the cost of a single row.
fn check_itl_target(target: Duration, executor: &mut impl Executor) -> Result<(), EngineError> {
    let row = row_cost::measure(executor)?;
    if target < row { Err(EngineError::ItlTarget { target, row }) } else { Ok(()) }
}

/// Runs the loop to its end, whatever that is. The end is announced before any client hears of it.
fn supervise<E: Executor>(shared: &Arc<Shared>, mut engine_loop: EngineLoop<E>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| engine_loop.run()));
    let failure = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(format!("panic in the engine thread: {}", panic_message(&*panic))),
    };
    if let Some(message) = &failure {
        tracing::error!(%message, "the engine failed; every request is ended");
    }
    shared.end(failure);
    engine_loop.end_all(&shared.lost());
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
