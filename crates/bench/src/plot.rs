//! Plots: pairs of bars, one pair for each load, as SVG that needs nothing else to be seen.
//!
//! Rates of different loads differ a thousandfold, so each pair has its own scale: the longer bar of a pair is
//! always full, and what one sees is the ratio; the figures stand beside the bars.

use std::time::Duration;

use crate::report::{time, value, write_to};
use crate::results::{Figure, Results, Row, Unit};
use crate::server::Product;

const WIDTH: usize = 900;
const LABELS: usize = 330;
const BARS: usize = 430;
const BAR: usize = 13;
const PAIR: usize = 38;
const COLOURS: [&str; 2] = ["#b7410e", "#7a8793"];

/// One drawing: its file's name and its text.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) svg: String,
}

/// A load's name and, for each product, the length of its bar and the words beside it.
type Pair = (String, Vec<Option<(f64, String)>>);

/// What the bars of a drawing show: a length and the words beside it.
type Show = fn(Unit, &Figure) -> Option<(f64, String)>;

/// Draws everything that was measured.
pub(crate) fn all(products: &[Product], results: &Results) -> Vec<Plot> {
    let of_unit = |unit: Unit| {
        let show: Show = |unit, figure| Some((figure.value, value(unit, figure.value)));
        pairs(results.rows.iter().filter(|row| row.unit == unit), products.len(), show)
    };
    let latencies = pairs(results.rows.iter(), products.len(), |_, figure| {
        figure.p99.map(|p99: Duration| (p99.as_secs_f64(), time(p99)))
    });
    let cpu =
        pairs(results.rows.iter().filter(|row| row.unit == Unit::PerSecond), products.len(), |_, figure| {
            figure.cpu_micros.map(|micros| (micros, format!("{micros:.1} us")))
        });
    [
        ("rates.svg", "Rates (longer is better)", of_unit(Unit::PerSecond)),
        ("times.svg", "Times (shorter is better)", of_unit(Unit::Seconds)),
        ("memory.svg", "Memory (shorter is better)", of_unit(Unit::Bytes)),
        ("latencies.svg", "99th percentile of latency (shorter is better)", latencies),
        ("cpu.svg", "Server CPU a request (shorter is better)", cpu),
    ]
    .into_iter()
    .filter(|(_, _, pairs)| !pairs.is_empty())
    .map(|(file, title, pairs)| Plot { file, svg: draw(title, products, &pairs) })
    .collect()
}

fn pairs<'a>(rows: impl Iterator<Item = &'a Row>, products: usize, show: Show) -> Vec<Pair> {
    rows.map(|row| {
        let bars = (0..products).map(|product| row.median(product).and_then(|figure| show(row.unit, figure)));
        (row.load.clone(), bars.collect::<Vec<_>>())
    })
    .filter(|(_, bars)| bars.iter().any(Option::is_some))
    .collect()
}

fn draw(title: &str, products: &[Product], pairs: &[Pair]) -> String {
    let height = 70 + pairs.len() * PAIR;
    let mut svg = String::new();
    let mut put = |what: std::fmt::Arguments<'_>| write_to(&mut svg, format_args!("{what}\n"));
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    put(format_args!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"));
    put(format_args!("<text x=\"12\" y=\"24\" font-size=\"16\">{}</text>", escaped(title)));
    for (index, product) in products.iter().enumerate() {
        let x = LABELS + index * 220;
        put(format_args!(
            "<rect x=\"{x}\" y=\"36\" width=\"11\" height=\"11\" fill=\"{}\"/>",
            COLOURS[index % 2]
        ));
        let name = escaped(&format!("{} {}", product.name, product.version));
        put(format_args!("<text x=\"{}\" y=\"46\">{name}</text>", x + 16));
    }
    for (row, (load, bars)) in pairs.iter().enumerate() {
        let top = 62 + row * PAIR;
        put(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 10,
            top + BAR + 4,
            escaped(load)
        ));
        let longest = bars.iter().flatten().map(|(length, _)| *length).fold(f64::MIN_POSITIVE, f64::max);
        for (index, bar) in bars.iter().enumerate() {
            let Some((length, words)) = bar else { continue };
            let y = top + index * (BAR + 2);
            let width = length / longest * f64::from(u16::try_from(BARS).unwrap_or(u16::MAX));
            put(format_args!(
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                COLOURS[index % 2]
            ));
            let x = f64::from(u16::try_from(LABELS + 6).unwrap_or(u16::MAX)) + width;
            put(format_args!("<text x=\"{x:.1}\" y=\"{}\">{}</text>", y + BAR - 2, escaped(words)));
        }
    }
    put(format_args!("</svg>"));
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_bar_is_full_and_words_are_escaped() {
        let mut results = Results { products: 2, ..Results::default() };
        results.add(0, "a < b", Unit::PerSecond, Figure { value: 50.0, ..Figure::default() });
        results.add(1, "a < b", Unit::PerSecond, Figure { value: 100.0, ..Figure::default() });
        let product =
            |name: &str| Product { name: name.to_owned(), program: "x".into(), version: "1".to_owned() };
        let plots = all(&[product("one"), product("two")], &results);
        assert_eq!(plots.iter().map(|plot| plot.file).collect::<Vec<_>>(), ["rates.svg"]);
        let svg = &plots[0].svg;
        assert!(svg.contains("width=\"430.0\"") && svg.contains("width=\"215.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"), "{svg}");
    }
}
