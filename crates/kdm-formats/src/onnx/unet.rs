//! U-Nets as nodes, of every kind: what `kdm_nn::UNetPlan` says of them.

use kdm_nn::unet::plan::{EmbeddingPlan, LabelPlan};
use kdm_nn::{PlannedKind, PlannedLayer, Resize, UNetPlan};

use super::graph::{Builder, Parameter, Value};
use super::layers::{Attention, Weights};

/// What a U-Net is conditioned on beside labels.
pub(super) enum Condition<'a> {
    /// The embedding, known whole: there are no labels.
    Embedding(Vec<f32>),
    /// Cosines and sines of the one noise condition.
    Features(Vec<f32>),
    /// A noise condition an image, `[batch, 1]`.
    Rows(&'a str),
}

/// The embedding that shifts blocks.
enum Embedding {
    /// The same for all images: the network gives a block's shift.
    Fixed(Vec<f32>),
    /// An image's own.
    Rows(Value),
}

/// A U-Net in the making.
struct Unet<'a> {
    weights: &'a Weights<'a>,
    plan: &'a UNetPlan,
    embedding: Embedding,
    main: Map,
    input: Map,
    /// What coarser levels take, the coarsest first.
    levels: Vec<Value>,
    skips: Vec<Map>,
    output: Option<Map>,
    /// What coarser levels give, the coarsest first.
    level_outputs: Vec<Value>,
}

/// Images between layers.
#[derive(Clone)]
struct Map {
    value: Value,
    channels: usize,
    side: usize,
}

impl Builder {
    /// A U-Net on images, and on those that coarser levels take, finest first; its results in the
    /// same order. `labels`: one-hot rows; not read by a network without classes.
    pub fn unet(
        &mut self,
        inputs: &[Value],
        weights: &Weights,
        plan: &UNetPlan,
        condition: Condition,
        labels: Option<&str>,
    ) -> Vec<Value> {
        let (x, levels) = inputs.split_first().expect("an image");
        let divisor = match condition {
            Condition::Rows(rows) if plan.divides_by_noise => {
                Some(self.reshape(rows, &[-1, 1, 1, 1]))
            }
            _ => None,
        };
        let first = &plan.layers[0];
        let shape = weights.state[&format!("{}.weight", first.name)].shape();
        let value = if plan.centers_input {
            let twice = self.scaled(x, 2.0);
            self.plus(&twice, -1.0)
        } else {
            x.to_string()
        };
        let input = Map { value, channels: shape[1], side: first.side };
        let mut unet = Unet {
            weights,
            plan,
            embedding: self.embedding(weights, &plan.embedding, condition, labels),
            main: input.clone(),
            input,
            levels: levels.iter().rev().cloned().collect(),
            skips: Vec::new(),
            output: None,
            level_outputs: Vec::new(),
        };
        for layer in &plan.layers {
            unet.add(self, layer);
            if layer.kept {
                unet.skips.push(unet.main.clone());
            }
        }
        let output = unet.output.expect("a plan has a layer of the result").value;
        let output = match divisor {
            Some(divisor) => self.node("Div", &[&output, &divisor], &[]),
            None => output,
        };
        std::iter::once(output).chain(unet.level_outputs.into_iter().rev()).collect()
    }

    fn embedding(
        &mut self,
        weights: &Weights,
        plan: &EmbeddingPlan,
        condition: Condition,
        labels: Option<&str>,
    ) -> Embedding {
        let mut e = match condition {
            Condition::Embedding(fixed) => return Embedding::Fixed(fixed),
            Condition::Features(features) => {
                let name = weights.name("time_features");
                self.constant(&name, &[1, features.len()], &features)
            }
            Condition::Rows(rows) => self.noise_features(weights, plan, rows),
        };
        let label = plan.label.zip(labels);
        if let Some((LabelPlan::ToFeatures { layer, scale }, labels)) = label {
            let scaled = self.scaled(labels, scale);
            let of_label = self.linear(&scaled, weights, layer);
            e = self.node("Add", &[&of_label, &e], &[]);
        }
        let [first, second] = plan.layers;
        e = self.linear(&e, weights, first);
        e = self.silu(&e);
        e = self.linear(&e, weights, second);
        let of_label = match label {
            Some((LabelPlan::ToEmbedding(layer), labels)) => {
                Some(self.linear(labels, weights, layer))
            }
            Some((LabelPlan::Table(table), labels)) => {
                let (shape, rows) = weights.values(&format!("{table}.weight"));
                let rows = self.constant(&weights.name(table), &shape, &rows);
                Some(self.node("MatMul", &[labels, &rows], &[]))
            }
            Some((LabelPlan::ToFeatures { .. }, _)) | None => None,
        };
        if let Some(of_label) = of_label {
            e = self.node("Add", &[&of_label, &e], &[]);
        }
        Embedding::Rows(self.activated(&e, plan.activation))
    }

