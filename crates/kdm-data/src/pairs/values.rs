//! What the numbers of another program's images mean: the order of their axes and the range of
//! their values. Where a file leaves that open, the answer is the flag to give, not a guess.

/// The order of an image's axes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// Channels first, [C, H, W], as the store keeps them.
    First,
    /// Channels last, [H, W, C].
    Last,
    /// One channel without an axis of its own, [H, W].
    Grey,
    /// Points `[D]` have no axes.
    Point,
}

/// Axes that are in doubt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnclearAxes {
    /// Either order is possible.
    #[error("has the shape {0:?}, which may be channels first or channels last")]
    Either(Vec<usize>),
    /// Too many, or of no values.
    #[error("has the shape {0:?}; a sample is a point [D] or an image [C, H, W]")]
    Shape(Vec<usize>),
}

impl UnclearAxes {
    /// What to do about it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Either(_) => "say which with --layout nchw or --layout nhwc",
            Self::Shape(_) => "save the pairs as arrays [pairs, C, H, W] or [pairs, D]",
        }
    }
}

impl Axes {
    /// The axes of a sample of this shape; `told` decides for images of three axes.
    ///
    /// The channels' axis is told by what images are: squares, or wider than they have channels.
    ///
    /// # Errors
    /// Where the shape fits both orders, or none.
    pub fn find(shape: &[usize], told: Option<Self>) -> Result<Self, UnclearAxes> {
        if shape.contains(&0) {
            return Err(UnclearAxes::Shape(shape.to_vec()));
        }
        let [a, b, c] = match *shape {
            [] | [_] => return Ok(Self::Point),
            [_, _] => return Ok(Self::Grey),
            [a, b, c] => [a, b, c],
            _ => return Err(UnclearAxes::Shape(shape.to_vec())),
        };
        if let Some(told) = told {
            return Ok(told);
        }
        let usual = |channels: usize| matches!(channels, 1 | 3 | 4);
        let by_side = match (b == c && a != b, a == b && c != b) {
            (true, false) => Some(Self::First),
            (false, true) => Some(Self::Last),
            _ => None,
        };
        let by_channels = match (usual(a), usual(c)) {
            (true, false) => Some(Self::First),
            (false, true) => Some(Self::Last),
            _ => None,
        };
        match (by_side, by_channels) {
            (Some(side), Some(channels)) if side != channels => None,
            (side, channels) => side.or(channels),
        }
        .ok_or_else(|| UnclearAxes::Either(shape.to_vec()))
    }

    /// The axes of a sample whose shape is the store's.
    pub fn kept(shape: &[usize]) -> Self {
        if shape.len() == 3 { Self::First } else { Self::Point }
    }

    /// The shape that the store keeps a sample of `shape` in.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Last, [height, width, channels]) => vec![*channels, *height, *width],
            (Self::Grey, _) => [&[1], shape].concat(),
            (Self::Point, []) => vec![1],
            _ => shape.to_vec(),
        }
    }

    /// Samples of `shape`, one after the other, with the axes in the store's order.
    pub fn planes(self, values: &[f32], shape: &[usize]) -> Vec<f32> {
        let (Self::Last, [height, width, channels]) = (self, shape) else {
            return values.to_vec();
        };
        let pixels = height * width;
        let mut planes = Vec::with_capacity(values.len());
        for sample in values.chunks_exact(pixels * channels) {
            for channel in 0..*channels {
                planes.extend(sample.iter().skip(channel).step_by(*channels));
            }
        }
        planes
    }

    /// What to say of it, where it isn't what the store keeps.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Last => Some("channels last (NHWC) in the file"),
            Self::Grey => Some("images without a channel's axis, taken as grey"),
            Self::First | Self::Point => None,
        }
    }
}

/// What values of an image mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRange {
    /// -1 is black and 1 white, as the store keeps them.
    Signed,
    /// 0 is black and 1 white.
    Unit,
    /// 0 is black and 255 white.
    Bytes,
}

/// Values that don't tell what they mean, or contradict what is told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnclearRange {
    /// Nothing is below zero, so -1 isn't black.
    #[error("has values from {min} to {max}, none below 0, so what black is is not known")]
    Positive {
        /// The least value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// Whole numbers that are no bytes.
    #[error("has whole numbers from {min} to {max}, which are no bytes")]
    NoBytes {
        /// The least value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// Outside what is told.
    #[error("has values from {min} to {max}, outside the range that --range tells")]
    Outside {
        /// The least value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// Points are what they are.
    #[error("is of points, whose values mean themselves")]
    Points,
}

impl UnclearRange {
    /// What to do about it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Points => "leave --range out",
            Self::Outside { .. } => "give the range that the values have",
            Self::Positive { .. } | Self::NoBytes { .. } => {
                "say it with --range 0..1, --range 0..255 or --range=-1..1"
            }
        }
    }
}

impl ValueRange {
    /// What the values of images mean, from all of them. `whole`: whether the file keeps whole
    /// numbers. Points are taken as they are.
    ///
    /// # Errors
    /// Where the values leave it open or contradict `told`.
    pub fn find(
        values: &Extremes,
        images: bool,
        whole: bool,
        told: Option<Self>,
    ) -> Result<Self, UnclearRange> {
        let (min, max) = (values.min, values.max);
        match (images, told) {
            (false, None) => return Ok(Self::Signed),
            (false, Some(_)) => return Err(UnclearRange::Points),
            (true, Some(told)) => {
                // What solvers overshoot by.
                let (black, white) = told.ends();
                let slack = 0.25 * (white - black);
                let inside = min >= black - slack && max <= white + slack;
                let open = told == Self::Signed && !whole;
                return (inside || open).then_some(told).ok_or(UnclearRange::Outside { min, max });
            }
            (true, None) => {}
        }
        if min < 0.0 {
            let signed = !whole || (min >= -1.0 && max <= 1.0);
            return signed.then_some(Self::Signed).ok_or(UnclearRange::NoBytes { min, max });
        }
        if values.whole && max > 1.0 && max <= 255.0 {
            return Ok(Self::Bytes);
        }
        if max == 0.0 && !whole {
            return Ok(Self::Signed);
        }
        Err(if whole && max > 255.0 {
            UnclearRange::NoBytes { min, max }
        } else {
            UnclearRange::Positive { min, max }
        })
    }

