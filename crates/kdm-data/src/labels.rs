//! Labels: the class of each sample, and the one reader of all forms in which files keep them.

use std::ops::Range;

/// Classes that a data set may have. More is a mistake, and one-hot rows of it would not fit into
/// memory.
pub const MOST_CLASSES: usize = 1 << 20;

/// Values that are no labels.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// A value that is no class.
    #[error("label {row} is {value}, and classes are whole numbers from 0 to {}", classes - 1)]
    NoClass {
        /// Which label, from 0.
        row: usize,
        /// The value.
        value: f64,
        /// Classes there may be, at least 1.
        classes: usize,
    },
    /// A row that isn't one-hot.
    #[error("row {row} is not one-hot: a 1 at the class, and zeros (all zeros for no class)")]
    NotOneHot {
        /// Which row, from 0.
        row: usize,
    },
    /// Rows of another length.
    #[error("has rows of {width} values, and one-hot rows of {classes} classes have {classes}")]
    Width {
        /// Their length.
        width: usize,
        /// Classes there are.
        classes: usize,
    },
    /// An array that is no list of labels.
    #[error("has shape {shape:?}, and labels are [n], [n, 1] or one-hot rows [n, classes]")]
    Shape {
        /// The array's shape.
        shape: Vec<usize>,
    },
}

impl LabelError {
    /// The same of labels that come after `rows` others.
    pub fn after(self, rows: usize) -> Self {
        match self {
            Self::NoClass { row, value, classes } => {
                Self::NoClass { row: row + rows, value, classes }
            }
            Self::NotOneHot { row } => Self::NotOneHot { row: row + rows },
            other => other,
        }
    }
}

/// What to give in place of values that are no labels.
pub const GIVE_LABELS: &str = "give one class number a sample (0, 1, 2, ...), or one-hot rows";

/// The class that a number stands for, whatever type it was kept in: a whole number from 0, less
/// than [`MOST_CLASSES`].
pub fn class_number(value: f64) -> Option<u32> {
    let whole = value.fract() == 0.0 && value >= 0.0 && value < MOST_CLASSES as f64;
    whole.then_some(value as u32)
}

/// The class of a one-hot row, which is none in a row of zeros; nothing for another row.
pub fn one_hot_class(row: &[f64]) -> Option<Option<u32>> {
    let mut found = None;
    for (class, value) in row.iter().enumerate() {
        match *value {
            0.0 => {}
            1.0 if found.is_none() => found = Some(class as u32),
            _ => return None,
        }
    }
    Some(found)
}

/// The class of each sample; none for a sample without one, such as all of an unconditional model.
///
/// ```
/// use kdm_data::Labels;
///
/// let labels = Labels::of(&[2, 0]);
/// assert_eq!(labels.class(0), Some(2));
/// assert_eq!(labels.one_hot(3), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// // Without classes there are no rows to give to a network.
/// assert!(Labels::none(2).one_hot(0).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Option<u32>>);

impl Labels {
    /// `n` samples without a class.
    pub fn none(n: usize) -> Self {
        Self(vec![None; n])
    }

    /// A class a sample.
    pub fn of(classes: &[u32]) -> Self {
        Self(classes.iter().map(|class| Some(*class)).collect())
    }

    /// `n` samples of one class.
    pub fn all(class: u32, n: usize) -> Self {
        Self(vec![Some(class); n])
    }

    /// From the values of an array of `shape`, in any form that people keep labels in: class
    /// numbers `[n]` or `[n, 1]`, or one-hot rows `[n, K]`, where a row of zeros is no class. Gives
    /// the number of classes too: `label_dim` where the model or store has one already, else K or
    /// the largest class plus one.
    ///
    /// ```
    /// use kdm_data::Labels;
    ///
    /// let (labels, classes) = Labels::parse(&[3], &[0.0, 4.0, 1.0], None).unwrap();
    /// assert_eq!((labels.class(1), classes), (Some(4), 5));
    /// let rows = [0.0, 1.0, 0.0, 0.0];
    /// assert_eq!(Labels::parse(&[2, 2], &rows, Some(2)).unwrap().0.class(0), Some(1));
    /// assert!(Labels::parse(&[1], &[1.5], None).is_err());
    /// ```
    ///
    /// # Errors
    /// The first label that is neither a whole number from 0 to `label_dim` - 1 (or
    /// [`MOST_CLASSES`] - 1) nor a one-hot row, and a shape that isn't one of these.
    pub fn parse(
        shape: &[usize],
        values: &[f64],
        label_dim: Option<usize>,
    ) -> Result<(Self, usize), LabelError> {
        let most = label_dim.unwrap_or(MOST_CLASSES).min(MOST_CLASSES);
        let width = match *shape {
            [n] if n == values.len() => 1,
            [n, width] if Some(values.len()) == n.checked_mul(width) => width,
            _ => return Err(LabelError::Shape { shape: shape.to_vec() }),
        };
        let known = label_dim.is_some_and(|classes| classes != width);
        // One column is one-hot for a model of one class alone.
        if shape.len() == 1 || (width == 1 && label_dim != Some(1)) {
            let classes = values.iter().enumerate().map(|(row, value)| {
                let class = class_number(*value).filter(|class| (*class as usize) < most);
                class.ok_or(LabelError::NoClass { row, value: *value, classes: most })
            });
            let classes = classes.collect::<Result<Vec<u32>, _>>()?;
            let found = classes.iter().max().map_or(0, |most| *most as usize + 1);
            return Ok((Self::of(&classes), label_dim.unwrap_or(found)));
        }
        if known || width == 0 || width > most {
            return Err(LabelError::Width { width, classes: most });
        }
        let rows = values.chunks(width).enumerate();
        let labels = rows.map(|(row, x)| one_hot_class(x).ok_or(LabelError::NotOneHot { row }));
        Ok((labels.collect::<Result<_, _>>()?, width))
    }

