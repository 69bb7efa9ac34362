//! The events of one answer, as they arrive.

use super::http::{Client, ClientError, Lease};
use super::sse::SseDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;

/// An answer in events. Dropping it before its end closes the connection, by which servers know that nobody listens.
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
    body: Incoming,
    decoder: SseDecoder,
    /// Events that have arrived and were not asked for yet.
    ready: VecDeque<String>,
    /// The connection, until the answer has ended.
    lease: Option<Lease>,
}

impl<'a> Events<'a> {
    pub(super) fn new(client: &'a Client, body: Incoming, lease: Lease) -> Self {
        Self { client, body, decoder: SseDecoder::default(), ready: VecDeque::new(), lease: Some(lease) }
    }

    /// The data of the next event; `None` at the end of the answer.
    ///
    /// # Errors
    /// [`ClientError`]: the connection broke, or an event is too long.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        while self.ready.is_empty() && self.lease.is_some() {
            let mut take = |data: &str| self.ready.push_back(data.to_owned());
            match self.body.frame().await {
                Some(frame) => {
                    let Ok(bytes) = frame?.into_data() else { continue };
                    let pushed = self.decoder.push(&bytes, &mut take);
                    pushed.map_err(|error| ClientError::Answer(error.to_string()))?;
                }
                None => {
                    self.decoder.finish(&mut take);
                    self.lease.take().into_iter().for_each(|lease| self.client.give_back(lease));
                }
            }
        }
        Ok(self.ready.pop_front())
    }
}
