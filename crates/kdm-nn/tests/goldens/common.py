"""What the generators of golden values share: weights that a formula draws from tensors' names, inputs, and the files."""
import hashlib, json, math, sys
import numpy as np
import torch
import torch.nn.functional as F


def uniform(name, count):
    """Numbers in [0, 1): splitmix64 of a counter that starts at the name's hash."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def weight(name, shape):
    """The tensor of this name: weights of layers keep the size of activations, those of norms lie around 1."""
    shape = tuple(shape)
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = 0.5 + u
    elif name.endswith("freqs"):
        values = 4 * u - 2
    elif len(shape) == 1:
        values = 0.4 * (u - 0.5)
    elif name.endswith("model.1.weight"):
        values = u
    else:
        values = (2 * u - 1) * math.sqrt(6.0 / np.prod(shape[1:]))
    return torch.tensor(values.reshape(shape), dtype=torch.float32)


def noise(name, *shape):
    return torch.tensor(2 * uniform(name, int(np.prod(shape))).reshape(shape) - 1, dtype=torch.float32) * 1.7


def one_hot(n, classes):
    return F.one_hot(torch.arange(n) % classes, classes).float()


def numbers(t):
    return [float(np.float32(x)) for x in t.flatten().tolist()]


def save(name, **values):
    plain = {k: numbers(v) if torch.is_tensor(v) else v for k, v in values.items()}
    with open(f"{name}.json", "w") as file:
        json.dump(plain, file)
    print(name, file=sys.stderr)
