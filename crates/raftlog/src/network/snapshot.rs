//! Sending the state to a member that the log cannot help any more, and receiving it.
//!
//! The leader's application writes its state as files, as of some position in the log. The receiver is told their names and sizes and
//! says how much of each it has from an earlier attempt; only the rest is sent. With each file comes the checksum of the
//! whole of it, and nothing is installed unless all of them are right.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_prost::ProstCodec;

use super::dial::Answer;
use super::links::{self, Links, Purpose};
use super::wire::{self, FileRecord, PingMessage, SnapshotDone, SnapshotHave, SnapshotOffer, SnapshotPiece};
use crate::record::{LogIdRecord, VoteRecord};
use crate::state_machine::SnapshotData;
use crate::types::Vote;

/// How much of a file goes into one message.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces that are read ahead, or wait to be written.
const PIECES_WAITING: usize = 4;
/// The largest number of files a snapshot may have.
const FILES_MAX: usize = 100_000;

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// Whether a member can be reached; to find that out when the state has been written would be late.
pub(crate) async fn reach(links: &Links, to: u64) -> Result<(), Status> {
    let _pong: PingMessage = links.unary(to, Purpose::Bulk, wire::PING, PingMessage {}).await?;
    Ok(())
}

/// Has the state written into `dir` and sends it. Returns the receiver's vote.
pub(crate) async fn send(
    links: &Links,
    answer: &dyn Answer,
    to: u64,
    vote: Vote,
    snapshot: &SnapshotData,
    dir: &Path,
) -> Result<Vote, Status> {
    let (applied, _holds_the_log) = snapshot.write(dir).await.map_err(internal)?;
    let Some(last) = applied.last else { return Err(internal("there is no state to send yet")) };
    let (listed, from) = (dir.to_owned(), dir.to_owned());
    let files = blocking(move || list(&listed)).await?;
    let total: u64 = files.iter().map(|file| file.size).sum();
    tracing::info!(to = %format!("{to:x}"), %last, files = files.len(), bytes = total, "sending a snapshot");
    let offer = SnapshotOffer {
        vote: Some(VoteRecord::new(&vote)),
        last: Some(LogIdRecord::new(last)),
        membership: applied.membership.unwrap_or_default(),
        files: files.clone(),
        application: answer.offer(),
    };
    let have: SnapshotHave = links.unary(to, Purpose::Bulk, wire::SNAPSHOT_OFFER, offer).await?;
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let reading = tokio::task::spawn_blocking(move || read_files(&from, &files, &have.bytes, &sender));
    let link = links.link(to, Purpose::Bulk)?;
    let request = link.request(ReceiverStream::new(pieces));
    let mut grpc = links::client(link.channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<SnapshotPiece, SnapshotDone>::default();
    let path = PathAndQuery::from_static(wire::SNAPSHOT_SEND);
    let done = grpc.client_streaming(request, path, codec).await;
    // The pieces' receiver is gone by now, so the reader has ended or ends at its next piece. What it could not read
    // is the better explanation.
    reading.await.map_err(internal)?.map_err(internal)?;
    let done = done.map_err(|status| links.heard(status))?.into_inner();
    let dir = dir.to_owned();
    blocking(move || fs::remove_dir_all(dir)).await?;
    Ok(done.vote.ok_or_else(|| wire::malformed("vote"))?.into_vote())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?.map_err(internal)
}

/// The files in `dir`, in the order of their names. There are no directories in it.
fn list(dir: &Path) -> io::Result<Vec<FileRecord>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| io::Error::other(format!("a file with an odd name: {name:?}")))?;
        files.push(FileRecord { name, size: entry.metadata()?.len() });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Reads all files, sends what the receiver lacks, and the checksum of each.
