//! Going through a bucket in order.
//!
//! Memory is one page for each level of the tree. Keys must ascend over the whole way, and every page below the root
//! has at least one; so a tree that comes back to a page it has been at ends in an error there, and no damage makes this endless.

use crate::page::Page;
use crate::reader::{DEPTH_MAX, Reader, Root, inline};
use crate::source::Source;
use crate::{Error, Result};

/// What lies in a bucket: a record or another bucket. It is lent until the cursor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key, or the bucket's name.
    pub key: &'a [u8],
    /// The value; of a bucket, it is of no use but to this crate.
    pub value: &'a [u8],
    /// It is a bucket.
    pub is_bucket: bool,
}

/// Goes through a bucket, see [`Bucket::cursor`](crate::Bucket::cursor).
#[derive(Debug)]
pub struct Cursor<'r, S> {
    reader: &'r Reader<S>,
    /// Where to begin, until it has begun.
    root: Option<Root>,
    levels: Vec<Level>,
    previous: Vec<u8>,
}

/// A page on the way from the root to where the cursor is.
#[derive(Debug)]
struct Level {
    page: Page,
    id: u64,
    /// The element that comes next.
    at: usize,
    /// What all keys in the page are less than, if anything follows.
    end: Option<Vec<u8>>,
}

impl<'r, S: Source> Cursor<'r, S> {
    pub(crate) fn new(reader: &'r Reader<S>, root: Root) -> Self {
        Self { reader, root: Some(root), levels: Vec::new(), previous: Vec::new() }
    }

    /// The next record or bucket. After an error there is nothing more.
    ///
    /// # Errors
    /// A page cannot be read or makes no sense.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        match self.advance() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                self.levels.clear();
                return Err(error);
            }
        }
        Ok(self.levels.last().map(|level| {
            let at = level.at - 1;
            Record {
                key: level.page.key(at),
                value: level.page.value(at),
                is_bucket: level.page.is_bucket(at),
            }
        }))
    }

    /// Puts the last level behind the next element of a leaf; returns whether there is one.
    fn advance(&mut self) -> Result<bool> {
        if let Some(root) = self.root.take() {
            let (page, id) = match root {
                Root::Page(id) => (self.reader.page(id)?, id),
                Root::Inline(bytes) => (inline(bytes).map_err(|detail| Error::corrupt(0, detail))?, 0),
            };
            self.levels.push(Level { page, id, at: 0, end: None });
        }
        while let Some(level) = self.levels.last_mut() {
            if level.at == level.page.count() {
                self.levels.pop();
                continue;
            }
            let at = level.at;
            level.at += 1;
            if level.page.is_leaf() {
                let key = level.page.key(at);
                if key <= self.previous.as_slice() {
                    return Err(Error::corrupt(
                        level.id,
                        format!("key[{at}] needs to be > than previous element"),
                    ));
                }
                self.previous.clear();
                self.previous.extend_from_slice(key);
                return Ok(true);
            }
            self.descend(at)?;
        }
        Ok(false)
    }

    /// Goes down to a child of the last level.
    fn descend(&mut self, at: usize) -> Result<()> {
        let parent = self.levels.last().expect("there is a branch to go down from");
        let id = parent.page.child(at);
        if self.levels.len() > DEPTH_MAX {
            return Err(Error::corrupt(id, "the tree has no end"));
        }
        let end = match at + 1 {
            next if next < parent.page.count() => Some(parent.page.key(next).to_vec()),
            _ => parent.end.clone(),
        };
        let page = self.reader.page(id)?;
        let Some(last) = page.count().checked_sub(1) else {
            return Err(Error::corrupt(id, "an empty page below another"));
        };
        if page.key(0) < parent.page.key(at) {
            return Err(Error::corrupt(id, "the first key needs to be >= the key in the ancestor"));
        }
        if end.as_deref().is_some_and(|end| page.key(last) >= end) {
            return Err(Error::corrupt(
                id,
                "the last key needs to be < than key of the next element in ancestor",
            ));
        }
        self.levels.push(Level { page, id, at: 0, end });
        Ok(())
    }
}
