//! Orders to load the model anew, from the operator to whoever runs the server.

use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Where an order goes.
#[derive(Clone, Debug)]
pub struct Reload {
    orders: mpsc::Sender<ReloadOrder>,
    /// Held while an order is carried out.
    turn: Arc<Mutex<()>>,
}

/// One order. Dropping it unanswered tells the operator that the server is about to stop.
#[derive(Debug)]
pub struct ReloadOrder {
    answer: oneshot::Sender<Result<(), String>>,
}

/// What became of an order.
#[derive(Debug)]
pub(crate) enum Reloaded {
    Done,
    /// Another order is being carried out.
    Busy,
    /// The model could not be loaded; the reason. The one before goes on.
    Failed(String),
    /// Nobody carries out orders any more.
    Gone,
}

impl Reload {
    /// The two ends. At most one order is carried out at a time.
    pub fn channel() -> (Self, mpsc::Receiver<ReloadOrder>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self { orders: sender, turn: Arc::default() }, receiver)
    }

    pub(crate) async fn order(&self) -> Reloaded {
        let Ok(_turn) = self.turn.try_lock() else { return Reloaded::Busy };
        let (answer, answered) = oneshot::channel();
        if self.orders.send(ReloadOrder { answer }).await.is_err() {
            return Reloaded::Gone;
        }
        match answered.await {
            Ok(Ok(())) => Reloaded::Done,
            Ok(Err(reason)) => Reloaded::Failed(reason),
            Err(_) => Reloaded::Gone,
        }
    }
}

impl ReloadOrder {
    /// Tells the operator what came of it: nothing to say, or why the model could not be loaded.
    pub fn answer(self, outcome: Result<(), String>) {
        // An operator who has gone away does not ask.
        let _ = self.answer.send(outcome);
    }
}
