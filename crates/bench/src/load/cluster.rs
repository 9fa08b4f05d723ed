//! Three members: puts and reads through all of them, and what that costs all of them together.

use anyhow::Result;

use super::{Bench, kv};

/// How the tables begin the names of these loads.
const WHAT: &str = "three members: ";

/// Runs all of them.
pub(crate) async fn all(bench: &mut Bench<'_>) -> Result<()> {
    kv::fill(bench).await?;
    for in_flight in [1, 200, 1000] {
        kv::put(bench, WHAT, in_flight).await?;
    }
    for serializable in [false, true] {
        for in_flight in [1, 200] {
            kv::get(bench, WHAT, in_flight, serializable).await?;
        }
    }
    Ok(())
}
