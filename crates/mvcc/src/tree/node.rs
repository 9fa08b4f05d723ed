//! Leaves and inner nodes, and how a change goes down and comes back up.

use std::sync::Arc;

use api::LeaseId;

use super::keys::{Keys, common_len};
use super::room;
use crate::{KeyMeta, Revision};

/// A leaf is copied when a reader shares it, which is the usual case, so it must not be large.
pub(super) const LEAF_KEYS_MAX: usize = 64;
const LEAF_KEYS_MIN: usize = LEAF_KEYS_MAX / 4;
/// Copying an inner node touches each child's counter, each in a cache line of its own.
pub(super) const INNER_CHILDREN_MAX: usize = 24;
const INNER_CHILDREN_MIN: usize = INNER_CHILDREN_MAX / 4;

#[derive(Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Keys with what is known of them, in three columns.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    keys: Keys,
    slots: Vec<Slot>,
    /// The keys' leases; empty as long as no key has one.
    leases: Vec<i64>,
}

/// A [`KeyMeta`] without its lease, as small as it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    create: i64,
    main: i64,
    version: i64,
    /// A request has less than 2^32 changes, a value less than 2^32 bytes: a request has, too.
    sub: u32,
    value_size: u32,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// One less than children; no key of a child is less than the separator before it or as great as the one behind.
    separators: Keys,
    children: Vec<Arc<Node>>,
    /// How many keys are below each child.
    counts: Vec<usize>,
}

/// What a node has given away because it had become too large.
pub(super) struct Split {
    pub(super) separator: Vec<u8>,
    pub(super) right: Arc<Node>,
}

impl Slot {
    fn new(meta: &KeyMeta) -> Self {
        Self {
            create: meta.create_revision,
            main: meta.mod_revision.main(),
            version: meta.version,
            sub: u32::try_from(meta.mod_revision.sub()).expect("a request has less than 2^32 changes"),
            value_size: u32::try_from(meta.value_size).expect("a value is less than 4 GiB"),
        }
    }
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn meta(&self, at: usize) -> KeyMeta {
        let slot = &self.slots[at];
        KeyMeta {
            create_revision: slot.create,
            mod_revision: Revision::new(slot.main, slot.sub.into()),
            version: slot.version,
            lease: LeaseId::new(self.leases.get(at).copied().unwrap_or(0)),
            value_size: slot.value_size as usize,
        }
    }

    pub(super) fn push(&mut self, key: &[u8], meta: &KeyMeta) {
        self.insert(self.len(), key, meta);
    }

    fn set(&mut self, at: usize, meta: &KeyMeta) {
        self.slots[at] = Slot::new(meta);
        if self.leases.is_empty() && !meta.lease.is_none() {
            self.leases = vec![0; self.slots.len()];
        }
        if let Some(lease) = self.leases.get_mut(at) {
            *lease = meta.lease.get();
        }
    }

    fn insert(&mut self, at: usize, key: &[u8], meta: &KeyMeta) {
        self.keys.insert(at, key);
        room(&mut self.slots, 1);
        self.slots.insert(at, Slot::new(meta));
        if !self.leases.is_empty() {
            room(&mut self.leases, 1);
            self.leases.insert(at, 0);
        }
        self.set(at, meta);
    }

    fn remove(&mut self, at: usize) -> KeyMeta {
        let meta = self.meta(at);
        self.keys.remove(at);
        self.slots.remove(at);
        if !self.leases.is_empty() {
            self.leases.remove(at);
        }
        meta
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let leases = self.leases.get(range.clone()).unwrap_or_default();
        Self {
            keys: self.keys.slice(range.clone()),
            slots: self.slots[range].to_vec(),
            leases: if leases.iter().all(|lease| *lease == 0) { Vec::new() } else { leases.to_vec() },
        }
    }

    /// Keeps the keys before `at`, and gives the others away.
    fn split(&mut self, at: usize) -> Split {
        let right = self.slice(at..self.len());
        let separator = separator(&self.keys.to_vec(at - 1), &right.keys.to_vec(0));
        *self = self.slice(0..at);
        Split { separator, right: Arc::new(Node::Leaf(right)) }
    }

    /// Small enough to be read through by the processor at one go, exactly as large as needed.
    pub(super) fn trimmed(&self) -> Self {
        self.slice(0..self.len())
    }
}

/// The shortest key that is greater than `left` and not greater than `right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    right[..=common_len(left, right)].to_vec()
}

