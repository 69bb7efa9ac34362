//! Where a server listens.

use super::args::ServeArgs;
use super::exit::{CliError, Failure};
use super::occupant;
use anyhow::anyhow;
use pagoda::server::Listener;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that may wait to be accepted; the usual number is so small that a burst of clients overflows it.
const BACKLOG: u32 = 4_096;

/// Ports after a taken one that are tried for the advice.
const NEXT_PORTS: u16 = 32;

/// Listeners with where they are.
pub(super) struct Listeners {
    pub(super) main: Listener,
    /// Where clients find it.
    pub(super) place: Place,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
}

/// An address or a socket in the file system.
#[derive(Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listeners {
    /// Binds what `args` ask for.
    ///
    /// # Errors
    /// [`Failure::Bind`] with who is there already and what is free.
    pub(super) fn bind(args: &ServeArgs) -> Result<Self, CliError> {
        let (main, place) = match &args.uds {
            Some(path) => (bind_unix(path)?.into(), Place::Unix(path.clone())),
            None => {
                let (listener, address) = bind(SocketAddr::new(args.host, args.port), "--port")?;
                (listener.into(), Place::Tcp(address))
            }
        };
        let admin =
            args.security.admin_port.map(|port| bind((Ipv4Addr::LOCALHOST, port).into(), "--admin-port"));
        Ok(Self { main, place, admin: admin.transpose()? })
    }
}

impl Place {
    /// Where clients find the API.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}/v1"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// A command that asks for an answer.
    pub(super) fn try_line(&self) -> String {
        let (socket, root) = match self {
            Self::Tcp(address) => (String::new(), address.to_string()),
            Self::Unix(path) => (format!("--unix-socket {} ", path.display()), "localhost".to_owned()),
        };
        let body = r#"{"messages":[{"role":"user","content":"Once upon a time"}]}"#;
        format!("curl {socket}{root}/v1/chat/completions -d '{body}'")
    }
}

/// A socket that was bound is a file; it goes with the server.
impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Unix(path) = self {
            // It may have been removed by somebody else.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a server that has ended may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn bind(address: SocketAddr, flag: &str) -> Result<(TcpListener, SocketAddr), CliError> {
    listen(address).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::AddrInUse => taken(address, flag),
            ErrorKind::PermissionDenied => {
                format!(
                    "{address} may not be used by this user; try {flag} 8000 or another port from 1024 on"
                )
            }
            _ => format!("cannot listen on {address}: {error}; give an address of this machine"),
        };
        CliError::new(Failure::Bind, anyhow!(message))
    })
}

/// Who has the address, and a port that is free.
fn taken(address: SocketAddr, flag: &str) -> String {
    let who = occupant::of(address).map(|who| format!(" ({who})")).unwrap_or_default();
    let ports = (1..=NEXT_PORTS).filter_map(|more| address.port().checked_add(more));
    let free = ports.into_iter().find(|port| std::net::TcpListener::bind((address.ip(), *port)).is_ok());
    format!("{address} is in use{who}. Try {flag} {}.", free.unwrap_or(0))
}

/// Binds a socket in the file system that only this user can connect to. One that nobody listens on is replaced.
fn bind_unix(path: &Path) -> Result<UnixListener, CliError> {
    let failed = |message: String| CliError::new(Failure::Bind, anyhow!(message));
    let shown = path.display();
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(failed(format!("--uds {shown} exists and is no socket; give another path")));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(failed(format!("--uds {shown} is in use; give another path")));
        }
        std::fs::remove_file(path)
            .map_err(|error| failed(format!("cannot replace the socket {shown}: {error}")))?;
    }
    let bound =
        UnixListener::bind(path).map_err(|error| failed(format!("cannot listen on {shown}: {error}")))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(format!("cannot keep others from {shown}: {error}")))?;
    Ok(bound)
}
