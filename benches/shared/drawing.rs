//! The parts of an SVG chart.

use std::fmt::Write as _;

/// The beginning of a chart on white ground; `</svg>` ends it.
pub(crate) fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    )
}

/// A text whose anchor (`start`, `middle` or `end`) is at a point.
pub(crate) fn write(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// A rectangle: where, how wide and how high, and its inside and border.
pub(crate) fn rectangle(svg: &mut String, at: (f64, f64), size: (f64, f64), paint: (&str, &str)) {
    let ((x, y), (width, height), (fill, stroke)) = (at, size, paint);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
    );
}
