//! The operations as a part of what gradients flow back through.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

use super::{Convolution, Differentiated, Kernels, Norm};

#[derive(Debug)]
struct Silu;

impl<B: Differentiated> Backward<B, 1> for Silu {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        kept: &mut Checkpointer,
    ) {
        let [of_x] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let x = kept.retrieve_node_output::<FloatTensor<B>>(ops.state);
        if let Some(node) = of_x {
            gradients.register::<B>(node.id, B::silu_backward(x, gradient));
        }
    }
}

/// Mean and variance, as they were used.
#[derive(Debug)]
struct Normalise;

impl<B: Differentiated> Backward<B, 3> for Normalise {
    type State = (NodeId, NodeId, FloatTensor<B>, FloatTensor<B>, Norm);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        kept: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, gamma, mean, variance, how) = ops.state;
        let x = kept.retrieve_node_output::<FloatTensor<B>>(x);
        let gamma = kept.retrieve_node_output::<FloatTensor<B>>(gamma);
        let (of_x, of_gamma, of_beta) =
            B::normalise_backward(x, gamma, mean, variance, gradient, how);
        for (node, gradient) in ops.parents.into_iter().zip([of_x, of_gamma, of_beta]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Convolve;

impl<B: Differentiated> Backward<B, 2> for Convolve {
    type State = (NodeId, NodeId, Convolution);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        kept: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, kernels, how) = ops.state;
        let x = kept.retrieve_node_output::<FloatTensor<B>>(x);
        let kernels = kept.retrieve_node_output::<FloatTensor<B>>(kernels);
        let (of_x, of_kernels) = B::convolve_backward(x, kernels, gradient, how);
        for (node, gradient) in ops.parents.into_iter().zip([of_x, of_kernels]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Differentiated, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn silu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match Silu.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut tracked) => {
                let kept = tracked.checkpoint(&x);
                tracked.finish(kept, B::silu(x.into_primitive()))
            }
            OpsKind::UnTracked(untracked) => untracked.finish(B::silu(x.into_primitive())),
        }
    }

    fn statistics(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        // What follows from them is in the gradient of `normalise`.
        let (mean, variance) = B::statistics(x.into_primitive());
        (Self::from_inner(mean), Self::from_inner(variance))
    }

    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        how: Norm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let [mean, variance] = [mean, variance].map(FloatTensor::<Self>::into_primitive);
        match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut tracked) => {
                let kept = [tracked.checkpoint(&x), tracked.checkpoint(&gamma)];
                let [x, gamma, beta] = [x, gamma, beta].map(FloatTensor::<Self>::into_primitive);
                let y = B::normalise(x, gamma, beta, mean.clone(), variance.clone(), how);
                tracked.finish((kept[0], kept[1], mean, variance, how), y)
            }
            OpsKind::UnTracked(untracked) => {
                let [x, gamma, beta] = [x, gamma, beta].map(FloatTensor::<Self>::into_primitive);
                untracked.finish(B::normalise(x, gamma, beta, mean, variance, how))
            }
        }
    }

    fn convolve(
        x: FloatTensor<Self>,
        kernels: FloatTensor<Self>,
        how: Convolution,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), kernels.node()];
        match Convolve.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut tracked) => {
                let kept = (tracked.checkpoint(&x), tracked.checkpoint(&kernels), how);
                let y = B::convolve(x.into_primitive(), kernels.into_primitive(), how);
                tracked.finish(kept, y)
            }
            OpsKind::UnTracked(untracked) => {
                let y = B::convolve(x.into_primitive(), kernels.into_primitive(), how);
                untracked.finish(y)
            }
        }
    }
}
