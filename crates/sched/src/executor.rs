//! The seam between the scheduler and a backend: one step.

use crate::{KvCapacity, StepInput, StepOutput};

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
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn capacity(&self) -> KvCapacity {
        (**self).capacity()
    }

    fn execute(&mut self, input: &StepInput, output: &mut StepOutput) -> Result<(), ExecError> {
        (**self).execute(input, output)
    }
}

/// A step failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExecError {
    /// What failed, for the log and for the clients of the step's rows.
    pub message: String,
}
