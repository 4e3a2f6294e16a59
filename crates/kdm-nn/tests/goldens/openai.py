"""Makes openai_*.json: OpenAI's U-Net with torch's own layers, written from its papers and the names of its weights
(Nichol and Dhariwal, arXiv:2102.09672; Dhariwal and Nichol, arXiv:2105.05233), with weights that a formula gives.

    pip install torch==2.* numpy
    python openai.py
"""
import math
import torch
import torch.nn.functional as F
from torch import nn

from common import noise, one_hot, save, weight

torch.set_grad_enabled(False)


class Named(nn.Module):
    """Layers under the names of the originals."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def norm(c):
    return nn.GroupNorm(32, c, eps=1e-5)


def resize(x, how):
    return {"keep": lambda: x, "down": lambda: F.avg_pool2d(x, 2), "up": lambda: F.interpolate(x, scale_factor=2)}[how]()


class Residual(Named):
    def __init__(self, c, inputs, outputs, how="keep"):
        shifts = outputs * (2 if c["scale_shift"] else 1)
        skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        super().__init__(
            in_layers=nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)),
            emb_layers=nn.Sequential(nn.SiLU(), nn.Linear(4 * c["width"], shifts)),
            out_layers=nn.Sequential(norm(outputs), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, padding=1)),
            skip_connection=skip,
        )
        self.how, self.scale_shift = how, c["scale_shift"]

    def forward(self, x, emb):
        h = self.in_layers[2](resize(self.in_layers[1](self.in_layers[0](x)), self.how))
        p = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = p.chunk(2, dim=1)
            h = self.out_layers[1](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers[1](self.out_layers[0](h + p))
        return self.skip_connection(resize(x, self.how)) + self.out_layers[3](h)


class Attention(Named):
    def __init__(self, c, width):
        super().__init__(norm=norm(width), qkv=nn.Conv1d(width, 3 * width, 1), proj_out=nn.Conv1d(width, width, 1))
        self.heads = width // c["head_channels"] if c["head_channels"] else c["heads"]
        self.new_order = c["new_order"]

    def forward(self, x, emb):
        n, width, height, _ = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        head = width // self.heads
        if self.new_order:
            parts = [p.reshape(n, self.heads, head, -1) for p in qkv.chunk(3, dim=1)]
        else:
            parts = qkv.reshape(n, self.heads, 3 * head, -1).split(head, dim=2)
        q, k, v = (p.transpose(2, 3) for p in parts)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, width, -1)
        return x + self.proj_out(h).reshape(x.shape)


class Resample(Named):
    def __init__(self, c, width, how):
        conv = nn.Conv2d(width, width, 3, padding=1, stride=2 if how == "down" else 1)
        super().__init__(**({"op" if how == "down" else "conv": conv} if c["conv_resample"] else {}))
        self.how = how

    def forward(self, x, emb):
        if self.how == "down":
            return self.op(x) if hasattr(self, "op") else resize(x, "down")
        x = resize(x, "up")
        return self.conv(x) if hasattr(self, "conv") else x


class Plain(nn.Conv2d):
    def forward(self, x, emb):
        return super().forward(x)


def change(c, width, how):
    return Residual(c, width, width, how) if c["updown"] else Resample(c, width, how)


class UNet(Named):
    def __init__(self, c):
        widths, n, base = c["widths"], c["blocks"], c["width"]
        width = widths[0]
        first = nn.ModuleList([Plain(c["inputs"], width, 3, padding=1)])
        down, skips = [first], [width]
        for level, outputs in enumerate(widths):
            for _ in range(n):
                block = [Residual(c, width, outputs)]
                width = outputs
                if 2**level in c["attention"]:
                    block.append(Attention(c, width))
                down.append(nn.ModuleList(block))
                skips.append(width)
            if level < len(widths) - 1:
                down.append(nn.ModuleList([change(c, width, "down")]))
                skips.append(width)
        middle = [Residual(c, width, width), Attention(c, width), Residual(c, width, width)]
        up = []
        for level, outputs in reversed(list(enumerate(widths))):
            for i in range(n + 1):
                block = [Residual(c, width + skips.pop(), outputs)]
                width = outputs
                if 2**level in c["attention"]:
                    block.append(Attention({**c, "heads": c["heads_up"] or c["heads"]}, width))
                if level and i == n:
                    block.append(change(c, width, "up"))
                up.append(nn.ModuleList(block))
        embedding = nn.Sequential(nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))
        out = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, c["outputs"], 3, padding=1))
        super().__init__(
            time_embed=embedding, input_blocks=nn.ModuleList(down), middle_block=nn.ModuleList(middle),
            output_blocks=nn.ModuleList(up), out=out,
        )
        if c["classes"]:
            self.label_emb = nn.Embedding(c["classes"], 4 * base)
        self.c = c

    def forward(self, x, t, labels):
        half = self.c["width"] // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)[None]
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if labels is not None:
            emb = emb + labels @ self.label_emb.weight

        def run(layers, h):
            for layer in layers:
                h = layer(h, emb)
            return h

        kept = []
        for block in self.input_blocks:
            x = run(block, x)
            kept.append(x)
        x = run(self.middle_block, x)
        for block in self.output_blocks:
            x = run(block, torch.cat([x, kept.pop()], dim=1))
        return self.out(x)


PLAIN = dict(inputs=3, outputs=3, width=32, widths=[32, 64], blocks=1, attention=[2], classes=0, heads=4, head_channels=0,
             heads_up=0, new_order=False, scale_shift=False, updown=False, conv_resample=True)
# Settings are what an import has to be told.
CASES = {
    "openai_improved": (dict(outputs=6), dict(resolution=8)),
    "openai_guided": (dict(outputs=6, widths=[64, 64, 128], attention=[2, 4], blocks=2, classes=3, head_channels=64, scale_shift=True,
                           updown=True), dict(resolution=8)),
    "openai_new_order": (dict(new_order=True, heads=2), dict(resolution=8, use_new_attention_order=True, num_heads=2)),
    "openai_pooled": (dict(conv_resample=False, blocks=2, inputs=1, outputs=1, attention=[1]), dict(resolution=8)),
    "openai_heads_up": (dict(heads_up=8, inputs=1, outputs=1), dict(resolution=8, num_heads_upsample=8)),
    "openai_one_level": (dict(widths=[32], attention=[], classes=2, scale_shift=True), dict(resolution=8, num_heads=4)),
}
for name, (changes, settings) in CASES.items():
    c = {**PLAIN, **changes}
    net = UNet(c).eval()
    state = {k: weight(k, v.shape) for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    x, t = noise(f"{name}.x", 2, c["inputs"], 8, 8), torch.tensor([3.0, 700.25])
    labels = one_hot(2, c["classes"]) if c["classes"] else None
    y = net(x, t, labels)[:, : c["inputs"]]
    save(name, settings=settings, shapes={k: list(v.shape) for k, v in state.items()}, x=x, noise=t, y=y)
