//! `systole drill`: practises a failover, and writes markers through the server meanwhile. Each node has a writer that writes whenever its own
//! server takes writes, as a client does that follows the primary; what they tell is read here as it comes, by one clock. What is done is what
//! `switchover` does, or a SIGKILL to the primary's server. What a drill that was killed leaves behind is removed by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use promotable::operator::Marker;
use serde::Deserialize;

use crate::arguments::{Drill, DrillHow, Format};
use crate::ask::CHANGE_LIMIT;
use crate::drills::{Log, Plan, Practised, Seen, Verdict, chosen, plan, whole};
use crate::moves;
use crate::notices::Level;
use crate::switchover::{Ending, Interruption, look, moved};
use crate::{ask, complain, confirm, print, print_json, print_pretty, remote};

/// How often is looked.
const STEP: Duration = Duration::from_millis(200);
/// What a node may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// So many markers have to be acknowledged before anything is done.
const FIRST: usize = 20;
/// How long they are waited for.
const BEGINNING: Duration = Duration::from_secs(15);
/// How long markers are written before and after, so that what is usual is seen.
const AROUND: Duration = Duration::from_secs(1);
/// How long replicas have to get the last markers.
const CATCHING_UP: Duration = Duration::from_secs(20);
/// A writer ends by itself so much later than it is needed at most.
const BEYOND: Duration = Duration::from_secs(60);

/// Practises it.
pub(crate) fn drill(command: Drill) -> Ending {
    let (practised, how) = match command {
        Drill::Move { to, how } => (Practised::Move(to), how),
        Drill::Kill { how } => (Practised::Kill, how),
    };
    let plan = match planned(how.name.as_deref(), &practised) {
        Ok(plan) => plan,
        Err(why) => return refused(&why),
    };
    if how.dry_run {
        print(&plan.announcement());
        return Ending::Done;
    }
    plan.announcement().lines().for_each(complain);
    match confirmed(&how, &plan) {
        Ok(true) => {}
        Ok(false) => return refused(&format!("{} was not typed", plan.name)),
        Err(why) => return refused(&why),
    }
    // Somebody took their time to type it: what was shown has to be what there is.
    match planned(Some(&plan.name), &plan.practised) {
        Ok(now) if now == plan => carry_out(&plan, &how),
        Ok(_) => refused("the cluster has changed since it was shown: say it again"),
        Err(why) => refused(&why),
    }
}

fn planned(name: Option<&str>, practised: &Practised) -> Result<Plan, String> {
    let name = chosen(&ask::picture()?, name)?;
    look(&name, |picture, database| plan(picture, database, practised))?
}

fn refused(why: &str) -> Ending {
    complain(&format!("refused, and nothing is changed: {why}"));
    Ending::Refused
}

fn confirmed(how: &DrillHow, plan: &Plan) -> Result<bool, String> {
    let is_it = |name: &str| name == plan.name || name == plan.clone;
    match &how.yes {
        Some(name) if is_it(name) => Ok(true),
        Some(name) => Err(format!("--yes names {name}, and the database is {}", plan.name)),
        None => {
            let word = if plan.practised == Practised::Kill { "kill" } else { "move" };
            confirm::typed(
                "type the name of the database on which it is practised:",
                &plan.name,
                &format!("systole drill {word} {0} --yes {0}", plan.name),
            )
        }
    }
}

/// The drill's name in the names of its markers: when it began, and which process it is.
fn name_of_drill() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", since.as_secs(), std::process::id())
}

/// Asks one node.
fn ask_node(node: &str, words: &[&str]) -> Result<String, String> {
    let argv: Vec<&str> = ["systole", "here"].iter().chain(words).copied().collect();
    let answer = remote::ask(&[node.to_owned()], &argv, ANSWER).into_values().next();
    answer.unwrap_or_else(|| Err("was not asked".into())).map_err(|why| format!("{node} {why}"))
}

fn carry_out(plan: &Plan, how: &DrillHow) -> Ending {
    if let Err(why) = ask_node(&plan.from, &["drill-prepare", &plan.name]) {
        return refused(&why);
    }
    let drill = Practice {
        plan,
        id: name_of_drill(),
        wait: Duration::from_secs(how.wait),
        begin: Instant::now(),
        log: Mutex::new(Log::default()),
        over: AtomicBool::new(false),
        interruption: Interruption::watched(),
    };
    let found = drill.run();
    let log = drill.log.lock().map(|log| log.clone()).unwrap_or_default();
    match found {
        Err(why) => {
            drill.forget(&plan.from, &log);
            refused(&why)
        }
        Ok(outcome) => {
            let verdict = Verdict::of(plan, &drill.seen(log.clone(), &outcome));
            if let Some(node) = &outcome.promoted {
                drill.forget(node, &log);
            }
            drill.forget_failure();
            say(&verdict, how.format)
        }
    }
}

