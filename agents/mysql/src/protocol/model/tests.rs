//! What is checked, within which bounds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use stateright::{Checker, HasDiscoveries, Model as _};

use super::world::{Told, params};
use super::{Action, Budget, Cut, Loss, NOW, State, Without, World};
use crate::gtid::Flavour;

fn check(world: World) -> usize {
    let begin = std::time::Instant::now();
    let checker = world.checker().threads(1).spawn_bfs().join();
    println!("{} states, depth {}, {:?}: {:?}", checker.unique_state_count(), checker.max_depth(), begin.elapsed(), checker.model().budget);
    for (property, path) in checker.discoveries() {
        if !property.starts_with(char::is_lowercase) {
            let actions: Vec<String> = path.clone().into_actions().iter().map(|a| format!("{a:?}")).collect();
            let last = path.last_state().clone();
            panic!("{property}: {}\n{last:?}\n{:?}", actions.join("\n"), checker.model().comes_back(&last));
        }
    }
    checker.assert_properties();
    checker.unique_state_count()
}

fn world(flavour: Flavour, budget: Budget) -> World {
    World {
        budget,
        without: Without::Nothing,
        flavour,
        servers: 3,
        cuts_tails: false,
        stepwise: false,
        prelude: |_, _| {},
        params: params(&[]),
        careless: params(&[("durability", "async-allowed")]),
        told: Told::by(flavour, 1),
    }
}

fn mysql(budget: Budget) -> World {
    world(Flavour::MySql, budget)
}

fn mariadb(budget: Budget) -> World {
    world(Flavour::MariaDb, budget)
}

/// Nothing happens: what does is added.
const QUIET: Budget = Budget {
    writes: 1,
    errant: 0,
    crashes: 0,
    losses: 0,
    promotions: 1,
    moves: 0,
    restarts: 0,
    kills: 0,
    cuts: 0,
    lost_notifications: 0,
    late_records: 0,
    forgotten: 0,
    durabilities: 0,
};

/// Somebody crashes.
const CRASH: Budget = Budget { crashes: 1, ..QUIET };

#[test]
fn a_crash_loses_nothing() {
    check(mysql(CRASH));
    check(mariadb(Budget { losses: 1, ..CRASH }));
}
