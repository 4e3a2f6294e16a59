"""A student of kdm in PyTorch: reads a model file and draws its samples.

    pip install torch safetensors numpy
    python kdm_student.py student.safetensors --noise noise.npy [--labels labels.npy] --out x.npy

Noise is x_T at its full scale (standard deviation `noise_std`), [N, C, H, W] or [N, D]; labels are
one-hot rows. Koopman and direct students, MLPs and U-Nets, with dense, factorized and generator
operators and those on levels, projections and control are read. docs/formats.md says what the file
holds.
"""

import argparse
import json
import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open

# The time input of the noise encoder; of the clean encoder and the decoder.
NOISE_TIME, CLEAN_TIME = 1.0, 0.0


class Student:
    def __init__(self, path):
        with safe_open(path, "pt") as file:
            self.told = json.loads(file.metadata()["kdm"])["config"]
            self.weights = {name: file.get_tensor(name).float() for name in file.keys()}
        self.config = self.told["student"]
        points = self.config["network"]["kind"] != "unet"
        # MLPs take noise of unit variance, U-Nets take it as it is.
        self.noise_scale = self.config["noise_std"] if points else 1.0

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))

    def sample(self, noise, labels=None):
        """x_0 = D(C E_T(x_T) + B y), of the noise's shape."""
        x = noise.flatten(1) / self.noise_scale
        if self.config.get("method") == "direct":
            return self.network("network", x, NOISE_TIME, labels).reshape(noise.shape)
        z = self.network("noise_encoder", x, NOISE_TIME, labels)
        if "projection.noise.weight" in self.weights:
            z = self.linear(z, "projection.noise")
        z = self.operator(z)
        if "control.weight" in self.weights and labels is not None:
            z = z + self.linear(labels, "control")
        if "projection.decoder.weight" in self.weights:
            z = self.linear(z, "projection.decoder")
        return self.network("decoder", z, CLEAN_TIME, labels).reshape(noise.shape)

    def operator(self, z):
        w = self.weights
        if "operator.linear.weight" in w:
            return self.linear(z, "operator.linear")
        if "operator.rate_log" in w:
            # A generator: a latent is the real parts of complex coordinates, then the imaginary.
            factor = torch.polar(torch.exp(-w["operator.rate_log"].exp()), w["operator.frequency"])
            z = torch.complex(*z.chunk(2, dim=1)) * factor
            return torch.cat([z.real, z.imag], dim=1)
        if "operator.levels.0.weight" in w:
            images = self.split(z, self.levels())
            moved = [self.level_operator(f"operator.levels.{i}", x) for i, x in enumerate(images)]
            return torch.cat([x.flatten(1) for x in moved], dim=1)
        # C = Re(P diag(lambda) P_inv), the rows of P's two parts normalised to length 1.
        lam = torch.polar(torch.exp(-w["operator.nu_log"].exp()), w["operator.theta_log"].exp())
        rows = [F.normalize(w[name], dim=1) for name in ("operator.p_re", "operator.p_im")]
        p = torch.complex(*rows)
        p_inv = torch.complex(w["operator.p_inv_re"], w["operator.p_inv_im"])
        return ((z.to(p.dtype) @ p_inv.T) * lam @ p.T).real

    def levels(self):
        """Channels and side of the latent's levels, finest first."""
        side = self.config["shape"][1]
        channels = self.config.get("levels") or [self.config["latent"] // side**2]
        return [(c, side >> i) for i, c in enumerate(channels) if c > 0]

    def split(self, rows, levels):
        """Flat rows as images, which follow each other in a row."""
        parts = rows.split([c * side**2 for c, side in levels], dim=1)
        return [x.reshape(-1, c, side, side) for x, (c, side) in zip(parts, levels)]

    def level_operator(self, name, x):
        """A matrix of channels: one, or one a place or frequency, by rows."""
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        n, c, side, _ = x.shape
        if self.config["operator"]["kind"] == "channels":
            return F.conv2d(x, weight.reshape(c, c, 1, 1), bias)
        frequencies = self.config["operator"]["kind"] == "frequencies"
        if frequencies:
            # The orthonormal cosine transform (DCT-II): row k is the wave of frequency k.
            k, j = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
            basis = torch.cos(math.pi * (j + 0.5) * k / side) * math.sqrt(2 / side)
            basis[0] /= math.sqrt(2)
            x = basis @ x @ basis.T
        x = torch.einsum("pij,njp->nip", weight, x.flatten(2)).reshape(n, c, side, side)
        if frequencies:
            x = basis.T @ x @ basis
        return x + bias.reshape(c, side, side)

    def network(self, name, x, time, labels):
        if self.config["network"]["kind"] == "unet":
            return self.unet(name, x, time, labels)
        return self.mlp(name, x, time, labels)

    def mlp(self, name, x, time, labels):
        """Affine layers with SiLU between them, in encoders of kind `mlp` also after the last."""
        parts = [x, torch.full((len(x), 1), time)]
        parts += [labels] if self.config["label_dim"] else []
        h = torch.cat(parts, 1)
        layers = [key for key in self.weights if key.startswith(name + ".layers.")]
        count = 1 + max(int(key.split(".")[2]) for key in layers)
        activated = "encoder" in name and self.config["network"]["kind"] == "mlp"
        for i in range(count):
            h = self.linear(h, f"{name}.layers.{i}")
            if activated or i + 1 < count:
                h = F.silu(h)
        return h

    # From here on: the DDPM++ U-Net of NVlabs/edm, by the names of its weights.

    def unet(self, name, x, time, labels):
        _, height, width = self.config["shape"]
        network = self.config["network"]
        # Decoders take a latent of levels, encoders give one.
        coarser = []
        if name == "decoder":
            x, *coarser = self.split(x, self.levels())
        else:
            x = x.reshape(len(x), -1, height, width)
        outputs = []
        emb = self.embedding(name, len(x), time, labels)
        x = self.conv(f"{name}.enc.{height}x{width}_conv", x)
        skips = [x]
        levels = [height >> i for i in range(len(network["channel_mult"]))]
        for level, side in enumerate(levels):
            stem = f"{name}.enc.{side}x{side}_"
            if level > 0:
                x = self.block(stem + "down", x, emb, resize="down")
                if stem + "level_in.weight" in self.weights:
                    x = x + self.conv(stem + "level_in", coarser.pop(0))
                skips.append(x)
            for i in range(network["num_blocks"]):
                x = self.block(f"{stem}block{i}", x, emb)
                skips.append(x)
        for level, side in reversed(list(enumerate(levels))):
            stem = f"{name}.dec.{side}x{side}_"
            if level == len(levels) - 1:
                x = self.block(stem + "in1", self.block(stem + "in0", x, emb), emb)
            else:
                x = self.block(stem + "up", x, emb, resize="up")
            for i in range(network["num_blocks"] + 1):
                x = self.block(f"{stem}block{i}", torch.cat([x, skips.pop()], 1), emb)
            if stem + "level_out.weight" in self.weights:
                h = F.silu(self.norm(stem + "level_norm", x))
                outputs.append(self.conv(stem + "level_out", h))
        x = F.silu(self.norm(f"{name}.dec.{height}x{width}_aux_norm", x))
        outputs.append(self.conv(f"{name}.dec.{height}x{width}_aux_conv", x))
        return torch.cat([x.flatten(1) for x in reversed(outputs)], dim=1)

    def embedding(self, name, rows, time, labels):
        half = self.weights[name + ".map_layer0.weight"].shape[1] // 2
        frequencies = (1 / 10000) ** (torch.arange(half) / (half - 1))
        angles = time * frequencies
        emb = torch.cat([torch.sin(angles), torch.cos(angles)]).expand(rows, -1)
        if name + ".map_label.weight" in self.weights:
            classes = self.config["label_dim"]
            y = torch.zeros(rows, classes) if labels is None else labels
            emb = emb + self.linear(y * math.sqrt(classes), name + ".map_label")
        emb = F.silu(self.linear(emb, name + ".map_layer0"))
        return F.silu(self.linear(emb, name + ".map_layer1"))

    def norm(self, name, x):
        groups = min(x.shape[1] // 4, 32)
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return F.group_norm(x, groups, weight, bias, eps=1e-6)

    def conv(self, name, x):
        weight = self.weights[name + ".weight"]
        return F.conv2d(x, weight, self.weights[name + ".bias"], padding=weight.shape[2] // 2)

    def block(self, name, x, emb, resize=None):
        def resized(x):
            if resize == "down":
                return F.avg_pool2d(x, 2)
            return F.interpolate(x, scale_factor=2, mode="nearest") if resize == "up" else x

        h = self.conv(name + ".conv0", resized(F.silu(self.norm(name + ".norm0", x))))
        h = h + self.linear(emb, name + ".affine")[:, :, None, None]
        h = self.conv(name + ".conv1", F.silu(self.norm(name + ".norm1", h)))
        rest = resized(x)
        if name + ".skip.weight" in self.weights:
            rest = self.conv(name + ".skip", rest)
        x = (h + rest) * math.sqrt(0.5)
        if name + ".qkv.weight" not in self.weights:
            return x
        n, c, height, width = x.shape
        qkv = self.conv(name + ".qkv", self.norm(name + ".norm2", x))
        q, k, v = qkv.reshape(n, c, 3, height * width).unbind(2)
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(c), dim=2)
        attended = (v @ weights.transpose(1, 2)).reshape(n, c, height, width)
        return (self.conv(name + ".proj", attended) + x) * math.sqrt(0.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--noise", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    labels = torch.from_numpy(np.load(args.labels)) if args.labels else None
    with torch.no_grad():
        samples = Student(args.model).sample(torch.from_numpy(np.load(args.noise)), labels)
    np.save(args.out, samples.numpy())
