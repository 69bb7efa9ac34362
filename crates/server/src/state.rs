//! What all routes share.

use crate::calls::{Calls, NamedCall};
use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::generation::{Entered, Generation, Generations, Retired};
use crate::held::hold;
use crate::key_load::{KeyLoad, KeySlot};
use crate::tenant::{Admitted, Tenants};
use crate::text_threads::TextThreads;
use crate::unknown::UnknownFields;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use pagoda_engine::{CacheSalt, EngineHandle, EngineState, ServedModel, TenantId};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The engine, the model and the limits; cheap to clone.
///
/// A state keeps to its engine. [`serve`](crate::serve()) gives each call the engine that is current when the call comes;
/// see [`replace_engine`](Self::replace_engine).
#[derive(Clone)]
pub struct ServerState {
    generation: Arc<Generation>,
    shared: Arc<Shared>,
}

struct Shared {
    generations: Generations,
    config: ServerConfig,
    in_flight: Arc<Semaphore>,
    text_threads: TextThreads,
    unknown_fields: UnknownFields,
    tenants: Tenants,
    calls: Calls,
    key_load: KeyLoad,
    /// Memory for large answers, in units of [`BULK_UNIT`].
    bulk: Arc<Semaphore>,
    /// Keyed afresh by every process, so that nobody can choose a salt that meets another's.
    salt_hasher: RandomState,
    draining: AtomicBool,
}

impl ServerState {
    /// State for the routes to the model that `handle` runs.
    pub fn new(handle: EngineHandle, config: ServerConfig) -> Self {
        let in_flight = Arc::new(Semaphore::new(config.max_in_flight.min(MAX_PERMITS)));
        let text_threads = TextThreads::new(config.text_threads.clamp(1, MAX_PERMITS), config.body_limit);
        let tenants = Tenants::new(&config.tenants);
        name_tenants(&handle, &tenants);
        let generations = Generations::new(handle);
        Self {
            generation: generations.current(),
            shared: Arc::new(Shared {
                generations,
                tenants,
                calls: Calls::default(),
                key_load: KeyLoad::default(),
                bulk: Arc::new(Semaphore::new(BULK_UNITS)),
                config,
                in_flight,
                text_threads,
                unknown_fields: UnknownFields::default(),
                salt_hasher: RandomState::new(),
                draining: AtomicBool::new(false),
            }),
        }
    }

    /// The engine behind the routes.
    pub fn handle(&self) -> &EngineHandle {
        self.generation.handle()
    }

    /// The model that is served.
    pub fn model(&self) -> &Arc<ServedModel> {
        self.handle().model()
    }

    /// Lets all calls that come from here on meet another engine, of the same model or of another. What is counted and
    /// limited by the server goes on; metrics are those of the engine and begin anew.
    ///
    /// No call is lost if the replaced engine is drained when it is [idle](Retired::idle), and not before.
    pub fn replace_engine(&self, handle: EngineHandle) -> Retired {
        name_tenants(&handle, &self.shared.tenants);
        self.shared.generations.replace(handle)
    }

    /// The engine that calls meet from here on, which may have replaced that of [`handle`](Self::handle).
    pub fn current_engine(&self) -> EngineHandle {
        self.shared.generations.current().handle().clone()
    }

    /// The same server with the engine that is current, and what keeps that engine from being idle.
    pub(crate) fn enter(&self) -> (Self, Entered) {
        let (generation, entered) = self.shared.generations.enter();
        (Self { generation, shared: Arc::clone(&self.shared) }, entered)
    }

