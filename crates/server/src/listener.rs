//! Where connections come from: an address or a socket in the file system.

use std::io;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A bound listener, made from tokio's of either kind.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// An accepted connection.
pub(crate) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for a connection; with it comes the address of the client, as logs show it.
    pub(crate) async fn accept(&self) -> io::Result<(Connection, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                // Tokens are small writes that must not wait for each other.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Ok((Connection::Tcp(stream), client.to_string()))
            }
            Self::Unix(listener) => Ok((Connection::Unix(listener.accept().await?.0), "unix".to_owned())),
        }
    }

    /// Where it listens, as logs show it.
    pub(crate) fn place(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(listener) => Ok(format!("{:?}", listener.local_addr()?)),
        }
    }
}
