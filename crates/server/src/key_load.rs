//! Calls in flight by API key.

use pagoda_engine::TenantId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// How many calls each key has in flight. An entry lives as long as its calls, so there are never more than those.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyLoad(Arc<Mutex<HashMap<TenantId, usize>>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct KeySlot {
    load: KeyLoad,
    key: TenantId,
}

impl KeyLoad {
    /// Counts a call of `key`, unless it has `limit` of them.
    pub(crate) fn enter(&self, key: TenantId, limit: usize) -> Option<KeySlot> {
        let mut load = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = load.get(&key).copied().unwrap_or(0);
        (calls < limit).then(|| {
            load.insert(key, calls + 1);
            KeySlot { load: self.clone(), key }
        })
    }
}

impl Drop for KeySlot {
    fn drop(&mut self) {
        let mut load = self.load.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut calls) = load.entry(self.key) {
            *calls.get_mut() -= 1;
            if *calls.get() == 0 {
                calls.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_leaves_nothing_behind() {
        let (load, [one, other]) = (KeyLoad::default(), [TenantId(1), TenantId(2)]);
        let first = load.enter(one, 2).unwrap();
        let second = load.enter(one, 2).unwrap();
        assert!(load.enter(one, 2).is_none());
        assert!(load.enter(other, 2).is_some());
        drop(first);
        let third = load.enter(one, 2).unwrap();
        assert!(load.enter(one, 2).is_none() && load.enter(other, 0).is_none());
        drop((second, third));
        assert!(load.0.lock().unwrap().is_empty());
    }
}
