//! The uploads on every node: what docs/recipes/syncthing.md and glusterfs-cephfs.md say, their commands run as they stand there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster_scenarios::{expect, finish, recipe, snippet};
use lab::state::{Bind, Volume};
use lab::{Lab, LabOptions, Node, Result};
use nix::sys::signal::Signal;

const UPLOADS: &str = "/var/lib/wordpress/wp-content/uploads";

/// Three nodes, a cluster, the site's account, what `before` does, and what the page says below these headings.
fn scenario(
    recipe: &str,
    options: LabOptions,
    before: impl FnOnce(&Lab) -> Result<()>,
    headings: &[&str],
    steps: impl FnOnce(&Lab) -> Result<()>,
) {
    let up = || {
        let lab = recipe::in_a_cluster(LabOptions { name: format!("uploads-{recipe}"), ..options })?;
        for node in lab.nodes() {
            node.sh("useradd --uid 2000 --create-home wpsite")?;
        }
        before(&lab)?;
        headings.iter().try_for_each(|heading| recipe::run(&lab, recipe, heading))?;
        Ok(lab)
    };
    let lab: Lab = up().unwrap_or_else(|e: lab::Error| panic!("{recipe}: {e}"));
    finish(&lab, steps(&lab));
}

/// The site's account writes a file.
fn upload(node: &Node, name: &str) -> Result<()> {
    node.sh(&format!("su wpsite -s /bin/sh -c 'echo {name} > {UPLOADS}/{name}'")).map(drop)
}

