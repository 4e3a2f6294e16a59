//! Where values lie on an axis, its ticks, and what they are called.

use super::Scale;
use super::scene::Label;

/// A tick; minor ones have no label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub value: f64,
    pub label: Option<Label>,
}

/// Most ticks with a label.
const MOST: usize = 7;

impl Scale {
    /// A place on a line on which equal distances are drawn equally long.
    pub(super) fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log10 => value.log10(),
            Self::Log2 if value < 1.0 => value - 1.0,
            Self::Log2 => value.log2(),
        }
    }

    fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Log10 => 10f64.powf(place),
            Self::Log2 if place < 0.0 => place + 1.0,
            Self::Log2 => place.exp2(),
        }
    }

    /// A range that holds `first` to `last` with a little room, and is longer than nothing.
    pub(super) fn roomy(self, first: f64, last: f64) -> (f64, f64) {
        let (a, b) = (self.place(first), self.place(last));
        // Curves begin and end at the frame of a linear axis.
        let (room, least, alone) = match self {
            Self::Linear => {
                (0.0, 1e-9 * (1.0 + a.abs()), if a == 0.0 { 1.0 } else { 0.5 * a.abs() })
            }
            Self::Log10 | Self::Log2 => (0.04 * (b - a), 0.3, 0.15),
        };
        let room = if b - a < least { alone } else { room };
        (self.value(a - room), self.value(b + room))
    }

    /// Ticks of an axis from `first` to `last`, in their order.
    pub(super) fn ticks(self, first: f64, last: f64) -> Vec<Tick> {
        let ticks = match self {
            Self::Linear => linear(first, last),
            Self::Log10 => decades(first, last),
            Self::Log2 => octaves(first, last),
        };
        // A short piece of a logarithmic axis holds no round powers.
        let shown = ticks.iter().filter(|tick| tick.label.is_some()).count();
        if shown < 2 { linear(first, last) } else { ticks }
    }
}

fn labelled(value: f64, label: Label) -> Tick {
    Tick { value, label: Some(label) }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear(first: f64, last: f64) -> Vec<Tick> {
    let rough = (last - first) / MOST as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (from, to) = ((first / step - 1e-6).ceil(), (last / step + 1e-6).floor());
    let largest = first.abs().max(last.abs());
    (0..=(to - from).max(0.0) as usize)
        .map(|i| (from + i as f64) * step)
        .map(|value| labelled(value, number(value, step, largest)))
        .collect()
}

/// Powers of ten, or where there are fewer than two of them, also 2 and 5 times those.
fn decades(first: f64, last: f64) -> Vec<Tick> {
    let (from, to) = (first.log10().floor() as i32, last.log10().ceil() as i32);
    let within = |value: f64| value >= first * (1.0 - 1e-9) && value <= last * (1.0 + 1e-9);
    let powers = (from..=to).filter(|p| within(10f64.powi(*p))).count();
    let every = powers.div_ceil(MOST).max(1) as i32;
    let mut ticks = Vec::new();
    for power in from..=to {
        for multiple in 1..10 {
            let value = f64::from(multiple) * 10f64.powi(power);
            if !within(value) {
                continue;
            }
            let whole = multiple == 1 && power.rem_euclid(every) == 0;
            let label = match multiple {
                1 if whole => Some(ten("", power)),
                2 | 5 if powers < 2 => Some(ten(&format!("{multiple}×"), power)),
                _ => None,
            };
            // Many decades leave no room for what lies between.
            if label.is_some() || every == 1 || multiple == 1 {
                ticks.push(Tick { value, label });
            }
        }
    }
    ticks
}

/// Zero, and powers of two from 1 on.
fn octaves(first: f64, last: f64) -> Vec<Tick> {
    let zero = (first <= 0.0 && last >= 0.0).then(|| labelled(0.0, Label::plain("0")));
    zero.into_iter().chain(powers_of_two(first.max(1.0), last)).collect()
}

fn powers_of_two(first: f64, last: f64) -> Vec<Tick> {
    let (from, to) = (first.log2().ceil() as i32, last.log2().floor() as i32);
    let every = ((to - from).max(0) as usize + 1).div_ceil(MOST).max(1) as i32;
    (from..=to)
        .map(|power| {
            let value = f64::from(power).exp2();
            let shown = (power - from) % every == 0;
            Tick { value, label: shown.then(|| number(value, value.min(1.0), value)) }
        })
        .collect()
}

/// `prefix` times a power of ten.
fn ten(prefix: &str, power: i32) -> Label {
    Label { text: format!("{prefix}10"), power: minus(&power.to_string()) }
}

/// A value of an axis whose ticks are `step` apart and whose values reach `largest`.
fn number(value: f64, step: f64, largest: f64) -> Label {
    let power = largest.log10().floor() as i32;
    if value.abs() < 1e-6 * step {
        return Label::plain("0");
    }
    if (-3..=4).contains(&power) {
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        return Label::plain(minus(&trimmed(&format!("{value:.digits$}"))));
    }
    let digits = (f64::from(power) - step.log10().floor()).clamp(0.0, 9.0) as usize;
    let mantissa = trimmed(&format!("{:.digits$}", value / 10f64.powi(power)));
    ten(&format!("{}×", minus(&mantissa)), power)
}

/// Without zeros at the end of a fraction.
fn trimmed(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    }
}