impl Inner {
    pub(super) fn new(separators: Keys, children: Vec<Arc<Node>>) -> Self {
        let counts = children.iter().map(|child| child.keys_below()).collect();
        Self { separators, children, counts }
    }

    pub(super) fn children(&self) -> &[Arc<Node>] {
        &self.children
    }

    pub(super) fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The child in which the key is, or would be.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.find(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    fn take_in(&mut self, at: usize, split: Split) {
        self.counts[at] = self.children[at].keys_below();
        self.separators.insert(at, &split.separator);
        room(&mut self.counts, 1);
        self.counts.insert(at + 1, split.right.keys_below());
        room(&mut self.children, 1);
        self.children.insert(at + 1, split.right);
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            separators: self.separators.slice(range.start..range.end - 1),
            children: self.children[range.clone()].to_vec(),
            counts: self.counts[range].to_vec(),
        }
    }

    fn split(&mut self, at: usize) -> Split {
        let right = self.slice(at..self.children.len());
        let separator = self.separators.to_vec(at - 1);
        *self = self.slice(0..at);
        Split { separator, right: Arc::new(Node::Inner(right)) }
    }

    /// Takes a child away that has no keys any more.
    fn drop_child(&mut self, at: usize) {
        self.children.remove(at);
        self.counts.remove(at);
        if self.separators.len() > 0 {
            self.separators.remove(at.saturating_sub(1));
        }
    }

    /// Unites a child that has become small with a neighbour, if both fit into one node.
    fn unite(&mut self, at: usize) {
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            let Some([a, b]) = self.children.get(left..left + 2) else { continue };
            if let Some(united) = Node::united(a, b, &self.separators.to_vec(left)) {
                self.children[left] = Arc::new(united);
                self.counts[left] += self.counts[left + 1];
                self.drop_child(left + 1);
                return;
            }
        }
    }
}

