//! See [`systole_cron_singleton::command`].

fn main() -> std::process::ExitCode {
    systole_cron_singleton::command::main()
}
