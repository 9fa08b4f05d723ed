//! Writing a file in one stream.
//!
//! Records come in order, so pages can be numbered in the order in which they are full: a leaf, and now and then the branch above the
//! leaves before it. Nothing written is touched again, and memory is one page for each level.
//!
//! ```text
//! page  0     1     2     3     4       5     6     7       8         9
//!       meta  meta  leaf  leaf  branch  leaf  leaf  branch  branch    leaf
//!                   └─────┴──── of 2 3  └─────┴──── of 5 6  of 4 7    the buckets
//! ```
//!
//! Only the two pages in front must know what comes after them. Who writes a file goes back to them at the end
//! ([`Shape::write_front`]); who sends it away cannot, and writes everything twice: once into nothing, to
//! [measure](Writer::measure) it, and then with the [shape](Writer::with_shape) known. Reading the records twice costs less than
//! a second copy on a disk that may be nearly full, and the size of everything is known before the first byte, which the receiver
//! may want to be told.
//!
//! There is no list of free pages in the file, because none are free. bbolt takes such files, and etcd writes no others.

mod tree;

use std::io::{self, Write};

use crate::meta::{Meta, NO_FREELIST, PAGE_BYTES};
use crate::page::{BUCKET, LEAF, header};
use crate::reader::BUCKET_BYTES;
use crate::{Error, Result};

use tree::{Pages, Tree};

/// The usual size of a page in bytes.
pub const PAGE_SIZE: u32 = 4096;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 32_768;
/// The longest value.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// What the pages in front say of all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    page_size: u32,
    root: u64,
    high_water: u64,
}

impl Shape {
    /// The whole file's length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.high_water * u64::from(self.page_size)
    }

    /// Writes the pages in front.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write_front(&self, sink: &mut impl Write) -> io::Result<()> {
        let Self { page_size, root, high_water } = *self;
        for (id, txid) in [(0, 2), (1, 1)] {
            let meta = Meta { page_size, root, freelist: NO_FREELIST, high_water, txid };
            sink.write_all(&meta.encode(id))?;
        }
        Ok(())
    }
}

/// Writes a database: [buckets](Self::bucket) in the order of their names, [records](Self::put) of each in the order of
/// their keys.
#[derive(Debug)]
pub struct Writer<W> {
    pages: Pages<W>,
    /// The bucket of buckets.
    root: Tree,
    /// The bucket that records go to now.
    open: Option<(Vec<u8>, Tree)>,
    expected: Option<Shape>,
}

impl Writer<io::Sink> {
    /// Writes into nothing, to learn the [`Shape`].
    #[must_use]
    pub fn measure() -> Self {
        Self::begin(io::sink(), PAGE_SIZE, None)
    }
}

impl<W: Write> Writer<W> {
    /// Writes into a file, with nothing in its front, where [`Shape::write_front`] belongs at the end.
    ///
    /// # Errors
    /// Writing failed.
    pub fn new(sink: W) -> Result<Self> {
        Self::with_page_size(sink, PAGE_SIZE)
    }

    /// The same, with pages of a size of one's own, a power of two from 1 KiB to 64 KiB.
    ///
    /// # Errors
    /// Writing failed.
    ///
    /// # Panics
    /// Pages cannot have that size.
    pub fn with_page_size(mut sink: W, page_size: u32) -> Result<Self> {
        assert!(
            PAGE_BYTES.contains(&page_size) && page_size.is_power_of_two(),
            "no page has {page_size} bytes"
        );
        for _ in 0..2 {
            sink.write_all(&vec![0; page_size as usize])?;
        }
        Ok(Self::begin(sink, page_size, None))
    }

    /// Writes a file from its first byte to its last, whose records have been measured before.
    ///
    /// # Errors
    /// Writing failed.
    pub fn with_shape(mut sink: W, shape: Shape) -> Result<Self> {
        shape.write_front(&mut sink)?;
        Ok(Self::begin(sink, shape.page_size, Some(shape)))
    }

    fn begin(sink: W, page_size: u32, expected: Option<Shape>) -> Self {
        Self { pages: Pages::new(sink, page_size), root: Tree::default(), open: None, expected }
    }

    /// Begins a bucket.
    ///
    /// # Errors
    /// Writing failed, or the name does not come behind that of the bucket before.
    pub fn bucket(&mut self, name: &[u8]) -> Result<()> {
        self.close()?;
        self.root.expect(name, 0)?;
        self.open = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Adds a record to the bucket that was begun last.
    ///
    /// # Errors
    /// Writing failed, the key does not come behind the one before, or a size is out of bounds.
    ///
    /// # Panics
    /// No bucket was begun.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (_, tree) = self.open.as_mut().expect("a record belongs to a bucket");
        tree.expect(key, value.len())?;
        tree.put(0, key, value, &mut self.pages)
    }

    fn close(&mut self) -> Result<()> {
        let Some((name, tree)) = self.open.take() else { return Ok(()) };
        let value = match tree.inline(self.pages.page_size() / 4) {
            Some(page) => {
                let mut value = vec![0; BUCKET_BYTES];
                value.extend_from_slice(&page);
                value
            }
            None => {
                let mut value = tree.finish(&mut self.pages)?.to_le_bytes().to_vec();
                value.resize(BUCKET_BYTES, 0);
                value
            }
        };
        self.root.put(BUCKET, &name, &value, &mut self.pages)
    }

    /// Writes what is left, and returns where it was written to, and the shape.
    ///
    /// # Errors
    /// Writing failed, or the shape is not the one that was told.
    pub fn finish(mut self) -> Result<(W, Shape)> {
        self.close()?;
        let root = self.root.finish(&mut self.pages)?;
        let page_size = u32::try_from(self.pages.page_size()).map_err(|_| Error::Shape)?;
        let (mut sink, high_water) = self.pages.finish();
        sink.flush()?;
        let shape = Shape { page_size, root, high_water };
        if self.expected.is_some_and(|expected| expected != shape) {
            return Err(Error::Shape);
        }
        Ok((sink, shape))
    }
}

/// An empty leaf, in the value of a bucket.
fn empty_leaf() -> Vec<u8> {
    header(0, LEAF, 0, 0).to_vec()
}
