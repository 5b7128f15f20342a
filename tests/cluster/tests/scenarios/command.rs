//! `systole`, the operator's command, in a cluster with MariaDB and Redis: docs/command.md. What it says of recorded clusters is tested where
//! it is made (crates/command/tests); here it asks, moves, and is interrupted.

use std::time::Duration;

use cluster_scenarios::workshop::let_root_in;
use cluster_scenarios::{MARIADB, REDIS, Setup, Site, expect, scenario, snippet};
use lab::{Node, Result};

const LATE: Duration = Duration::from_secs(60);

/// What it says, both streams, and its exit code in the last line.
fn systole(node: &Node, line: &str) -> Result<String> {
    Ok(node.sh(&format!("systole {line} 2>&1; echo \"ended with $?\""))?.stdout)
}

/// The same, which has to end with this.
fn ends(node: &Node, line: &str, code: u8) -> Result<String> {
    let said = systole(node, line)?;
    println!("{}: systole {line}\n{said}", node.name);
    expect(said.trim_end().ends_with(&format!("ended with {code}")), &format!("systole {line} ends with {code}: {said}"))?;
    Ok(said)
}

/// Redis in the cluster of MariaDB.
fn put_redis_beside(site: &Site) -> Result<()> {
    let configuration = snippet("server/redis-site.conf")?.replace("requirepass PASSWORD\nmasterauth PASSWORD\n", "protected-mode no\n");
    for node in site.lab.nodes() {
        node.write("/etc/redis/site.conf", &configuration)?;
        node.sh("chown redis:redis /etc/redis/site.conf /var/lib/redis")?;
    }
    site.lab.load_crm(&snippet("redis.crm")?.replace(" durability=async \\", " open_network=yes durability=async \\")).map(drop)
}

fn all_is_good(site: &Site, node: &Node) -> Result<()> {
    site.lab.wait_for("all to be in order", LATE, || systole(node, "status").is_ok_and(|said| said.contains("ended with 0")))
}

fn no_constraint_is_left(node: &Node) -> Result<()> {
    let constraints = node.sh("cibadmin --query --scope constraints")?.stdout;
    expect(!constraints.contains("id=\"cli-"), &format!("no constraint is left: {constraints}"))
}

/// A move to where `--dry-run` says, and to a node that is named.
fn move_it(site: &Site, node: &Node, name: &str) -> Result<()> {
    let promoted = || site.lab.promoted(name).unwrap_or_default();
    let from = promoted();
    let lost = ends(node, &format!("why {name} --if-lost {from}"), 0)?;
    expect(lost.contains("would be promoted"), "somebody would be promoted")?;
    let planned = ends(node, &format!("switchover {name} --dry-run"), 0)?;
    expect(promoted() == from, "a dry run moves nothing")?;
    ends(node, &format!("switchover {name}"), 0)?;
    let to = promoted();
    expect(to != from && planned.contains(&format!("from {from} to {to}:")), &format!("{name} is moved as was said, and not to {to}"))?;
    no_constraint_is_left(node)?;
    all_is_good(site, node)?;
    ends(node, &format!("switchover {name} --to {from}"), 0)?;
    expect(promoted() == from, "it is moved back")?;
    ends(node, &format!("switchover {name} --to {from}"), 0)?;
    ends(node, &format!("switchover {name} --to lxc9"), 1)?;
    no_constraint_is_left(node)?;
    all_is_good(site, node)
}

/// Whoever interrupts a move leaves no constraint, and whoever kills it leaves one that can be taken back, and ends by itself.
fn interrupt_it(site: &Site, node: &Node) -> Result<()> {
    for moment in ["0.05", "0.15", "0.4"] {
        node.sh(&format!("timeout -s INT {moment} systole switchover redis || true"))?;
        no_constraint_is_left(node)?;
        all_is_good(site, node)?;
    }
    let set = "for i in $(seq 100); do cibadmin --query --scope constraints | grep -q 'id=\"cli-prefer' && break; sleep 0.02; done";
    let killed = format!("systole switchover redis & pid=$!; {set}; kill -KILL $pid; wait $pid; true");
    node.sh(&killed)?;
    site.lab.wait_idle()?;
    let constraints = node.sh("cibadmin --query --scope constraints")?.stdout;
    if constraints.contains("id=\"cli-") {
        expect(constraints.contains("date_expression"), "what is left ends by itself")?;
        ends(node, "switchover redis", 1)?;
        expect(systole(node, "status redis")?.contains("is left (it ends at "), "the status names what is left")?;
    }
    ends(node, "abort redis", 0)?;
    no_constraint_is_left(node)?;
    all_is_good(site, node)
}

