//! Adam and the moving average in one pass over memory.

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::flex::{dense, from_values};
use super::simd::{TASK, vectorised};
use crate::ops::adam::{AdamEmaStep, Four, adam_ema_plain, sum_of_squares_plain};

pub(crate) fn adam_ema(
    param: FlexTensor,
    grad: FlexTensor,
    m: FlexTensor,
    v: FlexTensor,
    ema: FlexTensor,
    step: AdamEmaStep,
) -> Four<FlexTensor> {
    if param.dtype() != DType::F32 {
        return adam_ema_plain::<Flex>(param, grad, m, v, ema, step);
    }
    let [mut param, mut m, mut v, mut ema] = [param, m, v, ema].map(dense);
    let grad = dense(grad);
    adam_ema_loop(
        param.storage_mut(),
        grad.storage(),
        m.storage_mut(),
        v.storage_mut(),
        ema.storage_mut(),
        step,
    );
    (param, m, v, ema)
}

fn adam_ema_loop(
    param: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    ema: &mut [f32],
    s: AdamEmaStep,
) {
    param
        .par_chunks_mut(TASK)
        .zip(grad.par_chunks(TASK))
        .zip(m.par_chunks_mut(TASK))
        .zip(v.par_chunks_mut(TASK))
        .zip(ema.par_chunks_mut(TASK))
        .for_each(|((((p, g), m), v), e)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((((p, g), m), v), e) in p.iter_mut().zip(g).zip(m).zip(v).zip(e) {
                        *m = *m * s.beta1 + g * (1.0 - s.beta1);
                        *v = *v * s.beta2 + g * g * (1.0 - s.beta2);
                        *p -= s.step_size * (*m / (v.sqrt() * s.second_correction + s.epsilon));
                        *e = *e * s.ema_decay + *p * (1.0 - s.ema_decay);
                    }
                },
            );
        });
}

pub(crate) fn sum_of_squares(x: FlexTensor) -> FlexTensor {
    if x.dtype() != DType::F32 {
        return sum_of_squares_plain::<Flex>(x);
    }
    let x = dense(x);
    // Sixteen sums a task, and then tasks in order: the same bits on any number of threads.
    let part = |x: &[f32]| {
        vectorised(
            #[inline(always)]
            || {
                let mut sums = [0.0f32; 16];
                let (whole, rest) = x.as_chunks::<16>();
                for x in whole {
                    (0..16).for_each(|i| sums[i] += x[i] * x[i]);
                }
                sums.iter().map(|x| f64::from(*x)).sum::<f64>()
                    + rest.iter().map(|x| f64::from(x * x)).sum::<f64>()
            },
        )
    };
    let parts: Vec<f64> = x.storage::<f32>().par_chunks(TASK).map(part).collect();
    from_values(vec![parts.iter().sum::<f64>() as f32], [1])
}
