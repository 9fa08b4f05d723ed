//! Which ranges hold this key: an AVL tree over the ranges' starts that knows, for each subtree, the farthest end in it.
//!
//! Finding all m ranges that hold a key takes O(log n + m) steps where ranges do not nest badly, and never more than
//! O(m log n): a subtree is left alone when even its farthest end lies at or before the key, or all its starts lie behind it.
//!
//! ```text
//!                [f, k)  farthest: none (from m on)
//!               /      \
//!        [b, d)         [m, none)         key "c": root's start is behind it, so only the left side: [b, d)
//!    farthest: d        farthest: none    key "z": left side ends at d, left alone; root no; right [m, none)
//! ```
//!
//! Nodes live in one vector and point to each other by number; freed places are used again.

use std::cmp::Ordering;

use bytes::Bytes;

/// Where a range ends: before a key, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere: all keys from the start on belong to the range.
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < end.as_ref(),
            Self::Open => true,
        }
    }
}

impl Ord for End {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Open, Self::Open) => Ordering::Equal,
            (Self::Open, Self::Before(_)) => Ordering::Greater,
            (Self::Before(_), Self::Open) => Ordering::Less,
            (Self::Before(a), Self::Before(b)) => a.cmp(b),
        }
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Link = Option<usize>;

#[derive(Debug)]
struct Node<V> {
    start: Bytes,
    end: End,
    value: V,
    left: Link,
    right: Link,
    height: u8,
    /// The node of this subtree that ends last.
    farthest: usize,
}

/// A map from ranges to values, asked by key.
#[derive(Debug)]
pub(crate) struct IntervalTree<V> {
    nodes: Vec<Option<Node<V>>>,
    free: Vec<usize>,
    root: Link,
}

impl<V> Default for IntervalTree<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: None }
    }
}