    /// Cosines and sines of noise conditions `[batch, 1]`: `[batch, features]`.
    fn noise_features(&mut self, weights: &Weights, plan: &EmbeddingPlan, rows: &str) -> Value {
        let name = weights.name("time_frequencies");
        let frequencies = self.exact(&name, &[1, plan.frequencies.len()], &plan.frequencies);
        let noise =
            if plan.of_logarithm { self.node("Log", &[rows], &[]) } else { rows.to_string() };
        let angles = self.node("MatMul", &[&noise, &frequencies], &[]);
        let order = if plan.cosines_first { ["Cos", "Sin"] } else { ["Sin", "Cos"] };
        let [first, second] = order.map(|kind| self.node(kind, &[&angles], &[]));
        self.node("Concat", &[&first, &second], &[("axis", Parameter::Int(1))])
    }
}

impl Unet<'_> {
    fn add(&mut self, builder: &mut Builder, layer: &PlannedLayer) {
        let name = &layer.name;
        let (weights, taps) = (self.weights, &self.plan.taps);
        match &layer.kind {
            PlannedKind::Conv { stride, padding } => {
                let x = &self.main.value;
                let value = builder.conv_with(x, weights, name, *stride, *padding);
                self.main = self.map(value, name, layer.side);
            }
            PlannedKind::Block { takes_skip, .. } => {
                if *takes_skip {
                    let skip = self.skips.pop().expect("as many are kept as taken");
                    let parts = [self.main.value.as_str(), &skip.value];
                    let axis = [("axis", Parameter::Int(1))];
                    self.main.value = builder.node("Concat", &parts, &axis);
                    self.main.channels += skip.channels;
                }
                self.main = self.block(builder, layer);
            }
            PlannedKind::Attention { groups, heads, scale } => {
                self.main.value = self.attention(builder, name, *groups, *heads, *scale);
            }
            PlannedKind::Resample(resize) => {
                let Map { value, channels, .. } = &self.main;
                self.main.value = builder.resized(value, *resize, *channels, taps);
                self.main.side = layer.side;
            }
            PlannedKind::AddInput => {
                let Map { value, channels, .. } = &self.input;
                self.input.value = builder.resized(value, Resize::Down, *channels, taps);
                let added = builder.conv(&self.input.value, weights, name);
                self.main.value = builder.node("Add", &[&self.main.value, &added], &[]);
            }
            PlannedKind::MixInput => {
                let padding = 1 + (taps.len() - 1) / 2;
                let wide = builder.conv_with(&self.input.value, weights, name, 1, [padding; 4]);
                let added = builder.halved_within(&wide, weights.outputs(name), taps);
                let sum = builder.node("Add", &[&self.main.value, &added], &[]);
                self.main.value = builder.scaled(&sum, 0.5f64.sqrt());
                self.input = self.main.clone();
            }
            PlannedKind::AddLevel => {
                let level = self.levels.pop().expect("an image for every level that takes one");
                let added = builder.conv(&level, weights, name);
                self.main.value = builder.node("Add", &[&self.main.value, &added], &[]);
            }
            PlannedKind::LevelOutput { norm, groups } => {
                let normed = self.normed(builder, &self.main, norm, *groups);
                let active = builder.silu(&normed);
                self.level_outputs.push(builder.conv(&active, weights, name));
            }
            PlannedKind::Output { norm, groups } => {
                let normed = self.normed(builder, &self.main, norm, *groups);
                let active = builder.silu(&normed);
                let mut value = builder.conv(&active, weights, name);
                if let Some(coarser) = &self.output {
                    let Map { value: x, channels, .. } = coarser;
                    let doubled = builder.resized(x, Resize::Up, *channels, taps);
                    value = builder.node("Add", &[&doubled, &value], &[]);
                }
                self.output = Some(self.map(value, name, layer.side));
            }
        }
    }

    /// The result of a convolution.
    fn map(&self, value: Value, conv: &str, side: usize) -> Map {
        Map { value, channels: self.weights.outputs(conv), side }
    }

    fn normed(&self, builder: &mut Builder, x: &Map, norm: &str, groups: usize) -> Value {
        builder.group_norm(&x.value, self.weights, norm, groups, x.side, self.plan.epsilon)
    }

    /// A residual block of the main path.
    fn block(&self, builder: &mut Builder, layer: &PlannedLayer) -> Map {
        let PlannedKind::Block { resize, groups, scale, .. } = layer.kind else {
            unreachable!("the caller has a block")
        };
        let Unet { weights, plan, main, .. } = self;
        let part = |part: &str| format!("{}.{part}", layer.name);
        let ([norm0, norm1], [conv0, conv1]) = (plan.names.norms, plan.names.convs);
        let normed = self.normed(builder, main, &part(norm0), groups[0]);
        let active = builder.activated(&normed, plan.activation);
        let resized = builder.resized(&active, resize, main.channels, &plan.taps);
        let hidden = builder.conv(&resized, weights, &part(conv0));
        let hidden = self.map(hidden, &part(conv0), layer.side);
        let shifted = self.modulated(builder, layer, hidden, &part(norm1), groups[1]);
        let active = builder.activated(&shifted, plan.activation);
        let h = builder.conv(&active, weights, &part(conv1));
        let mut rest = builder.resized(&main.value, resize, main.channels, &plan.taps);
        if weights.has(&part(plan.names.skip)) {
            rest = builder.conv(&rest, weights, &part(plan.names.skip));
        }
        let sum = builder.node("Add", &[&h, &rest], &[]);
        self.map(builder.scaled(&sum, scale), &part(conv1), layer.side)
    }

    /// The second norm, with what the embedding does before or after it.
    fn modulated(
        &self,
        builder: &mut Builder,
        layer: &PlannedLayer,
        hidden: Map,
        norm: &str,
        groups: usize,
    ) -> Value {
        let affine = format!("{}.{}", layer.name, self.plan.names.affine);
        let channels = hidden.channels;
        if !self.plan.adaptive {
            let shift = self.shift(builder, &affine, 0, channels);
            let value = builder.node("Add", &[&hidden.value, &shift], &[]);
            return self.normed(builder, &Map { value, ..hidden }, norm, groups);
        }
        let normed = self.normed(builder, &hidden, norm, groups);
        let scale = self.shift(builder, &affine, 0, channels);
        let shift = self.shift(builder, &affine, channels, channels);
        let scale = builder.plus(&scale, 1.0);
        let scaled = builder.node("Mul", &[&normed, &scale], &[]);
        builder.node("Add", &[&scaled, &shift], &[])
    }

    /// What a block's affine layer makes of the embedding, `count` of its outputs from `first` on.
    fn shift(&self, builder: &mut Builder, affine: &str, first: usize, count: usize) -> Value {
        let weights = self.weights.affine(affine, first..first + count);
        let name = self.weights.name(&format!("{affine}.{first}"));
        match &self.embedding {
            Embedding::Rows(rows) => {
                let rows = builder.affine(rows, &name, &weights);
                builder.reshape(&rows, &[0, count as i64, 1, 1])
            }
            Embedding::Fixed(e) => builder.constant(&name, &[count, 1, 1], &weights.of(e)),
        }
    }

    /// Self-attention on the main path.
    fn attention(
        &self,
        builder: &mut Builder,
        layer: &str,
        groups: usize,
        heads: usize,
        scale: f64,
    ) -> Value {
        let names = self.plan.names;
        let norm = format!("{layer}.{}", names.attention_norm);
        let normed = self.normed(builder, &self.main, &norm, groups);
        let side = self.main.side;
        let attention = Attention { layer, queries: names.queries, heads, side };
        let attended = builder.attention(&normed, self.weights, attention);
        let projection = format!("{layer}.{}", names.projection);
        let projected = builder.linear_of_pixels(&attended, self.weights, &projection);
        let sum = builder.node("Add", &[&projected, &self.main.value], &[]);
        builder.scaled(&sum, scale)
    }
}