    /// The first class that a model of `label_dim` classes doesn't know, with its sample.
    pub fn beyond(&self, label_dim: usize) -> Option<(usize, u32)> {
        let known = |class: u32| (class as usize) < label_dim;
        let mut classes = self.iter().enumerate();
        classes.find_map(|(i, class)| class.filter(|class| !known(*class)).map(|class| (i, class)))
    }

    /// Samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class of sample `i`, less than [`Self::len`].
    pub fn class(&self, i: usize) -> Option<u32> {
        self.0[i]
    }

    /// The class of each sample.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<u32>> + '_ {
        self.0.iter().copied()
    }

    /// The classes, of samples that all have one; empty where one has none.
    pub fn classes(&self) -> Vec<u32> {
        self.0.iter().copied().collect::<Option<Vec<u32>>>().unwrap_or_default()
    }

    /// The labels of some samples in a row.
    pub fn range(&self, range: Range<usize>) -> Self {
        Self(self.0[range].to_vec())
    }

    /// Each label `times` times, one after the other.
    pub fn repeat_each(&self, times: usize) -> Self {
        Self(self.0.iter().flat_map(|class| std::iter::repeat_n(*class, times)).collect())
    }

    /// Adds the labels of more samples.
    pub fn append(&mut self, more: &Self) {
        self.0.extend(&more.0);
    }

    /// One-hot rows of `label_dim` values, as networks take them; zeros for a sample without a
    /// class or of one beyond `label_dim`. Empty when `label_dim` is 0.
    pub fn one_hot(&self, label_dim: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.len() * label_dim];
        for (row, class) in self.iter().enumerate() {
            if let Some(class) = class
                && (class as usize) < label_dim
            {
                rows[row * label_dim + class as usize] = 1.0;
            }
        }
        rows
    }
}

impl FromIterator<Option<u32>> for Labels {
    fn from_iter<I: IntoIterator<Item = Option<u32>>>(classes: I) -> Self {
        Self(classes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_rows_come_back() {
        let labels: Labels = [Some(1), None, Some(0)].into_iter().collect();
        let rows = labels.one_hot(2);
        assert_eq!(rows, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let values: Vec<f64> = rows.into_iter().map(f64::from).collect();
        assert_eq!(Labels::parse(&[3, 2], &values, Some(2)), Ok((labels.clone(), 2)));
        assert!(labels.classes().is_empty());
        assert_eq!(Labels::of(&[3, 4]).repeat_each(2).classes(), [3, 3, 4, 4]);
        // A class that the network doesn't know is no class to it.
        assert_eq!(Labels::all(5, 1).one_hot(2), [0.0, 0.0]);
        assert_eq!(Labels::of(&[0, 5, 7]).beyond(5), Some((1, 5)));
        assert_eq!(Labels::of(&[0, 4]).beyond(5), None);
    }

    /// Every form of the same labels gives the same, and what is no label is refused.
    #[test]
    fn labels_come_in_several_forms() {
        let classes = Ok((Labels::of(&[2, 0]), 3));
        assert_eq!(Labels::parse(&[2], &[2.0, 0.0], None), classes);
        assert_eq!(Labels::parse(&[2, 1], &[2.0, 0.0], None), classes);
        assert_eq!(Labels::parse(&[2, 3], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], None), classes);
        // The model's number of classes counts where it is known.
        assert_eq!(Labels::parse(&[1], &[2.0], Some(10)), Ok((Labels::of(&[2]), 10)));
        assert_eq!(Labels::parse(&[1, 1], &[1.0], Some(1)), Ok((Labels::of(&[0]), 1)));
        for value in [1.5, -1.0, 1e30, f64::NAN, f64::INFINITY, 1e9, 0.9999999] {
            let refused = Labels::parse(&[2], &[0.0, value], None).unwrap_err().to_string();
            assert!(refused.starts_with("label 1 is"), "{refused}");
        }
        assert!(Labels::parse(&[1], &[3.0], Some(3)).unwrap_err().to_string().contains("to 2"));
        for row in [[1.0, 1.0], [0.5, 0.5], [f64::NAN, 1.0], [1e30, 0.0], [-1.0, 0.0]] {
            let refused = Labels::parse(&[1, 2], &row, Some(2));
            assert_eq!(refused, Err(LabelError::NotOneHot { row: 0 }), "{row:?}");
        }
        let wide = Labels::parse(&[1, 2], &[0.0, 1.0], Some(3)).unwrap_err().to_string();
        assert!(wide.contains("rows of 2 values"), "{wide}");
        for shape in [&[][..], &[1, 1, 1], &[2], &[usize::MAX, 2]] {
            let refused = Labels::parse(shape, &[0.0], None);
            assert!(matches!(refused, Err(LabelError::Shape { .. })), "{shape:?}");
        }
    }
}
