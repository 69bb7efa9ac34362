//! Adapters of the model by the names that clients give: what is loaded, what is on its way in or out, and who uses it.

use crate::shared::Shared;
use pagoda_sched::{AdapterId, AdapterWeights};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest name of an adapter, in bytes.
const MAX_NAME: usize = 256;

/// Where adapters come from, and how many there may be at a time.
#[derive(Clone)]
pub struct AdapterSource {
    /// Most adapters at a time.
    pub limit: u32,
    /// Reads the folder of an adapter and packs it for the backend. Runs on the thread of whoever loads, never on the engine's.
    pub load: Arc<AdapterLoader>,
    /// Those that are loaded before the engine is ready.
    pub initial: Vec<InitialAdapter>,
}

/// An adapter that is loaded before the engine is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialAdapter {
    /// The name that clients ask for.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Whether the engine fails without it; else its loss is logged.
    pub required: bool,
}

/// Reads an adapter; an error is for the operator.
pub type AdapterLoader = dyn Fn(&Path) -> Result<LoadedAdapter, String> + Send + Sync;

impl fmt::Debug for AdapterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterSource").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// An adapter as its source gives it.
pub struct LoadedAdapter {
    /// As the backend computes with it.
    pub weights: AdapterWeights,
    /// Its largest rank.
    pub rank: u32,
    /// Bytes of its weights in memory.
    pub bytes: u64,
}

/// A loaded adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// The name that clients ask for.
    pub name: Arc<str>,
    /// The folder that it was read from.
    pub path: PathBuf,
    /// Its largest rank.
    pub rank: u32,
    /// Bytes of its weights in memory.
    pub bytes: u64,
    /// When it was loaded, in seconds since the Unix epoch.
    pub created: u64,
}

/// Why an adapter was not loaded or not unloaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// There is room for none.
    #[error("this server has no room for adapters; start it with --max-loras")]
    NoRoom,
    /// The name cannot be one.
    #[error(
        "{0:?} cannot be the name of an adapter: it is empty, longer than 256 bytes or has control characters"
    )]
    Name(String),
    /// The name is taken.
    #[error(
        "there is a model or an adapter of the name {0:?} already; unload it first, or give another name"
    )]
    Taken(String),
    /// As many are loaded as may be.
    #[error(
        "{limit} adapters are loaded or on their way, and no more fit; unload one, or start with a larger --max-loras"
    )]
    Full {
        /// Most adapters at a time.
        limit: u32,
    },
    /// The adapter cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// No adapter of this name is loaded.
    #[error("no adapter of the name {0:?} is loaded")]
    Unknown(String),
    /// The engine takes no orders now.
    #[error("the engine takes no orders; try again later")]
    Busy,
}

/// How far an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Loading,
    Ready,
    /// Its requests run out.
    Leaving,
}

#[derive(Debug)]
struct Entry {
    id: AdapterId,
    state: State,
    info: AdapterInfo,
    load: Arc<AdapterLoad>,
}

/// Requests that name an adapter and have not ended.
#[derive(Debug, Default)]
pub(crate) struct AdapterLoad {
    waiting: AtomicU32,
    running: AtomicU32,
}

impl AdapterLoad {
    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) + self.running.load(Ordering::Acquire) == 0
    }
}

/// The use of an adapter by one request, from before it is handed over until it has ended.
#[derive(Debug)]
pub(crate) struct AdapterUse {
    id: AdapterId,
    load: Arc<AdapterLoad>,
    started: bool,
}

impl AdapterUse {
    pub(crate) fn id(&self) -> AdapterId {
        self.id
    }

    /// Notes that the request is part of a step.
    pub(crate) fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            // Counted twice for a moment rather than not at all.
            self.load.running.fetch_add(1, Ordering::AcqRel);
            self.load.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for AdapterUse {
    fn drop(&mut self) {
        let count = if self.started { &self.load.running } else { &self.load.waiting };
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Names of the adapters that have requests, for the metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AdaptersInUse {
    pub(crate) running: Vec<Arc<str>>,
    pub(crate) waiting: Vec<Arc<str>>,
    pub(crate) loaded: usize,
}

/// All adapters of an engine. The lock is held for a look or a change, by clients and at the two ends of an adapter's life by
/// the engine thread.
#[derive(Debug, Default)]
pub(crate) struct Adapters(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    entries: Vec<Entry>,
    /// The latest id; none is given twice.
    latest: u32,
}

impl Adapters {
    /// Takes a name and a place for an adapter that is about to be read.
    fn reserve(&self, name: &str, path: &Path, limit: u32) -> Result<AdapterId, AdapterError> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(AdapterError::Name(name.chars().take(MAX_NAME).collect()));
        }
        let mut known = self.known();
        if known.entries.iter().any(|entry| *entry.info.name == *name) {
            return Err(AdapterError::Taken(name.to_owned()));
        }
        if known.entries.len() >= limit as usize {
            return Err(AdapterError::Full { limit });
        }
        known.latest += 1;
        let id = AdapterId(known.latest);
        let info = AdapterInfo { name: name.into(), path: path.to_owned(), rank: 0, bytes: 0, created: 0 };
        known.entries.push(Entry { id, state: State::Loading, info, load: Arc::default() });
        Ok(id)
    }

    /// Notes what was read.
    fn describe(&self, id: AdapterId, rank: u32, bytes: u64) {
        if let Some(entry) = self.known().entries.iter_mut().find(|entry| entry.id == id) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            (entry.info.rank, entry.info.bytes) = (rank, bytes);
            entry.info.created = now.map_or(0, |now| now.as_secs());
        }
    }

