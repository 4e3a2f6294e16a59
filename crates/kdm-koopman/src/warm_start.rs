//! A student that begins with the weights of another one, as far as they fit.

use kdm_nn::StateDict;
use kdm_nn::state::{load_state, state_dict};
use serde::{Deserialize, Serialize};

use crate::Student;

/// With which weights a student began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmStart {
    /// Hash of the other student's file.
    pub sha256: String,
    /// Numbers that were taken over.
    pub taken: usize,
    /// Numbers that the student has.
    pub of: usize,
}

/// `student` with the weights `from`, where they have the same name and shape; and how many numbers
/// were taken over of how many.
///
/// ```
/// use burn::tensor::Device;
/// use kdm_koopman::warm_start::begin_with;
/// use kdm_koopman::{Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};
/// use kdm_nn::state::state_dict;
///
/// let config = StudentConfig {
///     method: Method::Koopman,
///     shape: vec![2],
///     label_dim: 0,
///     noise_std: 1.0,
///     latent: 4,
///     levels: Vec::new(),
///     network: NetworkConfig::Mlp { hidden: 8, layers: 3 },
///     operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: false },
/// };
/// let device = Device::flex();
/// let trained = state_dict(&config.init(1, &device));
/// // Of the same kind: all of it.
/// let (again, taken, of) = begin_with(config.init(2, &device), &trained);
/// assert_eq!((state_dict(&again), taken), (trained.clone(), of));
/// // With a larger latent space the layers within the encoders still fit.
/// let larger = StudentConfig { latent: 6, ..config };
/// let (_, taken, of) = begin_with(larger.init(2, &device), &trained);
/// assert!(0 < taken && taken < of);
/// ```
pub fn begin_with(student: Student, from: &StateDict) -> (Student, usize, usize) {
    let (mut taken, mut of) = (0, 0);
    let mut state = state_dict(&student);
    for (name, own) in &mut state {
        let count = own.shape().num_elements();
        of += count;
        if let Some(theirs) = from.get(name).filter(|theirs| theirs.shape() == own.shape()) {
            *own = theirs.clone();
            taken += count;
        }
    }
    let student = load_state(student, &state).expect("the student's own names and shapes");
    (student, taken, of)
}
