//! `ocf:systole:cron-singleton`

fn main() -> std::process::ExitCode {
    systole_cron_singleton::agent().run()
}
