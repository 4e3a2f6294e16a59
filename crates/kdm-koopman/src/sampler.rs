//! One-step sampling on host arrays.

use burn::tensor::{Device, Tensor};
use kdm_data::Labels;
use kdm_kernels::{FrozenLinear, is_cpu};
use kdm_nn::fixed_batches::{self, Rows, in_batches};
use kdm_nn::{ForwardMode, FrozenUNet, Linear};
use kdm_observer::{Observer, Silent, Stopped};

use crate::host::{narrow, values};
use crate::operator::FrozenLevels;
use crate::student::{CLEAN_TIME, NOISE_TIME, Network};
use crate::{Operator, Student, StudentConfig};

/// A student ready to draw: x_0 = D(C E_T(x_T) + B y) in one pass. A sample's bits depend on its
/// own noise and label alone, not on the batch. [`Student`] has an example.
///
/// On the CPU a student of U-Nets is frozen: what depends on the time alone is computed here,
/// weights are packed, the operator is one matrix, or a generator's factors. MLPs, and all students
/// on other devices, are run as they are, in blocks of one size.
#[derive(Debug)]
pub struct Sampler {
    engine: Engine,
    shape: Vec<usize>,
    label_dim: usize,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
enum Engine {
    Blocks(Student, Device),
    Frozen(FrozenStudent),
}

/// A student of U-Nets, for sampling alone.
#[derive(Debug)]
struct FrozenStudent {
    /// The noise encoder, or all of a direct student.
    first: FrozenUNet,
    rest: Option<FrozenRest>,
    noise_scale: f32,
}

/// From the noise's latent to the image.
#[derive(Debug)]
struct FrozenRest {
    decoder: FrozenUNet,
    /// The maps from latent to latent in order: the projection and back, and the operator between
    /// them.
    maps: Vec<FrozenMap>,
    /// The place of the operator among the maps.
    operator: usize,
    /// B y for every class, and for none, where B's bias is left; empty without control.
    control: Vec<Vec<f32>>,
}

/// A map from latent to latent.
#[derive(Debug)]
enum FrozenMap {
    Linear(FrozenLinear),
    /// A generator's, coordinate by coordinate.
    Generator(Vec<(f32, f32)>),
    /// Of levels.
    Levels(FrozenLevels),
}

impl FrozenMap {
    fn run(&self, z: &[f32]) -> Vec<f32> {
        let lambda = match self {
            Self::Linear(linear) => return linear.run(z),
            Self::Levels(levels) => return levels.run(z),
            Self::Generator(lambda) => lambda,
        };
        let mut moved = z.to_vec();
        for row in moved.chunks_exact_mut(2 * lambda.len()) {
            let (re, im) = row.split_at_mut(lambda.len());
            for ((re, im), (l_re, l_im)) in re.iter_mut().zip(im).zip(lambda) {
                (*re, *im) = (*re * l_re - *im * l_im, *re * l_im + *im * l_re);
            }
        }
        moved
    }
}

/// Images that are drawn at a time.
const IMAGES: usize = 16;

impl Sampler {
    /// Takes the student of `config`, which lies on `device`, outside autodiff.
    pub fn new(student: Student, config: &StudentConfig, device: &Device) -> Self {
        let frozen =
            is_cpu(device).then(|| FrozenStudent::new(&student, config.label_dim)).flatten();
        let engine = frozen.map_or_else(|| Engine::Blocks(student, device.clone()), Engine::Frozen);
        Self { engine, shape: config.shape.clone(), label_dim: config.label_dim }
    }

    /// x_0 for rows of x_T with its full standard deviation: `[N, dim]` -> `[N, dim]`. There is a
    /// label a row; one without a class, or with a class that the student doesn't have, leaves a
    /// conditional student's label at zero.
    ///
    /// # Panics
    /// When there are not as many labels as rows.
    pub fn sample(&self, noise: &[f32], labels: &Labels) -> Vec<f32> {
        self.sample_observed(noise, labels, &Silent).expect("nobody asks for a stop")
    }

