//! Calls by the names that their callers gave them, while they are being answered.

use pagoda_engine::{RequestId, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Whose name, and which.
type Key = (TenantId, String);

/// The first request of each named call. One entry per call in flight, so bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<HashMap<Key, RequestId>>>);

/// An entry, for as long as it lives.
#[derive(Debug)]
pub(crate) struct NamedCall {
    calls: Calls,
    key: Key,
    id: RequestId,
}

impl Calls {
    /// Enters a call. Of two with one name the later one is found.
    pub(crate) fn enter(&self, tenant: TenantId, name: String, id: RequestId) -> NamedCall {
        let key = (tenant, name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), id);
        NamedCall { calls: self.clone(), key, id }
    }

    pub(crate) fn find(&self, tenant: TenantId, name: &str) -> Option<RequestId> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(&(tenant, name.to_owned())).copied()
    }

    /// The names that a tenant gave.
    pub(crate) fn names(&self, tenant: TenantId) -> HashMap<RequestId, String> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = calls.iter().filter(|((whose, _), _)| *whose == tenant);
        own.map(|((_, name), id)| (*id, name.clone())).collect()
    }
}

impl Drop for NamedCall {
    fn drop(&mut self) {
        let mut calls = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.get(&self.key) == Some(&self.id) {
            calls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_tenants_and_lives_as_long_as_the_call() {
        let (calls, tenant) = (Calls::default(), TenantId(3));
        let [first, second] = [RequestId::new(), RequestId::new()];
        let one = calls.enter(tenant, "a".into(), first);
        assert_eq!((calls.find(tenant, "a"), calls.find(TenantId(4), "a")), (Some(first), None));
        let two = calls.enter(tenant, "a".into(), second);
        drop(one);
        assert_eq!(calls.find(tenant, "a"), Some(second));
        drop(two);
        assert_eq!(calls.find(tenant, "a"), None);
    }
}
