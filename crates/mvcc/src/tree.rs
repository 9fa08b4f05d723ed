//! The live index: every live key with what is known of it, in order, counted, and shared with readers.
//!
//! A B+tree whose nodes are counted references. A copy of the tree is a copy of the reference to its root, so a reader takes
//! one and from then on meets no lock and no change. The writer edits a node in place if nobody shares it, or else a copy
//! of it, and so the path up to the root:
//!
//! ```text
//!            reader ──► root            root' ◄── writer            put "f": root, right and "f" are copied,
//!                      /    \          /    \                       left and "a" are shared
//!                   left    right   left    right'
//!                   /  \    /   \           /   \
//!                  a    d  f     k        f'     k
//! ```
//!
//! Inner nodes know how many keys are below each child, so a key's rank (how many keys are less) and the key of a rank cost one
//! way down each. The number of keys in a range is the difference of two ranks, whatever it is.
//!
//! Leaves keep keys packed behind their common prefix, and numbers in columns, so that a live key of 64 bytes costs less
//! than 100 bytes all in.

mod keys;
mod node;

use std::sync::Arc;

use bytes::Bytes;

use crate::KeyMeta;
use keys::Keys;
use node::{INNER_CHILDREN_MAX, Inner, LEAF_KEYS_MAX, Leaf, Node};

/// Live keys in order. Cloning is cheap, and the clone does not change with the original.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Arc<Node>,
}

/// Makes room as a leaf needs it: little, because there are many.
fn room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 8));
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Leaf::default())) }
    }
}

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.root.keys_below()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyMeta> {
        self.find(key).map(|item| item.meta())
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Item<'_>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children()[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.keys().find(key).ok().map(|at| Item { leaf, at }),
            }
        }
    }

    /// How many keys are less than this one.
    pub(crate) fn rank(&self, key: &[u8]) -> usize {
        let mut rank = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    rank += inner.counts()[..at].iter().sum::<usize>();
                    node = &inner.children()[at];
                }
                Node::Leaf(leaf) => {
                    let (Ok(at) | Err(at)) = leaf.keys().find(key);
                    return rank + at;
                }
            }
        }
    }

    /// The keys from this rank on.
    pub(crate) fn iter(&self, rank: usize) -> Iter<'_> {
        let mut iter = Iter { above: Vec::new(), leaf: None, at: 0 };
        let (mut node, mut rank) = (&*self.root, rank);
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut at = 0;
                    while at + 1 < inner.children().len() && rank >= inner.counts()[at] {
                        rank -= inner.counts()[at];
                        at += 1;
                    }
                    iter.above.push((inner, at));
                    node = &inner.children()[at];
                }
                Node::Leaf(leaf) => {
                    iter.leaf = Some(leaf);
                    iter.at = rank.min(leaf.len());
                    return iter;
                }
            }
        }
    }

    /// Sets the key to what `change` makes of what it was, and returns what it was.
    pub(crate) fn upsert(
        &mut self,
        key: &[u8],
        mut change: impl FnMut(Option<&KeyMeta>) -> KeyMeta,
    ) -> Option<KeyMeta> {
        let (old, split) = Node::upsert(&mut self.root, key, &mut change);
        if let Some(split) = split {
            let mut separators = Keys::default();
            separators.push(&split.separator);
            let children = vec![Arc::clone(&self.root), split.right];
            self.root = Arc::new(Node::Inner(Inner::new(separators, children)));
        }
        old
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<KeyMeta> {
        // Looking first spares the copies if there is nothing to remove.
        self.find(key)?;
        let old = Node::remove(&mut self.root, key);
        while let Node::Inner(inner) = &*self.root {
            self.root = match inner.children() {
                [] => Arc::new(Node::Leaf(Leaf::default())),
                [only] => Arc::clone(only),
                [_, _, ..] => break,
            };
        }
        Some(old)
    }

    /// What the tree occupies, without what the allocator adds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
    }

    /// # Panics
    /// Something that must always hold does not.
    pub(crate) fn check_invariants(&self) {
        self.root.check_invariants(None, None, true);
    }
}

