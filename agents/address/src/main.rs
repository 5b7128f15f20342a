//! `ocf:systole:address`

fn main() -> std::process::ExitCode {
    systole_address::agent().run()
}