impl<V: Copy> IntervalTree<V> {
    /// The value of exactly this range.
    pub(crate) fn get(&self, start: &[u8], end: &End) -> Option<V> {
        let mut link = self.root;
        while let Some(at) = link {
            let node = self.node(at);
            link = match order(start, end, node) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds a range that is not in the tree yet.
    pub(crate) fn insert(&mut self, start: Bytes, end: End, value: V) {
        debug_assert!(self.get(&start, &end).is_none());
        let node = Node { start, end, value, left: None, right: None, height: 1, farthest: 0 };
        let at = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[at] = Some(node);
        self.update(at);
        self.root = Some(self.insert_below(self.root, at));
    }

    /// Takes exactly this range out.
    pub(crate) fn remove(&mut self, start: &[u8], end: &End) -> Option<V> {
        let (root, removed) = self.remove_below(self.root, start, end);
        self.root = root;
        let removed = removed?;
        self.free.push(removed);
        self.nodes[removed].take().map(|node| node.value)
    }

    /// Calls `found` with the value of each range that holds `key`, by start and then end.
    pub(crate) fn stab(&self, key: &[u8], found: &mut impl FnMut(V)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, mut link: Link, key: &[u8], found: &mut impl FnMut(V)) {
        while let Some(at) = link {
            let node = self.node(at);
            if !self.node(node.farthest).end.is_after(key) {
                return;
            }
            self.stab_below(node.left, key, found);
            if key < node.start.as_ref() {
                return;
            }
            if node.end.is_after(key) {
                found(node.value);
            }
            link = node.right;
        }
    }

    fn insert_below(&mut self, link: Link, new: usize) -> usize {
        let Some(at) = link else { return new };
        let node = self.node(at);
        let below = self.node(new);
        if order(&below.start, &below.end, node) == Ordering::Less {
            let left = self.insert_below(node.left, new);
            self.node_mut(at).left = Some(left);
        } else {
            let right = self.insert_below(node.right, new);
            self.node_mut(at).right = Some(right);
        }
        self.balance(at)
    }

    /// The subtree without the range, and the node that held it.
    fn remove_below(&mut self, link: Link, start: &[u8], end: &End) -> (Link, Link) {
        let Some(at) = link else { return (None, None) };
        let node = self.node(at);
        let (left, right) = (node.left, node.right);
        let removed = match order(start, end, node) {
            Ordering::Less => {
                let (left, removed) = self.remove_below(left, start, end);
                self.node_mut(at).left = left;
                removed
            }
            Ordering::Greater => {
                let (right, removed) = self.remove_below(right, start, end);
                self.node_mut(at).right = right;
                removed
            }
            Ordering::Equal => return (self.join(left, right), Some(at)),
        };
        (Some(self.balance(at)), removed)
    }

    /// One tree of two, of which the right one lies wholly behind the left one.
    fn join(&mut self, left: Link, right: Link) -> Link {
        let Some(right) = right else { return left };
        let (rest, first) = self.take_first(right);
        let node = self.node_mut(first);
        node.left = left;
        node.right = rest;
        Some(self.balance(first))
    }

    fn take_first(&mut self, at: usize) -> (Link, usize) {
        let Some(left) = self.node(at).left else { return (self.node(at).right, at) };
        let (left, first) = self.take_first(left);
        self.node_mut(at).left = left;
        (Some(self.balance(at)), first)
    }

    /// Restores height and farthest end of a node whose children are right, rotating where one side is too high.
    fn balance(&mut self, at: usize) -> usize {
        let (left, right) = (self.node(at).left, self.node(at).right);
        if let Some(left) = left
            && self.height(Some(left)) > self.height(right) + 1
        {
            if self.height(self.node(left).left) < self.height(self.node(left).right) {
                let left = self.rotate_left(left);
                self.node_mut(at).left = Some(left);
            }
            return self.rotate_right(at);
        }
        if let Some(right) = right
            && self.height(Some(right)) > self.height(left) + 1
        {
            if self.height(self.node(right).right) < self.height(self.node(right).left) {
                let right = self.rotate_right(right);
                self.node_mut(at).right = Some(right);
            }
            return self.rotate_left(at);
        }
        self.update(at);
        at
    }

    fn rotate_right(&mut self, at: usize) -> usize {
        let top = self.node(at).left.expect("a left side that is too high exists");
        let middle = self.node_mut(top).right.replace(at);
        self.node_mut(at).left = middle;
        self.update(at);
        self.update(top);
        top
    }

    fn rotate_left(&mut self, at: usize) -> usize {
        let top = self.node(at).right.expect("a right side that is too high exists");
        let middle = self.node_mut(top).left.replace(at);
        self.node_mut(at).right = middle;
        self.update(at);
        self.update(top);
        top
    }

    fn update(&mut self, at: usize) {
        let node = self.node(at);
        let height = 1 + self.height(node.left).max(self.height(node.right));
        let mut farthest = at;
        for child in [node.left, node.right].into_iter().flatten() {
            let candidate = self.node(child).farthest;
            if self.node(candidate).end > self.node(farthest).end {
                farthest = candidate;
            }
        }
        let node = self.node_mut(at);
        node.height = height;
        node.farthest = farthest;
    }

    fn height(&self, link: Link) -> u8 {
        link.map_or(0, |at| self.node(at).height)
    }

    fn node(&self, at: usize) -> &Node<V> {
        self.nodes[at].as_ref().expect("links lead to nodes in use")
    }

    fn node_mut(&mut self, at: usize) -> &mut Node<V> {
        self.nodes[at].as_mut().expect("links lead to nodes in use")
    }
}

fn order<V>(start: &[u8], end: &End, node: &Node<V>) -> Ordering {
    start.cmp(&node.start).then_with(|| end.cmp(&node.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn end(at: u8) -> End {
        if at >= 40 { End::Open } else { End::Before(vec![at].into()) }
    }

    impl IntervalTree<u32> {
        fn found(&self, key: u8) -> Vec<u32> {
            let mut found = Vec::new();
            self.stab(&[key], &mut |value| found.push(value));
            found
        }

        /// Checks order, balance and farthest ends; returns the number of nodes.
        fn check_invariants(&self, link: Link) -> usize {
            let Some(at) = link else { return 0 };
            let node = self.node(at);
            let (left, right) = (self.height(node.left), self.height(node.right));
            assert!(left.abs_diff(right) <= 1 && node.height == 1 + left.max(right));
            let mut farthest = &node.end;
            for child in [node.left, node.right].into_iter().flatten() {
                farthest = farthest.max(&self.node(self.node(child).farthest).end);
            }
            assert_eq!(farthest, &self.node(node.farthest).end);
            1 + self.check_invariants(node.left) + self.check_invariants(node.right)
        }
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_plain_list_finds(
            steps in proptest::collection::vec((any::<bool>(), 0..40_u8, 1..45_u8), 1..200),
            key in 0..45_u8,
        ) {
            let mut tree = IntervalTree::default();
            let mut plain: BTreeMap<(u8, End), u32> = BTreeMap::new();
            for (number, (add, start, to)) in (0..).zip(steps) {
                let range = (start, end(to));
                let known = plain.get(&range).copied();
                assert_eq!(tree.get(&[start], &range.1), known);
                if add && known.is_none() {
                    tree.insert(vec![start].into(), range.1.clone(), number);
                    plain.insert(range, number);
                } else if !add {
                    assert_eq!(tree.remove(&[start], &range.1), plain.remove(&range));
                }
                assert_eq!(tree.check_invariants(tree.root), plain.len());
            }
            let expected: Vec<u32> = plain
                .iter()
                .filter(|((start, end), _)| *start <= key && end.is_after(&[key]))
                .map(|(_, value)| *value)
                .collect();
            assert_eq!(tree.found(key), expected);
        }
    }

    #[test]
    fn an_empty_tree_finds_nothing_and_forgets_everything() {
        let mut tree = IntervalTree::default();
        assert!(tree.found(1).is_empty());
        tree.insert(Bytes::from_static(b"a"), End::Open, 1);
        assert_eq!(tree.found(b'b'), [1]);
        assert_eq!(tree.remove(b"a", &End::Before(Bytes::from_static(b"b"))), None);
        assert_eq!(tree.remove(b"a", &End::Open), Some(1));
        assert!(tree.found(b'b').is_empty());
    }
}
