//! One engine after another behind a server that goes on: the model is loaded anew on SIGHUP or on the operator's order.

use super::args::ServeArgs;
use super::exit::{CliError, Failure};
use super::serve::{prepare, prepare_constraints};
use anyhow::anyhow;
use pagoda::server::{ReloadOrder, Retired, ServerState};
use pagoda::{AdapterInfo, Engine, EngineState, InitialAdapter, Prepared};
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

/// Owns the engine that calls meet.
pub(crate) struct Keeper<'a> {
    args: &'a ServeArgs,
    engine: Engine,
    state: ServerState,
    orders: Receiver<ReloadOrder>,
    hangup: Signal,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(
        args: &'a ServeArgs,
        engine: Engine,
        state: ServerState,
        orders: Receiver<ReloadOrder>,
    ) -> Result<Self, CliError> {
        let hangup = signal(SignalKind::hangup());
        let hangup = hangup.map_err(|error| CliError::new(Failure::Runtime, error))?;
        Ok(Self { args, engine, state, orders, hangup })
    }

    /// Carries out orders until the engine ends by itself.
    pub(crate) async fn keep(&mut self) {
        loop {
            let order = tokio::select! {
                _ = self.engine.handle().ended() => return,
                order = self.orders.recv() => order,
                _ = self.hangup.recv() => None,
            };
            let outcome = self.reload().await.map_err(|error| format!("{:#}", error.error));
            if let Err(reason) = &outcome {
                eprintln!("reload failed, the model before goes on: {reason}");
            }
            if let Some(order) = order {
                order.answer(outcome);
            }
        }
    }

    /// The engine that is current.
    pub(crate) fn into_engine(self) -> Engine {
        self.engine
    }

    /// Loads what the command line names, as it is on disk at this moment, beside the engine that runs; memory has to hold
    /// both until the last call of the latter has ended.
    async fn reload(&mut self) -> Result<(), CliError> {
        let begun = Instant::now();
        let mut prepared = tokio::task::block_in_place(|| prepare(self.args))?;
        self.keep_adapters(&mut prepared);
        let engine = prepared.load_in_background()?;
        if engine.handle().ready().await != EngineState::Ready {
            let reason =
                engine.handle().health().failure.unwrap_or_else(|| "it stopped while loading".into());
            return Err(CliError::new(Failure::Runtime, anyhow!(reason)));
        }
        prepare_constraints(engine.handle());
        let retired = self.state.replace_engine(engine.handle().clone());
        let before = std::mem::replace(&mut self.engine, engine);
        tokio::spawn(retire(retired, before));
        eprintln!("reload  {} in {:.1} s", self.engine.model().name(), begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Has the next engine load the adapters that were loaded while this one ran, too; one that cannot be is left out.
    fn keep_adapters(&self, prepared: &mut Prepared) {
        let Some(source) = &mut prepared.engine.adapters else { return };
        for AdapterInfo { name, path, .. } in self.engine.handle().adapters() {
            if source.initial.iter().all(|known| known.name != *name) {
                source.initial.push(InitialAdapter { name: name.to_string(), path, required: false });
            }
        }
    }
}

/// Lets the calls of a replaced engine end, then gives its memory back.
async fn retire(retired: Retired, engine: Engine) {
    retired.idle().await;
    engine.handle().drain();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(|| engine.join()).await {
        eprintln!("the model before ended on an error: {error}");
    }
}