    /// [`Self::sample`], telling the observer how many samples are drawn.
    ///
    /// # Errors
    /// When the observer asks for a stop; nothing is kept.
    ///
    /// # Panics
    /// When there are not as many labels as rows.
    pub fn sample_observed(
        &self,
        noise: &[f32],
        labels: &Labels,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>, Stopped> {
        let dim: usize = self.shape.iter().product();
        let count = noise.len() / dim;
        assert_eq!(labels.len(), count, "a label for each row of noise");
        // Whole blocks, so that none but the last is filled up with zeros.
        let (unit, at_a_time) = match &self.engine {
            Engine::Frozen(_) => ("images", IMAGES),
            Engine::Blocks(..) if self.shape.len() == 3 => {
                ("images", fixed_batches::ROWS_PER_BATCH)
            }
            Engine::Blocks(..) => ("points", fixed_batches::ROWS_PER_BATCH),
        };
        let mut progress = observer.begin("samples", unit);
        let mut drawn = Vec::with_capacity(noise.len());
        for start in (0..count).step_by(at_a_time) {
            progress.advance(start as u64, count as u64, "")?;
            let rows = start..(start + at_a_time).min(count);
            let (noise, labels) = (&noise[rows.start * dim..rows.end * dim], labels.range(rows));
            drawn.extend(match &self.engine {
                Engine::Frozen(student) => student.sample(noise, &self.classes(&labels)),
                Engine::Blocks(student, device) => {
                    self.sample_in_blocks(student, device, noise, &labels)
                }
            });
        }
        progress.report(count as u64, count as u64, "");
        progress.finish("");
        Ok(drawn)
    }

    /// The class of every row; the number of classes for none.
    fn classes(&self, labels: &Labels) -> Vec<usize> {
        let class = |class: Option<u32>| class.map_or(self.label_dim, |class| class as usize);
        labels.iter().map(|label| class(label).min(self.label_dim)).collect()
    }

    fn sample_in_blocks(
        &self,
        student: &Student,
        device: &Device,
        noise: &[f32],
        labels: &Labels,
    ) -> Vec<f32> {
        let x = Rows { values: noise, width: self.shape.iter().product() };
        if self.label_dim == 0 {
            return in_batches([x], device, |[x]| {
                student.generate(x, None, &ForwardMode::evaluation())
            });
        }
        let one_hot = labels.one_hot(self.label_dim);
        let y = Rows { values: &one_hot, width: self.label_dim };
        in_batches([x, y], device, |[x, y]: [Tensor<2>; 2]| {
            student.generate(x, Some(y), &ForwardMode::evaluation())
        })
    }
}

fn frozen(linear: &Linear) -> FrozenLinear {
    let outputs = linear.weight.dims()[0];
    let bias = linear.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
    FrozenLinear::new(&values(linear.weight.val()), bias)
}

impl FrozenStudent {
    /// None when the student's networks are no U-Nets of the standard kind.
    fn new(student: &Student, label_dim: usize) -> Option<Self> {
        let student = match student {
            Student::Koopman(student) => student,
            Student::Direct(direct) => {
                let Network::Unet(network) = &direct.network else { return None };
                let first = FrozenUNet::new(network, NOISE_TIME)?;
                return Some(Self { first, rest: None, noise_scale: direct.noise_scale as f32 });
            }
        };
        let (Network::Unet(encoder), Network::Unet(decoder)) =
            (&student.noise_encoder, &student.decoder)
        else {
            return None;
        };
        let first = FrozenUNet::new(encoder, NOISE_TIME)?;
        let decoder = FrozenUNet::new(decoder, CLEAN_TIME)?;
        let operator = match &student.operator {
            Operator::Generator(generator) => FrozenMap::Generator(generator.factors()),
            Operator::Levels(levels) => FrozenMap::Levels(FrozenLevels::new(levels)),
            Operator::Dense(_) | Operator::Factorized(_) => {
                let affine = student.operator.matrix();
                let (matrix, bias) = (narrow(&affine.matrix), narrow(&affine.bias));
                FrozenMap::Linear(FrozenLinear::new(&matrix, bias))
            }
        };
        let n = student.operator.dim();
        let control = student.control.as_ref().map_or_else(Vec::new, |control| {
            let device = control.weight.device();
            let labels = Tensor::cat(
                vec![Tensor::eye(label_dim, &device), Tensor::zeros([1, label_dim], &device)],
                0,
            );
            values(control.forward(labels)).chunks_exact(n).map(<[f32]>::to_vec).collect()
        });
        let (maps, place) = match &student.projection {
            Some(p) => {
                let [down, up] = [&p.noise, &p.decoder].map(|map| FrozenMap::Linear(frozen(map)));
                (vec![down, operator, up], 1)
            }
            None => (vec![operator], 0),
        };
        let rest = Some(FrozenRest { decoder, maps, operator: place, control });
        Some(Self { first, rest, noise_scale: student.noise_scale as f32 })
    }

