//! A compiled constraint.

use crate::matcher::Matcher;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled constraint, from which the matchers of any number of texts start.
pub struct Grammar {
    template: Mutex<llguidance::Matcher>,
    start: Box<[u32]>,
    eos: Arc<[u32]>,
}

impl Grammar {
    pub(crate) fn new(template: llguidance::Matcher, start: Vec<u32>, eos: Arc<[u32]>) -> Self {
        Self { template: Mutex::new(template), start: start.into(), eos }
    }

    /// The mask of an empty text; see [`Matcher::mask`].
    pub fn start(&self) -> &[u32] {
        &self.start
    }

    /// Ids that end a text.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// A matcher at the beginning of its text, which shares nothing with others.
    pub fn matcher(&self) -> Matcher {
        // A copy is taken and nothing is changed, so a panic in another one leaves nothing to distrust.
        let template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        Matcher::new(template.deep_clone(), Arc::clone(&self.eos))
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}
