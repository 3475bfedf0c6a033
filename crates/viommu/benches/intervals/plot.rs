//! Lines in panels with logarithmic axes, as SVG. Greys and colours that can be read on white and on black.

use std::fmt::Write;

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// A line across.
    pub(crate) target: f64,
    /// Names and points.
    pub(crate) lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

const COLOURS: [&str; 5] = ["#d9480f", "#8f8f8f", "#1c7ed6", "#2b9348", "#ae3ec9"];
const MARKS: [&str; 5] = ["3.5", "2.5", "2.5", "2.5", "2.5"];
const GREY: &str = "#7a7a7a";
/// Of a panel's axes, and what is around them.
const WIDTH: f64 = 270.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const ABOVE: f64 = 30.0;
const BELOW: f64 = 32.0;
/// Above all panels: the title and the legend.
const HEAD: f64 = 56.0;

/// 1024 is 1 k, as 1000 is.
fn short(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.0} M", x / 1e6),
        x if x >= 1e3 => format!("{:.0} k", x / 1e3),
        x => format!("{x:.0}"),
    }
}

/// Above this, lines leave the panel: a scan of a million mappings would press all others flat.
const CEILING: f64 = 1e4;

/// The decades that there is something in.
fn decades(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::MAX, f64::min).max(1e-9).log10().floor();
    let high = values.fold(f64::MIN, f64::max).max(1e-9).log10().ceil();
    (low, high.max(low + 1.0))
}

/// The panels, so many side by side.
pub(crate) fn svg(panels: &[Panel], columns: usize, title: &str) -> String {
    let (across, down) = (LEFT + WIDTH + RIGHT, ABOVE + HEIGHT + BELOW);
    let (width, height) = (across * columns as f64, HEAD + down * panels.len().div_ceil(columns) as f64);
    let points = panels.iter().flat_map(|panel| panel.lines.iter().flat_map(|(_, points)| points));
    let width_of = |end: fn(f64, f64) -> f64, from| points.clone().map(|p| p.0).fold(from, end).max(1.0).log10();
    let xs = (width_of(f64::min, f64::MAX) - 0.1, width_of(f64::max, 1.0) + 0.1);
    let ys = decades(points.clone().map(|p| p.1.min(CEILING)).chain(panels.iter().map(|panel| panel.target)));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{GREY}\">\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    let mut at = LEFT;
    let names = panels.first().map_or(&[][..], |panel| &panel.lines);
    for (i, (name, _)) in names.iter().enumerate() {
        let (colour, weight) = (COLOURS[i % 5], if i == 0 { 3 } else { 2 });
        let _ = writeln!(
            out,
            "<path d=\"M{at} 40h22\" stroke=\"{colour}\" stroke-width=\"{weight}\"/><text x=\"{}\" y=\"44\">{name}</text>",
            at + 28.0
        );
        at += 56.0 + 7.0 * name.len() as f64;
    }
    let _ = writeln!(
        out,
        "<path d=\"M{at} 40h22\" stroke=\"{GREY}\" stroke-dasharray=\"5 4\"/><text x=\"{}\" y=\"44\">target</text>",
        at + 28.0
    );
    for (i, panel) in panels.iter().enumerate() {
        let (left, top) = (across * (i % columns) as f64 + LEFT, HEAD + down * (i / columns) as f64 + ABOVE);
        let x = |value: f64| left + WIDTH * (value.log10() - xs.0) / (xs.1 - xs.0);
        let y = |value: f64| top + HEIGHT * (ys.1 - value.log10()) / (ys.1 - ys.0);
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\" font-size=\"13\">{}</text>", top - 9.0, panel.title);
        let mut axis = |from: (f64, f64), to: (f64, f64)| {
            let _ = writeln!(
                out,
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{GREY}\" stroke-opacity=\"0.35\"/>",
                from.0, from.1, to.0, to.1
            );
        };
        for power in xs.0.ceil() as i32..=xs.1 as i32 {
            let at = x(10f64.powi(power));
            axis((at, top), (at, top + HEIGHT));
        }
        for power in ys.0 as i32..=ys.1 as i32 {
            let at = y(10f64.powi(power));
            axis((left, at), (left + WIDTH, at));
        }
        for power in xs.0.ceil() as i32..=xs.1 as i32 {
            let at = 10f64.powi(power);
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(at),
                top + HEIGHT + 16.0,
                short(at)
            );
        }
        for power in ys.0 as i32..=ys.1 as i32 {
            let at = 10f64.powi(power);
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y(at) + 4.0,
                short(at)
            );
        }
        let at = y(panel.target);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}h{WIDTH}\" stroke=\"{GREY}\" stroke-dasharray=\"5 4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
            left + WIDTH - 3.0,
            at - 4.0,
            panel.target
        );
        let _ = writeln!(
            out,
            "<clipPath id=\"p{i}\"><path d=\"M{left} {top}h{WIDTH}v{HEIGHT}h-{WIDTH}z\"/></clipPath><g clip-path=\"url(#p{i})\">"
        );
        // Ours is drawn last, over the others.
        for (i, (_, points)) in panel.lines.iter().enumerate().rev() {
            let (colour, weight) = (COLOURS[i % 5], if i == 0 { 3 } else { 2 });
            let path: Vec<String> = points.iter().map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1))).collect();
            if !path.is_empty() {
                let _ = writeln!(
                    out,
                    "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{weight}\"/>",
                    path.join("L")
                );
            }
            for p in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{}\" fill=\"{colour}\"/>",
                    x(p.0),
                    y(p.1),
                    MARKS[i % 5]
                );
            }
        }
        let above = panel.lines.iter().filter_map(|(name, points)| {
            let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
            (most > CEILING).then(|| format!("{name}: up to {} ms", short(most / 1e6)))
        });
        let (above, at) = (above.collect::<Vec<_>>().join(", "), top + 16.0);
        let _ = writeln!(
            out,
            "</g><text x=\"{}\" y=\"{at}\" text-anchor=\"end\" font-size=\"11\">{above}</text>",
            left + WIDTH - 4.0
        );
    }
    out + "</svg>\n"
}
