//! The seam between the scheduler and a backend: one step.

use crate::{AdapterId, KvCapacity, StepInput, StepOutput};
use std::any::Any;

/// A backend that runs one step of the model.
///
/// A step is the boundary, not an operation, so that a backend may fuse as it likes. Rows of a step are
/// independent: a row reads only the slots its table names, after this step's copies and its own writes.
pub trait Executor: Send {
    /// What the backend can hold; constant over its life.
    fn capacity(&self) -> KvCapacity;

    /// Runs `input` and appends one [`Sampled`](crate::Sampled) per requested sample to `output`, which arrives
    /// cleared, in row order, and what rows [report](crate::RowReport). Steps run in order and each is finished on return.
    ///
    /// # Errors
    /// [`ExecError`] when the step as a whole failed; nothing of it may be relied on.
    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError>;

    /// Takes an adapter, in the form in which this backend computes with it, under an id that none had before; steps may name
    /// it from here on. Called between steps, so it does no long work.
    ///
    /// # Errors
    /// [`ExecError`] if the adapter is of another form or there is no place for it.
    fn attach(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<(), ExecError> {
        let AdapterId(number) = id;
        drop(adapter);
        Err(ExecError {
            message: format!("this backend computes no adapters, and was given number {number}"),
        })
    }

    /// Gives an adapter back, which no step names any more; `None` if there is none of this id.
    fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        let _ = id;
        None
    }
}

/// An adapter as a backend computes with it; only that backend knows the type.
pub type AdapterWeights = Box<dyn Any + Send>;

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn capacity(&self) -> KvCapacity {
        (**self).capacity()
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        (**self).execute(input, output)
    }

    fn attach(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<(), ExecError> {
        (**self).attach(id, adapter)
    }

    fn detach(&mut self, id: AdapterId) -> Option<AdapterWeights> {
        (**self).detach(id)
    }
}

/// A step failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExecError {
    /// What failed, for the log and for the clients of the step's rows.
    pub message: String,
}
