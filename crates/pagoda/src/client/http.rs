//! Requests over kept connections.

use super::{Events, Target};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;

/// Most of an answer that is no stream which is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The connection ended or carried something that is no HTTP.
    #[error("the connection to the server broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer was not a success.
    #[error("the server answered {status}: {body}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Start of the body.
        body: String,
    },
    /// The answer is not what it has to be.
    #[error("the answer of the server cannot be read: {0}")]
    Answer(String),
    /// It took too long.
    #[error("no end within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
}

/// Sends requests to one server and keeps its connections.
#[derive(Debug)]
pub struct Client {
    target: Target,
    headers: Vec<(HeaderName, HeaderValue)>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// A connection that is in use; [`Client::give_back`] takes it when the answer was read to its end.
#[derive(Debug)]
pub(super) struct Lease(SendRequest<Full<Bytes>>);

impl Client {
    /// A client of `target` that sends `headers` with every request.
    pub fn new(target: Target, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { target, headers, idle: Mutex::default() }
    }

    /// The server.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks for `endpoint` and reads the whole answer, which has to be JSON.
    ///
    /// # Errors
    /// [`ClientError`]; a status other than success is one.
    pub async fn get_json(&self, endpoint: &str) -> Result<serde_json::Value, ClientError> {
        let (response, _lease) = self.send(Method::GET, endpoint, Bytes::new()).await?;
        let body = whole(response).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// The first model that the server lists.
    ///
    /// # Errors
    /// [`ClientError`]; a list without a model is one.
    pub async fn first_model(&self) -> Result<String, ClientError> {
        let models = self.get_json("/v1/models").await?;
        let id = models["data"][0]["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| ClientError::Answer("it lists no model; give its name with --model".into()))
    }

    /// Posts JSON and returns the events of the answer once its head is there and is a success.
    ///
    /// # Errors
    /// [`ClientError`]; a status other than success is one, with the start of its body.
    pub async fn post_events(&self, endpoint: &str, body: Bytes) -> Result<Events<'_>, ClientError> {
        let (response, lease) = self.send(Method::POST, endpoint, body).await?;
        Ok(Events::new(self, response.into_body(), lease))
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn give_back(&self, lease: Lease) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lease.0);
    }

    async fn send(
        &self,
        method: Method,
        endpoint: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Lease), ClientError> {
        let mut request = self.request(method, endpoint, body)?;
        // A server may close a kept connection at any time; then the request, which it has not seen, goes to the next.
        while let Some(mut kept) = self.kept() {
            match kept.try_send_request(request).await {
                Ok(response) => return success(response, Lease(kept)).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut fresh = self.connect().await?;
        let response = fresh.send_request(request).await?;
        success(response, Lease(fresh)).await
    }

    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(SendRequest::is_ready)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let authority = self.target.authority();
        let stream = match TcpStream::connect(&authority).await {
            Ok(stream) => stream,
            Err(source) => return Err(ClientError::Connect { authority, source }),
        };
        // Costs delay only.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors reach the request that is under way.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(
        &self,
        method: Method,
        endpoint: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.path(endpoint))
            .header(HOST, self.target.authority())
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|error| ClientError::Answer(error.to_string()))
    }
}

async fn success(
    response: Response<Incoming>,
    lease: Lease,
) -> Result<(Response<Incoming>, Lease), ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok((response, lease));
    }
    let body = whole(response).await.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&body).chars().take(400).collect();
    Err(ClientError::Status { status: status.as_u16(), body: text.trim().to_owned() })
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| ClientError::Answer(error.to_string()))
}
