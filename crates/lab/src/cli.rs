//! The command line: calls the library and prints. One function per verb that is longer than a line; the declarations
//! are in `args`.

mod args;

use std::process::{ExitCode, Stdio};

use clap::Parser as _;

use self::args::{CheckArgs, Cli, FreezeArgs, ImageVerb, LoadVerb, UpArgs, Verb};
use crate::check::CheckOptions;
use crate::database::Database;
use crate::error::{Context, Error, Result};
use crate::faults::Cut;
use crate::image::{self, Recipe};
use crate::journal::Journal;
use crate::lab::Lab;
use crate::load::LoadOptions;
use crate::sandbox::SandboxOptions;
use crate::{cluster, host, load, network, package, sandbox, supervisor, visitors};

/// Like `println!`, but a reader that went away (`| head`) is no reason to panic.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Parses the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::lab::IS_THE_PROGRAM.store(true, std::sync::atomic::Ordering::Relaxed);
    match dispatch(cli) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "systole-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<i32> {
    let name = cli.name.as_str();
    match cli.verb {
        Verb::Up(args) => up(name, args)?,
        Verb::Down { keep_disks } => {
            Lab::down_by_name(name, keep_disks)?;
            host::progress(&format!("lab {name} is down"));
        }
        Verb::Status => status(&Lab::open(name)?)?,
        Verb::List => list(),
        Verb::Exec { node, command } => {
            return pass_through(&mut Lab::open(name)?.node_named(&node)?.command(&command)?);
        }
        Verb::Client { command } => {
            let lab = Lab::open(name)?;
            let mut client = network::in_clients_namespace(lab.paths(), command[0].as_ref());
            return pass_through(client.args(&command[1..]));
        }
        Verb::PowerOff { nodes } => {
            let lab = Lab::open(name)?;
            nodes.iter().try_for_each(|node| lab.node_named(node)?.power_off())?;
        }
        Verb::PowerOn { nodes } => {
            let lab = Lab::open(name)?;
            nodes.iter().try_for_each(|node| lab.node_named(node)?.power_on())?;
        }
        Verb::Kill { node, pattern, signal } => {
            let count = Lab::open(name)?.node_named(&node)?.kill(&pattern, parse_signal(&signal)?)?;
            host::progress(&format!("{signal} to {count} processes"));
        }
        Verb::Freeze(args) => freeze(name, &args, true)?,
        Verb::Thaw(args) => freeze(name, &args, false)?,
        Verb::Cut { node, to, direction, port, clients } => {
            Lab::open(name)?.cut(&Cut { node, to, direction, port, clients })?;
        }
        Verb::Heal { node } => Lab::open(name)?.heal(node.as_deref())?,
        Verb::FenceDevice { what } => Lab::open(name)?.fence_device_works(what == "repair")?,
        Verb::Move { resource } => {
            let to = Lab::open(name)?.move_promoted(&resource)?;
            host::progress(&format!("{resource} is promoted on {to}"));
        }
        Verb::FillDisk { node, path, free } => Lab::open(name)?.node_named(&node)?.fill_disk(&path, !free)?,
        Verb::Collect { directory } => Lab::open(name)?.collect(&directory)?,
        Verb::Event { text } => Lab::open(name)?.event(&text)?,
        Verb::Logs { node, arguments } => {
            let lab = Lab::open(name)?;
            lab.spec().check_node(&node)?;
            let mut command = std::process::Command::new("journalctl");
            command.args(["--no-pager", "-o", "short-monotonic", "-D"]);
            return pass_through(command.arg(lab.paths().journal_dir(&node)).args(arguments));
        }
        Verb::Sandbox { image, packages, layers, binds, env, chdir, command } => {
            let layers = package::package_layers(&image, &packages, &layers)?;
            return sandbox::sandbox(&SandboxOptions { image, layers, binds, env, chdir }, &command);
        }
        Verb::LoadCrm { files } => {
            let lab = Lab::open(name)?;
            for file in files {
                let text = std::fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
                let done = lab.load_crm(&text)?;
                for line in done.stdout.lines().chain(done.stderr.lines()) {
                    host::progress(line);
                }
            }
        }
        Verb::Load(LoadVerb::Start(args)) => {
            say!("{}", Lab::open(name)?.start_load(&args.options())?.leave().display());
        }
        Verb::Load(LoadVerb::Stop { database }) => say!("{}", load::stop(Lab::open(name)?.paths(), database)?.journal.display()),
        Verb::Load(LoadVerb::Fill { megabytes, address, user, password_file }) => {
            let usual = LoadOptions::of(Database::MySql);
            let address = address.unwrap_or(usual.address);
            Lab::open(name)?.fill(&LoadOptions { address, user, password_file, ..LoadOptions::of(Database::MySql) }, megabytes)?;
        }
        Verb::LoadWorker { order } => load::worker(&order)?,
        Verb::VisitWorker { order } => visitors::worker(&order)?,
        Verb::Check(args) => return check(&Lab::open(name)?, args),
        Verb::Timeline { database } => {
            let lab = Lab::open(name)?;
            let journal = Journal::read(&load::started(lab.paths(), database)?.journal)?;
            say!("{}", lab.timeline(&journal)?.trim_end());
        }
        Verb::WaitIdle => Lab::open(name)?.wait_idle()?,
        Verb::Image(verb) => image_verb(verb)?,
        Verb::Supervise { lab } => supervisor::supervise(&lab)?,
    }
    Ok(0)
}

