//! The pages' files, and where the figures come from: machine, versions, commit.

use std::path::Path;

use cluster_scenarios::figures::page::Page;
use cluster_scenarios::figures::{self, Numbers, Results, Subject};
use cluster_scenarios::origin::{code, commit, machine};
pub(crate) use cluster_scenarios::origin::{memory_mib, versions};
use lab::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Options;

/// Begins a page.
pub(crate) fn begin(title: &str, words: &str, results: &[Results]) -> Page {
    Page::new(title, words, &machine(), &commit(), results)
}

/// Writes page and numbers; prints the page alone when only a part was asked for.
pub(crate) fn write(page: &Page, options: &Options, name: &str, numbers: &impl Serialize) -> Result<()> {
    if options.only.is_some() {
        println!("{}", page.text);
        return Ok(());
    }
    let path = options.out.join(name);
    write_file(&path.with_extension("md"), &page.text)?;
    write_numbers(&path.with_extension("json"), numbers)?;
    println!("written: {}", path.with_extension("md").display());
    Ok(())
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::Refused(format!("{}: {e}", path.display())))
}

pub(crate) fn write_numbers(path: &Path, numbers: &impl Serialize) -> Result<()> {
    let raw = serde_json::to_string(numbers).map_err(|e| Error::Refused(e.to_string()))?;
    // Whole or not at all: a run that is interrupted goes on from it.
    let new = path.with_extension("json.new");
    write_file(&new, &(raw + "\n"))?;
    std::fs::rename(&new, path).map_err(|e| Error::Refused(format!("{}: {e}", path.display())))
}

/// The numbers of a benchmark with servers, and their files.
pub(crate) struct Book<'a> {
    subject: &'static Subject,
    options: &'a Options,
    pub(crate) numbers: Numbers,
}

impl<'a> Book<'a> {
    /// Begins anew, or goes on with what an interrupted run has written.
    pub(crate) fn open(subject: &'static Subject, options: &'a Options, agents: &str) -> Result<Self> {
        let (machine, commit, code) = origin(agents);
        let numbers = if options.go_on { read(&options.out.join(subject.page).with_extension("json"), &code)? } else { Numbers::default() };
        let stock_runs = options.stock_runs.filter(|runs| *runs < options.runs);
        let numbers = Numbers { code, machine, commit, runs: options.runs, stock_runs, monitors: options.monitors, ..numbers };
        Ok(Self { subject, options, numbers })
    }

    /// Writes what there is, so that an interruption costs one series. A part alone is not written, unless it goes on with the whole.
    pub(crate) fn keep(&self) -> Result<()> {
        let Options { out, only, go_on, .. } = self.options;
        if only.is_some() && !go_on {
            return Ok(());
        }
        let path = out.join(self.subject.page);
        write_numbers(&path.with_extension("json"), &self.numbers)?;
        figures::files(self.subject, &self.numbers).into_iter().try_for_each(|(name, text)| write_file(&out.join(name), &text))
    }

    /// Writes everything, and the tables of docs/figures.md and the README; or prints the page, when only a part was asked for.
    pub(crate) fn close(&self) -> Result<()> {
        let Options { out, only, go_on, .. } = self.options;
        if only.is_some() && !go_on {
            println!("{}", figures::page::of(self.subject, &self.numbers));
            return Ok(());
        }
        self.keep()?;
        println!("written: {} and its plots", out.join(self.subject.page).with_extension("md").display());
        // Beside the pages of the repository, and nowhere else.
        let page = out.join("figures.md");
        let Ok(text) = std::fs::read_to_string(&page) else { return Ok(()) };
        write_file(&page, &figures::readme::with_figures(&text, self.subject, &self.numbers).map_err(Error::Refused)?)?;
        let readme = out.join("../README.md");
        let Ok(text) = std::fs::read_to_string(&readme) else { return Ok(()) };
        let all = [&figures::REDIS, &figures::MYSQL].into_iter().filter_map(|subject| {
            let numbers = std::fs::read_to_string(out.join(subject.page).with_extension("json")).ok()?;
            Some((subject, serde_json::from_str(&numbers).ok()?))
        });
        write_file(&readme, &figures::readme::with_all_in_short(&text, &all.collect::<Vec<_>>()).map_err(Error::Refused)?)?;
        println!("written: the tables of {} and {}", page.display(), readme.display());
        Ok(())
    }
}

/// What an interrupted run has written; nothing where it has not come so far.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path, code: &str) -> Result<T> {
    #[derive(Deserialize)]
    struct Of {
        code: String,
    }
    if !path.exists() {
        return Ok(T::default());
    }
    let refuse = |why: String| Error::Refused(format!("{}: {why}: begin anew, without --go-on", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
    let of: Of = serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
    if of.code != code {
        return Err(refuse("it is of other agents".to_owned()));
    }
    serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))
}

/// Where figures come from: machine, commit, and what of it is measured.
pub(crate) fn origin(agents: &str) -> (String, String, String) {
    (machine(), commit(), code(&[agents, "tests/cluster/src/bin/stub"]))
}
