//! `cron-run`: the SHELL of the jobs.

fn main() -> std::process::ExitCode {
    systole_cron_singleton::wrapper::main()
}
