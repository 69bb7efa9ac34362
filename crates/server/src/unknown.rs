//! Fields that nobody knows: accepted, ignored, and logged once per name.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Most names remembered; beyond it unknown fields are ignored silently.
const MAX_NAMES: usize = 256;

/// Longest name remembered, bytes.
const MAX_LENGTH: usize = 64;

/// Names that have been logged.
#[derive(Debug, Default)]
pub(crate) struct UnknownFields {
    seen: Mutex<BTreeSet<String>>,
}

impl UnknownFields {
    /// Logs `name` if it is the first time. Returns whether it did.
    pub(crate) fn note(&self, name: &str) -> bool {
        if name.len() > MAX_LENGTH {
            return false;
        }
        // The set is whole after any panic: it is changed by one insertion.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_NAMES || seen.contains(name) {
            return false;
        }
        seen.insert(name.to_owned());
        drop(seen);
        tracing::info!(field = name, "ignoring a request field that this server does not know");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_logged_once_and_the_set_is_bounded() {
        let fields = UnknownFields::default();
        assert!(fields.note("metadata"));
        assert!(!fields.note("metadata"));
        assert!(!fields.note(&"x".repeat(MAX_LENGTH + 1)));
        let logged = (0..10 * MAX_NAMES).filter(|i| fields.note(&format!("f{i}"))).count();
        assert_eq!(logged, MAX_NAMES - 1);
    }
}
