//! `kdm.Student`.

use std::path::PathBuf;

use kdm::data::{Labels, Samples};
use kdm::koopman::stepwise::Stepwise;
use kdm::observer::Observer;
use kdm::stages::sample::sample;
use kdm::{Context, LoadedStudent, Outcome};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde_json::json;

use crate::arrays::{self, Given, array, classes, plain, rows};
use crate::errors::{given, usage};
use crate::work::{Watching, work};

/// A one-step generator: x_0 = D(C E_T(x_T) + B y).
// In a box of its own: Python aligns objects to 16 bytes, and parts of networks want 64.
#[pyclass(frozen, module = "kdm")]
pub struct Student(Box<LoadedStudent>);

impl Student {
    /// Reads a student, or one that ships by its name.
    pub fn open(py: Python<'_>, model: PathBuf) -> PyResult<Self> {
        let watching = Watching::by(None);
        let open = |context: Context| LoadedStudent::open(&model, context.device());
        Ok(Self(Box::new(work(py, &watching, open)?)))
    }

    /// The student itself.
    pub fn loaded(&self) -> &LoadedStudent {
        &self.0
    }

    /// The labels of `count` rows; a conditional student must be given some.
    fn labels(
        &self,
        py: Python<'_>,
        object: Option<&Bound<'_, PyAny>>,
        count: usize,
    ) -> PyResult<Labels> {
        let classes = self.0.config().label_dim;
        match arrays::labels(py, object, classes, count)? {
            Some(labels) => Ok(labels),
            None if classes == 0 => Ok(Labels::none(count)),
            None => given(
                py,
                Err(usage("labels: this student is conditional; give the class of each row")),
            ),
        }
    }

    /// Runs a part of the networks on rows of `width` values.
    fn part(
        &self,
        py: Python<'_>,
        (what, object, width): (&str, &Bound<'_, PyAny>, usize),
        labels: Option<&Bound<'_, PyAny>>,
        run: impl FnOnce(&Stepwise, &[f32], &Labels, &dyn Observer) -> Outcome<Vec<f32>> + Send,
    ) -> PyResult<Vec<f32>> {
        given(py, self.0.koopman())?;
        let values = given(py, Given::<f32>::of(object)?.into_finite_rows(width, what))?;
        let labels = self.labels(py, labels, values.len() / width)?;
        work(py, &Watching::by(None), |context| {
            run(&self.0.stepwise()?, &values, &labels, context.observer)
        })
    }
}

#[pymethods]
impl Student {
    /// Reads a student: a model file, or the name of one that ships, such as "fashion-mnist".
    #[staticmethod]
    fn load(py: Python<'_>, model: PathBuf) -> PyResult<Self> {
        Self::open(py, model)
    }

    /// Draws samples, (N, *shape), from seeds or from noise.
    ///
    /// A sample depends on its seed (or its noise) and class alone, bit by bit: it is that of
    /// `kdm sample --seeds`. A seed draws its class too unless labels are given: one class for all,
    /// class numbers, or one-hot rows, of which one of zeros is no class. Noise is x_T at its full
    /// standard deviation `noise_std`.
    #[pyo3(signature = (seeds=None, *, noise=None, labels=None, on_progress=None))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        seeds: Option<Vec<u64>>,
        noise: Option<&Bound<'py, PyAny>>,
        labels: Option<&Bound<'py, PyAny>>,
        on_progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let config = self.0.config();
        let source = match (seeds, noise) {
            (Some(seeds), None) if seeds.is_empty() => {
                given(py, Err(usage("seeds: there are none; give at least one")))?
            }
            (Some(seeds), None) => {
                let given = arrays::labels(py, labels, config.label_dim, seeds.len())?;
                work(py, &Watching::by(None), |_| {
                    let drawn = self.0.draw_noise(&seeds);
                    Ok(match given {
                        Some(labels) => Samples { labels, ..drawn },
                        None => drawn,
                    })
                })?
            }
            (None, Some(noise)) => {
                let noise = Given::<f32>::of(noise)?.into_finite_rows(config.dim(), "noise");
                let noise = given(py, noise)?;
                let labels = self.labels(py, labels, noise.len() / config.dim())?;
                Samples { shape: config.shape.clone(), noise, labels, ..Samples::default() }
            }
            _ => given(py, Err(usage("give either seeds or noise")))?,
        };
        let drawn = work(py, &Watching::by(on_progress), |context| {
            sample(&self.0, source, context.observer)
        })?;
        rows(py, &config.shape, &drawn.images)
    }

