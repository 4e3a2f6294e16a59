"""What tests share: the program, a teacher in NumPy, its pairs, and a small experiment."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kdm

ROOT = Path(__file__).parents[3]

EXPERIMENT = {
    "base": "checkerboard",
    "student": {"latent": 32, "network": {"kind": "mlp", "hidden": 64, "layers": 3}},
    "train": {
        "iterations": 1500,
        "batch": 256,
        "held_out": 256,
        "lr": 2e-3,
        "log_every": 50,
        "validate_every": 200,
        "checkpoint_every": 100,
    },
}


def teacher(x, steps=24):
    """Noise (N, 2) to samples of four Gaussians, along their probability flow in closed form."""
    means, std = np.array([[1.5, 1.5], [1.5, -1.5], [-1.5, 1.5], [-1.5, -1.5]]), 0.2
    for t in np.linspace(1, 0, steps, endpoint=False):  # x_t = (1 - t) x_0 + t e
        var = ((1 - t) * std) ** 2 + t**2
        away = x[:, None] - (1 - t) * means
        far = (away**2).sum(-1) / (2 * var)
        weight = np.exp(far.min(1, keepdims=True) - far)
        clean = means + (1 - t) * std**2 / var * away
        clean = np.einsum("nk,nkd->nd", weight / weight.sum(1, keepdims=True), clean)
        x = x - ((x - (1 - t) * clean) / t - clean) / steps
    return x


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """2304 pairs of the teacher."""
    folder = tmp_path_factory.mktemp("pairs") / "pairs"
    with kdm.PairWriter(folder, shape=(2,), count=2304, source="four Gaussians") as writer:
        for batch in writer.batches(500):
            writer.write(teacher(batch.noise))
    assert writer.complete
    return folder


@pytest.fixture(scope="session")
def student(pairs, tmp_path_factory):
    """A student of the pairs."""
    return kdm.distill(pairs, EXPERIMENT, out=tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="session")
def program():
    """Runs the command line, which the package is measured by."""
    built = [ROOT / "target/release/kdm", ROOT / "target/debug/kdm"]
    named = [Path(path).absolute() for path in [os.environ.get("KDM")] if path]
    path = next((path for path in named + built if path.exists()), None)
    if path is None:
        pytest.skip("no program kdm: build it, or name it with the environment variable KDM")

    def run(*arguments):
        arguments = [str(path), *map(str, arguments)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=600)

    return run