#[test]
fn it_says_how_things_are_and_moves_the_primaries() {
    scenario("command", Setup::of(MARIADB), |site| {
        let node = site.lab.quorate_node()?;
        put_redis_beside(site)?;
        all_is_good(site, &node)?;
        println!("{}", node.sh("for i in 1 2 3 4 5; do s=$(date +%s%N); systole status > /dev/null; e=$(date +%s%N); echo status $(((e - s) / 1000000)) ms; done")?.stdout);
        for name in ["mysql", "redis"] {
            expect(ends(&node, &format!("check {name}"), 0)?.starts_with("OK "), "it is good")?;
            move_it(site, &node, name)?;
        }
        interrupt_it(site, &node)?;
        // A daemon that stands still is not waited for: what it knows is missing, and the rest is said.
        node.sh("pkill -STOP -x pacemaker-attrd")?;
        let said = systole(&node, "status");
        node.sh("pkill -CONT -x pacemaker-attrd")?;
        let said = said?;
        let missing = said.contains("ended with 1") && said.contains("positions and acknowledgements are not known");
        expect(missing && said.contains("mysql-clone: epoch"), &format!("the attributes are missing, and nothing else is: {said}"))?;
        // What was foretold comes true.
        let dead = site.primary()?;
        let foretold = ends(&node, &format!("why mysql --if-lost {}", dead.name), 0)?;
        site.kill_primary()?;
        let next = site.wait_moved(&dead, LATE)?;
        let line = foretold.lines().find(|line| line.contains("would be promoted")).unwrap_or_default();
        expect(line.contains(&next.name), &format!("{} was foretold: {line}", next.name))?;
        all_is_good(site, &node)
    });
}

fn promoted(site: &Site, name: &str) -> String {
    site.lab.promoted(name).unwrap_or_default()
}

fn named(site: &Site, name: &str) -> Result<Node> {
    let found = site.lab.nodes().into_iter().find(|node| node.name == name);
    expect(found.is_some(), &format!("there is a node {name:?}"))?;
    Ok(found.unwrap())
}

fn kill_redis_of(site: &Site, node: &str) -> Result<()> {
    named(site, node)?.sh("pkill -KILL -x redis-server").map(drop)
}

/// No failover by itself while it is paused, and one as soon as that is over, which it is by itself.
fn pause_it(site: &Site, node: &Node) -> Result<()> {
    ends(node, "pause redis --reason 'the switch is replaced' --for 1s", 64)?;
    ends(node, "pause redis --reason 'the switch is replaced' --for 10m", 0)?;
    ends(node, "resume redis", 0)?;
    ends(node, "resume redis", 0)?;
    all_is_good(site, node)?;
    ends(node, "pause redis --reason 'the switch is replaced' --for 60s", 0)?;
    let said = ends(node, "check redis", 1)?;
    expect(said.contains("(the switch is replaced): no failover by itself"), "a monitoring system is told why")?;
    ends(node, "switchover redis", 1)?;
    let (from, begin) = (promoted(site, "redis"), std::time::Instant::now());
    kill_redis_of(site, &from)?;
    std::thread::sleep(Duration::from_secs(15));
    let other = promoted(site, "redis");
    expect(other.is_empty() || other == from, &format!("nobody else is promoted in a pause, and not {other}"))?;
    let said = ends(node, "check redis", 2)?;
    expect(said.contains("systole resume redis"), "a monitoring system is told that nobody can write, and what is to be done first")?;
    site.lab.wait_for("a failover after the pause", LATE * 2, || ![String::new(), from.clone()].contains(&promoted(site, "redis")))?;
    println!("the failover came {:.0} s after a pause of 60 s had begun", begin.elapsed().as_secs_f64());
    node.sh("crm_resource --cleanup --resource redis-clone")?;
    all_is_good(site, node)
}

