//! One-step sampling on host arrays.

use burn::tensor::{Device, Tensor};
use kdm_kernels::FrozenLinear;
use kdm_nn::fixed_batches::{Rows, in_blocks};
use kdm_nn::{ForwardMode, FrozenUNet, Linear};

use crate::student::{CLEAN_TIME, NOISE_TIME, Network};
use crate::{Student, StudentConfig};

/// A student ready to draw. A sample's bits depend on its own noise and label alone, not on the
/// batch.
///
/// A student of U-Nets is frozen: what depends on the time alone is computed here, weights are
/// packed, the operator is one matrix. Perceptrons are run as they are, in blocks of one size.
#[derive(Debug)]
pub struct Sampler {
    way: Way,
    dim: usize,
    label_dim: usize,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
enum Way {
    Blocks(Student, Device),
    Frozen(FrozenStudent),
}

/// A student of U-Nets, for sampling alone.
#[derive(Debug)]
struct FrozenStudent {
    /// The noise encoder, or all of a direct student.
    first: FrozenUNet,
    way: Option<FrozenWay>,
    noise_scale: f32,
}

/// From the noise's latent to the image.
#[derive(Debug)]
struct FrozenWay {
    decoder: FrozenUNet,
    /// The maps from latent to latent in order: the projection and back, and the operator between
    /// them.
    maps: Vec<FrozenLinear>,
    /// The place of the operator among the maps.
    operator: usize,
    /// B y for every class, and for none, where B's bias is left; empty without control.
    control: Vec<Vec<f32>>,
}

/// Images that are drawn at a time.
const IMAGES: usize = 16;

impl Sampler {
    /// Takes the student of `config`, outside autodiff.
    pub fn new(student: Student, config: &StudentConfig, device: &Device) -> Self {
        let frozen = (*device == Device::flex())
            .then(|| FrozenStudent::new(&student, config.label_dim))
            .flatten();
        let way = frozen.map_or_else(|| Way::Blocks(student, device.clone()), Way::Frozen);
        Self { way, dim: config.dim(), label_dim: config.label_dim }
    }

    /// x_0 for rows of x_T (with its full standard deviation); `labels` are one-hot rows (or rows
    /// of zeros), or empty, which leaves a conditional student's label at zero.
    pub fn sample(&self, noise: &[f32], labels: &[f32]) -> Vec<f32> {
        match &self.way {
            Way::Frozen(student) => {
                let classes = self.classes(noise.len() / self.dim, labels);
                let parts = noise.chunks(IMAGES * self.dim).zip(classes.chunks(IMAGES));
                parts.flat_map(|(noise, classes)| student.sample(noise, classes)).collect()
            }
            Way::Blocks(student, device) => self.sample_in_blocks(student, device, noise, labels),
        }
    }

    /// The class of every row; the number of classes for none.
    fn classes(&self, rows: usize, labels: &[f32]) -> Vec<usize> {
        if self.label_dim == 0 || labels.is_empty() {
            return vec![self.label_dim; rows];
        }
        let class = |row: &[f32]| row.iter().position(|x| *x > 0.0).unwrap_or(self.label_dim);
        labels.chunks_exact(self.label_dim).map(class).collect()
    }