/// Waits until these nodes have the file. Says how long it took.
fn wait_arrived(lab: &Lab, name: &str, numbers: &[u8]) -> Result<()> {
    let begin = Instant::now();
    let has = |number: &u8| lab.node(*number).sh(&format!("cat {UPLOADS}/{name}")).is_ok_and(|file| file.stdout.trim() == name);
    lab.wait_for(&format!("{name} on {numbers:?}"), Duration::from_secs(180), || numbers.iter().all(has))?;
    println!("{name}: on {numbers:?} after {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Kills Syncthing on a node, and waits until another one runs there.
fn kill_and_wait(lab: &Lab, node: &Node) -> Result<()> {
    let before = node.pids("syncthing");
    node.kill("syncthing", Signal::SIGKILL)?;
    let begin = Instant::now();
    let again = || node.pids("syncthing").iter().any(|pid| !before.contains(pid));
    lab.wait_for(&format!("Syncthing on {} again", node.name), Duration::from_secs(90), again)?;
    println!("Syncthing on {} again after {:.1} s", node.name, begin.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn syncthing_copies_to_every_node_and_to_one_that_was_away() {
    scenario(
        "syncthing",
        LabOptions::default(),
        |_| Ok(()),
        &["The commands"],
        |lab| {
            upload(&lab.node(1), "first")?;
            wait_arrived(lab, "first", &[2, 3])?;
            let (second, third) = (lab.node(2), lab.node(3));
            third.power_off()?;
            upload(&second, "while-lxc3-is-away")?;
            wait_arrived(lab, "while-lxc3-is-away", &[1])?;
            lab.power_back(&third)?;
            lab.wait_online()?;
            wait_arrived(lab, "while-lxc3-is-away", &[3])?;

            // systemd would, but Pacemaker takes the Restart= of its units away: its monitor finds it, every 30 s.
            kill_and_wait(lab, &second)?;
            upload(&second, "after-the-crash")?;
            wait_arrived(lab, "after-the-crash", &[1, 3])
        },
    );
}

/// Numbers that the site's account writes on a node, a file each, ten a second, for as long as it is told to.
struct Numbers<'a>(&'a Node);

impl<'a> Numbers<'a> {
    fn begin(node: &'a Node) -> Result<Self> {
        // A line of the journal, beside the volume, is a number whose file was written and synced, and how long that took.
        let script = format!(
            "n=0; while [ ! -e /run/enough ]; do n=$((n + 1)); begin=$(date +%s%N); \
             echo $n > {UPLOADS}/$n && sync {UPLOADS}/$n && echo $n $((($(date +%s%N) - begin) / 1000000)) >> /tmp/written; sleep 0.1; done"
        );
        node.write("/usr/local/bin/numbers", &script)?;
        node.sh("rm -f /run/enough; systemd-run --quiet --collect --unit=numbers --uid=wpsite sh /usr/local/bin/numbers")?;
        Ok(Self(node))
    }

    /// How many were written so far.
    fn count(&self) -> usize {
        self.0.sh("wc -l < /tmp/written").ok().and_then(|lines| lines.stdout.trim().parse().ok()).unwrap_or(0)
    }

    /// What was written, and the longest time that one of them took.
    fn end(self) -> Result<(Vec<u32>, Duration)> {
        self.0.sh("touch /run/enough; sleep 1")?;
        let lines = self.0.sh("cat /tmp/written")?.stdout;
        let pairs =
            lines.lines().filter_map(|line| line.split_once(' ')).map(|(n, ms)| (n.parse::<u32>().unwrap(), ms.parse::<u64>().unwrap()));
        let (numbers, times): (Vec<u32>, Vec<u64>) = pairs.unzip();
        Ok((numbers, Duration::from_millis(times.into_iter().max().unwrap_or_default())))
    }
}

/// Which of these numbers a node does not have in a directory.
fn missing(node: &Node, directory: &str, numbers: &[u32]) -> Result<Vec<u32>> {
    let list = node.sh(&format!("cd {directory} && grep -H . [0-9]*"))?.stdout;
    let there: BTreeSet<&str> = list.lines().filter_map(|line| line.split_once(':')).filter(|(f, n)| f == n).map(|(f, _)| f).collect();
    Ok(numbers.iter().copied().filter(|number| !there.contains(number.to_string().as_str())).collect())
}

#[test]
fn glusterfs_pauses_when_a_node_is_lost_and_loses_no_file() {
    let options = LabOptions {
        image: "debian12-gluster".to_owned(),
        binds: vec![Bind { source: "/dev/fuse".into(), target: "/dev/fuse".into() }],
        volumes: vec![Volume { path: "/srv/brick".into(), mebibytes: 256 }],
        ..LabOptions::default()
    };
    let web_servers = |lab: &Lab| {
        for file in ["public-addresses.crm", "web.crm"] {
            lab.load_crm(&snippet(file)?)?;
        }
        lab.wait_idle()
    };
    scenario("glusterfs-cephfs", options, web_servers, &["GlusterFS"], |lab| {
        let web = |count: usize| {
            lab.wait_for(&format!("{count} web servers"), Duration::from_secs(120), || {
                lab.view().is_ok_and(|view| view.with_role("nginx", "Started").len() == count)
            })
        };
        web(3)?;
        upload(&lab.node(1), "first")?;
        wait_arrived(lab, "first", &[1, 2, 3])?;

        let (first, third) = (lab.node(1), lab.node(3));
        let numbers = Numbers::begin(&first)?;
        std::thread::sleep(Duration::from_secs(5));
        third.power_off()?;
        std::thread::sleep(Duration::from_secs(3));
        let before = numbers.count();
        lab.wait_for("numbers after the power cut", Duration::from_secs(60), || numbers.count() > before + 20)?;
        lab.power_back(&third)?;
        lab.wait_online()?;
        web(3)?;
        let (numbers, longest) = numbers.end()?;
        println!("{} numbers, the longest took {:.1} s", numbers.len(), longest.as_secs_f64());
        expect(numbers.len() > 100 && longest < Duration::from_secs(20), "a pause of the ping timeout and no longer")?;
        for node in lab.nodes() {
            let missing = missing(&node, UPLOADS, &numbers)?;
            expect(missing.is_empty(), &format!("{} lacks {missing:?}", node.name))?;
        }
        // What was written without it is copied to its brick afterwards.
        lab.wait_for("the copies on lxc3", Duration::from_secs(120), || {
            missing(&third, "/srv/brick/uploads", &numbers).is_ok_and(|numbers| numbers.is_empty())
        })
    });
}
