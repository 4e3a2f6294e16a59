//! What all operations with a gradient share: how they are recorded for the backward pass.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// What an operation of `N` inputs keeps from its forward pass, and the gradients that it makes of
/// it.
pub(crate) trait Gradient<B: Backend, const N: usize>:
    Clone + Debug + Send + 'static
{
    /// The inputs' gradients from that of the result; what is not `wanted` may be left out.
    fn gradients(self, grad: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// A step of the backward pass.
#[derive(Debug)]
struct Recorded<G>(PhantomData<G>);

impl<B: Backend, G: Gradient<B, N>, const N: usize> Backward<B, N> for Recorded<G> {
    type State = G;

    fn backward(self, ops: Ops<G, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (node, grad) in ops.parents.into_iter().zip(ops.state.gradients(grad, wanted)) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Runs an operation: `forward` where no input wants a gradient, else `saving`, which also gives
/// what the gradient needs.
pub(crate) fn record<B: Backend, C: CheckpointStrategy, G: Gradient<B, N>, const N: usize>(
    inputs: [FloatTensor<Autodiff<B, C>>; N],
    forward: impl FnOnce([FloatTensor<B>; N]) -> FloatTensor<B>,
    saving: impl FnOnce([FloatTensor<B>; N]) -> (FloatTensor<B>, G),
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = inputs.each_ref().map(|input| input.node());
    let kind = Recorded(PhantomData::<G>).prepare::<C>(nodes).compute_bound().stateful();
    let inputs = inputs.map(|input| input.into_primitive());
    match kind {
        OpsKind::Tracked(prep) => {
            let (result, gradient) = saving(inputs);
            prep.finish(gradient, result)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(inputs)),
    }
}
