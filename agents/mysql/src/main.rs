//! `ocf:systole:mysql`

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
