//! The integrity check of bbolt, which looks at every page once and tells all that is wrong.
//!
//! Every page must be reached once from the root, or be free. A freelist that is not in the file is what is left over, and then
//! only what is reached can be wrong.

use crate::meta::NO_FREELIST;
use crate::page::{FREELIST, HEADER_BYTES, Page, u64_at};
use crate::reader::{DEPTH_MAX, Reader, Root, inline};
use crate::source::Source;
use crate::{Error, Result};

/// So many complaints say enough.
const COMPLAINTS_MAX: usize = 1000;

impl<S: Source> Reader<S> {
    /// Looks at every page, and tells what is wrong in bbolt's words where it has them; nothing, if all is well. At some number of
    /// complaints it stops. Memory is two bits a page.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn check(&self) -> Result<Vec<String>> {
        let pages = usize::try_from(self.meta().high_water).map_err(|_| Error::Invalid)?;
        let mut check =
            Check { reader: self, reached: Bits::new(pages), free: Bits::new(pages), complaints: Vec::new() };
        check.reached.set(0);
        check.reached.set(1);
        let stored = self.meta().freelist != NO_FREELIST;
        if stored {
            check.freelist(self.meta().freelist)?;
        }
        check.tree(self.meta().root, &Bounds::default(), 0, 0)?;
        for id in (0..self.meta().high_water).filter(|_| stored) {
            if !check.reached.has(id) && !check.free.has(id) {
                check.complain(format!("page {id}: unreachable unfreed"));
            }
        }
        Ok(check.complaints)
    }
}

/// One bit for each page.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn place(id: u64) -> (usize, u64) {
        (usize::try_from(id / 64).unwrap_or(usize::MAX), 1 << (id % 64))
    }

    fn has(&self, id: u64) -> bool {
        let (word, bit) = Self::place(id);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns whether it was not set before.
    fn set(&mut self, id: u64) -> bool {
        let (word, bit) = Self::place(id);
        let Some(word) = self.0.get_mut(word) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

/// The keys between which a page's keys lie.
#[derive(Clone, Default)]
struct Bounds {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

struct Check<'r, S> {
    reader: &'r Reader<S>,
    reached: Bits,
    free: Bits,
    complaints: Vec<String>,
}

impl<S: Source> Check<'_, S> {
    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }

    /// What the reader found wrong is a complaint; that it could not read is an error.
    fn sort<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(found) => Ok(Some(found)),
            Err(Error::Io(error)) => Err(error.into()),
            Err(error) => {
                self.complain(error.to_string());
                Ok(None)
            }
        }
    }

    fn freelist(&mut self, id: u64) -> Result<()> {
        let outcome = self.reader.run(id);
        let Some((header, bytes)) = self.sort(outcome)? else { return Ok(()) };
        if header.flags != FREELIST {
            self.complain(format!("page {id}: invalid freelist page, page type is {:#x}", header.flags));
            return Ok(());
        }
        self.reach(id, header.overflow);
        let ids = bytes[HEADER_BYTES..].chunks_exact(8).map(|id| u64_at(id, 0));
        let many = header.count == u16::MAX;
        let count = if many { u64_at(&bytes, HEADER_BYTES) } else { header.count.into() };
        let ids = ids.skip(usize::from(many));
        if usize::try_from(count).map_or(true, |count| count > ids.len()) {
            self.complain(format!("page {id}: {count} free pages do not fit"));
            return Ok(());
        }
        for (_, free) in (0..count).zip(ids) {
            if free >= self.reader.meta().high_water {
                self.complain(format!("page {free}: out of bounds: {}", self.reader.meta().high_water));
            } else if !self.free.set(free) {
                self.complain(format!("page {free}: already freed"));
            }
        }
        Ok(())
    }

    /// Marks a page and those it flows over into; returns whether all of them are new.
    fn reach(&mut self, id: u64, overflow: u32) -> bool {
        let mut fresh = true;
        for id in id..=id + u64::from(overflow) {
            if !self.reached.set(id) {
                self.complain(format!("page {id}: multiple references"));
                fresh = false;
            }
            if self.free.has(id) {
                self.complain(format!("page {id}: reachable freed"));
            }
        }
        fresh
    }

    fn tree(&mut self, id: u64, bounds: &Bounds, depth: usize, buckets: usize) -> Result<()> {
        if self.complaints.len() == COMPLAINTS_MAX {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            self.complain(format!("page {id}: the tree has no end"));
            return Ok(());
        }
        let outcome = self.reader.run(id);
        let Some((header, bytes)) = self.sort(outcome)? else { return Ok(()) };
        // Once is enough to look at a page, and keeps loops from having no end.
        if !self.reach(id, header.overflow) {
            return Ok(());
        }
        let outcome = Page::parse(bytes).map_err(|detail| Error::corrupt(id, detail));
        let Some(page) = self.sort(outcome)? else { return Ok(()) };
        if depth > 0 {
            self.order(id, &page, bounds);
        }
        if page.is_leaf() {
            return self.buckets(id, &page, buckets);
        }
        for at in 0..page.count() {
            let next = (at + 1 < page.count()).then(|| page.key(at + 1).to_vec());
            let to = next.or_else(|| bounds.to.clone());
            let bounds = Bounds { from: page.key(at).to_vec(), to };
            self.tree(page.child(at), &bounds, depth + 1, buckets)?;
        }
        Ok(())
    }

    /// Within the page, the order has been checked.
    fn order(&mut self, id: u64, page: &Page, bounds: &Bounds) {
        let Some(last) = page.count().checked_sub(1) else {
            self.complain(format!("page {id}: an empty page below another"));
            return;
        };
        if page.key(0) < bounds.from.as_slice() {
            self.complain(format!(
                "the first key[0]=(hex){} on page({id}) needs to be >= the key in the ancestor ({})",
                hex(page.key(0)),
                hex(&bounds.from)
            ));
        }
        if let Some(to) = bounds.to.as_deref().filter(|to| page.key(last) >= *to) {
            self.complain(format!(
                "key[{last}]=(hex){} on page({id}) needs to be < than key of the next element in ancestor (hex){}",
                hex(page.key(last)),
                hex(to)
            ));
        }
    }

    fn buckets(&mut self, id: u64, page: &Page, depth: usize) -> Result<()> {
        for at in (0..page.count()).filter(|at| page.is_bucket(*at)) {
            let name = hex(page.key(at));
            if depth > DEPTH_MAX {
                self.complain(format!("page {id}: too many buckets in buckets"));
                return Ok(());
            }
            match Root::decode(page.value(at)) {
                None => self.complain(format!("page {id}: bucket (hex){name} has no root")),
                Some(Root::Page(root)) => self.tree(root, &Bounds::default(), 0, depth + 1)?,
                Some(Root::Inline(bytes)) => match inline(bytes) {
                    Ok(page) => self.buckets(id, &page, depth + 1)?,
                    Err(detail) => self.complain(format!("page {id}: bucket (hex){name}: {detail}")),
                },
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
