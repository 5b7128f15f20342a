//! The drills of the whole site, as its visitors see them. Nothing stands beside it: the stock agents' figures are in the other pages.

use std::fmt::Write as _;

use cluster_scenarios::figures::{Results, percentile, seconds};
use cluster_scenarios::keep_logs;
use cluster_scenarios::workshop::{self, Drill, Drills, Kind, Outcome, Verdict, Workshop};
use lab::{LabOptions, Result};

use crate::{Options, page};

pub(crate) fn run(options: &Options) -> Result<()> {
    let site = Workshop::up(LabOptions { name: options.lab.clone(), ..LabOptions::default() }, |step| println!("  {step}"))?;
    let versions = page::versions(&site.lab.node(1), "mariadb-server redis-server nginx php8.2-fpm wordpress")?;
    let mut drills = Drills::begin(&site)?;
    // The short ones again and again; the others once, because each takes its time and has no variety.
    let again = (1..options.runs).flat_map(|_| Drill::ALL).filter(|drill| drill.is_short());
    for drill in Drill::ALL.into_iter().chain(again).filter(|drill| options.wants(&drill.name())) {
        println!("  {}", drill.name());
        if let Err(error) = drills.run(drill) {
            // What was seen until then tells why.
            println!("logs: {}", keep_logs(&site.lab));
            let verdict = drills.end()?;
            println!("{}\n{}", site.lab.timeline_from(&verdict.journal, workshop::BETWEEN_ARTICLES_US)?, verdict.table());
            return Err(error);
        }
    }
    if std::env::var_os("SYSTOLE_KEEP_LOGS").is_some() {
        println!("logs: {}", keep_logs(&site.lab));
    }
    let verdict = drills.end()?;
    println!("{}", verdict.table());
    let timeline = site.lab.timeline_from(&verdict.journal, workshop::BETWEEN_ARTICLES_US)?;
    let results = [Results { agent: "the site".to_owned(), versions, ..Results::default() }];
    let mut page = page::begin("Benchmarks: the whole site", WORDS, &results);
    page.add(&summary(&verdict));
    page.add("\n## Each drill\n\nIn the order in which they were done. A failed request is one that was not answered as it should, in 10 s at most; those of visitors who were answered by nobody because a node was dead are among them. `twice`: the site sent an article once more when its connection broke after the server had taken it.");
    page.table(&Verdict::HEADS, &verdict.rows());
    page.add("\n## Past the site\n\nA writer and a prober for each node, straight to MariaDB and to Redis, during all drills: L nothing acknowledged is missing, W never two writers, C all nodes hold the same, E nothing that nobody wrote.\n");
    for (database, report) in &verdict.reports {
        page.add(&format!(
            "{database}:\n\n```\n{}\n```\n",
            report.to_string().lines().filter(|l| !l.starts_with(['T', ' '])).collect::<Vec<_>>().join("\n")
        ));
    }
    page.add(&format!(
        "\n## The timeline\n\nOf the articles; times without one of half a second and longer.\n\n```\n{}```",
        shortened(&timeline)
    ));
    page::write(&page, options, "benchmarks-workshop", &verdict.drills)
}

const WORDS: &str = "Written by `make workshop-drills` and not by hand. The site of [workshop.md](workshop.md) in the rehearsal cluster, three nodes on one machine. Visitors log in, \
    write 6 articles and read 3 a second through the two public addresses, and two of them look whether the site remembers their sessions. Articles come at fixed times, whether those before were answered or not, one in 167 ms: \
    no time without an article can be shorter than that. The raw numbers are in benchmarks-workshop.json.";

fn summary(verdict: &Verdict) -> String {
    let mut text = "\n## In short\n\n| | drills | no article for, p50 | max |\n|---|---|---|---|\n".to_owned();
    let mut row = |what: &str, wanted: &dyn Fn(&Outcome) -> bool| {
        let outages = verdict.outages(wanted);
        if !outages.is_empty() {
            let (median, longest) = (percentile(&outages, 0.5), percentile(&outages, 1.0));
            let _ = writeln!(text, "| {what} | {} | {} | {} |", outages.len(), seconds(median), seconds(longest));
        }
    };
    for drill in Drill::ALL.into_iter().filter(|drill| drill.is_short()) {
        row(&drill.name(), &|outcome| outcome.drill == drill.name());
    }
    row("standby and back, rolling update", &|o| {
        o.kind == Kind::Planned && Drill::ALL.iter().all(|drill| !drill.is_short() || drill.name() != o.drill)
    });
    row("power cut", &|o| o.kind == Kind::PowerCut);
    let (articles, lost) = verdict.drills.iter().fold((0, 0), |(all, lost), d| (all + d.tally.articles, lost + d.tally.lost));
    let _ = write!(text, "\nOf {articles} articles that visitors were told are published, {lost} are missing on some node at the end.");
    text
}

/// Without what only the cluster has to say.
fn shortened(timeline: &str) -> String {
    let told = timeline
        .lines()
        .filter(|line| line.contains("***") || line.contains("clients") || line.contains('|') || line.contains("Acknowledged"));
    told.map(|line| format!("{line}\n")).collect()
}
