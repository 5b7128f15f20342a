//! `systole-watch`: see [`pacemaker::watch`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(pacemaker::watch(&arguments))
}