    fn sample(&self, noise: &[f32], classes: &[usize]) -> Vec<f32> {
        let scaled: Vec<f32> = noise.iter().map(|x| x / self.noise_scale).collect();
        let mut z = self.first.run(&scaled, classes);
        let Some(rest) = &self.rest else { return z };
        for (i, map) in rest.maps.iter().enumerate() {
            z = map.run(&z);
            if i == rest.operator && !rest.control.is_empty() {
                let width = z.len() / classes.len();
                for (z, class) in z.chunks_exact_mut(width).zip(classes) {
                    z.iter_mut().zip(&rest.control[*class]).for_each(|(z, control)| *z += control);
                }
            }
        }
        rest.decoder.run(&z, classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind};
    use kdm_random::normal_vec;

    /// The frozen student and the student itself, for every form of operator, with classes and
    /// without, labels left out.
    #[test]
    fn the_frozen_student_draws_what_the_student_draws() {
        let device = Device::flex();
        for (method, kind, projection, label_dim, levels) in [
            (Method::Koopman, OperatorKind::Dense, None, 0, vec![]),
            (Method::Koopman, OperatorKind::Dense, Some(40), 3, vec![1, 2, 4]),
            (Method::Koopman, OperatorKind::Factorized, None, 3, vec![]),
            (Method::Koopman, OperatorKind::Factorized, Some(9), 0, vec![]),
            (Method::Koopman, OperatorKind::Generator, Some(40), 3, vec![]),
            (Method::Koopman, OperatorKind::Generator, None, 0, vec![1, 0, 2]),
            (Method::Koopman, OperatorKind::Channels, None, 3, vec![1, 2, 4]),
            (Method::Koopman, OperatorKind::Places, None, 0, vec![2, 0, 3]),
            (Method::Koopman, OperatorKind::Frequencies, None, 3, vec![2, 1]),
            (Method::Direct, OperatorKind::Dense, None, 3, vec![]),
        ] {
            let places = [256, 64, 16];
            let latent: usize = levels.iter().zip(places).map(|(c, places)| c * places).sum();
            let config = StudentConfig {
                method,
                shape: vec![3, 16, 16],
                label_dim,
                noise_std: 1.0,
                latent: if levels.is_empty() { 256 } else { latent },
                levels,
                network: NetworkConfig::Unet {
                    model_channels: 8,
                    channel_mult: vec![1, 2, 2],
                    num_blocks: 1,
                    attn_resolutions: vec![8],
                    dropout: 0.1,
                },
                operator: OperatorConfig {
                    kind,
                    projection,
                    control: label_dim > 0 && method == Method::Koopman,
                },
            };
            assert_eq!(config.problems(), []);
            let student = config.init(3, &device);
            let sampler = Sampler::new(student.clone(), &config, &device);
            assert!(matches!(sampler.engine, Engine::Frozen(_)));
            let noise = normal_vec(1, 19 * config.dim());
            let classes: Vec<u32> = (0..19).map(|i| i % label_dim.max(1) as u32).collect();
            for labels in [Labels::of(&classes), Labels::none(19), Labels::all(7, 19)] {
                let found = sampler.sample(&noise, &labels);
                let expected = sampler.sample_in_blocks(&student, &device, &noise, &labels);
                assert_eq!(found.len(), expected.len());
                let scale =
                    (expected.iter().map(|x| x * x).sum::<f32>() / expected.len() as f32).sqrt();
                let off =
                    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // The same kernels; shifts and the operator are rounded in another order.
                assert!(
                    off < 1e-4 * scale,
                    "{kind:?} {projection:?} {label_dim}: {off} of {scale}"
                );
            }
        }
    }

    /// Watched or not, in parts or whole, the samples are the same; a stop ends the drawing.
    #[test]
    fn drawing_is_watched_and_stopped() {
        struct Stopping(std::cell::Cell<u64>);
        impl Observer for Stopping {
            fn event(&self, event: &kdm_observer::Event) {
                if let kdm_observer::Event::Advanced { done, total, unit, .. } = event {
                    assert_eq!((*total, *unit), (600, "points"));
                    self.0.set(*done);
                }
            }
            fn stopping(&self) -> bool {
                self.0.get() >= 512
            }
        }
        let device = Device::flex();
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![2],
            label_dim: 0,
            noise_std: 1.0,
            latent: 8,
            levels: Vec::new(),
            network: NetworkConfig::Mlp { hidden: 8, layers: 2 },
            operator: OperatorConfig {
                kind: OperatorKind::Dense,
                projection: None,
                control: false,
            },
        };
        let sampler = Sampler::new(config.init(1, &device), &config, &device);
        let (noise, labels) = (normal_vec(2, 1200), Labels::none(600));
        let seen = std::cell::RefCell::new(Vec::new());
        let watch = |event: &kdm_observer::Event| {
            if let kdm_observer::Event::Advanced { done, .. } = event {
                seen.borrow_mut().push(*done);
            }
        };
        let whole = sampler.sample_observed(&noise, &labels, &watch).unwrap();
        assert_eq!(*seen.borrow(), [0, 256, 512, 600]);
        assert_eq!(whole, sampler.sample(&noise, &labels));
        let stopping = Stopping(std::cell::Cell::new(0));
        assert_eq!(sampler.sample_observed(&noise, &labels, &stopping), Err(Stopped));
        assert_eq!(stopping.0.get(), 512);
    }
}
