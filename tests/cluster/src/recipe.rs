//! A page of docs/recipes in a lab: machines that trust each other, and the commands of the page, to the letter.

use lab::{Lab, LabOptions, Result};

use crate::page::{self, Block};
use crate::workshop::furnish;
use crate::{package, read, repository};

/// Boots machines without a cluster, `beside` of them not to be of one, and runs what stands on a page below these headings.
///
/// # Errors
/// When a command of the page fails.
pub fn follow(name: &str, recipe: &str, beside: u8, headings: &[&str]) -> Result<Lab> {
    let lab = Lab::up(LabOptions { name: name.to_owned(), packages: vec![package()?], cluster: false, beside, ..LabOptions::default() })?;
    furnish(&lab)?;
    for heading in headings {
        run(&lab, recipe, heading)?;
    }
    Ok(lab)
}

/// Boots three nodes with a cluster, which trust each other: for recipes that begin there.
///
/// # Errors
/// When the lab does not start.
pub fn in_a_cluster(options: LabOptions) -> Result<Lab> {
    let lab = Lab::up(LabOptions { packages: vec![package()?], ..options })?;
    furnish(&lab)?;
    Ok(lab)
}

/// Runs what stands on a page below this heading.
///
/// # Errors
/// When there is nothing, or a command fails.
pub fn run(lab: &Lab, recipe: &str, heading: &str) -> Result<()> {
    blocks(recipe, heading)?.iter().try_for_each(|block| block.run(lab))
}

/// The commands below a heading of a page, never none.
///
/// # Errors
/// When the page has none there.
pub fn blocks(recipe: &str, heading: &str) -> Result<Vec<Block>> {
    let all = page::blocks(&read(&repository().join(format!("docs/recipes/{recipe}.md")))?)?;
    let blocks: Vec<_> = all.into_iter().filter(|block| block.heading == heading).collect();
    crate::expect(!blocks.is_empty(), &format!("{recipe}.md has commands below {heading:?}"))?;
    Ok(blocks)
}
