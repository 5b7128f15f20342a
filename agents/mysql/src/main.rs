//! `ocf:systole:mysql`

fn main() -> std::process::ExitCode {
    systole_mysql::agent().run()
}
