use super::*;
use crate::cpu::residual_block as cpu;
use crate::ops::layout::{from_maps, padded, to_maps};
use crate::testing::{error, tensor};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{AutodiffBackend, Flex, TensorMetadata};
use burn::tensor::{DType, Device, Gradients, TensorData};
use burn_flex::FlexTensor;
use kdm_random::normal_vec;
use proptest::prelude::*;

fn parameters(o: &BlockOptions, count: usize, device: &Device) -> BlockTensors {
    let mut seed = 10;
    let mut next = || {
        seed += 1;
        seed
    };
    let inputs = o.inputs[0] + o.inputs[1];
    let c = o.outputs;
    let [h, w] = o.size;
    let mut norm = |c: usize| Norm {
        weight: (tensor::<1>(next(), [c], device) * 0.3 + 1.0).detach().require_grad(),
        bias: (tensor::<1>(next(), [c], device) * 0.3).detach().require_grad(),
    };
    let norms = [norm(inputs), norm(c)];
    let norm2 = norm(c);
    let mut conv = |outputs: usize, inputs: usize, side: usize| {
        let scale = 1.0 / ((inputs * side * side) as f32).sqrt();
        let weight = (tensor::<4>(next(), [outputs, inputs, side, side], device) * scale)
            .detach()
            .require_grad();
        (weight, (tensor::<1>(next(), [outputs], device) * 0.3).detach().require_grad())
    };
    let convs = [conv(c, inputs, 3), conv(c, c, 3)];
    let skip = conv(c, inputs, 1);
    let attention = [conv(3 * c, c, 1), conv(c, c, 1)];
    BlockTensors {
        x: (tensor::<4>(1, [count, o.inputs[0], h, w], device) + 0.5).detach().require_grad(),
        skip_connection: (o.inputs[1] > 0)
            .then(|| tensor::<4>(2, [count, o.inputs[1], h, w], device).require_grad()),
        embedding: tensor::<2>(3, [count, if o.adaptive { 2 * c } else { c }], device)
            .require_grad(),
        weights: BlockWeights {
            norms,
            convs,
            skip: o.skip.then_some(skip),
            attention: (o.heads > 0).then_some((norm2, attention)),
        },
    }
}

/// Every tensor's gradient, by name.
fn gradients(t: &BlockTensors, grads: &Gradients) -> Vec<(String, Tensor<1>)> {
    let mut all = Vec::new();
    let mut four = |name: &str, t: &Tensor<4>| {
        let grad = t.grad(grads).unwrap_or_else(|| panic!("{name} takes part"));
        all.push((name.to_string(), grad.flatten(0, 3)));
    };
    four("x", &t.x);
    t.skip_connection.iter().for_each(|t| four("skip_connection", t));
    t.weights.convs.iter().for_each(|t| four("conv", &t.0));
    t.weights.skip.iter().for_each(|t| four("skip", &t.0));
    t.weights
        .attention
        .iter()
        .for_each(|(_, convs)| convs.iter().for_each(|t| four("attention", &t.0)));
    all.push(("embedding".into(), t.embedding.grad(grads).unwrap().flatten(0, 1)));
    let mut one = |name: &str, t: &Tensor<1>| all.push((name.to_string(), t.grad(grads).unwrap()));
    t.weights.norms.iter().for_each(|norm| {
        one("norm weight", &norm.weight);
        one("norm bias", &norm.bias);
    });
    t.weights.convs.iter().for_each(|t| one("conv bias", &t.1));
    t.weights.skip.iter().for_each(|t| one("skip bias", &t.1));
    t.weights.attention.iter().for_each(|(norm, convs)| {
        one("third norm weight", &norm.weight);
        // The third norm's bias moves all keys alike, which changes nothing: only its values'
        // share is left.
        one("third norm bias", &norm.bias);
        convs.iter().for_each(|t| one("attention bias", &t.1));
    });
    all
}

