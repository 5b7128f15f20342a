//! The manual page of `systole-cron`, made from the declaration of its command line.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, CommandFactory as _};
use ocf::roff;

/// `systole-cron(8)` as roff.
pub fn man_page() -> String {
    let program = crate::command::Arguments::command();
    let about = program.get_about().map(ToString::to_string).unwrap_or_default();
    let name = roff(program.get_name());
    let mut out = format!(
        ".TH SYSTOLE\\-CRON 8 \"\" \"systole {}\" \"OCF resource agents\"\n.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        roff(&about)
    );
    for (nth, verb) in program.get_subcommands().enumerate() {
        let usage = verb.clone().bin_name(format!("{} {}", program.get_name(), verb.get_name())).render_usage().to_string();
        let _ = writeln!(out, "{}{}", if nth == 0 { "" } else { ".br\n" }, roff(usage.trim_start_matches("Usage: ")));
    }
    out.push_str(".SH COMMANDS\n");
    for verb in program.get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, ".SS {}\n{}.", roff(verb.get_name()), roff(&about));
        for argument in verb.get_arguments() {
            let _ = writeln!(out, ".TP\n.B {}\n{}", roff(&shown(argument)), roff(&meaning(argument)));
        }
    }
    let _ = writeln!(out, ".SH SEE ALSO\n.BR ocf_systole_cron\\-singleton (7)");
    out
}

/// An argument as it is typed: `--last LAST`, `RESOURCE`.
fn shown(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().join(" ");
    match argument.get_long() {
        Some(long) if matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) => format!("--{long} {values}"),
        Some(long) => format!("--{long}"),
        None => values,
    }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    if takes_value && !defaults.is_empty() { format!("{help} (default {}).", defaults.join(" ")) } else { format!("{help}.") }
}
