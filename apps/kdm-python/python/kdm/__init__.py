"""One-step generators distilled offline from diffusion models, with a Koopman operator.

    student = kdm.Student.load("fashion-mnist")
    images = student.sample(seeds=range(16))

    with kdm.PairWriter("pairs", shape=(2,), count=10_000) as writer:
        for batch in writer.batches(256):
            writer.write(my_generator(batch.noise))
    student = kdm.distill("pairs", "checkerboard", out="run")
    kdm.evaluate(student, "test-pairs")

Noise is x_T at its full standard deviation (`noise_std`); images are [C, H, W] from -1 to 1, points
[D]; labels are class numbers or one-hot rows. Long work runs without Python's lock; Ctrl-C stops it
at its next step with what was finished kept. What the work has to say goes to the logger "kdm".
"""

from kdm._kdm import (
    PairStore,
    PairWriter,
    Progress,
    Student,
    __version__,
    analyze,
    distill,
    evaluate,
    experiment,
    presets,
    set_threads,
    training_log,
)
from kdm._types import Error, MissingFileError, NextPairs, Operator, Pairs, UsageError

__all__ = [
    "Error",
    "MissingFileError",
    "NextPairs",
    "Operator",
    "PairStore",
    "PairWriter",
    "Pairs",
    "Progress",
    "Student",
    "UsageError",
    "__version__",
    "analyze",
    "distill",
    "evaluate",
    "experiment",
    "presets",
    "set_threads",
    "training_log",
]
