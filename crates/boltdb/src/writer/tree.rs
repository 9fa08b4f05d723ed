//! A bucket's tree, built from its leaves up while they are written.

use std::io::Write;

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX, empty_leaf};
use crate::page::{BRANCH, ELEMENT_BYTES, HEADER_BYTES, LEAF, header};
use crate::{Error, Result};

/// Pages, numbered as they are written.
#[derive(Debug)]
pub(super) struct Pages<W> {
    sink: W,
    page_size: usize,
    /// The id of the next one.
    next: u64,
}

impl<W: Write> Pages<W> {
    /// Two pages come before all others.
    pub(super) fn new(sink: W, page_size: u32) -> Self {
        Self { sink, page_size: page_size as usize, next: 2 }
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(super) fn finish(self) -> (W, u64) {
        (self.sink, self.next)
    }

    /// Writes a node as one page, or several if it is larger, and returns its id.
    fn write(&mut self, node: &Node, kind: u16) -> Result<u64> {
        let id = self.next;
        let pages = node.size().div_ceil(self.page_size).max(1);
        let overflow = u32::try_from(pages - 1).map_err(|_| Error::Size)?;
        let mut bytes = node.encode(id, kind, overflow);
        bytes.resize(pages * self.page_size, 0);
        self.sink.write_all(&bytes)?;
        self.next += u64::from(overflow) + 1;
        Ok(id)
    }
}

/// What becomes a page.
#[derive(Debug, Default)]
struct Node {
    elements: Vec<Element>,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

/// An element before its place is known.
#[derive(Clone, Copy, Debug)]
struct Element {
    flags: u32,
    key: u32,
    value: u32,
    child: u64,
}

impl Node {
    fn size(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    fn first_key(&self) -> &[u8] {
        self.elements.first().map_or(&[], |first| &self.data[..first.key as usize])
    }

    fn encode(&self, id: u64, kind: u16, overflow: u32) -> Vec<u8> {
        let count = u16::try_from(self.elements.len()).expect("a page has no room for more");
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(&header(id, kind, count, overflow));
        let mut data_at = HEADER_BYTES + self.elements.len() * ELEMENT_BYTES;
        for element in &self.elements {
            let pos = u32::try_from(data_at - bytes.len()).expect("pages are smaller");
            let Element { flags, key, value, child } = *element;
            if kind == LEAF {
                [flags, pos, key, value].iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
            } else {
                [pos, key].iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
                bytes.extend_from_slice(&child.to_le_bytes());
            }
            data_at += key as usize + value as usize;
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
    }
}

/// The pages of a bucket that are not full yet: a leaf, and a branch for each level above.
#[derive(Debug, Default)]
pub(super) struct Tree {
    leaf: Node,
    branches: Vec<Node>,
    last_key: Vec<u8>,
}

impl Tree {
    /// Checks the sizes of a record, and that it comes behind the one before.
    pub(super) fn expect(&mut self, key: &[u8], value_len: usize) -> Result<()> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
            return Err(Error::Size);
        }
        if key <= self.last_key.as_slice() {
            return Err(Error::Order);
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Adds a record that is expected.
    pub(super) fn put<W: Write>(
        &mut self,
        flags: u32,
        key: &[u8],
        value: &[u8],
        pages: &mut Pages<W>,
    ) -> Result<()> {
        let size = self.leaf.size() + ELEMENT_BYTES + key.len() + value.len();
        if !self.leaf.elements.is_empty() && size > pages.page_size {
            let id = pages.write(&self.leaf, LEAF)?;
            let first = self.leaf.first_key().to_vec();
            self.leaf.clear();
            self.adopt(0, &first, id, pages)?;
        }
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Error::Size);
        self.leaf.elements.push(Element { flags, key: len(key)?, value: len(value)?, child: 0 });
        self.leaf.data.extend_from_slice(key);
        self.leaf.data.extend_from_slice(value);
        Ok(())
    }

    /// Adds a page to the branch of this level. A branch has at least two children, however long their keys are, so that each level
    /// is half as large as the one below.
    fn adopt<W: Write>(&mut self, level: usize, key: &[u8], id: u64, pages: &mut Pages<W>) -> Result<()> {
        if level == self.branches.len() {
            self.branches.push(Node::default());
        }
        let branch = &mut self.branches[level];
        let size = branch.size() + ELEMENT_BYTES + key.len();
        let full = (branch.elements.len() >= 2 && size > pages.page_size).then(|| std::mem::take(branch));
        let key_len = u32::try_from(key.len()).map_err(|_| Error::Size)?;
        branch.elements.push(Element { flags: 0, key: key_len, value: 0, child: id });
        branch.data.extend_from_slice(key);
        match full {
            None => Ok(()),
            Some(full) => {
                let id = pages.write(&full, BRANCH)?;
                self.adopt(level + 1, full.first_key(), id, pages)
            }
        }
    }

    /// The only page, if it is so small that it may stay in the bucket's value.
    pub(super) fn inline(&self, size_max: usize) -> Option<Vec<u8>> {
        if self.leaf.elements.is_empty() {
            return Some(empty_leaf());
        }
        let small = self.branches.is_empty() && self.leaf.size() <= size_max;
        small.then(|| self.leaf.encode(0, LEAF, 0))
    }

    /// Writes what is left, and returns the root's id.
    pub(super) fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> Result<u64> {
        let mut id = pages.write(&self.leaf, LEAF)?;
        let mut first = self.leaf.first_key().to_vec();
        let mut level = 0;
        // A level may become one more while the last page of the one below is adopted.
        while level < self.branches.len() {
            self.adopt(level, &first, id, pages)?;
            let branch = std::mem::take(&mut self.branches[level]);
            id = pages.write(&branch, BRANCH)?;
            first = branch.first_key().to_vec();
            level += 1;
        }
        Ok(id)
    }
}
