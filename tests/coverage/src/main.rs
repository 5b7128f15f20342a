//! `coverage EXPORT TESTS COMMIT`: prints the page of what llvm-cov exported (JSON), and to stderr what asks for somebody. From the
//! directory of the repository. `make coverage` runs it.

use std::fs;
use std::process::ExitCode;

use coverage::{Export, Measured, Reasons};

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: coverage EXPORT TESTS COMMIT");
    let (export, tests, commit) = (next()?, next()?, next()?);
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let export: Export = serde_json::from_str(&read(&export)?).map_err(|e| format!("{export}: {e}"))?;
    let here = std::env::current_dir().map_err(|e| format!("the working directory: {e}"))?;
    let measured = Measured::of(&export, &here, |path| fs::read_to_string(here.join(path)).ok());
    let reasons = Reasons::parse(&read("tests/coverage/reasons")?)?;
    print!("{}", measured.page(&reasons, &tests, &commit));
    eprint!("{}", measured.table());
    eprint!("{}", measured.wanting(&reasons));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coverage: {error}");
            ExitCode::FAILURE
        }
    }
}
