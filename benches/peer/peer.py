"""The student's two costs in PyTorch, compared with ours: the same networks, the same step, in alternating runs.

    pip install torch
    cargo build --release
    python benches/peer/peer.py sample --preset cifar10-uncond --batch 16
    python benches/peer/peer.py train --preset cifar10-uncond --batch 8
    python benches/peer/peer.py train --preset checkerboard --batch 4096

Each round times a few steps of `kdm bench` in a separate process and then a few steps here, in float32, eager, with the
same thread count. The output has the medians over all rounds, their ratio (above 1: ours is faster) and the peak memory
of each process. The sizes of the presets are written out below, so that nothing is shared with the code it measures.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SKIP = math.sqrt(0.5)


class Block(nn.Module):
    """A DDPM++ residual block: twice norm, SiLU and convolution, with the embedding's shift; then attention."""

    def __init__(self, inputs, outputs, embedding, dropout, resample=None, attention=False):
        super().__init__()
        norm = lambda channels: nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)
        self.resample, self.dropout = resample, dropout
        self.norm0, self.conv0 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding, outputs)
        self.norm1, self.conv1 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or resample else None
        self.attention = attention
        if attention:
            self.norm2, self.qkv, self.proj = norm(outputs), nn.Conv2d(outputs, 3 * outputs, 1), nn.Conv2d(outputs, outputs, 1)

    def resized(self, x):
        # The box filter: 2x2 average pooling, or nearest-neighbour upsampling.
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2) if self.resample == "up" else x

    def forward(self, x, embedding):
        h = self.conv0(self.resized(F.silu(self.norm0(x))))
        h = F.silu(self.norm1(h + self.affine(embedding)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        x = self.resized(x)
        x = (h + (self.skip(x) if self.skip else x)) * SKIP
        if self.attention:
            n, c, height, width = x.shape
            q, k, v = self.qkv(self.norm2(x)).reshape(n, 1, c, 3, height * width).transpose(2, 4).unbind(3)
            a = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, c, height, width)
            x = (self.proj(a) + x) * SKIP
        return x


class UNet(nn.Module):
    def __init__(self, inputs, outputs, side=32, base=64, mult=(1, 2, 2, 2), blocks=4, attention=(16,), dropout=0.1):
        super().__init__()
        wide, self.base = 4 * base, base
        self.map0, self.map1 = nn.Linear(base, wide), nn.Linear(wide, wide)
        block = lambda i, o, **more: Block(i, o, wide, dropout, **more)
        self.first, self.enc, self.dec = nn.Conv2d(inputs, base, 3, padding=1), nn.ModuleList(), nn.ModuleList()
        width, kept = base, [base]
        for level, m in enumerate(mult):
            if level:
                self.enc.append(block(width, width, resample="down"))
                kept.append(width)
            for _ in range(blocks):
                self.enc.append(block(width, base * m, attention=side >> level in attention))
                width = base * m
                kept.append(width)
        self.joined = []
        for level, m in reversed(list(enumerate(mult))):
            if level == len(mult) - 1:
                self.dec.extend([block(width, width, attention=True), block(width, width)])
                self.joined += [False, False]
            else:
                self.dec.append(block(width, width, resample="up"))
                self.joined.append(False)
            for i in range(blocks + 1):
                self.dec.append(block(width + kept.pop(), base * m, attention=i == blocks and side >> level in attention))
                self.joined.append(True)
                width = base * m
        self.norm, self.last = nn.GroupNorm(min(32, width // 4), width, eps=1e-6), nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, x, t):
        half = self.base // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        embedding = F.silu(self.map1(F.silu(self.map0(torch.cat([angles.sin(), angles.cos()], 1)))))
        x = self.first(x)
        kept = [x]
        for block in self.enc:
            x = block(x, embedding)
            kept.append(x)
        for block, joined in zip(self.dec, self.joined):
            x = block(torch.cat([x, kept.pop()], 1) if joined else x, embedding)
        return self.last(F.silu(self.norm(x)))


class Mlp(nn.Module):
    def __init__(self, inputs, outputs, hidden, layers, activate):
        super().__init__()
        widths = [inputs + 1] + [hidden] * (layers - 1) + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.activate = activate

    def forward(self, x, t):
        x = torch.cat([x, t[:, None]], 1)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.activate or i + 1 < len(self.layers):
                x = F.silu(x)
        return x


class Discriminator(nn.Sequential):
    def __init__(self, channels):
        super().__init__(
            nn.Conv2d(channels, 64, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
            nn.Conv2d(128, 256, 4, 2, 1), nn.BatchNorm2d(256), nn.LeakyReLU(0.2),
            nn.Conv2d(256, 1, 4),
        )


class Student(nn.Module):
    """Encoders, a dense operator, a decoder. Samples with one axis are points."""

    def __init__(self, shape, latent, network):
        super().__init__()
        self.shape, self.latent = shape, latent
        encoder = lambda: network(True)
        self.clean, self.noise, self.decoder = encoder(), encoder(), network(False)
        self.operator = nn.Linear(latent, latent)
        self.discriminator = Discriminator(shape[0]) if len(shape) == 3 else None

    def encode(self, network, x, t):
        return network(x, torch.full([len(x)], t)).flatten(1)

    def decode(self, z):
        if len(self.shape) == 3:
            z = z.reshape(len(z), -1, *self.shape[1:])
        return self.decoder(z, torch.zeros(len(z)))

    def generate(self, x):
        return self.decode(self.operator(self.encode(self.noise, x, 1.0)))


def preset(name):
    """The student, and whether the loss has the push term (and the discriminator's)."""
    if name == "cifar10-uncond":
        return Student([3, 32, 32], 1024, lambda encoder: UNet(3, 1) if encoder else UNet(1, 3)), True
    if name.startswith("checkerboard"):
        return Student([2], 256, lambda encoder: Mlp(2, 256, 256, 5, True) if encoder else Mlp(256, 2, 256, 5, False)), False
    sys.exit(f"no sizes are written here for the preset {name}")


def sampler(student, batch):
    student.eval()
    x = torch.randn(batch, *student.shape)

    def step():
        with torch.no_grad():
            student.generate(x)

    return step


def trainer(student, batch, push):
    d = student.discriminator
    own = [p for name, p in student.named_parameters() if not name.startswith("discriminator")]
    optimizer = torch.optim.Adam(own, lr=1e-9)
    judge = d and torch.optim.Adam(d.parameters(), lr=1e-9)
    ema = [p.detach().clone() for p in student.parameters()]
    images, noise = torch.randn(batch, *student.shape), torch.randn(batch, *student.shape) * 80
    ones, zeros = (lambda x: torch.full_like(x, v) for v in (1.0, 0.0))
    bce = F.binary_cross_entropy_with_logits

    def step():
        clean, z = student.encode(student.clean, images, 0.0), student.encode(student.noise, noise, 1.0)
        pushed = student.operator(z + 0.4 * torch.randn_like(z))
        rec = student.decode(clean + 0.4 * torch.randn_like(clean))
        loss = F.mse_loss(clean, pushed) + F.mse_loss(rec, images)
        if push:
            drawn = student.decode(pushed)
            real, fake = d(images), d(drawn.detach())
            judge.zero_grad()
            (bce(real, ones(real)) + bce(fake, zeros(fake))).backward()
            judge.step()
            for p in d.parameters():
                p.requires_grad_(False)
            verdict = d(drawn)
            loss = loss + F.mse_loss(drawn, images) + 0.01 * bce(verdict, ones(verdict))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if d:
            for p in d.parameters():
                p.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(ema, list(student.parameters()), 1e-4)

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sample", "train"])
    parser.add_argument("--preset", default="cifar10-uncond")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iters", type=int, default=1, help="timed steps of either a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kdm", default="target/release/kdm")
    parser.add_argument("--channels-last", action="store_true", help="PyTorch's images and weights in channels-last order")
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    student, push = preset(args.preset)
    if args.channels_last:
        student = student.to(memory_format=torch.channels_last)
    step = sampler(student, args.batch) if args.what == "sample" else trainer(student, args.batch, push)
    for _ in range(2):
        step()
    command = [args.kdm, "bench", args.what, "--preset", args.preset, "--batch", str(args.batch), "--json",
               "--iters", str(args.iters), "--warm-up", "1", "--threads", str(args.threads)]
    ours, theirs, memory = [], [], []
    for _ in range(args.rounds):
        answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        ours.append(answer["median_ms"])
        memory.append(answer["peak_rss_bytes"])
        for _ in range(args.iters):
            started = time.perf_counter()
            step()
            theirs.append((time.perf_counter() - started) * 1e3)
        print(f"kdm {ours[-1]:.1f} ms, PyTorch {statistics.median(theirs[-args.iters:]):.1f} ms", file=sys.stderr)
    a, b = statistics.median(ours), statistics.median(theirs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "what": args.what, "preset": args.preset, "batch": args.batch, "threads": args.threads, "rounds": args.rounds,
        "kdm_ms": round(a, 3), "pytorch_ms": round(b, 3), "ratio": round(b / a, 3),
        "kdm_peak_rss_bytes": max(memory), "pytorch_peak_rss_bytes": peak,
        "memory_ratio": round(max(memory) / peak, 3), "pytorch": torch.__version__,
    }))


if __name__ == "__main__":
    main()