    /// The noise x_T, (N, *shape), and the classes that these seeds draw.
    fn draw_noise<'py>(
        &self,
        py: Python<'py>,
        seeds: Vec<u64>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let drawn = work(py, &Watching::by(None), |_| Ok(self.0.draw_noise(&seeds)))?;
        let labels = classes(py, &drawn.labels, self.0.config().label_dim)?;
        Ok((rows(py, &drawn.shape, &drawn.noise)?, labels))
    }

    /// Latents z_0 = E_0(x_0) of images, (N, latent).
    #[pyo3(signature = (images, labels=None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        labels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let config = self.0.config();
        let latents =
            self.part(py, ("images", images, config.dim()), labels, |parts, x, y, o| {
                Ok(parts.observed("latents", x, y, o, Stepwise::encode_clean)?)
            })?;
        rows(py, &[config.operator_dim()], &latents)
    }

    /// Latents z_T = E_T(x_T) of noise, (N, latent).
    #[pyo3(signature = (noise, labels=None))]
    fn encode_noise<'py>(
        &self,
        py: Python<'py>,
        noise: &Bound<'py, PyAny>,
        labels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let config = self.0.config();
        let latents = self.part(py, ("noise", noise, config.dim()), labels, |parts, x, y, o| {
            Ok(parts.observed("latents", x, y, o, Stepwise::encode_noise)?)
        })?;
        rows(py, &[config.operator_dim()], &latents)
    }

    /// The operator with its control, C z + B y, (N, latent).
    #[pyo3(signature = (latents, labels=None))]
    fn push<'py>(
        &self,
        py: Python<'py>,
        latents: &Bound<'py, PyAny>,
        labels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let n = self.0.config().operator_dim();
        let pushed =
            self.part(py, ("latents", latents, n), labels, |parts, z, y, _| Ok(parts.push(z, y)))?;
        rows(py, &[n], &pushed)
    }

    /// Images D(z) of latents, (N, *shape).
    #[pyo3(signature = (latents, labels=None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        latents: &Bound<'py, PyAny>,
        labels: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let config = self.0.config();
        let what = ("latents", latents, config.operator_dim());
        let images = self.part(py, what, labels, |parts, z, y, o| {
            Ok(parts.observed("decoding", z, y, o, Stepwise::decode)?)
        })?;
        rows(py, &config.shape, &images)
    }

    /// The operator as numbers.
    fn operator<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (affine, control) = work(py, &Watching::by(None), |_| {
            let parts = self.0.stepwise()?;
            let classes: Vec<u32> = (0..parts.config.label_dim as u32).collect();
            Ok((parts.student.operator.matrix(), parts.control(&Labels::of(&classes))))
        })?;
        let n = affine.n;
        let control = match &control[..] {
            [] => None,
            control => Some(array(py, &[control.len() / n, n], control)?),
        };
        let fields = (array(py, &[n, n], &affine.matrix)?, array(py, &[n], &affine.bias)?, control);
        py.import("kdm._types")?.getattr("Operator")?.call1(fields)
    }

    /// The file or name it was loaded by.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path.clone()
    }

    /// Shape of a sample: (C, H, W) of images, (D,) of points.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.config().shape)
    }

    /// Classes; 0 for an unconditional student.
    #[getter]
    fn classes(&self) -> usize {
        self.0.config().label_dim
    }

    /// The names of its classes, where its data set is known by name.
    #[getter]
    fn class_names(&self) -> Vec<String> {
        self.0.class_names()
    }

    /// Standard deviation of the noise x_T.
    #[getter]
    fn noise_std(&self) -> f64 {
        self.0.config().noise_std
    }

    /// Dimension of the operator; none for a direct student.
    #[getter]
    fn latent(&self) -> Option<usize> {
        self.0.koopman().ok().map(|_| self.0.config().operator_dim())
    }

    /// What its file says: the networks, the loss, and where it is from.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &json!(self.0.file))
    }

    fn __repr__(&self) -> String {
        let config = self.0.config();
        let path = self.0.path.display();
        format!("Student({path}: shape {:?}, {} classes)", config.shape, config.label_dim)
    }

    /// A copy in another process reads the file again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (PathBuf,))> {
        let load = py.get_type::<Self>().getattr("load")?;
        Ok((load, (self.0.path.clone(),)))
    }
}
