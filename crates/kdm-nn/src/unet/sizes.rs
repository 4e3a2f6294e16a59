//! The sizes that the U-Nets of NVlabs' kinds have in common, and what is impossible about them.

use crate::Problem;
use crate::layers::GroupNorm;

/// The largest value that a size of a network may have. Beyond any network that exists, and small
/// enough that products of sizes don't overflow.
pub(crate) const LARGEST_SIZE: usize = 1 << 16;

/// The embedding's usual width, as a multiple of the base width.
pub(crate) fn usual_embedding() -> usize {
    4
}

/// The fields that [`SongUNetConfig`](crate::SongUNetConfig) and
/// [`AdmUNetConfig`](crate::AdmUNetConfig) have in common; see there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UNetSizes<'a> {
    pub resolution: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub model_channels: usize,
    pub channel_mult: &'a [usize],
    pub channel_mult_emb: usize,
    pub num_blocks: usize,
    pub attn_resolutions: &'a [usize],
    pub dropout: f64,
    pub label_dropout: f64,
    /// Channels that come in at each level after the first; missing ones are 0.
    pub level_inputs: &'a [usize],
    /// Channels that go out at each level after the first; missing ones are 0.
    pub level_outputs: &'a [usize],
}

impl UNetSizes<'_> {
    /// Width of the embedding.
    pub fn embedding(&self) -> usize {
        self.model_channels * self.channel_mult_emb
    }

    /// All that is impossible.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, value) in [
            ("resolution", self.resolution),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("model_channels", self.model_channels),
            ("channel_mult_emb", self.channel_mult_emb),
        ] {
            problems.extend(size_problem(field, value));
        }
        if self.num_blocks > 64 {
            let problem = format!("is {} and must be at most 64", self.num_blocks);
            problems.push(Problem::new("num_blocks", problem));
        }
        let levels = self.channel_mult.len();
        if levels == 0 || levels > 12 || self.channel_mult.iter().any(|m| *m == 0 || *m > 64) {
            problems.push(Problem::new(
                "channel_mult",
                format!("is {:?} and must be 1 to 12 numbers between 1 and 64", self.channel_mult),
            ));
        } else if !self.resolution.is_multiple_of(1 << (levels - 1)) {
            problems.push(Problem::new(
                "resolution",
                format!(
                    "is {} and must be a multiple of {} for {levels} levels",
                    self.resolution,
                    1 << (levels - 1)
                ),
            ));
        }
        if !self.model_channels.is_multiple_of(2) || self.model_channels < 4 {
            let problem = format!("is {} and must be even, 4 or more", self.model_channels);
            problems.push(Problem::new("model_channels", problem));
        }
        if let Some(width) = self.indivisible_width()
            && problems.is_empty()
        {
            problems.push(Problem::new(
                "model_channels",
                format!(
                    "gives a layer of {width} channels, which group norm can't divide; take a \
                     multiple of 32, or 4, 8 or 16"
                ),
            ));
        }
        for (field, channels) in
            [("level_inputs", self.level_inputs), ("level_outputs", self.level_outputs)]
        {
            if channels.len() >= levels.max(1) {
                let problem = format!(
                    "has {} entries, and there are {} levels after the first",
                    channels.len(),
                    levels.max(1) - 1
                );
                problems.push(Problem::new(field, problem));
            }
            problems.extend(channels.iter().find_map(|channels| most_problem(field, *channels)));
        }
        problems.extend(probability_problem("dropout", self.dropout));
        problems.extend(probability_problem("label_dropout", self.label_dropout));
        problems
    }

    /// A width of some layer that the groups of its group norm don't divide. A block with a skip
    /// connection takes a sum of two multiples of the base width.
    fn indivisible_width(&self) -> Option<usize> {
        let widths = self.channel_mult.iter().map(|m| m.saturating_mul(self.model_channels));
        let mut all: Vec<usize> = widths.chain([self.model_channels]).collect();
        let pairs: Vec<usize> =
            all.iter().flat_map(|a| all.iter().map(move |b| a.saturating_add(*b))).collect();
        all.extend(pairs);
        all.into_iter().find(|channels| {
            let groups = GroupNorm::edm_groups(*channels);
            groups == 0 || !channels.is_multiple_of(groups)
        })
    }
}

/// What is impossible about a size.
pub(crate) fn size_problem(field: &str, value: usize) -> Option<Problem> {
    let problem = || format!("is {value} and must be between 1 and {LARGEST_SIZE}");
    (value == 0 || value > LARGEST_SIZE).then(|| Problem::new(field, problem()))
}

/// What is impossible about a size that may be 0.
pub(crate) fn most_problem(field: &str, value: usize) -> Option<Problem> {
    let problem = || format!("is {value} and must be at most {LARGEST_SIZE}");
    (value > LARGEST_SIZE).then(|| Problem::new(field, problem()))
}

/// What is impossible about a probability of dropout.
pub(crate) fn probability_problem(field: &str, value: f64) -> Option<Problem> {
    let problem = || format!("is {value} and must be at least 0 and below 1");
    (!(0.0..1.0).contains(&value)).then(|| Problem::new(field, problem()))
}
