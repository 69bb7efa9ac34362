//! What each tenant has used.

use pagoda_sched::TenantId;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustc_hash::FxHashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Most tenants with series of their own.
const MAX_NAMED: usize = 64;

/// Name of the tenant of all requests that name none.
const DEFAULT: &str = "default";

/// Name under which all other tenants are counted.
const OTHER: &str = "other";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// Counters of one tenant. Written by the engine thread.
#[derive(Debug)]
pub(crate) struct Account {
    /// Requests accepted.
    pub(crate) requests: Counter,
    /// Prompt tokens of requests that reached their output.
    pub(crate) prompt_tokens: Counter,
    /// Prompt tokens taken from the prefix cache, of requests that have ended.
    pub(crate) cached_tokens: Counter,
    /// Tokens generated.
    pub(crate) generated_tokens: Counter,
}

/// The accounts of all tenants. Bounded: names come from clients.
#[derive(Debug)]
pub(crate) struct Accounts {
    series: Series,
    named: RwLock<FxHashMap<TenantId, Arc<Account>>>,
    other: Arc<Account>,
}

/// The families that accounts are members of.
#[derive(Debug)]
struct Series {
    requests: Counters,
    prompt_tokens: Counters,
    cached_tokens: Counters,
    generated_tokens: Counters,
}

impl Series {
    fn new(r: &mut Registry) -> Self {
        let mut family = |name: &str, help: &str| {
            let family = Counters::default();
            r.register(name, help, family.clone());
            family
        };
        Self {
            requests: family("pagoda_tenant_requests", "Requests accepted, by tenant"),
            prompt_tokens: family(
                "pagoda_tenant_prompt_tokens",
                "Prompt tokens of requests that reached their output, by tenant",
            ),
            cached_tokens: family(
                "pagoda_tenant_cached_tokens",
                "Prompt tokens taken from the prefix cache by requests that have ended, by tenant",
            ),
            generated_tokens: family("pagoda_tenant_generation_tokens", "Tokens generated, by tenant"),
        }
    }

    fn account(&self, name: &str) -> Arc<Account> {
        let counter = |family: &Counters| family.get_or_create_owned(&vec![("tenant", name.to_owned())]);
        Arc::new(Account {
            requests: counter(&self.requests),
            prompt_tokens: counter(&self.prompt_tokens),
            cached_tokens: counter(&self.cached_tokens),
            generated_tokens: counter(&self.generated_tokens),
        })
    }
}

impl Accounts {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let series = Series::new(registry);
        let default = (TenantId::default(), series.account(DEFAULT));
        let other = series.account(OTHER);
        Self { series, named: RwLock::new([default].into_iter().collect()), other }
    }

    /// Gives `tenant` series of its own, if it has none and there is room.
    pub(crate) fn name(&self, tenant: TenantId, name: &str) {
        let full = |named: &FxHashMap<_, _>| named.len() > MAX_NAMED || named.contains_key(&tenant);
        if full(&self.named.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if !full(&named) {
            named.insert(tenant, self.series.account(name));
        }
    }

    /// Where the use of `tenant` is counted.
    pub(crate) fn of(&self, tenant: TenantId) -> Arc<Account> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(named.get(&tenant).unwrap_or(&self.other))
    }
}
