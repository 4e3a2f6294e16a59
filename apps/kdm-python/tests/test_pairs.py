import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import kdm
from conftest import teacher

SMALL = {"shape": (2,), "count": 100, "shard_size": 40, "first_seed": 7}


def files(folder):
    """What is in a folder, to the byte."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()}


def write(folder, draw=teacher, size=16, **arguments):
    with kdm.PairWriter(folder, **{**SMALL, **arguments}) as writer:
        for batch in writer.batches(size):
            writer.write(draw(batch.noise))
    return writer


def test_a_store_of_seeds(tmp_path):
    writer = write(tmp_path / "a")
    assert writer.complete and (writer.done, len(writer), writer.shape) == (100, 100, (2,))
    store = kdm.PairStore(tmp_path / "a")
    assert (len(store), store.shape, store.classes, store.noise_std) == (100, (2,), 0, 1.0)
    noise, images, labels, seeds = store.arrays()
    assert labels is None and seeds.tolist() == list(range(7, 107))
    assert np.allclose(images, teacher(noise.astype(np.float64)), atol=1e-4)
    assert store.manifest["history"] == ["drawn by a loop in Python"]
    some = store.batch([99, 0, -1])
    assert np.array_equal(some.images, images[[99, 0, 99]])
    # Noise is that of the seeds wherever it is drawn.
    other = write(tmp_path / "b", first_seed=50, size=7)
    assert np.array_equal(kdm.PairStore(other.path).arrays().noise[:50], noise[43:93])


def test_a_loop_that_is_stopped_goes_on_to_the_same_bytes(tmp_path):
    write(tmp_path / "whole")
    made = 0

    def failing(noise):
        nonlocal made
        if made >= 56:
            raise RuntimeError("the power went out")
        made += len(noise)
        return teacher(noise)

    with pytest.raises(RuntimeError, match="power"):
        write(tmp_path / "again", failing)
    with pytest.raises(kdm.Error, match="unfinished: 1 of 3"):
        kdm.PairStore(tmp_path / "again")
    drawn = []

    def counted(noise):
        drawn.append(len(noise))
        return teacher(noise)

    with kdm.PairWriter(tmp_path / "again", **SMALL) as writer:
        assert writer.done == made == 56
        for batch in writer.batches(16):
            writer.write(counted(batch.noise))
    assert sum(drawn) == 44
    assert files(tmp_path / "again") == files(tmp_path / "whole")
    # There is nothing left to do, and a store of seeds can grow.
    assert write(tmp_path / "again", failing).complete
    write(tmp_path / "again", count=120)
    write(tmp_path / "more", count=120)
    assert files(tmp_path / "again") == files(tmp_path / "more")


def test_a_killed_loop_keeps_its_shards(tmp_path):
    pid = os.fork()
    if pid == 0:
        writer = kdm.PairWriter(tmp_path, **SMALL)
        for batch in writer.batches(16):
            if batch.start >= 80:
                os._exit(9)
            writer.write(teacher(batch.noise))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] >> 8 == 9
    with kdm.PairWriter(tmp_path, **SMALL) as writer:
        assert writer.done == 80


def test_a_store_of_noise(tmp_path):
    """Noise of one's own, classes, images in bytes; written in any portions, and gone on with."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(50, 1, 4, 4)).astype(np.float32) * 3
    images = np.tanh(noise)
    labels = np.arange(50) % 3
    plan = {"shape": (1, 4, 4), "count": 50, "noise_std": 3.0, "store_noise": True, "classes": 3}
    plan.update(dtype="u8", shard_size=20, source="tanh")
    with kdm.PairWriter(tmp_path, **plan) as writer:
        writer.write(images[:33], noise=noise[:33], labels=labels[:33])
    assert not writer.complete
    with kdm.PairWriter(tmp_path, **plan) as writer:
        assert writer.done == 33
        for start, stop, *drawn in writer.batches(10):
            assert drawn == [None, None, None]
            # As rows, and as one-hot rows.
            rows = slice(start, stop)
            flat = images[rows].reshape(stop - start, -1)
            writer.write(flat, noise=noise[rows], labels=np.eye(3)[labels[rows]])
    store = kdm.PairStore(tmp_path)
    found = store.arrays()
    assert np.array_equal(found.noise, noise) and found.seeds is None
    assert np.array_equal(found.labels, labels)
    assert np.abs(found.images - images).max() < 0.5 / 127.5 + 1e-6
    assert store.manifest["history"] == ["drawn by tanh"]


def test_seeds_draw_classes_too(tmp_path):
    with kdm.PairWriter(tmp_path, **SMALL, classes=4) as writer:
        for batch in writer.batches(64):
            assert batch.labels.max() < 4
            writer.write(batch.noise + batch.labels[:, None])
    noise, images, labels, _ = kdm.PairStore(tmp_path).arrays()
    assert np.array_equal(images, (noise + labels[:, None]).astype(np.float32))
    assert len(set(labels.tolist())) == 4