fn read_files(
    dir: &Path,
    files: &[FileRecord],
    have: &[u64],
    pieces: &mpsc::Sender<SnapshotPiece>,
) -> io::Result<()> {
    for (number, record) in files.iter().enumerate() {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        let there = have.get(number as usize).copied().unwrap_or(0).min(record.size);
        let mut file = File::open(dir.join(&record.name))?;
        let (mut at, mut checksum) = (0, 0);
        loop {
            let mut data = vec![0; PIECE_BYTES];
            let length = fill(&mut file, &mut data)?;
            data.truncate(length);
            checksum = crc32c::crc32c_append(checksum, &data);
            let begin = at;
            at += length as u64;
            let is_last = at >= record.size || length == 0;
            let skip = usize::try_from(there.saturating_sub(begin)).map_or(length, |skip| skip.min(length));
            if skip < length || is_last {
                let data = Bytes::from(data).slice(skip..);
                let piece = SnapshotPiece { file: number, data, checksum: is_last.then_some(checksum) };
                if pieces.blocking_send(piece).is_err() {
                    // The call has ended; it says why.
                    return Ok(());
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// A snapshot on its way to this member.
#[derive(Debug)]
pub(crate) struct Incoming {
    dir: PathBuf,
    offer: Option<(u64, SnapshotOffer)>,
}

impl Incoming {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, offer: None }
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Accepts an offer by `from`, and says what is there already. Another offer that was accepted before is forgotten.
    pub(crate) fn accept(&mut self, from: u64, offer: SnapshotOffer) -> Result<SnapshotHave, Status> {
        if offer.files.len() > FILES_MAX || !offer.files.iter().all(|file| is_plain(&file.name)) {
            return Err(wire::malformed("list of files"));
        }
        let is_resumed = self.offer.as_ref().is_some_and(|(sender, _)| *sender == from);
        if !is_resumed && self.dir.exists() {
            fs::remove_dir_all(&self.dir).map_err(internal)?;
        }
        fs::create_dir_all(&self.dir).map_err(internal)?;
        let names: BTreeSet<&str> = offer.files.iter().map(|file| file.name.as_str()).collect();
        for present in list(&self.dir).map_err(internal)? {
            let wanted = offer.files.iter().find(|file| file.name == present.name);
            if !names.contains(present.name.as_str()) || wanted.is_some_and(|file| file.size < present.size) {
                fs::remove_file(self.dir.join(&present.name)).map_err(internal)?;
            }
        }
        let length =
            |file: &FileRecord| fs::metadata(self.dir.join(&file.name)).map_or(0, |found| found.len());
        let have = SnapshotHave { bytes: offer.files.iter().map(length).collect() };
        self.offer = Some((from, offer));
        Ok(have)
    }

    /// Writes the pieces that come. Returns the offer once all files are complete, correct and durable; whatever is
    /// wrong with the pieces ends in an error, and with the checksum also in starting afresh next time.
    pub(crate) async fn receive(
        &mut self,
        from: u64,
        mut pieces: impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin,
    ) -> Result<SnapshotOffer, Status> {
        let offer = match &self.offer {
            Some((sender, offer)) if *sender == from => offer.clone(),
            _ => return Err(Status::failed_precondition("this snapshot was not offered")),
        };
        let (sender, mut waiting) = mpsc::channel(PIECES_WAITING);
        let (dir, files) = (self.dir.clone(), offer.files.clone());
        let writing = tokio::task::spawn_blocking(move || write_files(&dir, &files, &mut waiting));
        let mut ended = None;
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => {
                    if sender.send(piece).await.is_err() {
                        // The writer has failed and says why.
                        break;
                    }
                }
                Err(status) => {
                    ended = Some(status);
                    break;
                }
            }
        }
        drop(sender);
        let written = writing.await.map_err(internal)?;
        if let Some(status) = ended {
            return Err(status);
        }
        if let Err(error) = written {
            if error.kind() == io::ErrorKind::InvalidData {
                self.offer = None;
            }
            return Err(internal(format!("a snapshot was not received whole: {error}")));
        }
        self.offer = None;
        Ok(offer)
    }
}

/// A name of a file in the same directory, whatever else somebody may try.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

fn write_files(
    dir: &Path,
    files: &[FileRecord],
    pieces: &mut mpsc::Receiver<SnapshotPiece>,
) -> io::Result<()> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    for (number, record) in files.iter().enumerate() {
        let path = dir.join(&record.name);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let (mut length, mut checksum) = checksum_of(&mut file)?;
        file.seek(SeekFrom::Start(length))?;
        loop {
            let piece = pieces.blocking_recv().ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ended within {}", record.name))
            })?;
            length += piece.data.len() as u64;
            if piece.file as usize != number || length > record.size {
                return Err(invalid(format!("a piece that does not belong to {}", record.name)));
            }
            checksum = crc32c::crc32c_append(checksum, &piece.data);
            file.write_all(&piece.data)?;
            let Some(expected) = piece.checksum else { continue };
            if expected != checksum || length != record.size {
                return Err(invalid(format!("{} has arrived damaged", record.name)));
            }
            break;
        }
        file.sync_all()?;
    }
    File::open(dir)?.sync_all()
}

