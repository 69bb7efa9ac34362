//! API keys: who may call at all.

use crate::tenant::{TenantName, TenantNameError};
use std::fmt;
use subtle::{Choice, ConstantTimeEq as _};

/// The keys that a server takes, as hashes, so that no key can be read out of it. Without any, everybody may call.
#[derive(Clone, Default)]
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// Adds a key. Returns `false` if it is there already.
    ///
    /// # Errors
    /// If it is empty or has anything but visible ASCII characters. The error does not show it.
    pub fn add(&mut self, key: &[u8]) -> Result<bool, TenantNameError> {
        TenantName::key(key)?;
        let fresh = !self.admits(key);
        if fresh {
            self.digests.push(digest(key));
        }
        Ok(fresh)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether everybody may call.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether `key` is one of them. Takes the same time whichever it is, and however much of it is right.
    pub(crate) fn admits(&self, key: &[u8]) -> bool {
        let digest = digest(key);
        let same = |known: &[u8; 32]| known.as_slice().ct_eq(digest.as_slice());
        self.digests.iter().fold(Choice::from(0), |found, known| found | same(known)).into()
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    blake3::hash(key).into()
}

/// Only how many there are.
impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_admitted_whole_or_not_at_all() {
        let mut keys = ApiKeys::default();
        assert!(keys.is_empty() && !keys.admits(b""));
        assert_eq!(
            [keys.add(b"sk-one"), keys.add(b"sk-two"), keys.add(b"sk-one")],
            [Ok(true), Ok(true), Ok(false)]
        );
        assert_eq!(keys.len(), 2);
        assert!(keys.admits(b"sk-one") && keys.admits(b"sk-two"));
        for other in [&b""[..], b"sk-on", b"sk-one ", b"sk-onee", b"SK-ONE", b"sk-three"] {
            assert!(!keys.admits(other), "{other:?}");
        }
    }

    #[test]
    fn what_no_header_can_carry_is_no_key_and_is_not_shown() {
        let mut keys = ApiKeys::default();
        for bad in [&b""[..], b"secret key", b"secret\n", b"secret\xff"] {
            let error = keys.add(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(keys.add(b"secret"), Ok(true));
        assert_eq!(format!("{keys:?}"), "ApiKeys(1)");
    }
}
