"""The whole way with a teacher that is a PyTorch function of one's own.

Trains a small flow-matching network on two moons, writes pairs that it draws, distills a student,
and compares the two.

    pip install ./apps/kdm-python torch
    python pairs_from_pytorch.py --out moons

It takes about two minutes. Run again with the same folder, it goes on where it was.
"""

import argparse
from pathlib import Path

import kdm
import numpy as np
import torch
from torch import nn

EXPERIMENT = {
    "base": "checkerboard",
    "name": "two-moons",
    "student": {"latent": 64, "network": {"kind": "mlp", "hidden": 128, "layers": 3}},
    "train": {"iterations": 3000, "batch": 512, "held_out": 1024, "lr": 1e-3},
}


def two_moons(count, generator):
    """Points of two half circles, [N, 2]."""
    angle = torch.pi * torch.rand(count, generator=generator)
    upper = (torch.rand(count, generator=generator) < 0.5).float()
    x = angle.cos() * (2 * upper - 1) + 0.5 * (1 - 2 * upper)
    y = angle.sin() * (2 * upper - 1) + 0.25 * (1 - 2 * upper)
    noise = 0.05 * torch.randn(count, 2, generator=generator)
    return 1.5 * (torch.stack([x, y], 1) + noise)


class Velocity(nn.Module):
    """e - x_0 from x_t = (1 - t) x_0 + t e and t."""

    def __init__(self, hidden=128):
        super().__init__()
        layers = [nn.Linear(3, hidden), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(hidden, hidden), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 2))

    def forward(self, x, t):
        return self.layers(torch.cat([x, t.expand(len(x), 1)], 1))


def train_teacher(iterations=4000):
    torch.manual_seed(0)
    generator, teacher = torch.Generator().manual_seed(0), Velocity()
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for iteration in range(iterations):
        clean = two_moons(512, generator)
        noise = torch.randn(512, 2, generator=generator)
        t = torch.rand(512, 1, generator=generator)
        loss = ((teacher((1 - t) * clean + t * noise, t) - (noise - clean)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return teacher


@torch.no_grad()
def generate(teacher, noise, steps=32):
    """Heun's method from t = 1 to 0."""
    x, times = noise, torch.linspace(1, 0, steps + 1)
    for t, after in zip(times[:-1], times[1:]):
        slope = teacher(x, t)
        ahead = x + (after - t) * slope
        x = x + (after - t) * (slope + teacher(ahead, after)) / 2
    return x


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--iterations", type=int, default=EXPERIMENT["train"]["iterations"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / "teacher.pt"
    if not weights.exists():
        torch.save(train_teacher().state_dict(), weights)
    teacher = Velocity()
    teacher.load_state_dict(torch.load(weights))

    for name, first_seed, count in [("pairs", 0, arguments.count), ("test", 10**9, 2000)]:
        plan = {"shape": (2,), "count": count, "first_seed": first_seed, "source": "two moons"}
        with kdm.PairWriter(arguments.out / name, **plan) as writer:
            for batch in writer.batches(2048):
                writer.write(generate(teacher, torch.from_numpy(batch.noise)))

    run = arguments.out / "run"
    training = {**EXPERIMENT["train"], "iterations": arguments.iterations}
    student = kdm.distill(
        arguments.out / "pairs", {**EXPERIMENT, "train": training}, out=run, resume=run.exists()
    )
    found = kdm.evaluate(student, arguments.out / "test")
    errors = f"rmse {found['rmse']:.4f}, median {found['median_error']:.4f}"
    print(f"error to the teacher's samples: {errors}")
    eigenvalues = np.linalg.eigvals(student.operator().matrix)
    print(f"spectral radius of the operator: {np.abs(eigenvalues).max():.4f}")


if __name__ == "__main__":
    main()
