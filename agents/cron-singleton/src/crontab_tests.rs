use proptest::prelude::*;

use super::*;

fn jobs(text: &str, format: Format) -> Vec<Job> {
    Crontab::parse(text, format).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}")).jobs().map(|(job, _)| job.clone()).collect()
}

fn times(text: &str) -> Times {
    match jobs(&format!("{text} command\n"), Format::User).remove(0).when {
        When::Times(times) => times,
        When::Reboot => panic!("{text}"),
    }
}

fn problem(text: &str, format: Format) -> String {
    match Crontab::parse(text, format) {
        Ok(found) => panic!("{text:?} was read as {found:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "),
    }
}

fn values(field: Field) -> Vec<u8> {
    field.values().collect()
}

#[test]
fn fields_are_lists_ranges_steps_and_names() {
    let t = times("*/20,7 1-3 1,15 jan-mar Mon-FRI");
    assert_eq!(values(t.minute), [0, 7, 20, 40]);
    assert_eq!(values(t.hour), [1, 2, 3]);
    assert_eq!(values(t.day), [1, 15]);
    assert_eq!(values(t.month), [1, 2, 3]);
    assert_eq!(values(t.weekday), [1, 2, 3, 4, 5]);
    assert_eq!(values(times("10-40/15 * * * *").minute), [10, 25, 40]);
    assert_eq!(values(times("*/90 * * * *").minute), [0], "a step beyond the end is the first value");
    assert_eq!(t.text, "*/20,7 1-3 1,15 jan-mar Mon-FRI");
}

#[test]
fn seven_is_sunday() {
    for text in ["* * * * 7", "* * * * 0", "* * * * sun", "* * * * 7-7"] {
        assert_eq!(values(times(text).weekday), [0], "{text}");
    }
    assert_eq!(values(times("* * * * 5-7").weekday), [0, 5, 6]);
}

/// entry.c: the flag is set by the first character, so `*/2` counts as an asterisk too.
#[test]
fn a_day_must_match_both_fields_only_when_one_begins_with_an_asterisk() {
    for (text, both) in [("0 0 1 * 1", false), ("0 0 * * 1", true), ("0 0 */2 * 1", true), ("0 0 1 * */2", true), ("0 0 1-31 * 1", false)] {
        assert_eq!(times(text).both_days(), both, "{text}");
    }
}

#[test]
fn words() {
    for (word, meaning) in WORDS {
        let (word, meaning) = (times(&format!("@{word}")), times(meaning));
        assert_eq!(
            (word.minute, word.hour, word.day, word.month, word.weekday),
            (meaning.minute, meaning.hour, meaning.day, meaning.month, meaning.weekday)
        );
    }
    assert_eq!(jobs("@reboot x\n", Format::User)[0].when, When::Reboot);
    assert!(problem("@Daily x\n", Format::User).contains("small letters"));
    assert!(problem("@every_minute x\n", Format::User).contains("@hourly"));
}

#[test]
fn a_system_crontab_has_a_user_column() {
    let text = "# comment\n\n17 *\t* * *   wpsite  cd / && run a % b\n";
    let job = jobs(text, Format::System).remove(0);
    assert_eq!((job.line, job.user.as_deref(), job.command.as_str()), (3, Some("wpsite"), "cd / && run a % b"));
    assert_eq!(jobs(text, Format::User)[0].command, "wpsite  cd / && run a % b");
    assert_eq!(problem("* * * * * wpsite\n", Format::System), "line 1, command: there is none; did the user's name fall out before it?");
    assert!(problem("* * * * *\n", Format::System).contains("line 1, user: there is none"));
    assert!(problem("* * * * *\n", Format::User).contains("line 1, command: there is none"));
    assert!(problem("* * * * * * x\n", Format::User).contains("one time field too many"));
}

