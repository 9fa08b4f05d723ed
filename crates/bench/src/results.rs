//! What was measured, by load and by product.

use std::time::Duration;

use anyhow::Result;

use crate::closed_loop::Outcome;
use crate::proc::Usage;
use crate::server::Server;

/// What a figure counts, and so which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things a second; more is better.
    PerSecond,
    /// Time; less is better.
    Seconds,
    /// Memory or disk; less is better.
    Bytes,
}

/// One figure and what belongs to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure {
    /// In the unit of its row.
    pub(crate) value: f64,
    /// Latencies of single requests, where the load has them.
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    pub(crate) max: Option<Duration>,
    /// Processor time of the server for each request or event, in microseconds.
    pub(crate) cpu_micros: Option<f64>,
    /// Bytes sent to the disk for each request.
    pub(crate) written: Option<f64>,
    /// What a reader must know, such as that a load was cut short.
    pub(crate) note: Option<String>,
}

/// All figures of one load: for each product those of every round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) load: String,
    pub(crate) unit: Unit,
    pub(crate) figures: Vec<Vec<Figure>>,
}

impl Row {
    /// The figure of the middle round of one product.
    pub(crate) fn median(&self, product: usize) -> Option<&Figure> {
        let mut figures: Vec<&Figure> = self.figures.get(product)?.iter().collect();
        figures.sort_by(|a, b| a.value.total_cmp(&b.value));
        figures.get(figures.len().checked_sub(1)? / 2).copied()
    }

    /// How many times better the first product is than the second.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.median(0)?.value, self.median(1)?.value);
        let ratio = if self.unit == Unit::PerSecond { ours / peer } else { peer / ours };
        ratio.is_finite().then_some(ratio)
    }
}

/// All rows, in the order in which they were first measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Results {
    pub(crate) products: usize,
    pub(crate) rows: Vec<Row>,
}

impl Results {
    /// Adds a figure.
    pub(crate) fn add(&mut self, product: usize, load: &str, unit: Unit, figure: Figure) {
        let position = self.rows.iter().position(|row| row.load == load).unwrap_or_else(|| {
            let figures = vec![Vec::new(); self.products];
            self.rows.push(Row { load: load.to_owned(), unit, figures });
            self.rows.len() - 1
        });
        self.rows[position].figures[product].push(figure);
    }
}

/// Measures what a server spends from its making to [`figure`](Self::figure).
#[derive(Debug)]
pub(crate) struct Meter {
    before: Usage,
}

impl Meter {
    /// Looks at the server before a load.
    pub(crate) fn start(server: &Server) -> Result<Self> {
        Ok(Self { before: server.usage()? })
    }

    /// Looks again after `count` requests or events, and makes a figure of `value`.
    #[expect(clippy::cast_precision_loss, reason = "an average needs no 53 bits")]
    pub(crate) fn figure(&self, server: &Server, value: f64, count: u64) -> Result<Figure> {
        let after = server.usage()?;
        let each = |total: f64| (count > 0).then(|| total / count as f64);
        Ok(Figure {
            value,
            cpu_micros: each(after.cpu.saturating_sub(self.before.cpu).as_secs_f64() * 1e6),
            written: each(after.written.saturating_sub(self.before.written) as f64),
            ..Figure::default()
        })
    }

    /// The figure of a closed loop: its rate and its latencies.
    pub(crate) fn outcome(&self, server: &Server, outcome: &Outcome) -> Result<Figure> {
        let latencies = &outcome.latencies;
        Ok(Figure {
            p50: Some(latencies.quantile(0.5)),
            p99: Some(latencies.quantile(0.99)),
            max: Some(latencies.max()),
            ..self.figure(server, outcome.rate(), latencies.count())?
        })
    }
}