def test_the_program_reads_it(program, tmp_path):
    write(tmp_path / "pairs")
    done = program("pairs", "verify", tmp_path / "pairs")
    assert done.returncode == 0, done.stderr
    done = program("pairs", "export", "--pairs", tmp_path / "pairs", "--out", tmp_path / "all.npz")
    assert done.returncode == 0, done.stderr
    exported, ours = np.load(tmp_path / "all.npz"), kdm.PairStore(tmp_path / "pairs").arrays()
    assert exported["image"].tobytes() == ours.images.tobytes()
    assert exported["noise"].tobytes() == ours.noise.tobytes()


def test_wrong_pairs_are_told(tmp_path):
    def refused(words, *arguments, plan=SMALL, kind=ValueError, **more):
        with kdm.PairWriter(tmp_path / "x", **plan) as writer:
            with pytest.raises(kind, match=words):
                writer.write(*arguments, **more)
            assert writer.done == 0

    zeros = np.zeros((3, 2))
    refused("rows of 2 values", np.zeros((3, 3)))
    refused("rows of 2 values", np.zeros(2))
    refused("draws its noise from seeds", zeros, noise=zeros)
    refused("no classes", zeros, labels=0)
    nan = np.array([[0, 0], [0, np.nan]])
    refused("pair 1: its image has the value NaN", nan, kind=kdm.Error)
    with kdm.PairWriter(tmp_path / "y", **SMALL, store_noise=True, classes=2) as writer:
        for words, arguments in [
            ("keeps its noise", {}),
            ("2 rows for 3", {"noise": zeros[:2]}),
            ("are missing, and the store has 2", {"noise": zeros}),
            ("0 to 1", {"noise": zeros, "labels": 2}),
            ("noise has the value inf", {"noise": zeros + np.inf, "labels": 1}),
        ]:
            with pytest.raises(kdm.Error, match=words):
                writer.write(zeros, **arguments)
        with pytest.raises(kdm.Error, match="works in it"):
            kdm.PairWriter(tmp_path / "y", **SMALL, store_noise=True, classes=2)
    with pytest.raises(ValueError, match="closed"):
        writer.write(zeros, noise=zeros, labels=0)
    with pytest.raises(ValueError, match="f32, f16 or u8"):
        kdm.PairWriter(tmp_path / "z", **SMALL, dtype="float32")
    with pytest.raises(kdm.Error, match="store was begun with"):
        kdm.PairWriter(tmp_path / "x", **SMALL, noise_std=2.0)
    with kdm.PairWriter(tmp_path / "w", **SMALL) as writer:
        with pytest.raises(kdm.Error, match="101 pairs come, and the store of 100 needs 100"):
            writer.write(np.zeros((101, 2)))
        with pytest.raises(ValueError, match="was not written"):
            list(writer.batches(8))


def test_batches_are_all_pairs_once(pairs):
    store = kdm.PairStore(pairs)
    everything = store.arrays()
    in_order = list(store.batches(1000))
    assert [len(batch.noise) for batch in in_order] == [1000, 1000, 304]
    assert np.array_equal(np.concatenate([b.seeds for b in in_order]), everything.seeds)
    mixed = np.concatenate([b.seeds for b in store.batches(1000, shuffle=1)])
    assert not np.array_equal(mixed, everything.seeds)
    assert np.array_equal(np.sort(mixed), everything.seeds)
    again = np.concatenate([b.seeds for b in store.batches(100, shuffle=1)])
    assert np.array_equal(mixed, again)
    assert [len(b.noise) for b in store.batches(1000, drop_last=True)] == [1000, 1000]
    assert len(store.arrays(10, 20).noise) == 10 and len(store.arrays(3000).noise) == 0


def test_items_are_pairs(pairs):
    store = kdm.PairStore(pairs, verify=False)
    noise, image = store[5]
    everything = store.arrays(0, 6)
    assert np.array_equal(noise, everything.noise[5]) and image.shape == (2,)
    assert np.array_equal(store[-1][0], store[len(store) - 1][0])
    assert len(list(store)) == len(store)
    for index in (len(store), -len(store) - 1):
        with pytest.raises(IndexError, match="the store has 2304"):
            store[index]
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again[5][0], noise)


def test_a_store_is_a_data_set_of_torch(pairs):
    torch = pytest.importorskip("torch")
    store = kdm.PairStore(pairs)
    expected = store.arrays().images
    # In this process, and in two that were forked from it.
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(store, batch_size=500, num_workers=workers)
        images = torch.cat([images for _, images in loader])
        assert np.array_equal(images.numpy(), expected)


def test_a_forked_child_has_threads_of_its_own(pairs):
    store = kdm.PairStore(pairs)
    expected = store.arrays()
    read, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        same = np.array_equal(store.arrays().images, expected.images)
        os.write(written, b"1" if same else b"0")
        os._exit(0)
    os.close(written)
    assert os.read(read, 1) == b"1"
    os.waitpid(pid, 0)