    /// Whether both keep to one engine.
    pub(crate) fn has_engine_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.generation, &other.generation)
    }

    /// All engines that may have requests, the current one first.
    pub(crate) fn handles(&self) -> Vec<EngineHandle> {
        self.shared.generations.handles()
    }

    /// The limits.
    pub fn config(&self) -> &ServerConfig {
        &self.shared.config
    }

    /// Refuses generating calls from now on, with 503; those that run are not touched.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Generating calls between their head and their last byte.
    pub fn in_flight(&self) -> usize {
        self.shared.config.max_in_flight.min(MAX_PERMITS) - self.shared.in_flight.available_permits()
    }

    /// Waits until no generating call is left.
    pub(crate) async fn idle(&self) {
        let all = u32::try_from(self.shared.config.max_in_flight.min(MAX_PERMITS)).unwrap_or(u32::MAX);
        // The semaphore is never closed; were it, nothing could be in flight either.
        let _ = self.shared.in_flight.acquire_many(all).await;
    }

    /// Whether generating calls are taken.
    pub(crate) fn check_ready(&self) -> Result<(), ApiError> {
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(ApiError::Draining);
        }
        let health = self.handle().health();
        match health.state {
            EngineState::Loading => Err(ApiError::Loading { loaded: percent(health.loaded) }),
            EngineState::Ready | EngineState::Failed => self.check_live(),
            EngineState::Draining => Err(ApiError::Draining),
            EngineState::Stopped => Err(ApiError::Unavailable("the engine has stopped".into())),
        }
    }

    /// The adapter of the model that `asked` names, if it names one and not the model itself, as no name at all does.
    ///
    /// # Errors
    /// It names neither.
    pub(crate) fn check_model(&self, asked: Option<&str>) -> Result<Option<Arc<str>>, ApiError> {
        let Some(asked) = asked else { return Ok(None) };
        if self.names_model(asked) {
            return Ok(None);
        }
        if let Some(adapter) = self.handle().adapter(asked) {
            return Ok(Some(adapter.name));
        }
        if self.config().any_model_name {
            return Ok(None);
        }
        Err(self.no_such_model(asked))
    }

    /// Whether this is a name of the model, and so none that an adapter may have.
    pub(crate) fn names_model(&self, name: &str) -> bool {
        let known = |names: &[String]| names.iter().any(|known| known == name);
        self.model().answers_to(name) || known(&self.config().aliases) || known(&self.config().unlisted_names)
    }

    /// What a client is told that asks for a model that is not there.
    pub(crate) fn no_such_model(&self, asked: &str) -> ApiError {
        let adapters = self.handle().adapters();
        let names = self.model().names.iter().chain(&self.config().aliases).map(String::as_str);
        let loaded = names.chain(adapters.iter().map(|adapter| &*adapter.name)).map(str::to_owned).collect();
        ApiError::ModelNotFound { asked: crate::json::excerpt(asked).into_owned(), loaded }
    }

    /// Logs the fields that nobody took, once per name.
    pub(crate) fn note_unknown<'a>(&self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.shared.unknown_fields.note(name);
        }
    }

    /// Calls by the names that their callers gave them.
    pub(crate) fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// Who calls, and with which share.
    pub(crate) fn tenants(&self) -> &Tenants {
        &self.shared.tenants
    }

    /// Tokens generated per second of late.
    pub(crate) fn throughput(&self) -> f64 {
        self.generation.throughput()
    }

    /// A JSON body that may be large. What all such bodies together hold until they are sent is bounded.
    ///
    /// # Errors
    /// [`ApiError::QueueFull`] if clients have left too much unread.
    pub(crate) fn bulky(&self, json: Vec<u8>) -> Result<Response, ApiError> {
        let units = u32::try_from(json.len() / BULK_UNIT).unwrap_or(u32::MAX);
        let body = Body::from(json);
        let body = match Arc::clone(&self.shared.bulk).try_acquire_many_owned(units) {
            Ok(_) if units == 0 => body,
            Ok(permit) => hold(body, permit),
            Err(_) => {
                let message = "too many large answers wait to be read; try again later".to_owned();
                return Err(ApiError::QueueFull { message, retry_after: Duration::from_secs(1) });
            }
        };
        Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
    }

    /// The prefix cache that a tenant's salt stands for. No two tenants have one in common, so that nobody learns from
    /// the time that an answer takes what another has sent; without a salt they may, where the server is told so.
    pub(crate) fn salt(&self, tenant: TenantId, given: Option<&str>) -> CacheSalt {
        let common = given.is_none() && (tenant == TenantId::default() || self.config().share_prefix_cache);
        CacheSalt(if common { 0 } else { self.shared.salt_hasher.hash_one((tenant, given)) })
    }

    /// Runs `job` where it may take its time: templates and tokenizers can be slow on hostile input.
    ///
    /// # Errors
    /// Those of the job, and [`ApiError::Internal`] if it panicked.
    pub(crate) async fn on_text_thread<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    {
        self.on_text_thread_for(0, job).await
    }

    /// [`on_text_thread`](Self::on_text_thread) for a job that makes tokens of up to `bytes` of text, which takes a hundred times
    /// that memory and more: all such jobs at a time have no more text than one body may have.
    pub(crate) async fn on_text_thread_for<T, F>(&self, bytes: usize, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    {
        let state = self.clone();
        let done = self.shared.text_threads.run(bytes, move || job(&state)).await;
        done.unwrap_or_else(|error| Err(ApiError::internal(&error)))
    }

    /// Whether the engine lives, and so do the threads that texts pass; only a new process helps where not.
    pub(crate) fn check_live(&self) -> Result<(), ApiError> {
        let health = self.handle().health();
        if health.state == EngineState::Failed {
            return Err(ApiError::Unavailable("the engine has failed".into()));
        }
        if health.stalled {
            return Err(ApiError::Unavailable("the engine makes no progress".into()));
        }
        if self.shared.text_threads.are_stuck(self.handle().config().stall_after, Instant::now()) {
            return Err(ApiError::Unavailable(
                "the threads for templates and tokenizers make no progress".into(),
            ));
        }
        Ok(())
    }
}