    /// Black and white.
    fn ends(self) -> (f64, f64) {
        match self {
            Self::Signed => (-1.0, 1.0),
            Self::Unit => (0.0, 1.0),
            Self::Bytes => (0.0, 255.0),
        }
    }

    /// A value in [-1, 1].
    pub fn value(self, x: f32) -> f32 {
        match self {
            Self::Signed => x,
            Self::Unit => 2.0 * x - 1.0,
            Self::Bytes => x / 127.5 - 1.0,
        }
    }

    /// What to say of it, where it isn't what the store keeps.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Signed => None,
            Self::Unit => Some("images from 0 to 1 scaled to [-1, 1]"),
            Self::Bytes => Some("images from 0 to 255 scaled to [-1, 1]"),
        }
    }
}

/// What is known of many values.
#[derive(Clone, Copy, Debug)]
pub struct Extremes {
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Whether all are whole.
    pub whole: bool,
    /// How many.
    pub count: usize,
    sum: f64,
    squares: f64,
}

impl Default for Extremes {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { min, max, whole: true, count: 0, sum: 0.0, squares: 0.0 }
    }
}

impl Extremes {
    /// Adds values, or gives the place of one that isn't finite.
    pub fn add(&mut self, values: &[f32]) -> Option<usize> {
        for (i, value) in values.iter().enumerate() {
            if !value.is_finite() {
                return Some(i);
            }
            let value = f64::from(*value);
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.whole = self.whole && value.fract() == 0.0;
            self.sum += value;
            self.squares += value * value;
        }
        self.count += values.len();
        None
    }

    /// Root mean square.
    pub fn deviation(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }

    /// Mean.
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_found_or_asked_for() {
        for (shape, axes, kept) in [
            (&[3, 8, 8][..], Axes::First, &[3, 8, 8][..]),
            (&[8, 8, 3], Axes::Last, &[3, 8, 8]),
            (&[1, 28, 28], Axes::First, &[1, 28, 28]),
            (&[28, 28, 1], Axes::Last, &[1, 28, 28]),
            (&[16, 8, 8], Axes::First, &[16, 8, 8]),
            (&[3, 20, 30], Axes::First, &[3, 20, 30]),
            (&[20, 30, 3], Axes::Last, &[3, 20, 30]),
            (&[28, 28], Axes::Grey, &[1, 28, 28]),
            (&[2], Axes::Point, &[2]),
            (&[], Axes::Point, &[1]),
        ] {
            assert_eq!(Axes::find(shape, None), Ok(axes), "{shape:?}");
            assert_eq!(axes.shape(shape), kept);
        }
        for shape in [[3, 3, 3], [4, 4, 1], [3, 5, 3], [2, 5, 7], [3, 3, 8]] {
            let unclear = Axes::find(&shape, None);
            let known = shape == [4, 4, 1];
            assert_eq!(unclear.is_ok(), known, "{shape:?} {unclear:?}");
            assert_eq!(Axes::find(&shape, Some(Axes::Last)), Ok(Axes::Last));
        }
        for shape in [&[1, 2, 3, 4][..], &[0, 8, 8], &[0]] {
            assert!(matches!(Axes::find(shape, None), Err(UnclearAxes::Shape(_))), "{shape:?}");
        }
        // Two images of 1x2 pixels and 2 channels.
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let planes = Axes::Last.planes(&values, &[1, 2, 2]);
        assert_eq!(planes, [1.0, 3.0, 2.0, 4.0, 5.0, 7.0, 6.0, 8.0]);
    }

    #[test]
    fn ranges_are_found_or_asked_for() {
        let find = |values: &[f32], whole, told| {
            let mut extremes = Extremes::default();
            assert_eq!(extremes.add(values), None);
            ValueRange::find(&extremes, true, whole, told)
        };
        assert_eq!(find(&[0.0, 17.0, 255.0], true, None), Ok(ValueRange::Bytes));
        // Bytes that became floats on the way.
        assert_eq!(find(&[3.0, 200.0], false, None), Ok(ValueRange::Bytes));
        assert_eq!(find(&[-1.05, 0.3, 1.1], false, None), Ok(ValueRange::Signed));
        for (values, whole) in [
            (&[0.0, 0.5, 1.0][..], false),
            (&[0.25, 200.5], false),
            (&[0.0, 1.0], true),
            (&[0.0, 256.0], true),
            (&[-3.0, 100.0], true),
        ] {
            let unclear = find(values, whole, None).unwrap_err();
            assert!(unclear.action().contains("--range"), "{values:?}");
        }
        let told = Some(ValueRange::Unit);
        assert_eq!(find(&[0.0, 0.5, 1.0], false, told), Ok(ValueRange::Unit));
        assert!(find(&[0.0, 7.0], false, told).is_err());
        assert_eq!(ValueRange::Bytes.value(0.0), -1.0);
        assert_eq!(ValueRange::Bytes.value(255.0), 1.0);
        assert_eq!(ValueRange::Unit.value(0.5), 0.0);
        assert_eq!(Extremes::default().add(&[0.0, f32::NAN]), Some(1));
    }
}
