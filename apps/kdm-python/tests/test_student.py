import pickle

import numpy as np
import pytest

import kdm


@pytest.fixture(scope="module")
def shipped():
    return kdm.Student.load("fashion-mnist")


def drawn(program, model, out, *flags):
    done = program("sample", "--model", model, "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    return np.load(out)


def test_samples_are_the_programs_bits(shipped, program, tmp_path):
    """By seeds, by seeds and classes, and by noise."""
    noise = tmp_path / "noise.npy"
    np.save(noise, shipped.draw_noise(range(3))[0])
    for flags, arguments in [
        (["--seeds", "5,0,1-19"], {"seeds": [5, 0, *range(1, 20)]}),
        (["--seeds", "0-3", "--class", "7"], {"seeds": range(4), "labels": 7}),
        (["--noise", noise, "--class", "2"], {"noise": np.load(noise), "labels": [2, 2, 2]}),
    ]:
        expected = drawn(program, "fashion-mnist", tmp_path / "x.npy", *flags)
        found = shipped.sample(**arguments)
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert found.shape[1:] == (1, 32, 32)
        assert found.tobytes() == expected.tobytes(), flags


def test_a_sample_depends_on_its_seed_and_class_alone(shipped):
    images = shipped.sample([3, 4, 5])
    assert np.array_equal(shipped.sample([4])[0], images[1])
    noise, labels = shipped.draw_noise([3, 4, 5])
    assert noise.shape == (3, 1, 32, 32) and labels.shape == (3,)
    assert noise.std() == pytest.approx(shipped.noise_std, rel=0.05)
    assert np.array_equal(shipped.sample(noise=noise, labels=labels), images)
    # The same classes in other forms; a row of zeros is no class.
    one_hot = np.eye(10)[labels]
    assert np.array_equal(shipped.sample([3, 4, 5], labels=one_hot), images)
    assert not np.array_equal(shipped.sample([3], labels=np.zeros((1, 10)))[0], images[0])


def test_what_a_student_is(shipped):
    assert (shipped.shape, shipped.classes, shipped.latent) == ((1, 32, 32), 10, 1024)
    assert shipped.class_names[9] == "Ankle boot"
    assert shipped.config["student"]["label_dim"] == 10
    assert str(shipped.path) == "fashion-mnist" and "10 classes" in repr(shipped)
    again = pickle.loads(pickle.dumps(shipped))
    assert np.array_equal(again.sample([1]), shipped.sample([1]))


def test_parts_are_the_whole(shipped):
    """D(C E_T(x_T) + B y), by the parts and by the operator as numbers."""
    noise, labels = shipped.draw_noise(range(6))
    latents = shipped.encode_noise(noise, labels)
    assert latents.shape == (6, shipped.latent) and latents.dtype == np.float32
    pushed = shipped.push(latents, labels)
    matrix, bias, control = shipped.operator()
    assert matrix.shape == (1024, 1024) and matrix.dtype == np.float64 and bias.shape == (1024,)
    by_hand = latents @ matrix.T + bias
    if control is not None:
        by_hand = by_hand + control[labels]
    assert np.abs(by_hand - pushed).max() < 1e-4 * np.abs(pushed).max()
    images = shipped.decode(pushed, labels)
    assert np.abs(images - shipped.sample(range(6))).max() < 1e-3
    assert shipped.encode(images, labels).shape == (6, 1024)


def test_arrays_own_their_memory_and_are_writable(shipped):
    images = shipped.sample([0])
    images[0, 0, 0, 0] = 7.0
    assert images.flags.writeable and images.flags.c_contiguous
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(images)
    assert tensor.data_ptr() == images.ctypes.data
    tensor[0, 0, 0, 1] = 8.0
    assert images[0, 0, 0, 1] == 8.0
    # And tensors are taken as they are.
    noise = torch.zeros(1, 1, 32, 32)
    assert shipped.sample(noise=noise, labels=torch.tensor([1])).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "seeds or noise"),
        ({"seeds": [1], "noise": np.zeros((1, 1024))}, "seeds or noise"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [1], "labels": 10}, "0 to 9"),
        ({"seeds": [1], "labels": [0, 1]}, "for 1 samples"),
        ({"seeds": [1], "labels": [1.5]}, "whole numbers"),
        ({"noise": np.zeros((1, 1000)), "labels": 0}, "rows of 1024"),
        ({"noise": np.zeros(1024), "labels": 0}, "rows of 1024"),
        ({"noise": np.full((2, 1024), np.nan), "labels": 0}, "row 0 has the value NaN"),
        ({"noise": np.zeros((1, 1024))}, "conditional"),
    ],
)
def test_wrong_arguments_are_told(shipped, arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        shipped.sample(**arguments)
    assert isinstance(caught.value, kdm.Error)


def test_types_are_pythons_own(shipped):
    for seeds in (["a"], [-1], 3, [2**64]):
        with pytest.raises((TypeError, OverflowError)):
            shipped.sample(seeds)


def test_threads_do_not_change_samples(shipped):
    before = shipped.sample(range(20))
    kdm.set_threads(1)
    assert np.array_equal(shipped.sample(range(20)), before)
    kdm.set_threads(3)
    assert np.array_equal(shipped.sample(range(20)), before)
    for count in (0, 5000):
        with pytest.raises(ValueError, match="1 to 4096"):
            kdm.set_threads(count)