/// A record that names nobody who is there, with an epoch that somebody mistyped.
fn decide_it(site: &Site, node: &Node) -> Result<()> {
    ends(node, &format!("decide redis {}", node.name), 1)?;
    node.sh("crm_attribute --type crm_config --set-name systole --name systole-redis-primary --update 'epoch=9000 node=lxc9'")?;
    kill_redis_of(site, &promoted(site, "redis"))?;
    site.lab.wait_for("nobody to be promoted", LATE, || promoted(site, "redis").is_empty())?;
    let shown = || systole(node, &format!("decide redis {} --dry-run", node.name)).unwrap_or_default();
    site.lab.wait_for("the servers to say what they hold", LATE, || shown().contains("ended with 0"))?;
    println!("{}", shown());
    let asked = ends(node, &format!("decide redis {} < /dev/null", node.name), 1)?;
    expect(asked.contains("--yes-give-up") && promoted(site, "redis").is_empty(), "nobody was there to confirm it")?;
    ends(node, &format!("decide redis {0} --yes-give-up lxc9", node.name), 1)?;
    ends(node, &format!("decide redis {0} --yes-give-up {0}", node.name), 0)?;
    expect(promoted(site, "redis") == node.name, "who was named is promoted")?;
    let record = node.sh("crm_attribute --type crm_config --set-name systole --name systole-redis-primary --query --quiet")?.stdout;
    expect(record.starts_with("epoch=1 "), &format!("the epoch that was mistyped is gone: {record}"))?;
    node.sh("crm_resource --cleanup --resource redis-clone")?;
    all_is_good(site, node)
}

/// What somebody wrote on a replica is shown on another node, without the password in it; then replicas are made anew.
fn make_it_anew(site: &Site) -> Result<()> {
    let (primary, replicas) = (site.primary()?, site.replicas()?);
    let (diverged, other) = (&replicas[0], &replicas[1]);
    site.sql(&primary, "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY)")?;
    site.lab.wait_for("the table", LATE, || site.sql(diverged, "SELECT COUNT(*) FROM shop.orders").is_ok())?;
    ends(&primary, "diverged mysql", 0)?;
    site.sql(diverged, "INSERT INTO shop.orders VALUES (4711); CREATE USER spy@localhost IDENTIFIED BY 'hunter2'")?;
    site.wait_said(diverged, "set rejoin=clone", LATE)?;
    let shown = ends(other, "diverged mysql", 1)?;
    expect(shown.contains("INSERT INTO `shop`.`orders`") && shown.contains("@1=4711"), "what was written is shown")?;
    expect(shown.contains("CREATE USER") && !shown.contains("hunter2"), "no password is shown")?;
    expect(shown.contains(&format!("{}: holds nothing that", other.name)), "the other one has nothing of its own")?;
    // The agent has said it in its log; the cluster shows it when its monitor has ended, and not while it is started anew.
    site.lab.wait_for("the cluster shows it", LATE, || {
        other.sh("systole status mysql || true").is_ok_and(|shown| shown.stdout.contains("it does not follow"))
    })?;
    let refused = ends(other, &format!("reclone mysql --yes-replace {}", diverged.name), 1)?;
    expect(refused.contains("rejoin=clone is not set"), "it is said what is missing")?;
    other.sh("crm_resource --resource mysql --set-parameter rejoin --parameter-value clone")?;
    all_is_good_after_copies(site, other)?;
    ends(other, &format!("reclone mysql {0} --yes-replace {0}", primary.name), 1)?;
    let done = ends(&primary, &format!("reclone mysql {0} --yes-replace {0} --wait 300", other.name), 0)?;
    expect(done.contains("is a replica in order again"), "it says that it is done")?;
    no_constraint_is_left(other)?;
    all_is_good_after_copies(site, other)
}

/// A replica that was copied counts its restart as a failure.
fn all_is_good_after_copies(site: &Site, node: &Node) -> Result<()> {
    site.lab.wait_for("all to be in order after a copy", LATE * 2, || {
        let _ = node.sh("crm_resource --cleanup --resource mysql-clone");
        systole(node, "status mysql").is_ok_and(|said| said.contains("ended with 0"))
    })
}