fn up(name: &str, args: UpArgs) -> Result<()> {
    clean_on_interrupt(name)?;
    Lab::up(args.options(name, true)).map(drop)
}

/// What the options leave open is as it was for the load.
fn check(lab: &Lab, args: CheckArgs) -> Result<i32> {
    let load::Started { journal, options } = load::stop(lab.paths(), args.database)?;
    let load = LoadOptions {
        probe_port: args.port.unwrap_or(options.probe_port),
        user: args.user.unwrap_or(options.user),
        password_file: args.password_file.or(options.password_file),
        ..LoadOptions::of(options.database)
    };
    let max_outage = args.max_outage.map(std::time::Duration::from_millis);
    let report = lab.check(&Journal::of_ended(&journal)?, &CheckOptions { max_outage, ..CheckOptions::of(&load)? })?;
    say!("{}", report.to_string().trim_end());
    Ok(i32::from(!report.kept()))
}

/// Ctrl-C while a lab comes up: what is there already is taken down again.
fn clean_on_interrupt(name: &str) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context(|| "listen for interrupts".to_owned())?;
    let paths = crate::state::LabPaths::new(name)?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            host::progress("interrupted: cleaning up");
            // The lock is this process's own, so the clean-up works below it.
            if let Err(error) = crate::cleanup::clean(&paths, false) {
                host::progress(&error.to_string());
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn parse_signal(name: &str) -> Result<nix::sys::signal::Signal> {
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    full.parse().map_err(|_| Error::Refused(format!("{name} is not a signal; for example KILL, TERM, STOP, CONT")))
}

fn freeze(name: &str, args: &FreezeArgs, frozen: bool) -> Result<()> {
    let node = Lab::open(name)?.node_named(&args.node)?;
    match &args.process {
        Some(process) if frozen => node.freeze(process).map(drop),
        Some(process) => node.thaw(process).map(drop),
        None => node.freeze_all(frozen),
    }
}

fn status(lab: &Lab) -> Result<()> {
    let view = lab.view();
    say!("lab {}: image {}, network namespace {}", lab.spec().name, lab.spec().image, lab.paths().netns());
    say!("{:<8}{:<8}{:<10}{:<8}{:<10}", "node", "power", "leader", "cable", "cluster");
    for node in lab.nodes() {
        let cluster = match &view {
            Ok(view) if view.unclean.contains(&node.name) => "unclean",
            Ok(view) if view.online.contains(&node.name) => "online",
            Ok(_) => "offline",
            Err(_) => "unknown",
        };
        let leader = node.leader().map_or_else(|_| "-".to_owned(), |pid| pid.to_string());
        let cable = if network::port_is_up(lab.paths(), &node.name) { "plugged" } else { "pulled" };
        say!("{:<8}{:<8}{:<10}{:<8}{:<10}", node.name, if node.is_on() { "on" } else { "off" }, leader, cable, cluster);
    }
    for node in lab.live_nodes() {
        if cluster::view(&node).is_ok() {
            say!("\n{}", node.exec(&["crm_mon", "-1Arf"])?.stdout);
            return Ok(());
        }
    }
    say!("\nno node's Pacemaker answers");
    Ok(())
}

fn list() {
    let labs = Lab::all();
    if labs.is_empty() {
        say!("no lab is up; start one with: systole-lab up");
        return;
    }
    say!("{:<20}{:<17}{:<7}power", "lab", "image", "nodes");
    for lab in labs {
        let on: Vec<String> = lab.nodes().into_iter().filter(|node| node.is_on()).map(|node| node.name).collect();
        let on = if on.is_empty() { "all off".to_owned() } else { format!("{} on", on.join(", ")) };
        say!("{:<20}{:<17}{:<7}{on}", lab.spec().name, lab.spec().image, lab.spec().nodes);
    }
}

fn image_verb(verb: ImageVerb) -> Result<()> {
    match verb {
        ImageVerb::Build { image, force } => say!("{}", Recipe::find(&image)?.build(force)?.display()),
        ImageVerb::List => {
            for (name, path, built) in image::list() {
                say!("{:<15}{:<11}{}", name, if built { "built" } else { "not built" }, path.display());
            }
        }
        ImageVerb::Path { image } => say!("{}", Recipe::find(&image)?.built()?.display()),
    }
    Ok(())
}

/// Runs with this program's standard input and output and hands on the exit code.
fn pass_through(command: &mut std::process::Command) -> Result<i32> {
    let status =
        command.stdin(Stdio::inherit()).status().map_err(|source| Error::Io { what: format!("run {}", host::show(command)), source })?;
    Ok(host::exit_code(status))
}
