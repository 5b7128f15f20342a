//! `ocf:systole:redis`

fn main() -> std::process::ExitCode {
    systole_redis::agent().run()
}
