from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Optional, SupportsIndex, Union, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

__version__: str
__all__: list[str]

_Path = Union[str, PathLike[str]]
_OnProgress = Optional[Callable[[Progress], object]]

class Error(Exception):
    """Work failed. The text says what is wrong and what to do, as on the command line."""

class UsageError(Error, ValueError):
    """An argument or a configuration asks for something impossible."""

class MissingFileError(Error, FileNotFoundError):
    """There is no such file or folder."""

class Pairs(NamedTuple):
    """Pairs of a store."""

    noise: NDArray[np.float32]
    images: NDArray[np.float32]
    labels: Optional[NDArray[np.int64]]
    seeds: Optional[NDArray[np.uint64]]

class NextPairs(NamedTuple):
    """The pairs that a store wants next."""

    start: int
    stop: int
    noise: Optional[NDArray[np.float32]]
    labels: Optional[NDArray[np.int64]]
    seeds: Optional[NDArray[np.uint64]]

class Operator(NamedTuple):
    """A student's operator: a latent z of a sample of class c goes to
    matrix @ z + bias + control[c]."""

    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]
    control: Optional[NDArray[np.float32]]

@final
class Progress:
    """How far a task has come."""

    @property
    def task(self) -> str:
        """What is being done."""
    @property
    def unit(self) -> str:
        """What is counted, such as "iterations"."""
    @property
    def done(self) -> int:
        """How many are done."""
    @property
    def total(self) -> int:
        """How many there are."""
    @property
    def rate(self) -> Optional[float]:
        """Units a second; none before there is something to measure."""
    @property
    def note(self) -> str:
        """A few words beside the numbers, such as the loss."""

@final
class Student:
    """A one-step generator: x_0 = D(C E_T(x_T) + B y)."""

    @staticmethod
    def load(model: _Path) -> Student:
        """Reads a student: a model file, or the name of one that ships, such as "fashion-mnist"."""
    def sample(
        self,
        seeds: Optional[Sequence[SupportsIndex]] = None,
        *,
        noise: Optional[ArrayLike] = None,
        labels: Optional[ArrayLike] = None,
        on_progress: _OnProgress = None,
    ) -> NDArray[np.float32]:
        """Draws samples, (N, *shape), from seeds or from noise.

        A sample depends on its seed (or its noise) and class alone, bit by bit: it is that of
        `kdm sample --seeds`. A seed draws its class too unless labels are given: one class for all,
        class numbers, or one-hot rows, of which one of zeros is no class. Noise is x_T at its full
        standard deviation `noise_std`.
        """
    def draw_noise(
        self, seeds: Sequence[SupportsIndex]
    ) -> tuple[NDArray[np.float32], Optional[NDArray[np.int64]]]:
        """The noise x_T, (N, *shape), and the classes that these seeds draw."""
    def encode(self, images: ArrayLike, labels: Optional[ArrayLike] = None) -> NDArray[np.float32]:
        """Latents z_0 = E_0(x_0) of images, (N, latent)."""
    def encode_noise(
        self, noise: ArrayLike, labels: Optional[ArrayLike] = None
    ) -> NDArray[np.float32]:
        """Latents z_T = E_T(x_T) of noise, (N, latent)."""
    def push(self, latents: ArrayLike, labels: Optional[ArrayLike] = None) -> NDArray[np.float32]:
        """The operator with its control, C z + B y, (N, latent)."""
    def decode(self, latents: ArrayLike, labels: Optional[ArrayLike] = None) -> NDArray[np.float32]:
        """Images D(z) of latents, (N, *shape)."""
    def operator(self) -> Operator:
        """The operator as numbers."""
    @property
    def path(self) -> Path:
        """The file or name it was loaded by."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample: (C, H, W) of images, (D,) of points."""
    @property
    def classes(self) -> int:
        """Classes; 0 for an unconditional student."""
    @property
    def class_names(self) -> list[str]:
        """The names of its classes, where its data set is known by name."""
    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise x_T."""
    @property
    def latent(self) -> Optional[int]:
        """Dimension of the operator; none for a direct student."""
    @property
    def config(self) -> dict[str, Any]:
        """What its file says: the networks, the loss, and where it is from."""

@final
class PairStore:
    """A store of noise-image pairs. It is a data set for PyTorch's `DataLoader`, which turns its
    items into tensors."""

    def __new__(cls, folder: _Path, *, verify: bool = True) -> Self:
        """Opens a complete store, comparing every shard with its checksum unless `verify` is
        false."""
    def __len__(self) -> int: ...
    def __getitem__(
        self, index: SupportsIndex, /
    ) -> Union[
        tuple[NDArray[np.float32], NDArray[np.float32]],
        tuple[NDArray[np.float32], NDArray[np.float32], int],
    ]:
        """One pair: noise, image and, in a store of classes, the class."""
    def batch(self, indices: Sequence[SupportsIndex]) -> Pairs:
        """The pairs with these numbers, in this order."""
    def arrays(self, start: int = 0, stop: Optional[int] = None) -> Pairs:
        """Pairs in a row, or all of them."""
    def batches(
        self, size: int, *, shuffle: Optional[int] = None, drop_last: bool = False
    ) -> Iterator[Pairs]:
        """All pairs, `size` at a time; in the random order of the seed `shuffle` where it is
        given."""
    @property
    def path(self) -> Path:
        """The folder."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample: (C, H, W) of images, (D,) of points."""
    @property
    def classes(self) -> int:
        """Classes; 0 for pairs without."""
    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise x_T."""
    @property
    def manifest(self) -> dict[str, Any]:
        """How the pairs came to be: `manifest.json`."""

@final
class PairWriter:
    """Writes a store from any generator's loop.

        with kdm.PairWriter("pairs", shape=(3, 32, 32), count=50_000, noise_std=80.0) as writer:
            for batch in writer.batches(64):
                writer.write(generate(batch.noise))

    Each shard is a file that is written whole or not at all. A loop that is stopped or killed is
    started again with the same arguments, and goes on with the pairs that are missing. Pairs of an
    unfinished shard are kept at least every five minutes and at the end of the `with` block; the
    store can be read once all pairs are there (`complete`).
    """

    def __new__(
        cls,
        folder: _Path,
        shape: Sequence[int],
        count: int,
        *,
        noise_std: float = 1.0,
        first_seed: int = 0,
        store_noise: bool = False,
        classes: int = 0,
        dtype: Literal["f32", "f16", "u8"] = "f32",
        shard_size: int = 8192,
        source: str = "a loop in Python",
    ) -> Self:
        """Begins a store of `count` pairs of samples of `shape`, or goes on with it.

        The noise of pair i is drawn from the seed first_seed + i, and only the seed is kept; with
        `store_noise` the store keeps noise that it is given. `noise_std` is the standard deviation
        of the noise. `dtype` is how images are kept; "u8" is for images in [-1, 1]. `source` tells
        who drew the pairs and stands in the manifest's history.
        """
    def batches(self, size: int) -> Iterator[NextPairs]:
        """The pairs that are missing, `size` or fewer at a time, each to be written before the next
        comes."""
    def next(self, size: int) -> Optional[NextPairs]:
        """The pairs that come next, `size` or fewer; none when all are there."""
    def write(
        self,
        images: ArrayLike,
        *,
        noise: Optional[ArrayLike] = None,
        labels: Optional[ArrayLike] = None,
    ) -> None:
        """Adds images of the pairs that come next, (N, *shape).

        Noise is given where the store keeps it. Labels are given in a store of classes, unless they
        are those that the seeds draw.
        """
    def keep(self) -> None:
        """Keeps the pairs of the shard that is on its way."""
    def close(self) -> None:
        """Ends the writing, and completes the store when all pairs are there."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]] = None,
        error: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> bool: ...
    def __len__(self) -> int:
        """Pairs in all."""
    @property
    def done(self) -> int:
        """Pairs that are there."""
    @property
    def complete(self) -> bool:
        """Whether the writer is closed and the store can be read."""
    @property
    def path(self) -> Path:
        """The folder."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample: (C, H, W) of images, (D,) of points."""

