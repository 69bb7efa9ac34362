//! The server itself: accept loop, limits of connections, orderly end.

use crate::access::ClientAddress;
use crate::generation::Entered;
use crate::held::hold;
use crate::listener::{Connection, Listener};
use crate::patience::{Activity, HeadGuard, Patience};
use crate::router::{admin_router, router};
use crate::stall::StallGuard;
use crate::state::ServerState;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Smallest buffer of a connection that the HTTP library accepts, bytes.
const LEAST_BUFFER: usize = 8 << 10;

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
    listener: impl Into<Listener>,
    state: ServerState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = listener.into();
    tracing::info!(address = listener.place()?, "listening");
    let drained = async {
        shutdown.await;
        state.drain();
        if tokio::time::timeout(state.config().shutdown_timeout, state.idle()).await.is_err() {
            tracing::warn!(calls = state.in_flight(), "cutting off calls that did not end in time");
        }
    };
    run(listener, Server::new(&state, router), drained).await;
    Ok(())
}

/// Serves [`admin_router`] until `shutdown` resolves, with the same limits and keys.
///
/// # Errors
/// If the listener's address cannot be read, which means that it is not usable.
pub async fn serve_admin(
    listener: impl Into<Listener>,
    state: ServerState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = listener.into();
    tracing::info!(address = listener.place()?, "listening for orders");
    run(listener, Server::new(&state, admin_router), shutdown).await;
    Ok(())
}

async fn run(listener: Listener, mut server: Server, until: impl Future<Output = ()>) {
    tokio::select! {
        () = server.accept_all(&listener) => {}
        () = until => {}
    }
    drop(listener);
    server.close().await;
}

struct Server {
    http: http1::Builder,
    routes: Arc<Routes>,
    stall_timeout: Duration,
    patience: Patience,
    slots: Arc<Semaphore>,
    graceful: GracefulShutdown,
    /// Dropping it ends the connections.
    connections: JoinSet<()>,
}

impl Server {
    fn new(state: &ServerState, router: fn(ServerState) -> Router) -> Self {
        let config = state.config();
        let patience = Patience { head: config.head_timeout, idle: config.idle_timeout };
        let mut http = http1::Builder::new();
        // The exact limits are those of the gate, which says what is wrong; these end what it never sees.
        http.timer(TokioTimer::new())
            .header_read_timeout(patience.head.saturating_add(patience.idle))
            .max_headers(config.head_limits.fields.saturating_mul(2))
            .max_buf_size(config.head_limits.bytes.saturating_mul(2).max(LEAST_BUFFER));
        Self {
            http,
            routes: Arc::new(Routes::new(state, router)),
            stall_timeout: config.stall_timeout,
            patience,
            slots: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            graceful: GracefulShutdown::new(),
            connections: JoinSet::new(),
        }
    }

    /// Never returns.
    async fn accept_all(&mut self, listener: &Listener) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((Connection::Tcp(stream), client)) => self.spawn(stream, client, slot),
                Ok((Connection::Unix(stream), client)) => self.spawn(stream, client, slot),
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn<S>(&mut self, stream: S, client: String, slot: tokio::sync::OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::default();
        let stream = StallGuard::new(stream, self.stall_timeout);
        let stream = TokioIo::new(HeadGuard::new(stream, activity.clone(), self.patience));
        let routes = Arc::clone(&self.routes);
        let service = Watched { routes, activity, client: ClientAddress(client.into()) };
        let connection = self.http.serve_connection(stream, service);
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

/// The routes, over the engine that is current.
struct Routes {
    make: fn(ServerState) -> Router,
    made: RwLock<(ServerState, TowerToHyperService<Router>)>,
}

impl Routes {
    fn new(state: &ServerState, make: fn(ServerState) -> Router) -> Self {
        let (state, _) = state.enter();
        let service = TowerToHyperService::new(make(state.clone()));
        Self { make, made: RwLock::new((state, service)) }
    }

    /// What answers one call, and what has to be held until it is answered.
    fn enter(&self) -> (TowerToHyperService<Router>, Entered) {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        let (state, entered) = made.0.enter();
        if state.has_engine_of(&made.0) {
            return (made.1.clone(), entered);
        }
        drop(made);
        let service = TowerToHyperService::new((self.make)(state.clone()));
        *self.made.write().unwrap_or_else(PoisonError::into_inner) = (state, service.clone());
        (service, entered)
    }
}

/// The routes as one connection sees them: a call lasts until its response has been sent or given up.
struct Watched {
    routes: Arc<Routes>,
    activity: Activity,
    client: ClientAddress,
}

impl Service<hyper::Request<Incoming>> for Watched {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client.clone());
        let busy = self.activity.begin();
        let (service, entered) = self.routes.enter();
        let response = service.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| hold(body, (busy, entered)))) })
    }
}