fn say(verdict: &Verdict, format: Format) -> Ending {
    match format {
        Format::Pretty => print_pretty(&verdict.pretty()),
        Format::Tsv => print(&verdict.tsv()),
        Format::Json => print_json(&verdict.json()),
    }
    match verdict.level() {
        Level::Good => Ending::Done,
        Level::Broken => Ending::HalfWay,
        Level::Degraded | Level::Unknown => Ending::TimedOut,
    }
}

/// What came of the fault.
struct Outcome {
    fault: Duration,
    promoted: Option<String>,
    whole: Result<Duration, String>,
}

/// A drill that is under way.
struct Practice<'a> {
    plan: &'a Plan,
    id: String,
    wait: Duration,
    begin: Instant,
    log: Mutex<Log>,
    over: AtomicBool,
    interruption: Interruption,
}

impl Practice<'_> {
    /// Writes markers, does what is practised, and waits for its end.
    ///
    /// # Errors
    /// Why nothing was done.
    fn run(&self) -> Result<Outcome, String> {
        let limit = self.wait * 2 + BEYOND;
        let argv = |node: &str| {
            let (confirmations, seconds) = (self.plan.confirmations.to_string(), limit.as_secs().to_string());
            let words = ["systole", "here", "drill-write", &self.plan.name, &self.id, node, &confirmations, &seconds];
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let goes_on = || !self.over.load(Ordering::Relaxed);
        let hear = |node: &str, line: &str| {
            if let Ok(mut log) = self.log.lock() {
                log.hear(self.begin.elapsed(), node, line);
            }
        };
        std::thread::scope(|scope| {
            let writers = scope.spawn(|| remote::listen(&self.plan.nodes, &argv, limit, &goes_on, &hear));
            let found = self.practise();
            self.over.store(true, Ordering::Relaxed);
            let ended = writers.join().unwrap_or_default();
            found.map_err(|why| {
                let said: Vec<String> =
                    ended.iter().filter(|(_, said)| *said != remote::NOTHING_SAID).map(|(n, s)| format!("{n}: {s}")).collect();
                if said.is_empty() { why } else { format!("{why} ({})", said.join("; ")) }
            })
        })
    }

    fn count(&self, node: &str, since: Duration) -> usize {
        self.log.lock().map(|log| log.count(node, since)).unwrap_or_default()
    }

    /// Waits for this many markers of a node. Returns whether they came.
    fn acknowledges(&self, node: &str, since: Duration, count: usize, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while self.count(node, since) < count {
            if Instant::now() >= until || self.interruption.is_there() {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }

    fn practise(&self) -> Result<Outcome, String> {
        let plan = self.plan;
        if !self.acknowledges(&plan.from, Duration::ZERO, FIRST, BEGINNING) {
            let refusal = self.log.lock().ok().and_then(|log| log.refusals.get(&plan.from).cloned());
            let why = refusal.unwrap_or_else(|| "its writer says nothing".into());
            return Err(match self.interruption.is_there() {
                true => "interrupted".into(),
                false => format!("{} acknowledged too few markers in {} s: {why}", plan.from, BEGINNING.as_secs()),
            });
        }
        std::thread::sleep(AROUND);
        let fault = self.begin.elapsed();
        self.do_it(fault)?;
        Ok(self.wait_for_the_end(fault))
    }

    /// Does what is practised.
    fn do_it(&self, fault: Duration) -> Result<(), String> {
        let plan = self.plan;
        let (done, why) = match &plan.practised {
            Practised::Kill => match ask_node(&plan.from, &["drill-kill", &plan.name]) {
                Ok(_) => (true, String::new()),
                Err(why) => (false, why),
            },
            Practised::Move(to) => {
                let to = to.clone().unwrap_or_default();
                let plan = moves::Plan { clone: plan.clone.clone(), from: plan.from.clone(), to, epoch: plan.epoch, notes: Vec::new() };
                let (ending, said) = moved(&self.plan.name, &plan, self.wait, &self.interruption);
                (ending == Ending::Done, said)
            }
        };
        complain(if why.is_empty() { "killed" } else { &why });
        // Who did not answer may have done it all the same: whether the server still writes tells.
        let since = self.begin.elapsed().max(fault);
        if done || !self.acknowledges(&plan.from, since, FIRST, STEP * 20) || self.moved_on() { Ok(()) } else { Err(why) }
    }

    /// Whether somebody was promoted since.
    fn moved_on(&self) -> bool {
        let epoch = look(&self.plan.name, |_, database| database.recorded().map(|record| record.epoch));
        !matches!(epoch, Ok(Some(epoch)) if epoch == self.plan.epoch)
    }

    /// Waits until the cluster is as before, and the new primary has acknowledged markers.
    fn wait_for_the_end(&self, fault: Duration) -> Outcome {
        let until = self.begin + fault + self.wait;
        loop {
            let seen = look(&self.plan.name, |picture, database| {
                let promoted = database.promoted();
                let promoted = if let [member] = promoted.as_slice() { Some(member.node.clone()) } else { None };
                (whole(picture, database, self.plan), promoted)
            });
            let after = self.begin.elapsed().saturating_sub(fault);
            let (found, promoted) = seen.unwrap_or_else(|why| (Err(why), None));
            match found {
                Ok(node) if self.count(&node, fault) > 0 => {
                    std::thread::sleep(AROUND);
                    return Outcome { fault, promoted: Some(node), whole: Ok(after) };
                }
                Err(_) | Ok(_) if Instant::now() < until && !self.interruption.is_there() => std::thread::sleep(STEP),
                found => {
                    let interrupted = if self.interruption.is_there() { "interrupted: " } else { "" };
                    let why = found.err().unwrap_or_else(|| "the new primary acknowledges no marker".into());
                    return Outcome { fault, promoted, whole: Err(format!("{interrupted}{why}")) };
                }
            }
        }
    }

    /// The words for a node that is asked for markers.
    fn words(&self, question: &str, log: &Log) -> Vec<String> {
        let mut words = vec![question.to_owned(), self.plan.name.clone(), self.id.clone()];
        // An attempt of which nothing was heard may have been written, too.
        words.extend(log.highest().iter().map(|(node, number)| format!("{node}={}", number + 1)));
        words
    }

    /// Asks the servers what they hold. Replicas have some time to get it.
    fn seen(&self, log: Log, outcome: &Outcome) -> Seen {
        let words = self.words("drill-held", &log);
        let argv: Vec<&str> = ["systole", "here"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let until = Instant::now() + CATCHING_UP;
        let mut held: BTreeMap<String, Result<BTreeSet<Marker>, String>> = BTreeMap::new();
        loop {
            let missing = |node: &&String| !matches!(held.get(*node), Some(Ok(held)) if log.lacking(held).is_empty());
            let nodes: Vec<String> = self.plan.nodes.iter().filter(missing).cloned().collect();
            if nodes.is_empty() || (!held.is_empty() && (Instant::now() >= until || self.interruption.is_there())) {
                break;
            }
            if !held.is_empty() {
                std::thread::sleep(STEP);
            }
            held.extend(remote::ask(&nodes, &argv, ANSWER).into_iter().map(|(node, answer)| (node, answer.and_then(|text| read(&text)))));
        }
        Seen { log, fault: outcome.fault, promoted: outcome.promoted.clone(), held, whole: outcome.whole.clone() }
    }

    /// Removes the markers. What is left expires, or is removed by the next drill.
    fn forget(&self, node: &str, log: &Log) {
        let words = self.words("drill-forget", log);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(why) = ask_node(node, &words) {
            complain(&format!("the markers are not removed: {why}; the next drill does it"));
        }
    }

    /// Has Pacemaker forget the failure of the server that was killed here. Before the drill there was none.
    fn forget_failure(&self) {
        let Plan { name, clone, from, .. } = self.plan;
        if self.plan.practised != Practised::Kill {
            return;
        }
        let fails = look(name, |_, database| database.member(from).map(|member| member.failures > 0));
        let cleanup = ["--cleanup", "--resource", clone, "--node", from];
        if matches!(fails, Ok(Ok(false))) {
            return;
        }
        if let Err(why) = ask::tool_within("crm_resource", &cleanup, CHANGE_LIMIT) {
            complain(&format!("the fail count of {from} is left ({why}); clear it with: crm_resource {}", cleanup.join(" ")));
        }
    }
}

#[derive(Deserialize)]
struct Held {
    held: BTreeSet<Marker>,
}

fn read(text: &str) -> Result<BTreeSet<Marker>, String> {
    let held: Held =
        serde_json::from_str(text).map_err(|e| format!("answers something else (is systole of the same version there?): {e}"))?;
    Ok(held.held)
}
