//! The server itself: accept loop, limits of connections, orderly end.

use crate::router::router;
use crate::stall::StallGuard;
use crate::state::ServerState;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Largest request head, bytes.
const MAX_HEAD: usize = 16 << 10;

/// Most header fields of a request.
const MAX_HEADERS: usize = 64;

/// How long connections may take to close once nothing is in flight.
const CLOSING: Duration = Duration::from_secs(1);

/// Pause after a failed `accept`, which usually means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves, then ends in order: new generating calls are answered with 503 and probes
/// see "draining", while running calls may take up to
/// [`ServerConfig::shutdown_timeout`](crate::ServerConfig::shutdown_timeout) to end; what is left then is cut off
/// and cancelled.
///
/// The engine is not stopped. HTTP/1.1 only.
///
/// # Errors
/// If the listener's address cannot be read, which means that it is not usable.
pub async fn serve(
    listener: TcpListener,
    state: ServerState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "listening");
    let drained = async {
        shutdown.await;
        state.drain();
        if tokio::time::timeout(state.config().shutdown_timeout, state.idle()).await.is_err() {
            tracing::warn!(calls = state.in_flight(), "cutting off calls that did not end in time");
        }
    };
    let mut server = Server::new(&state);
    tokio::select! {
        () = server.accept_all(&listener) => {}
        () = drained => {}
    }
    drop(listener);
    server.close().await;
    Ok(())
}

struct Server {
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    stall_timeout: Duration,
    slots: Arc<Semaphore>,
    graceful: GracefulShutdown,
    /// Dropping it ends the connections.
    connections: JoinSet<()>,
}

impl Server {
    fn new(state: &ServerState) -> Self {
        let config = state.config();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.head_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        Self {
            http,
            service: TowerToHyperService::new(router(state.clone())),
            stall_timeout: config.stall_timeout,
            slots: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            graceful: GracefulShutdown::new(),
            connections: JoinSet::new(),
        }
    }

    /// Never returns.
    async fn accept_all(&mut self, listener: &TcpListener) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(stream, slot),
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&mut self, stream: TcpStream, slot: tokio::sync::OwnedSemaphorePermit) {
        // Tokens are small writes that must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let stream = TokioIo::new(StallGuard::new(stream, self.stall_timeout));
        let connection = self.http.serve_connection(stream, self.service.clone());
        let connection = self.graceful.watch(connection);
        self.connections.spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        while self.connections.try_join_next().is_some() {}
    }

    /// Lets connections finish the response that they are writing, then ends them.
    async fn close(self) {
        let _ = tokio::time::timeout(CLOSING, self.graceful.shutdown()).await;
        drop(self.connections);
    }
}