/// A transaction that has written and is not committed refuses a move, where that is wanted, and is shown where not.
fn limit_it(site: &Site) -> Result<()> {
    let (primary, replicas) = (site.primary()?, site.replicas()?);
    site.sql_in_background(&primary, "BEGIN; INSERT INTO shop.orders VALUES (1); SELECT SLEEP(30); COMMIT")?;
    std::thread::sleep(Duration::from_secs(4));
    let refused = ends(&replicas[0], "switchover mysql --max-transaction 1", 1)?;
    expect(refused.contains("has changed 1 rows") && refused.contains("(--max-transaction 1)"), "whose it is, is said")?;
    let shown = ends(&replicas[0], "switchover mysql --dry-run --max-lag 60", 0)?;
    expect(shown.contains("and has not committed: the move ends it"), "it is shown")?;
    expect(promoted(site, "mysql") == primary.name, "nothing was moved")
}

#[test]
fn an_operator_decides_pauses_and_makes_a_replica_anew() {
    scenario("operator", Setup::of(MARIADB), |site| {
        let node = site.lab.quorate_node()?;
        let_root_in(&site.lab)?;
        put_redis_beside(site)?;
        all_is_good(site, &node)?;
        make_it_anew(site)?;
        limit_it(site)?;
        decide_it(site, &node)?;
        pause_it(site, &node)
    });
}

/// A password of the site, and a line of a log that repeats it.
const TOKEN: &str = "t0p-s3cret-of-the-site";

/// What is remembered of the last promotion, by any node.
fn last_promotion(node: &Node, code: u8) -> Result<String> {
    let said = ends(node, "history redis", code)?;
    Ok(said.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default().to_owned())
}

/// After each promotion the nodes keep it with their next monitor.
fn remembered(site: &Site, node: &Node, code: u8, words: &[&str]) -> Result<()> {
    site.lab.wait_for(&format!("the nodes to remember {words:?}"), LATE, || {
        last_promotion(node, code).is_ok_and(|line| words.iter().all(|word| line.contains(word)))
    })
}

/// The page, with all that belongs on it and nothing that does not.
fn report(node: &Node) -> Result<()> {
    node.sh(&format!("crm_attribute --type crm_config --name site-token --update {TOKEN}; logger -t 'redis(redis)' 'login with {TOKEN}'"))?;
    node.sh("crm_attribute --type crm_config --name site-note --update '<script>alert(1)</script>'")?;
    ends(node, "report redis --html /root/report.html", 0)?;
    let page = node.sh("cat /root/report.html")?.stdout;
    let mode = node.sh("stat -c %a /root/report.html")?.stdout;
    for part in ["lost node in epoch", "<svg ", "promote of redis on", "planned move", "going on with the promotion", "(masked)"] {
        expect(page.contains(part), &format!("the report has {part}"))?;
    }
    for foreign in [TOKEN, "<script", "https://", "src=", "@import", "url("] {
        expect(!page.contains(foreign), &format!("the report has no {foreign}"))?;
    }
    expect(mode.trim() == "600", "the report is root's")?;
    // To be looked at: make report-screenshot PAGE=.
    let kept = std::env::temp_dir().join("systole-report.html");
    std::fs::write(&kept, page).map_err(|e| lab::Error::Refused(format!("{}: {e}", kept.display())))
}

#[test]
fn failovers_are_remembered_told_and_reported() {
    scenario("command-history", Setup::of(REDIS), |site| {
        let_root_in(&site.lab)?;
        let node = site.lab.quorate_node()?;
        remembered(site, &node, 0, &["first start"])?;
        // Away from the node that asks, which is not to be lost.
        let other = site.replicas()?.into_iter().find(|replica| replica.name != node.name).map_or_else(|| "lxc2".to_owned(), |n| n.name);
        ends(&node, &format!("switchover redis --to {other}"), 0)?;
        remembered(site, &node, 0, &["planned move", &other])?;
        let dead = site.kill_primary()?;
        site.wait_moved(&dead, LATE)?;
        site.wait_settled()?;
        remembered(site, &node, 0, &["crash", &dead.name])?;
        let told = ends(&node, "timeline redis", 0)?;
        for part in ["[score lowered by the watcher]", "going on with the promotion", "promote of redis on"] {
            expect(told.contains(part), &format!("the timeline has {part}"))?;
        }
        if site.primary()?.name == node.name {
            ends(&node, &format!("switchover redis --to {other}"), 0)?;
            site.wait_settled()?;
        }
        let lost = site.primary()?;
        lost.power_off()?;
        site.wait_moved(&lost, LATE)?;
        // Nobody waits for the node that is gone, and it is named.
        remembered(site, &node, 1, &["lost node", &lost.name])?;
        let begun = std::time::Instant::now();
        let said = ends(&node, "history redis", 1)?;
        expect(said.contains(&format!("what {} remembers is missing", lost.name)), "the node that does not answer is named")?;
        println!("with a node that is gone it took {:?}", begun.elapsed());
        site.lab.power_back(&lost)?;
        site.wait_settled()?;
        remembered(site, &node, 0, &["lost node"])?;
        report(&node)
    });
}