/// With a minus sign for a hyphen.
fn minus(text: &str) -> String {
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, first: f64, last: f64) -> Vec<String> {
        let shown = |tick: Tick| tick.label.map(|label| format!("{}^{}", label.text, label.power));
        let ticks = scale.ticks(first, last).into_iter().filter_map(shown);
        ticks.map(|text| text.trim_end_matches('^').replace('\u{2212}', "-")).collect()
    }

    #[test]
    fn ticks_are_round_and_readable() {
        assert_eq!(labels(Scale::Linear, -4.6, 4.6), ["-4", "-2", "0", "2", "4"]);
        let halves = ["0", "0.05", "0.1", "0.15", "0.2", "0.25"];
        assert_eq!(labels(Scale::Linear, 0.0, 0.25), halves);
        assert_eq!(labels(Scale::Linear, 0.0, 20_000.0).last().unwrap(), "20000");
        assert_eq!(labels(Scale::Linear, 0.0, 4e5)[1], "1×10^5");
        assert_eq!(labels(Scale::Linear, -2e-6, 2e-6)[0], "-2×10^-6");
        assert_eq!(labels(Scale::Log10, 0.005, 2.0), ["10^-2", "10^-1", "10^0"]);
        assert_eq!(labels(Scale::Log10, 0.015, 0.07), ["2×10^-2", "5×10^-2"]);
        assert_eq!(labels(Scale::Log2, 0.0, 8.0), ["0", "1", "2", "4", "8"]);
        assert_eq!(labels(Scale::Log2, 0.5, 8.0), ["1", "2", "4", "8"]);
        assert_eq!(labels(Scale::Log2, 1.0, 1024.0), ["1", "4", "16", "64", "256", "1024"]);
    }

    /// Zero lies as far before 1 as 1 before 2, and places and values are inverse.
    #[test]
    fn counts_may_be_zero() {
        let places = [0.0, 0.5, 1.0, 2.0, 8.0].map(|value| Scale::Log2.place(value));
        assert_eq!(places, [-1.0, -0.5, 0.0, 1.0, 3.0]);
        let back = places.map(|place| Scale::Log2.value(place));
        assert_eq!(back, [0.0, 0.5, 1.0, 2.0, 8.0]);
    }

    /// Whatever the range: a few ticks, within it, each after the last, and none called alike.
    #[test]
    fn ticks_suit_any_range() {
        for (i, scale) in (0..600).flat_map(|i| {
            [Scale::Linear, Scale::Log10, Scale::Log2].into_iter().map(move |s| (i, s))
        }) {
            let first = 10f64.powf(f64::from(i % 23) - 11.0);
            let last = first * (1.0 + 10f64.powf(f64::from(i % 17) / 2.0 - 3.0));
            let ticks = scale.ticks(first, last);
            assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value));
            let inside = |t: &Tick| (0.999999 * first..=1.000001 * last).contains(&t.value);
            assert!(ticks.iter().all(inside), "{scale:?} {first} {last}");
            let mut names = labels(scale, first, last);
            assert!(names.len() <= MOST + 2, "{scale:?} {first} {last}: {names:?}");
            let shown = names.len();
            names.dedup();
            assert_eq!(names.len(), shown, "{scale:?} {first} {last}: {names:?}");
        }
    }
}
