//! A demotion kills nobody who would have stepped down.

use std::time::Duration;

use testkit::{Client, Group, Lists, Node};

const ENDLESS: &str = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 4 do end return 1";

fn run_a_script(node: &Node) -> std::thread::JoinHandle<()> {
    let port = node.port;
    let script = std::thread::spawn(move || drop(Client::tcp(port).unwrap().ask(&["EVAL", ENDLESS, "0"])));
    std::thread::sleep(Duration::from_millis(300));
    script
}

/// 51 keys of 51 were lost here, in a planned move.
#[test]
fn a_planned_move_waits_for_a_command_that_takes_long() {
    for threshold in [200, 60_000] {
        let group = Group::of(&["a", "b"]);
        group.node("a").configure(&format!("busy-reply-threshold {threshold}"));
        group.start_all();
        group.promote("a", &["a", "b"]).ok();
        group.wait_attached("b");
        for n in 0..50 {
            group.node("a").write(&format!("key {n}")).unwrap();
        }
        let server = group.node("a").process().pid;
        let script = run_a_script(group.node("a"));
        let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
        let answer = group.node("a").agent().timeout(Duration::from_secs(30)).lists(&lists, group.spelling).run("demote");
        println!("demote while a command takes 4 s, busy-reply-threshold {threshold}: {:?}", answer.elapsed);
        answer.ok();
        assert_eq!(group.node("a").process().pid, server, "it was killed");
        script.join().unwrap();
        group.promote("b", &["a", "b"]).ok();
        assert_eq!(group.node("b").ask(&["DBSIZE"]).unwrap(), "50");
        assert!(group.record().contains("epoch=2 node=b"), "{}", group.record());
    }
}

/// It gives its replicas what they lack before it ends, as a server does that is stopped.
#[test]
fn a_primary_that_refuses_the_agent_is_told_to_end_and_gives_its_replicas_everything() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b").process();
    b.freeze();
    let (a, value) = (group.node("a"), "x".repeat(100_000));
    let mut client = a.client();
    client.ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    for n in 0..100 {
        client.ask(&["SET", &format!("key {n}"), &value]).unwrap();
    }
    let server = a.process();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    let demotion = a.agent().timeout(Duration::from_secs(30)).lists(&lists, group.spelling).spawn("demote");
    std::thread::sleep(Duration::from_millis(700));
    assert!(server.is_there(), "it was killed with what its replica lacks");
    b.signal(testkit::Signal::SIGCONT);
    demotion.answer().ok();
    assert!(!server.is_there(), "a primary that cannot be demoted has to end");
    assert!(a.log().contains("told to end") && !a.log().contains("so it is killed"), "{}", a.log());
    assert_eq!(group.node("b").ask(&["DBSIZE"]).unwrap(), "101");
}

/// For ever it does not wait: its time is half of what the operation has left.
#[test]
fn a_primary_that_does_not_end_when_it_is_told_is_killed_in_time() {
    let group = Group::established(&["a", "b"]);
    group.node("b").process().freeze();
    let a = group.node("a");
    a.write("not replicated").unwrap();
    a.ask(&["CONFIG", "SET", "requirepass", "other"]).unwrap();
    let server = a.process();
    let limit = Duration::from_secs(8);
    let answer = a.agent().timeout(limit).run("demote");
    answer.ok();
    assert!(answer.counted < limit, "{answer:?}");
    assert!(!server.is_there());
    assert!(a.log().contains("so it is killed"), "{}", a.log());
}