fn name_tenants(handle: &EngineHandle, tenants: &Tenants) {
    for (id, label) in tenants.known() {
        handle.name_tenant(*id, label);
    }
}

/// Bytes of one unit of memory for large answers; a smaller answer is not counted.
const BULK_UNIT: usize = 64 << 10;

/// 256 MiB.
const BULK_UNITS: usize = 4_096;

/// What one `acquire_many` can wait for.
const MAX_PERMITS: usize = 1 << 20;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction in 0..=1")]
fn percent(fraction: f32) -> u8 {
    (fraction.clamp(0.0, 1.0) * 100.0).round() as u8
}

/// The right to one generating call, from its head to its last byte. Taken before the body is read.
pub(crate) struct InFlight {
    _permit: OwnedSemaphorePermit,
    _key: Option<KeySlot>,
    named: Option<NamedCall>,
}

impl InFlight {
    /// Lets the call be found by its name for as long as it is in flight.
    pub(crate) fn name(&mut self, named: NamedCall) {
        self.named = Some(named);
    }
}

impl FromRequestParts<ServerState> for InFlight {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        state.check_ready()?;
        let config = state.config();
        let Ok(permit) = Arc::clone(&state.shared.in_flight).try_acquire_owned() else {
            return Err(too_many("the server", config.max_in_flight));
        };
        let key = match (parts.extensions.get::<Admitted>(), config.max_in_flight_per_key) {
            (Some(key), Some(limit)) => {
                let slot = state.shared.key_load.enter(key.id(), limit);
                Some(slot.ok_or_else(|| too_many("this API key", limit))?)
            }
            _ => None,
        };
        Ok(Self { _permit: permit, _key: key, named: None })
    }
}

fn too_many(whose: &str, limit: usize) -> ApiError {
    let message = format!("{whose} already has {limit} calls in flight, which is its limit; try again later");
    ApiError::QueueFull { message, retry_after: Duration::from_secs(1) }
}