fn options(size: [usize; 2], inputs: [usize; 2], outputs: usize) -> BlockOptions {
    let groups =
        |c: usize| (1..=c).rev().find(|g| c.is_multiple_of(*g) && c / g >= 2).unwrap_or(1).min(8);
    let groups = |c: usize| if c.is_multiple_of(groups(c)) { groups(c) } else { 1 };
    BlockOptions {
        layout: Layout::Planes,
        size,
        inputs,
        outputs,
        resize: Resize::Keep,
        taps: vec![0.5, 0.5],
        groups: [groups(inputs[0] + inputs[1]), groups(outputs), groups(outputs)],
        epsilon: 1e-5,
        scale: 0.5f32.sqrt(),
        adaptive: false,
        skip: true,
        heads: 0,
        dropout: None,
    }
}

/// The kernel on maps and the plain operations on planes, with Burn's gradients: the result and
/// every gradient. Every part on and off, odd sizes, one image and one pixel, channels that
/// don't fill a vector, several heads.
#[test]
fn kernel_and_plain_block_agree_with_their_gradients() {
    let dropout = Some(Dropout { p: 0.3, seed: 7 });
    let cases = [
        (1, options([1, 1], [4, 0], 6)),
        (2, BlockOptions { skip: false, ..options([5, 7], [6, 0], 6) }),
        (3, BlockOptions { heads: 1, dropout, ..options([4, 4], [8, 3], 12) }),
        (2, BlockOptions { heads: 4, adaptive: true, ..options([6, 5], [20, 0], 20) }),
        (2, BlockOptions { resize: Resize::Down, scale: 1.0, ..options([8, 12], [17, 0], 9) }),
        (1, BlockOptions { resize: Resize::Up, skip: false, ..options([3, 4], [16, 0], 16) }),
        (
            2,
            BlockOptions {
                resize: Resize::Up,
                taps: vec![0.125, 0.375, 0.375, 0.125],
                ..options([4, 4], [8, 8], 8)
            },
        ),
        (
            2,
            BlockOptions {
                resize: Resize::Down,
                taps: vec![0.125, 0.375, 0.375, 0.125],
                ..options([8, 8], [16, 0], 8)
            },
        ),
        (3, BlockOptions { heads: 2, adaptive: true, dropout, ..options([16, 16], [32, 16], 64) }),
        (2, BlockOptions { dropout, ..options([10, 9], [33, 40], 70) }),
    ];
    for (count, o) in cases {
        agrees(count, o);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn kernel_and_plain_block_agree_on_any_shape((count, o) in blocks()) {
        agrees(count, o);
    }
}

/// Any block, and a number of images.
fn blocks() -> impl Strategy<Value = (usize, BlockOptions)> {
    let count = 1..4usize;
    let size = (2..13usize, 2..13usize);
    let inputs = (4..40usize, prop_oneof![Just(0usize), 1..40usize]);
    let depth = 4..20usize;
    let heads = 0..3usize;
    let resize = prop_oneof![Just(Resize::Keep), Just(Resize::Down), Just(Resize::Up)];
    let parts = (count, size, inputs, depth, heads, resize, any::<bool>(), any::<bool>());
    parts.prop_map(|(count, size, inputs, depth, heads, resize, adaptive, dropped)| {
        let outputs = depth * heads.max(1);
        let even = |side: usize| if resize == Resize::Keep { side } else { 2 * side };
        let o = options([even(size.0), even(size.1)], inputs.into(), outputs);
        let dropout = dropped.then_some(Dropout { p: 0.2, seed: 3 });
        (count, BlockOptions { resize, heads, adaptive, dropout, ..o })
    })
}

fn agrees(count: usize, o: BlockOptions) {
    let device = Device::flex().autodiff();
    {
        let tensors = parameters(&o, count, &device);
        let plain = residual_block(tensors.clone(), o.clone());
        let on_maps = BlockTensors {
            x: to_maps(tensors.x.clone()),
            skip_connection: tensors.skip_connection.clone().map(to_maps),
            ..tensors.clone()
        };
        let maps = residual_block(on_maps, BlockOptions { layout: Layout::Maps, ..o.clone() });
        let ours = from_maps(maps, o.outputs);
        assert_eq!(ours.dims(), plain.dims());
        let g = tensor::<4>(4, plain.dims(), &device);
        let (a, b) =
            ((ours.clone() * g.clone()).sum().backward(), (plain.clone() * g).sum().backward());
        // Winograd's transforms round by up to 2e-5 of the root mean square; a block has two of
        // them in a row, and norms of few values enlarge it.
        let off = error(ours, plain);
        assert!(off < 1e-4, "{o:?}: {off}");
        for ((name, ours), (_, plain)) in
            gradients(&tensors, &a).into_iter().zip(gradients(&tensors, &b))
        {
            // What a norm takes out (the bias before it) has a gradient of rounding alone.
            let scale = plain.clone().square().mean().sqrt().into_scalar::<f32>().max(1e-2);
            let off = (ours - plain).abs().max().into_scalar::<f32>() / scale;
            assert!(off < 3e-4, "{o:?}: {name} {off}");
        }
    }
}

/// An image's bits alone and among others.
#[test]
fn images_are_independent() {
    let device = Device::flex();
    for size in [[4, 4], [16, 16]] {
        let o = BlockOptions { heads: 1, layout: Layout::Maps, ..options(size, [24, 0], 32) };
        let tensors = parameters(&o, 7, &Device::flex().autodiff());
        let weights = &tensors.weights;
        let inner = |i: Option<usize>| {
            let pick4 = |t: Tensor<4>| t.inner();
            let rows = |t: Tensor<4>| i.map_or(t.clone(), |i| t.slice([i..i + 1]));
            let conv = |t: &(Tensor<4>, Tensor<1>)| (pick4(t.0.clone()), t.1.clone().inner());
            let norm =
                |n: &Norm| Norm { weight: n.weight.clone().inner(), bias: n.bias.clone().inner() };
            let embedding = tensors.embedding.clone().inner();
            BlockTensors {
                x: to_maps(rows(pick4(tensors.x.clone()))),
                skip_connection: None,
                embedding: i.map_or(embedding.clone(), |i| embedding.slice([i..i + 1])),
                weights: BlockWeights {
                    norms: [norm(&weights.norms[0]), norm(&weights.norms[1])],
                    convs: [conv(&weights.convs[0]), conv(&weights.convs[1])],
                    skip: weights.skip.as_ref().map(conv),
                    attention: weights
                        .attention
                        .as_ref()
                        .map(|(n, c)| (norm(n), [conv(&c[0]), conv(&c[1])])),
                },
            }
        };
        let whole = residual_block(inner(None), o.clone());
        assert_eq!(whole.device(), device);
        for i in 0..7 {
            let one = residual_block(inner(Some(i)), o.clone());
            assert_eq!(one.to_data(), whole.clone().slice([i..i + 1]).to_data());
        }
    }
}

/// The tensors as slots of the CPU's backend, of a type; images are planes.
fn slots(t: BlockTensors, dtype: DType) -> [FlexTensor; SLOTS] {
    let flex = |data: TensorData| FlexTensor::from_data(data.convert_dtype(dtype));
    let nothing = flex(TensorData::new(vec![0.0f32], [1]));
    let mut slots: [FlexTensor; SLOTS] = std::array::from_fn(|_| nothing.clone());
    for (slot, weight) in t.weights.slots() {
        slots[slot as usize] = flex(match weight {
            Weight::One(tensor) => tensor.into_data(),
            Weight::Four(tensor) => tensor.into_data(),
        });
    }
    slots[Slot::X as usize] = flex(t.x.into_data());
    if let Some(kept) = t.skip_connection {
        slots[Slot::SkipConnection as usize] = flex(kept.into_data());
    }
    slots[Slot::Embedding as usize] = flex(t.embedding.into_data());
    slots
}

/// The result's gradient that the tests begin with.
fn start(o: &BlockOptions, count: usize, dtype: DType) -> FlexTensor {
    let [height, width] = o.result_size();
    let shape = [count, o.outputs, height, width];
    let data = TensorData::new(normal_vec(4, shape.iter().product()), shape);
    FlexTensor::from_data(data.convert_dtype(dtype))
}

fn numbers(tensor: FlexTensor) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec::<f64>().expect("of f64")
}

