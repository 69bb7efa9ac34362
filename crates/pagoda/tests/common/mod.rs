//! The command, run to its end.

use std::process::{Command, Output};

pub(crate) fn pagoda(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagoda"));
    command.args(args).env_remove("PAGODA_MODEL").env_remove("PAGODA_LOG").env_remove("PAGODA_API_KEY");
    command.output().expect("the binary starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}
