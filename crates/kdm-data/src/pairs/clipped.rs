//! Counting what bytes can't keep.

/// Values that bytes can't keep.
#[derive(Debug, Default)]
pub(super) struct Clipped {
    beyond: usize,
    count: usize,
    farthest: f32,
}

impl Clipped {
    /// What solvers overshoot by is no loss worth a word.
    const SLACK: f32 = 1.1;

    pub fn add(&mut self, images: &[f32]) {
        self.count += images.len();
        for x in images.iter().filter(|x| x.abs() > Self::SLACK) {
            self.beyond += 1;
            self.farthest = if x.abs() > self.farthest.abs() { *x } else { self.farthest };
        }
    }

    pub fn text(&self) -> Option<String> {
        let Self { beyond, count, farthest } = self;
        (*beyond > 0).then(|| {
            format!(
                "{beyond} of {count} values lie outside [-1, 1], the farthest at {farthest}, and \
                 u8 clips them; f16 keeps them (--dtype f16, or pairs.dtype of an experiment)"
            )
        })
    }
}
