//! See [`systole_command`].

fn main() -> std::process::ExitCode {
    systole_command::main()
}
