//! Widths of Helvetica's characters, one of the fonts that every PDF reader has (Adobe's AFM file
//! of it). SVG asks for it or for one of the same widths (Arial, Liberation Sans).

/// Widths of the characters from space to tilde, in thousandths of the size.
#[rustfmt::skip]
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The width of other characters: that of most letters, and of the minus sign.
const OTHER: u16 = 584;

/// The width of a text, in sizes.
pub(super) fn width(text: &str) -> f64 {
    let of = |c: char| {
        let place = (c as usize).checked_sub(' ' as usize);
        place.and_then(|i| WIDTHS.get(i)).copied().unwrap_or(OTHER)
    };
    text.chars().map(|c| f64::from(of(c)) / 1000.0).sum()
}