impl Node {
    pub(super) fn keys_below(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.len() < LEAF_KEYS_MIN,
            Self::Inner(inner) => inner.children.len() < INNER_CHILDREN_MIN,
        }
    }

    /// Sets the key to what `change` makes of what it was, and returns what it was. The node may come back too small to hold
    /// everything and has then given a part away.
    pub(super) fn upsert(
        this: &mut Arc<Self>,
        key: &[u8],
        change: &mut dyn FnMut(Option<&KeyMeta>) -> KeyMeta,
    ) -> (Option<KeyMeta>, Option<Split>) {
        match Self::own(this, key.len()) {
            Self::Leaf(leaf) => match leaf.keys.find(key) {
                Ok(at) => {
                    let old = leaf.meta(at);
                    leaf.set(at, &change(Some(&old)));
                    (Some(old), None)
                }
                Err(at) => {
                    leaf.insert(at, key, &change(None));
                    // Keys that come in ascending order leave full leaves behind.
                    let middle = if at + 1 == leaf.len() { at } else { leaf.len() / 2 };
                    (None, (leaf.len() > LEAF_KEYS_MAX).then(|| leaf.split(middle)))
                }
            },
            Self::Inner(inner) => {
                let at = inner.child_of(key);
                let (old, split) = Self::upsert(&mut inner.children[at], key, change);
                match split {
                    None => inner.counts[at] += usize::from(old.is_none()),
                    Some(split) => inner.take_in(at, split),
                }
                let len = inner.children.len();
                let middle = if at + 2 >= len { len - 1 } else { len / 2 };
                (old, (len > INNER_CHILDREN_MAX).then(|| inner.split(middle)))
            }
        }
    }

    /// Takes away a key that is there.
    pub(super) fn remove(this: &mut Arc<Self>, key: &[u8]) -> KeyMeta {
        match Self::own(this, 0) {
            Self::Leaf(leaf) => leaf.remove(leaf.keys.find(key).expect("the key has been looked up")),
            Self::Inner(inner) => {
                let at = inner.child_of(key);
                let old = Self::remove(&mut inner.children[at], key);
                inner.counts[at] -= 1;
                if inner.counts[at] == 0 {
                    inner.drop_child(at);
                } else if inner.children[at].is_small() {
                    inner.unite(at);
                }
                old
            }
        }
    }

    /// The node itself if nobody shares it, or a copy in its place, with room for one more key.
    fn own(this: &mut Arc<Self>, key_len: usize) -> &mut Self {
        if Arc::get_mut(this).is_none() {
            *this = Arc::new(this.clone_with_room(key_len));
        }
        Arc::get_mut(this).expect("a fresh copy is shared with nobody")
    }

    fn clone_with_room(&self, key_len: usize) -> Self {
        match self {
            Self::Leaf(leaf) => {
                let mut slots = Vec::with_capacity(leaf.slots.len() + usize::from(key_len > 0));
                slots.extend_from_slice(&leaf.slots);
                let keys = if key_len > 0 { leaf.keys.clone_with_room(key_len) } else { leaf.keys.clone() };
                Self::Leaf(Leaf { keys, slots, leases: leaf.leases.clone() })
            }
            Self::Inner(inner) => Self::Inner(Inner {
                separators: inner.separators.clone(),
                children: inner.children.clone(),
                counts: inner.counts.clone(),
            }),
        }
    }

    fn united(a: &Self, b: &Self, separator: &[u8]) -> Option<Self> {
        // Not filled to the brim, lest the next key splits it again.
        match (a, b) {
            (Self::Leaf(a), Self::Leaf(b)) if a.len() + b.len() <= LEAF_KEYS_MAX * 3 / 4 => {
                let mut leaf = a.trimmed();
                for at in 0..b.len() {
                    leaf.push(&b.keys.to_vec(at), &b.meta(at));
                }
                Some(Self::Leaf(leaf.trimmed()))
            }
            (Self::Inner(a), Self::Inner(b))
                if a.children.len() + b.children.len() <= INNER_CHILDREN_MAX * 3 / 4 =>
            {
                let mut separators = a.separators.clone();
                separators.push(separator);
                (0..b.separators.len()).for_each(|at| separators.push(&b.separators.to_vec(at)));
                Some(Self::Inner(Inner {
                    separators,
                    children: [&a.children[..], &b.children].concat(),
                    counts: [&a.counts[..], &b.counts].concat(),
                }))
            }
            _ => None,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        const COUNTERS_BYTES: usize = 2 * size_of::<usize>();
        COUNTERS_BYTES
            + size_of::<Self>()
            + match self {
                Self::Leaf(leaf) => {
                    leaf.keys.memory_bytes()
                        + leaf.slots.capacity() * size_of::<Slot>()
                        + leaf.leases.capacity() * size_of::<i64>()
                }
                Self::Inner(inner) => {
                    inner.separators.memory_bytes()
                        + inner.children.capacity() * size_of::<Arc<Self>>()
                        + inner.counts.capacity() * size_of::<usize>()
                        + inner.children.iter().map(|child| child.memory_bytes()).sum::<usize>()
                }
            }
    }

    /// Checks the node and all below it, whose keys must lie in `from..to`. Returns how deep it is.
    ///
    /// # Panics
    /// Something does not hold.
    pub(super) fn check_invariants(&self, from: Option<&[u8]>, to: Option<&[u8]>, is_root: bool) -> usize {
        match self {
            Self::Leaf(leaf) => {
                leaf.keys.check_invariants();
                assert_eq!(leaf.keys.len(), leaf.slots.len(), "a leaf's columns have different lengths");
                assert!(leaf.leases.is_empty() || leaf.leases.len() == leaf.slots.len());
                assert!(leaf.len() <= LEAF_KEYS_MAX && (is_root || leaf.len() > 0), "{} keys", leaf.len());
                for at in 0..leaf.len() {
                    let key = leaf.keys.to_vec(at);
                    assert!(from.is_none_or(|from| from <= &key[..]), "key {key:?} is left of its separator");
                    assert!(to.is_none_or(|to| &key[..] < to), "key {key:?} is right of its separator");
                }
                1
            }
            Self::Inner(inner) => {
                inner.separators.check_invariants();
                let len = inner.children.len();
                assert!(len <= INNER_CHILDREN_MAX && len > usize::from(is_root), "{len} children");
                assert_eq!((inner.separators.len() + 1, inner.counts.len()), (len, len));
                let separators: Vec<_> = (0..len - 1).map(|at| inner.separators.to_vec(at)).collect();
                let mut depths = (0..len).map(|at| {
                    let child = &inner.children[at];
                    assert_eq!(inner.counts[at], child.keys_below(), "child {at} is miscounted");
                    let from = at.checked_sub(1).map_or(from, |at| Some(&separators[at]));
                    child.check_invariants(from, separators.get(at).map_or(to, |to| Some(to)), false)
                });
                let depth = depths.next().expect("there are children");
                assert!(depths.all(|other| other == depth), "leaves are not equally deep");
                depth + 1
            }
        }
    }
}
