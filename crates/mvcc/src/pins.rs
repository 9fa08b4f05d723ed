//! Roots that the next page of somebody's list will ask for.
//!
//! A page is a limited range with more behind it. The following pages ask at the same revision, and an old revision costs a
//! walk over the `index` table; the root of the first page costs nothing but the nodes that have been replaced since. So
//! the roots of a few such pages are kept for a while. There is no clock here: a root's age is how many commits have
//! happened since somebody asked for it.

use crate::tree::Tree;
use crate::view::View;

/// How many roots are kept at most. Each may come to hold a whole old tree.
const PINS_MAX: usize = 8;
/// How many commits a root stays that nobody asks for.
const IDLE_COMMITS_MAX: u64 = 4096;

#[derive(Debug, Default)]
pub(crate) struct Pins {
    commits: u64,
    pins: Vec<Pin>,
}

#[derive(Debug)]
struct Pin {
    revision: i64,
    tree: Tree,
    used: u64,
}

impl Pins {
    pub(crate) fn pin(&mut self, view: &View) {
        let commits = self.commits;
        if let Some(pin) = self.pins.iter_mut().find(|pin| pin.revision == view.revision) {
            pin.used = commits;
            return;
        }
        if self.pins.len() == PINS_MAX {
            let idlest = (0..PINS_MAX).min_by_key(|at| self.pins[*at].used).expect("there are pins");
            self.pins.swap_remove(idlest);
        }
        self.pins.push(Pin { revision: view.revision, tree: view.tree.clone(), used: commits });
    }

    pub(crate) fn find(&mut self, revision: i64) -> Option<Tree> {
        let pin = self.pins.iter_mut().find(|pin| pin.revision == revision)?;
        pin.used = self.commits;
        Some(pin.tree.clone())
    }

    /// Another commit has happened, after which revisions below `compact_revision` cannot be read.
    pub(crate) fn commit(&mut self, compact_revision: i64) {
        self.commits += 1;
        let oldest = self.commits.saturating_sub(IDLE_COMMITS_MAX);
        self.pins.retain(|pin| pin.used >= oldest && pin.revision >= compact_revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(revisions: std::ops::Range<i64>) -> Pins {
        let mut pins = Pins::default();
        revisions.for_each(|revision| pins.pin(&View { tree: Tree::default(), revision }));
        pins
    }

    #[test]
    fn the_idlest_root_makes_room() {
        let mut pins = pinned(1..5);
        pins.commit(-1);
        assert!(pins.find(1).is_some());
        (5..10).for_each(|revision| pins.pin(&View { tree: Tree::default(), revision }));
        assert_eq!(pins.pins.len(), PINS_MAX);
        assert!(pins.find(1).is_some() && pins.find(2).is_none() && pins.find(9).is_some());
    }

    #[test]
    fn a_root_goes_when_nobody_asks_for_it() {
        let mut pins = pinned(1..3);
        for _ in 0..IDLE_COMMITS_MAX {
            pins.commit(-1);
            assert!(pins.find(2).is_some());
        }
        pins.commit(-1);
        assert!(pins.find(1).is_none() && pins.find(2).is_some());
    }

    #[test]
    fn a_root_goes_when_its_revision_is_compacted() {
        let mut pins = pinned(1..5);
        pins.commit(3);
        assert!(pins.find(2).is_none() && pins.find(3).is_some());
    }
}
