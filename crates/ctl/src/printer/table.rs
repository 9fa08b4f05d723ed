//! Tables, with the ASCII frame of etcdctl 3.2 to 3.6 and the columns of 3.7.
//!
//! Titles are centred, cells are on the right, and a cell of more than thirty characters is broken at its spaces, so that
//! the lines are as even as can be.

use super::simple::{hash_kv_row, member_row, snapshot_row, status_row};
use super::{Answer, Health};

/// Cells are broken beyond this width.
const CELL_MAX: usize = 30;

const MEMBERS: &[&str] = &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
const HEALTH: &[&str] = &["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
const STATUS: &[&str] = &[
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];
const HASH_KV: &[&str] = &["ENDPOINT", "HASH", "HASH REVISION"];
const SNAPSHOT: &[&str] = &["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];

/// Returns whether there is a table for this answer.
pub(super) fn print(out: &mut Vec<u8>, answer: &Answer<'_>) -> bool {
    let (titles, rows): (_, Vec<Vec<String>>) = match answer {
        Answer::Members(response) => (MEMBERS, response.members.iter().map(member_row).collect()),
        Answer::Health(endpoints) => (HEALTH, endpoints.iter().map(health_row).collect()),
        Answer::Status(endpoints) => (STATUS, endpoints.iter().map(status_row).collect()),
        Answer::HashKv(endpoints) => (HASH_KV, endpoints.iter().map(hash_kv_row).collect()),
        Answer::SnapshotStatus(status) => (SNAPSHOT, vec![snapshot_row(status)]),
        Answer::Get(_)
        | Answer::Put(_)
        | Answer::Delete(_)
        | Answer::Txn(_)
        | Answer::Watch(_)
        | Answer::WatchRefused
        | Answer::LeaseGrant(_)
        | Answer::LeaseRevoke(..)
        | Answer::LeaseTimeToLive(..)
        | Answer::LeaseKeepAlive(_)
        | Answer::LeaseList(_)
        | Answer::MemberAdd(_)
        | Answer::MemberRemove(..)
        | Answer::MemberUpdate(..)
        | Answer::MemberPromote(..)
        | Answer::MoveLeader { .. }
        | Answer::Alarms(_)
        | Answer::AuthStatus(_)
        | Answer::AccessChanged(..)
        | Answer::User(..)
        | Answer::Users(_)
        | Answer::Role(..)
        | Answer::Roles(_)
        | Answer::Downgrade(..) => return false,
    };
    out.extend_from_slice(draw(titles, &rows).as_bytes());
    true
}

fn health_row(health: &Health) -> Vec<String> {
    vec![
        health.endpoint.clone(),
        health.error.is_none().to_string(),
        health.took(),
        health.error.clone().unwrap_or_default(),
    ]
}

fn draw(titles: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<Vec<String>>> =
        rows.iter().map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let lines = cells.iter().flat_map(|row| &row[column]).map(|line| width(line));
            lines.chain([width(titles[column])]).max().unwrap_or(0)
        })
        .collect();

    let border: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let border = format!("{border}+\n");
    let heading: String =
        titles.iter().zip(&widths).map(|(title, &width)| format!("| {} ", centred(title, width))).collect();
    let body: String = cells.iter().map(|row| draw_row(row, &widths)).collect();
    format!("{border}{heading}|\n{border}{body}{border}")
}

fn draw_row(cells: &[Vec<String>], widths: &[usize]) -> String {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for line in 0..height {
        for (cell, &width) in cells.iter().zip(widths) {
            let part = cell.get(line).map_or("", String::as_str);
            text.push_str(&format!("| {part:>width$} "));
        }
        text.push_str("|\n");
    }
    text
}

/// An odd space goes to the right.
fn centred(text: &str, room: usize) -> String {
    let space = room.saturating_sub(width(text));
    let left = space / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(space - left))
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a wide cell at its spaces. Of all ways that keep within the limit (or the longest word, if that is longer) the one
/// is taken whose lines, the last excepted, leave the least squared space.
fn wrap(cell: &str) -> Vec<String> {
    if width(cell) <= CELL_MAX {
        return vec![cell.to_owned()];
    }
    let words: Vec<&str> = cell.split(' ').collect();
    let limit = words.iter().map(|word| width(word)).max().unwrap_or(0).max(CELL_MAX);
    // best[i]: the cost of breaking the words from i on, and where their first line ends.
    let mut best = vec![(0, words.len()); words.len() + 1];
    for first in (0..words.len()).rev() {
        best[first] = (first + 1..=words.len())
            .map(|end| (words[first..end].join(" "), end))
            .filter(|(line, _)| width(line) <= limit)
            .map(|(line, end)| {
                let space = if end == words.len() { 0 } else { (limit - width(&line)).pow(2) };
                (space + best[end].0, end)
            })
            .min_by_key(|&(cost, _)| cost)
            .unwrap_or((0, words.len()));
    }
    let mut lines = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let end = best[first].1;
        lines.push(words[first..end].join(" "));
        first = end;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_centred_and_cells_are_on_the_right() {
        let table =
            draw(&["ID", "NAME"], &[vec!["12345".into(), "n".into()], vec!["1".into(), String::new()]]);
        assert_eq!(
            table,
            "+-------+------+\n\
             |  ID   | NAME |\n\
             +-------+------+\n\
             | 12345 |    n |\n\
             |     1 |      |\n\
             +-------+------+\n"
        );
    }

    #[test]
    fn a_wide_cell_is_broken_at_its_spaces() {
        assert_eq!(
            wrap("memberID:10276657743932975437 alarm:NOSPACE"),
            ["memberID:10276657743932975437", "alarm:NOSPACE"]
        );
        assert_eq!(wrap("context deadline exceeded"), ["context deadline exceeded"]);
        let url = "http://a-rather-long-name.example.com:2379";
        assert_eq!(wrap(url), [url]);
        let table = draw(&["E"], &[vec!["0123456789 0123456789 0123456789 x".into()]]);
        assert_eq!(table.lines().count(), 6, "{table}");
    }
}
