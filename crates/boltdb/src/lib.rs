//! The file format of [bbolt], in which etcd keeps its data and its snapshots.
//!
//! A file is an array of pages. Two in front say where the root is; the others are the leaves and branches of one B+tree for each
//! bucket, and one for the buckets themselves.
//!
//! - [`Reader`] reads a file page by page as somebody asks for records. Whatever the bytes are, it ends in records or an
//!   [`Error`]; [`Reader::check`] is bbolt's own check of a whole file.
//! - [`Writer`] makes a file of records that come in order, in one stream, also towards somebody to whom one cannot go back.
//!
//! Memory is a page for each level of a tree (and as much as the largest record), whatever the size of the file.
//!
//! ```
//! use etcd_rs_boltdb::{Reader, Writer};
//!
//! # fn main() -> etcd_rs_boltdb::Result<()> {
//! fn write<W: std::io::Write>(mut writer: Writer<W>) -> etcd_rs_boltdb::Result<(W, etcd_rs_boltdb::Shape)> {
//!     writer.bucket(b"fruit")?;
//!     writer.put(b"apple", b"red")?;
//!     writer.put(b"banana", b"yellow")?;
//!     writer.finish()
//! }
//!
//! let (_, shape) = write(Writer::measure())?;
//! let (file, _) = write(Writer::with_shape(Vec::new(), shape)?)?;
//!
//! let reader = Reader::new(file.as_slice())?;
//! assert!(reader.check()?.is_empty());
//! let fruit = reader.bucket(b"fruit")?.expect("it was written");
//! assert_eq!(fruit.get(b"apple")?, Some(b"red".to_vec()));
//! # Ok(())
//! # }
//! ```
//!
//! # What it is not
//!
//! It changes no file, and locks none: a file that a running etcd writes to must be read from a snapshot.
//!
//! [bbolt]: https://github.com/etcd-io/bbolt

mod check;
mod cursor;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod meta;
mod page;
mod reader;
mod source;
mod writer;

pub use cursor::{Cursor, Record};
pub use error::{Error, Result};
pub use reader::{Bucket, Reader};
pub use source::Source;
pub use writer::{KEY_BYTES_MAX, PAGE_SIZE, Shape, VALUE_BYTES_MAX, Writer};
