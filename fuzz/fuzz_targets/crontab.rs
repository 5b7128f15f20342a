//! Crontabs: they come from operators, and from the users whose own are brought in. What is made for cron of one reads as the same jobs.
#![no_main]

use systole_cron_singleton::crontab::{Crontab, Format};
use systole_cron_singleton::import::{Existing, merged};
use systole_cron_singleton::installed::{Installation, identities, identities_at_the_gate};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for format in [Format::System, Format::User] {
        let some = Crontab::as_far_as_it_goes(text, format).jobs().count();
        let Ok(crontab) = Crontab::parse(text, format) else { continue };
        let jobs = crontab.jobs().count();
        assert_eq!(jobs, some, "what is right as a whole is right as far as it goes");
        assert_eq!(identities(&crontab).len(), jobs);
        let _ = identities_at_the_gate(&crontab);
        let user = matches!(format, Format::User).then_some("deploy");
        let made = Installation { resource: "r", source: "/s", wrapper: "/w", user }.text(&crontab);
        let read = Crontab::parse(&made, Format::System).unwrap_or_else(|problems| panic!("{problems:?}: {made}"));
        let at_times = |crontab: &Crontab| {
            crontab.jobs().filter(|(job, _)| matches!(job.when, systole_cron_singleton::crontab::When::Times(_))).count()
        };
        assert_eq!(at_times(&read), at_times(&crontab), "{made}");
        let existing = Existing { name: "x".into(), text: text.to_owned(), user: user.map(str::to_owned) };
        if let Ok(all) = merged("", "site", std::slice::from_ref(&existing)) {
            assert_eq!(merged(&all, "site", &[existing]).as_deref(), Ok(all.as_str()), "brought in twice");
        }
    }
});
