//! Gives up on an engine whose heart has stopped, so that nobody waits for it for ever.

use crate::health::EngineState;
use crate::shared::Shared;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at the heart in the time after which the engine is given up. Looks are counted and not the time between them, so that
/// a process that was suspended as a whole does not give up when it goes on.
const LOOKS: u32 = 8;

/// A thread that looks at the engine thread. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let pause = (shared.config.give_up_after / LOOKS).max(Duration::from_millis(1));
        let thread = std::thread::Builder::new().name("pagoda-watch".to_owned()).spawn(move || {
            let (mut seen, mut silent) = (0, 0);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let state = shared.pulse.state();
                if state.has_ended() {
                    return;
                }
                let beat = shared.pulse.last_beat();
                let alive = state == EngineState::Loading || beat != seen;
                (seen, silent) = (beat, if alive { 0 } else { silent + 1 });
                if silent >= LOOKS {
                    return shared.give_up();
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has nobody else to hear of it, and the engine itself is not concerned.
            let _ = thread.join();
        }
    }
}