    /// Lets requests name an adapter that the backend has.
    pub(crate) fn announce(&self, id: AdapterId) {
        if let Some(entry) = self.known().entries.iter_mut().find(|entry| entry.id == id) {
            entry.state = State::Ready;
        }
    }

    /// Forgets an adapter that the backend does not have.
    pub(crate) fn remove(&self, id: AdapterId) {
        self.known().entries.retain(|entry| entry.id != id);
    }

    /// Refuses further requests for an adapter.
    pub(crate) fn retire(&self, name: &str) -> Result<AdapterId, AdapterError> {
        let mut known = self.known();
        let ready = |entry: &&mut Entry| entry.state == State::Ready && *entry.info.name == *name;
        let entry = known.entries.iter_mut().find(ready);
        let entry = entry.ok_or_else(|| AdapterError::Unknown(name.to_owned()))?;
        entry.state = State::Leaving;
        Ok(entry.id)
    }

    /// Whether no request names an adapter any more; of one that is leaving it stays so.
    pub(crate) fn is_idle(&self, id: AdapterId) -> bool {
        self.known().entries.iter().all(|entry| entry.id != id || entry.load.is_idle())
    }

    /// The use of an adapter by a request that is about to be handed over; `None` if there is no such adapter.
    pub(crate) fn enter(&self, name: &str) -> Option<AdapterUse> {
        let known = self.known();
        let ready = |entry: &&Entry| entry.state == State::Ready && *entry.info.name == *name;
        let entry = known.entries.iter().find(ready)?;
        entry.load.waiting.fetch_add(1, Ordering::AcqRel);
        Some(AdapterUse { id: entry.id, load: Arc::clone(&entry.load), started: false })
    }

    /// The adapters that requests may name, in the order in which they were asked for.
    pub(crate) fn ready(&self) -> Vec<AdapterInfo> {
        let known = self.known();
        let ready = known.entries.iter().filter(|entry| entry.state == State::Ready);
        ready.map(|entry| entry.info.clone()).collect()
    }

    pub(crate) fn in_use(&self) -> AdaptersInUse {
        let known = self.known();
        let of = |count: fn(&AdapterLoad) -> &AtomicU32| {
            let used = known.entries.iter().filter(|entry| count(&entry.load).load(Ordering::Acquire) > 0);
            used.map(|entry| Arc::clone(&entry.info.name)).collect()
        };
        let loaded = known.entries.iter().filter(|entry| entry.state != State::Loading).count();
        AdaptersInUse { running: of(|load| &load.running), waiting: of(|load| &load.waiting), loaded }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name and a place that are given back unless the adapter arrives.
pub(crate) struct Reservation<'a> {
    adapters: &'a Adapters,
    pub(crate) id: AdapterId,
    kept: bool,
}

impl<'a> Reservation<'a> {
    /// Takes a name and a place for an adapter that is about to be read.
    fn new(adapters: &'a Adapters, name: &str, path: &Path, limit: u32) -> Result<Self, AdapterError> {
        let id = adapters.reserve(name, path, limit)?;
        Ok(Self { adapters, id, kept: false })
    }

    /// Lets the adapter stay.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Shared {
    /// Reads an adapter, which has a name and a place from then on but cannot be named by requests yet.
    pub(crate) fn read_adapter<'a>(
        &'a self,
        source: &AdapterSource,
        name: &str,
        path: &Path,
    ) -> Result<(Reservation<'a>, AdapterWeights), AdapterError> {
        if self.model.answers_to(name) {
            return Err(AdapterError::Taken(name.to_owned()));
        }
        let reservation = Reservation::new(&self.adapters, name, path, source.limit)?;
        let LoadedAdapter { weights, rank, bytes } = (source.load)(path).map_err(AdapterError::Invalid)?;
        self.adapters.describe(reservation.id, rank, bytes);
        Ok((reservation, weights))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.adapters.remove(self.id);
        }
    }
}
