//! The manual page, made from the declaration of the command line.

use clap::CommandFactory as _;

use crate::arguments::Arguments;

/// `systole(8)` as roff.
///
/// # Errors
/// None that a buffer in memory makes.
pub fn man_page() -> std::io::Result<String> {
    let program = Arguments::command().disable_help_subcommand(true);
    let mut out = Vec::new();
    let page = clap_mangen::Man::new(program.clone()).section("8").date("").manual("OCF resource agents");
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    out.extend_from_slice(b".SH COMMANDS\n");
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        match verb.get_subcommands().next() {
            None => render(verb, verb.get_name(), &mut out)?,
            Some(_) => {
                for part in verb.get_subcommands() {
                    render(part, &format!("{} {}", verb.get_name(), part.get_name()), &mut out)?;
                }
            }
        }
    }
    page.render_options_section(&mut out)?;
    out.extend_from_slice(b".SH EXIT STATUS\n");
    out.extend_from_slice(program.get_after_help().map(ToString::to_string).unwrap_or_default().as_bytes());
    out.extend_from_slice(
        b"\n.SH SEE ALSO\n.BR ocf_systole_mysql (7),\n.BR ocf_systole_redis (7),\n.BR systole\\-cron (8),\n.BR crm_mon (8)\n",
    );
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The part of a command that has no commands of its own.
fn render(verb: &clap::Command, name: &str, out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(format!(".SS {name}\n").as_bytes());
    let named = verb.clone().bin_name(format!("systole {name}"));
    let of_verb = clap_mangen::Man::new(named.disable_help_flag(true));
    let mut part = Vec::new();
    of_verb.render_description_section(&mut part)?;
    of_verb.render_options_section(&mut part)?;
    // Its sections are paragraphs of ours.
    let part = String::from_utf8_lossy(&part).replace(".SH DESCRIPTION\n", "").replace(".SH OPTIONS\n", "");
    out.extend_from_slice(part.as_bytes());
    Ok(())
}
