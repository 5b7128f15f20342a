//! The site of docs/workshop.md in the rehearsal cluster: to be looked at, or as a story with faults, visitors and a verdict.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use cluster_scenarios::keep_logs;
use cluster_scenarios::workshop::{self, Drill, Drills, Workshop};
use lab::{Error, LabOptions, Result};

#[derive(Parser)]
#[command(about = "The site of docs/workshop.md in the rehearsal cluster")]
struct Options {
    /// What to do
    #[arg(value_enum)]
    what: What,
    /// Name of the lab
    #[arg(long, default_value = "workshop")]
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Bring it up and leave it running
    Up,
    /// Bring it up, let visitors come, and lose things
    Demo,
}

/// Until cron's next minute, or the one after it.
const NEXT_RUN: Duration = Duration::from_secs(150);

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.what {
        What::Up => up(&options),
        What::Demo => demo(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("workshop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lab(options: &Options, keep: bool) -> LabOptions {
    LabOptions { name: options.name.clone(), keep, build_image: true, ..LabOptions::default() }
}

fn up(options: &Options) -> Result<bool> {
    println!("Three empty servers become the site of docs/workshop.md, by the commands of that page. It takes about a minute.");
    let site = Workshop::up(lab(options, true), |step| println!("  {step}"))?;
    println!("{}", site.lab.quorate_node()?.exec(&["crm_mon", "-1", "--exclude=all", "--include=resources"])?.stdout);
    let name = &options.name;
    println!("The site is up: http://{}/ and http://{}/", workshop::PUBLIC[0], workshop::PUBLIC[1]);
    println!("They are addresses of the rehearsal's own network, and reached from there:");
    println!("    target/debug/systole-lab --name {name} client curl http://{}/", workshop::PUBLIC[0]);
    println!("A shell on a node, its failover, and the end of it all:");
    println!("    target/debug/systole-lab --name {name} exec lxc1 -- crm_mon -1");
    println!("    target/debug/systole-lab --name {name} power-off lxc1");
    println!("    target/debug/systole-lab --name {name} down");
    println!("WordPress: the account admin; its password is in /root/blog-admin.password on lxc1.");
    Ok(true)
}

fn demo(options: &Options) -> Result<bool> {
    chapter("Three empty servers become the site of docs/workshop.md, by the commands of that page. It takes one to five minutes.");
    let site = Workshop::up(lab(options, false), |step| println!("  {step}"))?;
    println!("{}", site.lab.quorate_node()?.exec(&["crm_mon", "-1", "--exclude=all", "--include=resources"])?.stdout);
    let told = story(&site);
    if !matches!(told, Ok(true)) {
        println!("The logs of all nodes are kept: {}", keep_logs(&site.lab));
    }
    told
}

/// Whether every promise was kept. How long anything took is shown, and judged by nobody.
fn story(site: &Workshop) -> Result<bool> {
    chapter(
        "Visitors log in, write articles and read them, through the two public addresses. Two writers more go past the site, to see whether two servers ever take writes.",
    );
    let mut drills = Drills::begin(site)?;
    println!("Waiting for cron's next minute.");
    let jobs = site.jobs_run("", NEXT_RUN)?;
    println!("The cron job of the site has run: {jobs}. It runs on that node, and on no other.");
    for (drill, words) in [
        (Drill::KILL_MYSQL, "The primary of MySQL is killed: kill -9, it has no time to say goodbye."),
        (Drill::KILL_REDIS, "The same to the primary of Redis."),
        (Drill::MovePrimary("mysql"), "Maintenance: the primary's role of MySQL moves, in order and under load."),
        (Drill::MovePrimary("redis"), "So does that of Redis."),
    ] {
        chapter(words);
        drills.run(drill)?;
        println!("All is as before: the site is written to, every server follows, every replica acknowledges.");
    }
    let primary = site.primary("mysql")?;
    chapter(&format!(
        "Power cut on {0}, the primary of MySQL: the others hear nothing from it, make sure that it is off (fencing), and go on without it. Then {0} gets power again.",
        primary.name
    ));
    let cut = Drill::ALL.into_iter().find(|drill| matches!(drill, Drill::PowerCut(node) if *node == primary.name));
    drills.run(cut.ok_or_else(|| Error::Refused(format!("{} is no node of the workshop", primary.name)))?)?;
    println!("All is as before.");
    chapter("The jobs go on as well. Waiting for cron's next minute.");
    println!("The cron job of the site has run: {}", site.jobs_run(&jobs, NEXT_RUN)?);
    chapter("The visitors go home. What they were told is held against what every node has.");
    let verdict = drills.end()?;
    let jobs = site.jobs_verdict().map_err(|error| error.to_string());
    let details = std::env::temp_dir().join(format!("systole-{}.txt", site.lab.spec().name));
    let reports: String = verdict.reports.iter().map(|(database, report)| format!("-- {database}, past the site\n{report}\n")).collect();
    let timeline = site.lab.timeline_from(&verdict.journal, workshop::BETWEEN_ARTICLES_US)?;
    let (Ok(told) | Err(told)) = &jobs;
    std::fs::write(&details, format!("{timeline}\n{}\n{told}\n\n{reports}", verdict.table()))
        .map_err(|e| Error::Refused(format!("{}: {e}", details.display())))?;
    let kept = verdict.kept() && jobs.is_ok();
    println!("\n{}", verdict.screen(&jobs));
    println!("{}", if kept { "Nothing that anybody was told was lost." } else { "A PROMISE WAS BROKEN: see above." });
    println!("Second by second, with what each line means: {}", details.display());
    Ok(kept)
}

fn chapter(text: &str) {
    println!("\n== {text}");
}
