//! The loads, by subject. Each runs against one server and adds its figures.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod keys;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod watch;

use std::cell::RefCell;

use anyhow::Result;

use crate::closed_loop::{Load, Outcome, Shape, run};
use crate::flags::Flags;
use crate::results::{Figure, Meter, Results, Unit};
use crate::server::Server;

/// A server under measurement and where the figures go.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) server: &'a mut Server,
    /// The index of the server's product.
    pub(crate) product: usize,
    pub(crate) results: &'a mut Results,
}

impl Bench<'_> {
    /// Runs a closed loop and adds its figure under `name`.
    async fn measure<L: Load>(&mut self, name: &str, shape: Shape, load: L) -> Result<Outcome> {
        let load = RefCell::new(load);
        let meter = Meter::start(self.server)?;
        let outcome = run(&self.server.targets(), shape, &load).await?;
        let figure = meter.outcome(self.server, &outcome)?;
        self.add(name, Unit::PerSecond, figure);
        self.server.settle().await?;
        Ok(outcome)
    }

    fn add(&mut self, name: &str, unit: Unit, figure: Figure) {
        crate::report::progress(self.server.name(), name, unit, &figure);
        self.results.add(self.product, name, unit, figure);
    }
}