def distill(
    pairs: Union[PairStore, _Path],
    experiment: Union[_Path, Mapping[str, Any]],
    *,
    out: _Path,
    resume: bool = False,
    init_from: Optional[_Path] = None,
    on_progress: _OnProgress = None,
    checkpoint_minutes: float = 5.0,
) -> Student:
    """Distills a student from stored pairs, in the folder `out`, as `kdm distill` does.

    The experiment is a preset's name, a TOML file, or a dictionary that says what a file would,
    over the preset or file that it names as its "base":

        {"base": "checkerboard", "train": {"iterations": 2000, "lr": 1e-3}}

    `on_progress` is called with a `Progress` some times a second. Ctrl-C, or an exception of
    `on_progress`, stops the training at its next iteration and leaves a checkpoint; `resume=True`
    goes on from it, and ends in the bytes of a training that was never stopped. `init_from` is a
    student whose weights the new one begins with, where they fit.
    """

def evaluate(
    student: Union[Student, _Path],
    pairs: Union[PairStore, _Path],
    *,
    metrics: Optional[Sequence[str]] = None,
    data: Optional[str] = None,
    directions: int = 256,
    features: Optional[_Path] = None,
    reference: Optional[_Path] = None,
    lpips: Optional[_Path] = None,
    loss_features: Optional[_Path] = None,
    discriminator: Optional[_Path] = None,
    on_progress: _OnProgress = None,
) -> dict[str, Any]:
    """Measures a student on all pairs of a store, as `kdm evaluate --json` does.

    `metrics` are some of "losses", "paired", "distribution" and "features"; all but the last unless
    given. Features need a network, `features`, and what they are compared with, `reference`.
    """

def analyze(
    student: Union[Student, _Path],
    *,
    pairs: Union[PairStore, _Path, None] = None,
    out: Optional[_Path] = None,
    samples: Optional[int] = None,
    features: Optional[_Path] = None,
    reference: Optional[_Path] = None,
    neighbours: Optional[_Path] = None,
    teacher: Optional[_Path] = None,
    on_progress: _OnProgress = None,
) -> dict[str, Any]:
    """Looks into a student and gives what `kdm analyze --json` does: the operator's spectrum, its
    modes and what each carries, truncation, clusters, and more.

    Noise is that of the first pairs of a store, or of the seeds 0, 1, ...: of as many as
    `samples`, 10 000 unless given. A folder `out` gets the report with its figures.
    """

def experiment(experiment: Union[_Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Every value of an experiment, as `distill` takes it."""

def presets() -> list[str]:
    """The names of the presets."""

def training_log(folder: _Path) -> list[dict[str, Any]]:
    """The rows of a training's log, for curves: the folder is that of `distill`."""

def set_threads(count: int) -> None:
    """Computes with this many threads from now on; with as many as there are cores unless set."""