/// The largest difference of two arrays, in units of the expected values' root mean square, which
/// counts as `least` at least.
fn difference(found: &[f64], expected: &[f64], least: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mean = expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64;
    let most = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    most / mean.sqrt().max(least)
}

/// The plain gradient in f64 against Burn's, taken through the plain forward pass, and against a
/// central difference along a random direction.
fn plain_gradient_is_exact(count: usize, o: &BlockOptions) {
    let tensors = slots(parameters(o, count, &Device::flex().autodiff()), DType::F64);
    let grad = start(o, count, DType::F64);
    let passed = saving_plain::<Flex>(BlockSlots::from_slots(tensors.clone()), o.clone());
    let y = numbers(passed.y.clone());
    let in_one = numbers(forward_plain::<Flex>(BlockSlots::from_slots(tensors.clone()), o.clone()));
    assert_eq!(y, in_one, "{o:?}");
    let slots = BlockSlots::from_slots(tensors.clone());
    let ours = backward_plain::<Flex>(slots, passed, grad.clone(), o.clone()).into_slots();

    type Tracking = Autodiff<Flex>;
    let tracked: [FloatTensor<Tracking>; SLOTS] = tensors
        .clone()
        .map(|tensor| Tracking::float_set_require_grad(Tracking::from_inner(tensor), true));
    let slots = BlockSlots::<Tracking>::from_slots(tracked.clone());
    let y = forward_plain::<Tracking>(slots, o.clone());
    let sum = Tracking::float_sum(Tracking::float_mul(y, Tracking::from_inner(grad.clone())));
    let grads = Tracking::backward(sum);
    let mut taking_part = 0;
    let mut slope = 0.0;
    let directions: Vec<Vec<f64>> = (0..SLOTS)
        .map(|i| {
            let n = tensors[i].shape().num_elements();
            normal_vec(50 + i as u64, n).into_iter().map(f64::from).collect()
        })
        .collect();
    for (i, ours) in ours.into_iter().enumerate() {
        let Some(exact) = Tracking::grad(&tracked[i], &grads) else { continue };
        taking_part += 1;
        assert_eq!(ours.shape(), tensors[i].shape(), "{o:?}: slot {i}");
        let ours = numbers(ours);
        // Sums of up to 4000 terms in f64, of which 1e-16 is the rounding, through norms that
        // divide by standard deviations as small as 1e-2.
        let off = difference(&ours, &numbers(exact), 1e-2);
        assert!(off < 1e-10, "{o:?}: slot {i} {off}");
        slope += ours.iter().zip(&directions[i]).map(|(g, d)| g * d).sum::<f64>();
    }
    let expected = 10
        + usize::from(o.inputs[1] > 0)
        + if o.skip { 2 } else { 0 }
        + if o.heads > 0 { 6 } else { 0 };
    assert_eq!(taking_part, expected, "{o:?}");

    let along = |step: f64| {
        let moved: [FlexTensor; SLOTS] = std::array::from_fn(|i| {
            let values: Vec<f64> = numbers(tensors[i].clone())
                .iter()
                .zip(&directions[i])
                .map(|(x, d)| x + step * d)
                .collect();
            FlexTensor::from_data(TensorData::new(values, tensors[i].shape()))
        });
        let y = numbers(forward_plain::<Flex>(BlockSlots::from_slots(moved), o.clone()));
        y.iter().zip(numbers(grad.clone())).map(|(y, g)| y * g).sum::<f64>()
    };
    let step = 1e-5;
    let slopes = (along(step) - along(-step)) / (2.0 * step);
    // The error of a central difference is of the order of the step's square times the third
    // derivative, which is large next to a norm of few values.
    assert!((slopes - slope).abs() < 1e-4 * slope.abs().max(1.0), "{o:?}: {slopes} {slope}");
}

