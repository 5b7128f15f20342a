//! `systole-lab`: the command line of the lab. Everything is in the library.

fn main() -> std::process::ExitCode {
    lab::cli::main()
}
