//! `ocf:systole:mysql` as tests kill it: it ends at the step whose name stands in the file systole-fault-point in HA_RSCTMP.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    systole_mysql::at_fault_points(end_where_a_test_wants_it);
    systole_mysql::agent().run()
}

fn end_where_a_test_wants_it(step: &str) {
    // Pacemaker does not set it.
    let directory = std::env::var_os("HA_RSCTMP").unwrap_or_else(|| "/run/resource-agents".into());
    let file = Path::new(&directory).join("systole-fault-point");
    if std::fs::read_to_string(&file).is_ok_and(|wanted| wanted.trim() == step) {
        // Once: the next run gets past it.
        let _ = std::fs::remove_file(&file);
        std::process::abort();
    }
}