/// The plain bodies for maps against the CPU's loops: what the forward pass leaves, and all
/// gradients.
fn plain_and_kernel_agree(count: usize, o: &BlockOptions) {
    let o = BlockOptions { layout: Layout::Maps, ..o.clone() };
    let mut tensors = slots(parameters(&o, count, &Device::flex().autodiff()), DType::F32);
    for (slot, channels) in IMAGES.into_iter().zip(o.inputs) {
        if channels > 0 {
            let place = &mut tensors[slot as usize];
            *place = maps_plain::<Flex>(place.clone());
        }
    }
    let tensors = || BlockSlots::<Flex>::from_slots(tensors.clone());
    let kernel = cpu::saving(tensors(), o.clone());
    let plain = saving_plain::<Flex>(tensors(), o.clone());
    let planes = |maps: FlexTensor, channels: usize| {
        assert_eq!(maps.shape()[3], padded(channels));
        numbers(planes_plain::<Flex>(maps, channels))
    };
    for (kernel, plain) in
        [(&kernel.y, &plain.y), (&kernel.hidden, &plain.hidden), (&kernel.mixed, &plain.mixed)]
    {
        let [kernel, plain] = [kernel, plain].map(|maps| planes(maps.clone(), o.outputs));
        assert!(difference(&kernel, &plain, 0.0) < 1e-4, "{o:?}");
    }
    let grad = || maps_plain::<Flex>(start(&o, count, DType::F32));
    let kernel = cpu::backward(tensors(), kernel, grad(), o.clone()).into_slots();
    let plain = backward_plain::<Flex>(tensors(), plain, grad(), o.clone()).into_slots();
    for (i, (kernel, plain)) in kernel.into_iter().zip(plain).enumerate() {
        if kernel.shape().num_elements() == 0 {
            continue; // The block doesn't have it.
        }
        assert_eq!(kernel.shape(), plain.shape(), "{o:?}: slot {i}");
        let [kernel, plain] =
            [kernel, plain].map(|grad| match IMAGES.iter().position(|s| *s as usize == i) {
                Some(image) => planes(grad, o.inputs[image]),
                None => numbers(grad),
            });
        // As in `agrees`.
        let off = difference(&kernel, &plain, 1e-2);
        assert!(off < 3e-4, "{o:?}: slot {i} {off}");
    }
}

/// Odd sizes, which halving cuts, and a filter of four taps; attention and neither.
#[test]
fn plain_bodies_are_exact_and_agree_with_the_kernel() {
    let long = vec![0.125, 0.375, 0.375, 0.125];
    for (count, o) in [
        (1, options([1, 1], [4, 0], 6)),
        (2, BlockOptions { resize: Resize::Down, ..options([7, 9], [6, 3], 8) }),
        (
            2,
            BlockOptions { resize: Resize::Down, taps: long.clone(), ..options([9, 8], [6, 0], 8) },
        ),
        (1, BlockOptions { resize: Resize::Up, taps: long, ..options([5, 4], [6, 2], 8) }),
        (2, BlockOptions { heads: 2, skip: false, scale: 1.0, ..options([5, 6], [8, 0], 8) }),
    ] {
        plain_gradient_is_exact(count, &o);
        plain_and_kernel_agree(count, &o);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn plain_gradient_is_exact_on_any_shape((count, o) in blocks()) {
        plain_gradient_is_exact(count, &o);
    }

    #[test]
    fn plain_bodies_agree_with_the_kernel_on_any_shape((count, o) in blocks()) {
        plain_and_kernel_agree(count, &o);
    }
}
