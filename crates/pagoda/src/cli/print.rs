//! Printing that does not panic where nobody reads, or a disk is full.
//!
//! The macros take the place of those of the standard library in all modules that come after this one.

use super::log_lines;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// Prints a result. Where that fails the command has failed, quietly if its reader has had enough.
pub(crate) fn result(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        if error.kind() != ErrorKind::BrokenPipe {
            notice(format_args!("error: cannot write to stdout: {error}\n"));
        }
        exit(1);
    }
}

/// Prints what is good to know. A command does its work whether or not somebody reads that.
pub(crate) fn notice(text: Arguments<'_>) {
    let text = text.to_string();
    if !log_lines::notice(&text) {
        // There is no other place to say that it cannot be said.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Prints where a server is to be found, on stdout, where scripts look for it.
pub(crate) fn place(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    // The server serves all the same.
    let _ = out.write_fmt(text).and_then(|()| out.flush());
}

macro_rules! println {
    () => { $crate::cli::print::result(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::print::result(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! print {
    ($($text:tt)*) => { $crate::cli::print::result(format_args!($($text)*)) };
}

macro_rules! eprintln {
    () => { $crate::cli::print::notice(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::print::notice(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::print::notice(format_args!($($text)*)) };
}