/// A tree in the making, of keys that come in ascending order, from the leaves up: nodes get a little less than they can take, so that the first changes do not split them.
#[derive(Default)]
pub(crate) struct Builder {
    leaf: Leaf,
    last: Vec<u8>,
    /// Finished nodes, each with the separator before it.
    level: Vec<(Vec<u8>, Arc<Node>)>,
    separator: Vec<u8>,
}

impl Builder {
    const LEAF_KEYS: usize = LEAF_KEYS_MAX * 7 / 8;
    const INNER_CHILDREN: usize = INNER_CHILDREN_MAX * 7 / 8;

    /// Whether a key comes behind all that were pushed.
    pub(crate) fn takes(&self, key: &[u8]) -> bool {
        (self.leaf.len() == 0 && self.level.is_empty()) || *self.last < *key
    }

    pub(crate) fn push(&mut self, key: &[u8], meta: &KeyMeta) {
        assert!(self.takes(key), "keys must ascend to build a tree from them");
        if self.leaf.len() == Self::LEAF_KEYS {
            self.end_leaf();
            self.separator = node::separator(&self.last, key);
        }
        self.leaf.push(key, meta);
        self.last.clear();
        self.last.extend_from_slice(key);
    }

    fn end_leaf(&mut self) {
        let leaf = std::mem::take(&mut self.leaf).trimmed();
        self.level.push((std::mem::take(&mut self.separator), Arc::new(Node::Leaf(leaf))));
    }

    pub(crate) fn finish(mut self) -> Tree {
        self.end_leaf();
        let mut level = self.level;
        while level.len() > 1 {
            // Evenly, so that no node is left with a single child.
            let nodes = level.len().div_ceil(Self::INNER_CHILDREN);
            let mut above = Vec::with_capacity(nodes);
            let mut rest = level.into_iter();
            for at in 0..nodes {
                let children = rest.len().div_ceil(nodes - at);
                let mut group = rest.by_ref().take(children);
                let (before, first) = group.next().expect("every node gets a child");
                let (mut separators, mut children) = (Keys::default(), vec![first]);
                for (separator, child) in group {
                    separators.push(&separator);
                    children.push(child);
                }
                let separators = separators.slice(0..separators.len());
                above.push((before, Arc::new(Node::Inner(Inner::new(separators, children)))));
            }
            level = above;
        }
        let (_, root) = level.pop().expect("there is at least one leaf");
        Tree { root }
    }
}

/// One key in the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    leaf: &'a Leaf,
    at: usize,
}

impl Item<'_> {
    pub(crate) fn meta(&self) -> KeyMeta {
        self.leaf.meta(self.at)
    }

    pub(crate) fn key_len(&self) -> usize {
        let keys = self.leaf.keys();
        keys.prefix().len() + keys.suffix(self.at).len()
    }

    pub(crate) fn key(&self) -> Bytes {
        self.leaf.keys().to_vec(self.at).into()
    }
}

/// Keys in ascending order.
#[derive(Debug)]
pub(crate) struct Iter<'a> {
    /// The way down, and which child of each node it took.
    above: Vec<(&'a Inner, usize)>,
    leaf: Option<&'a Leaf>,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            let leaf = self.leaf?;
            if self.at < leaf.len() {
                self.at += 1;
                return Some(Item { leaf, at: self.at - 1 });
            }
            self.leaf = self.next_leaf();
            self.at = 0;
        }
    }
}

impl<'a> Iter<'a> {
    fn next_leaf(&mut self) -> Option<&'a Leaf> {
        let mut node = loop {
            let (inner, at) = self.above.pop()?;
            if let Some(next) = inner.children().get(at + 1) {
                self.above.push((inner, at + 1));
                break &**next;
            }
        };
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => {
                    self.above.push((inner, 0));
                    node = &inner.children()[0];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