#[test]
fn variables_hold_for_what_follows() {
    let text = "A=1\n* * * * * first\n  B = \" two words \" \n'C'='3'\nA=4 # not a comment\n* * * * * second\n";
    let crontab = Crontab::parse(text, Format::User).unwrap();
    let found: Vec<_> = crontab.jobs().collect();
    assert_eq!(found[0].1, [("A", "1")]);
    assert_eq!(found[1].1, [("B", " two words "), ("C", "3"), ("A", "4 # not a comment")]);
    // What looks like a variable in a command is none.
    assert_eq!(jobs("* * * * * A=1 command\n", Format::User)[0].command, "A=1 command");
    assert_eq!(jobs("@daily A=1 command\n", Format::User)[0].command, "A=1 command");
    assert!(problem("=1\n", Format::User).contains("no name"));
}

#[test]
fn each_error_names_the_line_the_field_and_the_remedy() {
    for (text, expected) in [
        ("60 * * * * x", "line 1, minute: 60 is not in 0-59"),
        ("* 24 * * * x", "line 1, hour: 24 is not in 0-23"),
        ("* * 0 * * x", "line 1, day of month: 0 is not in 1-31"),
        ("* * * 13 * x", "line 1, month: 13 is not in 1-12"),
        ("* * * * 8 x", "line 1, day of week: 8 is not in 0-7"),
        ("* * * january * x", "line 1, month: \"january\" is neither a number in 1-12 nor one of jan"),
        ("a * * * * x", "line 1, minute: \"a\" is not a number"),
        ("+5 * * * * x", "line 1, minute: \"+5\" is not a number"),
        ("5/10 * * * * x", "write 5-59/10"),
        ("*/0 * * * * x", "the step \"0\" is not a number above 0"),
        ("*/x * * * * x", "the step \"x\""),
        ("* 22-2 * * * x", "write 22-23,0-2"),
        ("5;6 * * * * x", "\"5;6\" is not a number"),
        ("1,,2 * * * * x", "\"\" is not a number"),
        ("*5 * * * * x", "\"*5\" is not a number"),
        ("* * * *", "line 1, day of week: it is missing"),
        ("0 5 * * 1 x\r", "dos2unix"),
    ] {
        let found = problem(&format!("{text}\n"), Format::User);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
    assert!(problem("* * * * * x", Format::User).contains("line 1, end: there is no newline"));
    assert!(problem(&format!("* * * * * {}\n", "x".repeat(999)), Format::User).contains("put it into a script"));
    // All of them at once.
    assert_eq!(problem("60 * * * * x\n* * * * * ok\n* 24 * * * x", Format::User).matches(" / ").count(), 2);
}

#[test]
fn nothing_is_no_problem() {
    assert_eq!(Crontab::parse("", Format::System).unwrap().jobs().count(), 0);
    assert_eq!(Crontab::parse("# nothing\n", Format::System).unwrap().jobs().count(), 0);
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "([0-9*/,a-z@=\"' \t%#-]{0,40}\n?){0,4}|\\PC{0,80}") {
        let _ = Crontab::parse(&text, Format::System);
        let _ = Crontab::parse(&text, Format::User);
    }

    #[test]
    fn a_list_of_values_reads_back(wanted in proptest::collection::btree_set(0_u8..60, 1..10)) {
        let text = wanted.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        prop_assert_eq!(values(times(&format!("{text} * * * *")).minute), wanted.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_crontab_of_somebody_else_is_read_as_far_as_it_goes() {
    let text = "MAILTO=x\n5/15 * * * * root backup\n@fortnightly root report\n0 25 * * * root never\nnonsense\n\u{fffd}# caf\u{e9}\n1 2 3 4 5 root good";
    let found = Crontab::as_far_as_it_goes(text, Format::System);
    let jobs: Vec<(usize, &str)> = found.jobs().map(|(job, _)| (job.line, job.command.as_str())).collect();
    assert_eq!(jobs, [(2, "backup"), (3, "report"), (4, "never"), (7, "good")]);
}

/// With cronie the first moves the times into another zone, and the second has each job begin later.
#[test]
fn the_rules_of_another_cron_are_named_with_their_line() {
    let found =
        Crontab::parse("MAILTO=x\nCRON_TZ=UTC\n\nRANDOM_DELAY=30\nTZ=UTC\n@daily root x\n", Format::System).unwrap().foreign_rules();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("line 2, variable: CRON_TZ means nothing to Debian's cron"), "{told:?}");
    assert!(told[1].starts_with("line 4, variable: RANDOM_DELAY "), "{told:?}");
}
