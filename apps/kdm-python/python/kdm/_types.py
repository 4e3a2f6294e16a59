"""Plain types of the package: its exceptions, and what its methods give."""

from typing import Any, NamedTuple, Optional


class Error(Exception):
    """Work failed. The text says what is wrong and what to do, as on the command line."""


class UsageError(Error, ValueError):
    """An argument or a configuration asks for something impossible."""


class MissingFileError(Error, FileNotFoundError):
    """There is no such file or folder."""


class Pairs(NamedTuple):
    """Pairs of a store."""

    noise: Any
    """x_T, (N, *shape), float32."""
    images: Any
    """x_0, (N, *shape), float32."""
    labels: Optional[Any]
    """Classes, (N,), int64; none without classes."""
    seeds: Optional[Any]
    """Seeds of the noise, (N,), uint64; none where the store keeps its noise."""


class NextPairs(NamedTuple):
    """The pairs that a store wants next."""

    start: int
    """The number of the first."""
    stop: int
    """The number after the last."""
    noise: Optional[Any]
    """x_T that the images are to be drawn from, (N, *shape), float32; none where the store keeps
    noise that it is given."""
    labels: Optional[Any]
    """Classes that the seeds draw, (N,), int64."""
    seeds: Optional[Any]
    """Seeds of the noise, (N,), uint64."""


class Operator(NamedTuple):
    """A student's operator: a latent z of a sample of class c goes to
    matrix @ z + bias + control[c]."""

    matrix: Any
    """C, (n, n), float64."""
    bias: Any
    """(n,), float64."""
    control: Optional[Any]
    """What each class adds, (classes, n), float32; none without control."""


def reopen(folder):
    """A store that another process has compared with its checksums."""
    from kdm import PairStore

    return PairStore(folder, verify=False)
