//! A client that sees the bytes: one request per connection, chunks of the transfer coding kept apart.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status line and header fields of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Value of the only field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice");
        value
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection on which one request has been sent.
pub(crate) struct Exchange {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Exchange {
    /// Connects and sends `bytes` as they are.
    pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends more on the same connection.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads up to the end of the head.
    pub(crate) async fn head(&mut self) -> Head {
        let text = self.until(b"\r\n\r\n").await;
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Head { status, fields }
    }

    /// The next chunk of a chunked body, which is one write of the server; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n").await;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
        let mut data = self.exactly(size + 2).await;
        assert!(data.ends_with(b"\r\n"));
        data.truncate(size);
        (size > 0).then_some(data)
    }

    /// The rest of the response after its head.
    pub(crate) async fn body(&mut self, head: &Head) -> Vec<u8> {
        if head.field("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
            return body;
        }
        let length = head.field("content-length").map_or(0, |length| length.parse().unwrap());
        self.exactly(length).await
    }

    /// The whole response.
    pub(crate) async fn reply(mut self) -> Reply {
        let head = self.head().await;
        let body = self.body(&head).await;
        Reply { head, body }
    }

    /// Waits until the server has closed the connection, whatever it sends before.
    pub(crate) async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            self.fill().await;
        }
    }

    async fn exactly(&mut self, size: usize) -> Vec<u8> {
        while self.buffer.len() < size {
            self.fill().await;
        }
        let rest = self.buffer.split_off(size);
        std::mem::replace(&mut self.buffer, rest)
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.buffer));
    }
}

/// A request as bytes. No content type: none is needed.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    request_with(method, path, "", body)
}

/// The same with further header lines, each with its line end.
pub(crate) fn request_with(method: &str, path: &str, lines: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{lines}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The events of a stream without their framing and without comments; `[DONE]` must be the last and is left out.
pub(crate) fn events(body: &[u8]) -> Vec<Value> {
    let body = std::str::from_utf8(body).unwrap();
    assert!(!body.contains('\r'), "{body:?}");
    let body = body.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("no end in {body:?}"));
    let events = body.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
    let json = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    events.map(json).collect()
}
