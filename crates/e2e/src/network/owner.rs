//! Which process holds the other end of a connection on the loopback, as Linux tells everybody about their own
//! processes: `/proc/net/tcp` names the socket's inode, and one of the process's files is a link to it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The member whose process opened the connection from `there` to `here`, if it is one of these and still has it.
pub(super) fn of(
    there: SocketAddr,
    here: SocketAddr,
    processes: &BTreeMap<usize, u32>,
) -> io::Result<Option<usize>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let Some(inode) = inode(&table, there, here) else { return Ok(None) };
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let member = processes.iter().find(|(_, process)| holds(**process, &wanted));
    Ok(member.map(|(member, _)| *member))
}

/// The inode of the socket with these two ends. The first line is a title; the columns are number, local address,
/// remote address, state, two queues, timer, retransmissions, user, timeout, inode.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (kernels(local)?, kernels(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ours = columns.next()? == local && columns.next()? == remote;
        ours.then(|| columns.nth(6)?.parse().ok()).flatten()
    })
}

/// An address as the table has it: the four bytes as a number of this machine, in hexadecimal.
fn kernels(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

/// Whether the process has this file open. One that has ended has none.
fn holds(process: u32, wanted: &PathBuf) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == *wanted))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_at_the_other_end_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let stream = TcpStream::connect(here).unwrap();
        let (_accepted, there) = listener.accept().unwrap();
        let me = std::process::id();
        assert_eq!(of(there, here, &BTreeMap::from([(0, 1), (3, me)])).unwrap(), Some(3));
        // Process 1 is another's, or has other files.
        assert_eq!(of(there, here, &BTreeMap::from([(0, 1)])).unwrap(), None);
        drop(stream);
        assert_eq!(of(there, here, &BTreeMap::from([(3, me)])).unwrap(), None);
    }
}
