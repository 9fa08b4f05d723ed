//! Opening a file, and its buckets.

use std::fs::File;
use std::path::Path;

use crate::cursor::Cursor;
use crate::meta::Meta;
use crate::page::{HEADER_BYTES, Header, Page, u64_at};
use crate::source::Source;
use crate::{Error, Result, VALUE_BYTES_MAX};

/// No tree is higher: even with two children a page, this is more pages than there can be.
pub(crate) const DEPTH_MAX: usize = 64;
/// What a bucket's value begins with: its root's id and a sequence number.
pub(crate) const BUCKET_BYTES: usize = 16;

/// A database that is read, page by page, as somebody asks for it.
///
/// Nothing is believed before it has been checked, so a damaged file ends in an [`Error`], wherever the damage is. The file
/// must not be changed meanwhile.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    meta: Meta,
}

impl Reader<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be read, is no database, or is shorter than it says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(File::open(path)?)
    }
}

impl<S: Source> Reader<S> {
    /// Takes bytes for a database.
    ///
    /// # Errors
    /// As [`open`](Reader::open).
    pub fn new(source: S) -> Result<Self> {
        let meta = Meta::find(&source)?;
        Ok(Self { source, meta })
    }

    /// How many bytes of the file are the database; others may follow.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_size)
    }

    /// The size of a page in bytes.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// The bucket in which the others are.
    ///
    /// # Errors
    /// Its first page cannot be read or makes no sense.
    pub fn root(&self) -> Result<Bucket<'_, S>> {
        Ok(Bucket { reader: self, root: Root::Page(self.meta.root), depth: 0 })
    }

    /// A bucket that lies in no other.
    ///
    /// # Errors
    /// A page on the way cannot be read or makes no sense.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_, S>>> {
        self.root()?.bucket(name)
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Reads a page with those it flows over into, and gives its header with it.
    pub(crate) fn run(&self, id: u64) -> Result<(Header, Vec<u8>)> {
        if !(2..self.meta.high_water).contains(&id) {
            return Err(Error::corrupt(id, format!("out of bounds: {}", self.meta.high_water)));
        }
        let page_size = self.meta.page_size as usize;
        let offset = id * u64::from(self.meta.page_size);
        let mut bytes = vec![0; page_size];
        self.source.read_exact_at(&mut bytes, offset)?;
        let header = Header::decode(&bytes[..HEADER_BYTES]);
        if header.id != id {
            return Err(Error::corrupt(id, format!("it says that it is page {}", header.id)));
        }
        let pages = u64::from(header.overflow) + 1;
        let len = pages * u64::from(self.meta.page_size);
        if pages > self.meta.high_water - id || len > VALUE_BYTES_MAX as u64 * 2 {
            return Err(Error::corrupt(id, format!("{} pages follow, which is too many", header.overflow)));
        }
        if header.overflow > 0 {
            let len = usize::try_from(len).map_err(|_| Error::corrupt(id, "too long for this machine"))?;
            bytes.resize(len, 0);
            self.source.read_exact_at(&mut bytes[page_size..], offset + page_size as u64)?;
        }
        Ok((header, bytes))
    }

    /// Reads a page of a tree.
    pub(crate) fn page(&self, id: u64) -> Result<Page> {
        Page::parse(self.run(id)?.1).map_err(|detail| Error::corrupt(id, detail))
    }
}

/// Where a bucket's tree begins.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// At a page.
    Page(u64),
    /// In the bucket's own value, as it is small.
    Inline(Vec<u8>),
}

impl Root {
    /// Takes a bucket's value apart.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let (header, page) = value.split_at_checked(BUCKET_BYTES)?;
        match u64_at(header, 0) {
            0 => Some(Self::Inline(page.to_vec())),
            id => Some(Self::Page(id)),
        }
    }
}

/// Records in the order of their keys, and perhaps buckets among them.
#[derive(Debug)]
pub struct Bucket<'r, S> {
    reader: &'r Reader<S>,
    root: Root,
    depth: usize,
}

impl<'r, S: Source> Bucket<'r, S> {
    /// Goes through everything in it, in order.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'r, S> {
        Cursor::new(self.reader, self.root.clone())
    }

    /// The value of a record.
    ///
    /// # Errors
    /// A page on the way cannot be read or makes no sense.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.find(key)?;
        Ok(found.and_then(|(page, at)| (!page.is_bucket(at)).then(|| page.value(at).to_vec())))
    }

    /// A bucket in this one.
    ///
    /// # Errors
    /// A page on the way cannot be read or makes no sense, or buckets lie in buckets without an end.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Self>> {
        let Some((page, at)) = self.find(name)? else { return Ok(None) };
        if !page.is_bucket(at) {
            return Ok(None);
        }
        let corrupt = |what: &str| Error::corrupt(self.id(), format!("{what} in the bucket it belongs to"));
        let root = Root::decode(page.value(at)).ok_or_else(|| corrupt("a bucket without a root"))?;
        if self.depth >= DEPTH_MAX {
            return Err(corrupt("too many buckets"));
        }
        Ok(Some(Bucket { reader: self.reader, root, depth: self.depth + 1 }))
    }

    /// The record or bucket with the greatest key: its key and its value.
    ///
    /// # Errors
    /// A page on the way cannot be read or makes no sense.
    pub fn last(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let page = self.descend(|page| page.count() - 1)?;
        Ok(page.count().checked_sub(1).map(|at| (page.key(at).to_vec(), page.value(at).to_vec())))
    }

    fn find(&self, key: &[u8]) -> Result<Option<(Page, usize)>> {
        let page = self.descend(|page| page.child_for(key))?;
        let at = page.lower_bound(key);
        let found = at < page.count() && page.key(at) == key;
        Ok(found.then_some((page, at)))
    }

    /// The leaf that is reached when this child is taken of each branch.
    fn descend(&self, child: impl Fn(&Page) -> usize) -> Result<Page> {
        let mut page = match &self.root {
            Root::Page(id) => self.reader.page(*id)?,
            Root::Inline(bytes) => inline(bytes.clone()).map_err(|detail| Error::corrupt(0, detail))?,
        };
        let mut depth = 0;
        while !page.is_leaf() {
            let id = page.child(child(&page));
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(Error::corrupt(id, "the tree has no end"));
            }
            page = self.reader.page(id)?;
        }
        Ok(page)
    }

    /// The page to name when something is wrong with the bucket; 0 if it has none of its own.
    fn id(&self) -> u64 {
        match self.root {
            Root::Page(id) => id,
            Root::Inline(_) => 0,
        }
    }
}

/// A page that lies in the value of its bucket: always a leaf.
pub(crate) fn inline(bytes: Vec<u8>) -> Result<Page, String> {
    let page = Page::parse(bytes)?;
    if page.is_leaf() { Ok(page) } else { Err("a branch in a bucket's own value".to_owned()) }
}