fn checksum_of(file: &mut File) -> io::Result<(u64, u32)> {
    let (mut length, mut checksum) = (0, 0);
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match fill(file, &mut buffer)? {
            0 => return Ok((length, checksum)),
            read => {
                checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
                length += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::stream;

    use super::*;

    /// What is sent of a directory to somebody who has some of it.
    fn pieces_of(dir: &Path, have: Vec<u64>) -> (Vec<FileRecord>, Vec<SnapshotPiece>) {
        let files = list(dir).unwrap();
        let (sender, mut receiver) = mpsc::channel(10_000);
        // It blocks, so it must not run on a thread of the runtime.
        thread::scope(|scope| scope.spawn(|| read_files(dir, &files, &have, &sender)).join().unwrap())
            .unwrap();
        drop(sender);
        (files, std::iter::from_fn(|| receiver.try_recv().ok()).collect())
    }

    fn offer(files: Vec<FileRecord>) -> SnapshotOffer {
        SnapshotOffer { files, ..SnapshotOffer::default() }
    }

    fn outgoing() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..PIECE_BYTES * 2 + 17).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(dir.path().join("000001.sst"), large).unwrap();
        fs::write(dir.path().join("CURRENT"), "MANIFEST-1\n").unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        dir
    }

    fn same(a: &Path, b: &Path) {
        for file in list(a).unwrap() {
            assert_eq!(
                fs::read(a.join(&file.name)).unwrap(),
                fs::read(b.join(&file.name)).unwrap(),
                "{file:?}"
            );
        }
        assert_eq!(list(a).unwrap(), list(b).unwrap());
    }

    fn ok(pieces: Vec<SnapshotPiece>) -> impl Stream<Item = Result<SnapshotPiece, Status>> + Unpin {
        stream::iter(pieces.into_iter().map(Ok))
    }

    #[tokio::test]
    async fn files_arrive_as_they_were() {
        let (from, to) = (outgoing(), tempfile::tempdir().unwrap());
        let mut incoming = Incoming::new(to.path().join("incoming"));
        let (files, pieces) = pieces_of(from.path(), vec![]);
        let have = incoming.accept(1, offer(files)).unwrap();
        assert_eq!(have.bytes, [0, 0, 0]);
        incoming.receive(1, ok(pieces)).await.unwrap();
        same(from.path(), incoming.dir());
    }

    #[tokio::test]
    async fn an_interrupted_transfer_goes_on_where_it_was() {
        let (from, to) = (outgoing(), tempfile::tempdir().unwrap());
        let mut incoming = Incoming::new(to.path().join("incoming"));
        let (files, mut pieces) = pieces_of(from.path(), vec![]);
        incoming.accept(1, offer(files.clone())).unwrap();
        pieces.truncate(2);
        incoming.receive(1, ok(pieces)).await.unwrap_err();
        let have = incoming.accept(1, offer(files)).unwrap().bytes;
        assert_eq!(have, [PIECE_BYTES as u64 * 2, 0, 0]);
        let (_, rest) = pieces_of(from.path(), have);
        assert_eq!(rest.iter().map(|piece| piece.data.len()).sum::<usize>(), 17 + "MANIFEST-1\n".len());
        incoming.receive(1, ok(rest)).await.unwrap();
        same(from.path(), incoming.dir());
    }

    #[tokio::test]
    async fn a_changed_byte_is_noticed_and_the_next_attempt_starts_afresh() {
        let (from, to) = (outgoing(), tempfile::tempdir().unwrap());
        let mut incoming = Incoming::new(to.path().join("incoming"));
        let (files, mut pieces) = pieces_of(from.path(), vec![]);
        incoming.accept(1, offer(files.clone())).unwrap();
        let mut data = pieces[1].data.to_vec();
        data[5] ^= 1;
        pieces[1].data = data.into();
        incoming.receive(1, ok(pieces)).await.unwrap_err();
        assert_eq!(incoming.accept(1, offer(files)).unwrap().bytes, [0, 0, 0]);
    }

    #[tokio::test]
    async fn another_senders_files_are_not_mixed_in() {
        let (from, to) = (outgoing(), tempfile::tempdir().unwrap());
        let mut incoming = Incoming::new(to.path().join("incoming"));
        let (files, mut pieces) = pieces_of(from.path(), vec![]);
        incoming.accept(1, offer(files.clone())).unwrap();
        pieces.truncate(1);
        incoming.receive(1, ok(pieces)).await.unwrap_err();
        assert_eq!(incoming.accept(2, offer(files)).unwrap().bytes, [0, 0, 0]);
        incoming.receive(1, ok(vec![])).await.unwrap_err();
    }

    #[test]
    fn a_file_outside_the_directory_is_refused() {
        let to = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(to.path().join("incoming"));
        for name in ["../x", "/etc/x", "..", "", "a/b"] {
            let file = FileRecord { name: name.to_owned(), size: 1 };
            assert!(incoming.accept(1, offer(vec![file])).is_err(), "{name:?}");
        }
    }
}