/// A value of the verdict.
fn said_in(verdict: &serde_json::Value, key: &str) -> u64 {
    verdict[key].as_u64().unwrap_or(u64::MAX)
}

/// A drill, which has to end well. The figures are shown and not judged: how long it takes is the machine's.
fn drill(site: &Site, node: &Node, line: &str, name: &str) -> Result<()> {
    let from = promoted(site, name);
    let said = node.sh(&format!("systole drill {line} --yes {name} --format json; echo \"ended with $?\""))?;
    println!("{}: systole drill {line}\n{}{}", node.name, said.stderr, said.stdout);
    let (json, ending) = said.stdout.rsplit_once("ended with ").unwrap_or_default();
    expect(ending.trim() == "0", &format!("systole drill {line} ends with 0, and not with {ending}"))?;
    let verdict: serde_json::Value = serde_json::from_str(json).map_err(|e| lab::Error::Refused(format!("{e}: {json}")))?;
    expect(said_in(&verdict, "lost") == 0 && said_in(&verdict, "acknowledged") > 20, "markers were acknowledged, and none is lost")?;
    let new = promoted(site, name);
    expect(new != from && verdict["primary"] == new.as_str() && verdict["from"] == from.as_str(), "it says who was promoted")?;
    expect(said_in(&verdict, "no_writes_ms") > said_in(&verdict, "usual_ms"), "nobody could write for a while")?;
    no_constraint_is_left(node)?;
    all_is_good(site, node)
}

/// What drills write is gone on every node.
fn no_marker_is_left(site: &Site) -> Result<()> {
    for node in site.lab.nodes() {
        site.lab.wait_for("the markers to be gone", LATE, || {
            let keys = node.sh("redis-cli --scan --pattern 'systole:drill:*'").is_ok_and(|keys| keys.stdout.trim().is_empty());
            keys && site.sql(&node, "SHOW DATABASES LIKE 'systole%'").is_ok_and(|schemas| schemas.trim().is_empty())
        })?;
    }
    Ok(())
}

#[test]
fn a_drill_kills_and_moves_and_loses_nothing() {
    scenario("drill", Setup::of(MARIADB), |site| {
        let node = site.lab.quorate_node()?;
        let_root_in(&site.lab)?;
        put_redis_beside(site)?;
        all_is_good(site, &node)?;
        ends(&node, "drill kill redis < /dev/null", 1)?;
        ends(&node, "drill kill --yes redis", 1)?;
        expect(ends(&node, "drill move mysql --dry-run", 0)?.contains("it costs: "), "it says what it costs")?;
        for name in ["redis", "mysql"] {
            drill(site, &node, &format!("move {name}"), name)?;
            drill(site, &node, &format!("kill {name}"), name)?;
            no_marker_is_left(site)?;
        }
        // A drill that is killed itself leaves a table, which the next one drops.
        node.sh("timeout -s KILL 4 systole drill move mysql --yes mysql || true")?;
        site.lab.wait_idle()?;
        ends(&node, "abort mysql", 0)?;
        all_is_good(site, &node)?;
        drill(site, &node, "move mysql", "mysql")?;
        no_marker_is_left(site)?;
        // What is somebody else's is left alone.
        site.sql(&site.primary()?, "CREATE DATABASE systole_drill; CREATE TABLE systole_drill.marker (id INT PRIMARY KEY)")?;
        let refused = ends(&node, "drill kill mysql --yes mysql", 1)?;
        expect(refused.contains("which no drill has made"), "it is said whose it is")?;
        site.sql(&site.primary()?, "SELECT * FROM systole_drill.marker")?;
        let before = promoted(site, "redis");
        node.sh("crm_attribute --name maintenance-mode --update true")?;
        let refused = ends(&node, "drill kill redis --yes redis", 1)?;
        node.sh("crm_attribute --name maintenance-mode --update false")?;
        expect(refused.contains("maintenance-mode is on") && promoted(site, "redis") == before, "no drill in maintenance")
    });
}