    fn sample_in_blocks(
        &self,
        student: &Student,
        device: &Device,
        noise: &[f32],
        labels: &[f32],
    ) -> Vec<f32> {
        let x = Rows { values: noise, width: self.dim };
        if self.label_dim == 0 {
            return in_blocks([x], device, |[x]| {
                student.generate(x, None, &ForwardMode::evaluation())
            });
        }
        let zeros =
            vec![0.0; if labels.is_empty() { noise.len() / self.dim * self.label_dim } else { 0 }];
        let y =
            Rows { values: if labels.is_empty() { &zeros } else { labels }, width: self.label_dim };
        in_blocks([x, y], device, |[x, y]: [Tensor<2>; 2]| {
            student.generate(x, Some(y), &ForwardMode::evaluation())
        })
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("weights are f32")
}

fn frozen(linear: &Linear) -> FrozenLinear {
    let outputs = linear.weight.dims()[0];
    let bias = linear.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| host(bias.val()));
    FrozenLinear::new(&host(linear.weight.val()), bias)
}

impl FrozenStudent {
    /// None when the student's networks are no U-Nets of the standard kind.
    fn new(student: &Student, label_dim: usize) -> Option<Self> {
        let student = match student {
            Student::Koopman(student) => student,
            Student::Direct(direct) => {
                let Network::Unet(network) = &direct.network else { return None };
                let first = FrozenUNet::new(network, NOISE_TIME)?;
                return Some(Self { first, way: None, noise_scale: direct.noise_scale as f32 });
            }
        };
        let (Network::Unet(encoder), Network::Unet(decoder)) =
            (&student.noise_encoder, &student.decoder)
        else {
            return None;
        };
        let first = FrozenUNet::new(encoder, NOISE_TIME)?;
        let decoder = FrozenUNet::new(decoder, CLEAN_TIME)?;
        let affine = student.operator.matrix();
        let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let operator = FrozenLinear::new(&narrow(&affine.matrix), narrow(&affine.bias));
        let control = student.control.as_ref().map_or_else(Vec::new, |control| {
            let device = control.weight.device();
            let labels = Tensor::cat(
                vec![Tensor::eye(label_dim, &device), Tensor::zeros([1, label_dim], &device)],
                0,
            );
            host(control.forward(labels)).chunks_exact(affine.n).map(<[f32]>::to_vec).collect()
        });
        let (maps, place) = match &student.projection {
            Some(p) => (vec![frozen(&p.noise), operator, frozen(&p.decoder)], 1),
            None => (vec![operator], 0),
        };
        let way = Some(FrozenWay { decoder, maps, operator: place, control });
        Some(Self { first, way, noise_scale: student.noise_scale as f32 })
    }

    fn sample(&self, noise: &[f32], classes: &[usize]) -> Vec<f32> {
        let scaled: Vec<f32> = noise.iter().map(|x| x / self.noise_scale).collect();
        let mut z = self.first.run(&scaled, classes);
        let Some(way) = &self.way else { return z };
        for (i, map) in way.maps.iter().enumerate() {
            z = map.run(&z);
            if i == way.operator && !way.control.is_empty() {
                let width = z.len() / classes.len();
                for (z, class) in z.chunks_exact_mut(width).zip(classes) {
                    z.iter_mut().zip(&way.control[*class]).for_each(|(z, control)| *z += control);
                }
            }
        }
        way.decoder.run(&z, classes)
    }
}

/// One-hot rows of `label_dim` values; empty when there are no classes.
pub fn one_hot(classes: &[u32], label_dim: usize) -> Vec<f32> {
    let mut rows = vec![0.0; classes.len() * label_dim];
    for (row, class) in classes.iter().enumerate() {
        if let Some(place) = rows.get_mut(row * label_dim + *class as usize) {
            *place = 1.0;
        }
    }
    rows
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
        for (method, kind, projection, label_dim) in [
            (Method::Koopman, OperatorKind::Dense, None, 0),
            (Method::Koopman, OperatorKind::Dense, Some(40), 3),
            (Method::Koopman, OperatorKind::Factorized, None, 3),
            (Method::Koopman, OperatorKind::Factorized, Some(9), 0),
            (Method::Direct, OperatorKind::Dense, None, 3),
        ] {
            let config = StudentConfig {
                method,
                shape: vec![3, 16, 16],
                label_dim,
                noise_std: 1.0,
                latent: 256,
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
            assert!(matches!(sampler.way, Way::Frozen(_)));
            let noise = normal_vec(1, 19 * config.dim());
            let classes: Vec<u32> = (0..19).map(|i| i % label_dim.max(1) as u32).collect();
            for labels in [one_hot(&classes, label_dim), Vec::new()] {
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
}
