//! What the tokens of a request have to be, kept by somebody else.

use crate::{SampleIndex, TokenId};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Knows which tokens may come next in each sample of one request. Asked and told by the executor, from any thread.
///
/// It follows the tokens that were chosen, so preemption and recomputation do not concern it: a sample asks for each place
/// of its output once, in order.
pub trait TokenConstraint: fmt::Debug + Send + Sync {
    /// Writes the tokens that may come after `generated` ones of `sample` into `words`: bit `id % 32` of word `id / 32`; ids
    /// beyond the words may not. At least one bit is set. May wait for a computation that runs beside the step, or do it.
    ///
    /// # Errors
    /// [`ConstraintFault`] when the sample cannot go on; it ends that sample alone.
    fn allowed(
        &self,
        sample: SampleIndex,
        generated: u32,
        words: &mut Vec<u32>,
    ) -> Result<(), ConstraintFault>;

    /// Tells that `token` comes after `generated` ones of `sample`, so that what may follow can be computed meanwhile.
    fn chosen(&self, sample: SampleIndex, generated: u32, token: TokenId);
}

/// A sample cannot go on within its constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintFault;

/// A constraint that all that is known of a request refers to.
#[derive(Clone, Debug)]
pub struct SharedConstraint(pub Arc<dyn TokenConstraint>);

impl Deref for SharedConstraint {
    type Target = dyn TokenConstraint;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Equal if it is the same.
impl PartialEq for SharedConstraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
