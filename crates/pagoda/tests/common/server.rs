//! The command as a server, and how it fails.

use super::common::{pagoda, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Runs a command that has to fail with `code`, and returns the last line of stderr.
pub(crate) fn failure(args: &[&str], code: i32) -> String {
    let output = pagoda(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

/// Sends one request to a listener and returns the whole response.
pub(crate) fn call_at(address: &str, method: &str, path: &str, lines: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n{body}")
        .expect("the request can be sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the response can be read");
    response
}

/// A server on a free port, ended when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_with(more, Stdio::null())
    }

    /// The same with what it says going to `stderr`.
    pub(crate) fn start_with(more: &[&str], stderr: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pagoda"))
            .args(["serve", "--port", "0", "--max-num-seqs", "8"])
            .args(more)
            .env_remove("PAGODA_API_KEY")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it listens");
        let address =
            line.trim().strip_prefix("listening on http://").and_then(|url| url.strip_suffix("/v1"));
        Self { address: address.unwrap_or_else(|| panic!("unexpected line {line:?}")).to_owned(), child }
    }

    /// Sends one request and returns the whole response.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> String {
        self.call_with(method, path, "", body)
    }

    /// The same with further header lines.
    pub(crate) fn call_with(&self, method: &str, path: &str, lines: &str, body: &str) -> String {
        call_at(&self.address, method, path, lines, body)
    }

    pub(crate) fn wait_until_ready(&self) {
        while !self.call("GET", "/health", "").starts_with("HTTP/1.1 200") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill exists").success());
    }

    /// Asks the server to end, as a service manager does, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().expect("the server ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
