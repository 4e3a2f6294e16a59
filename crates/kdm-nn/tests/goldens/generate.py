"""Makes the golden values beside this file: what PyTorch packages compute with weights that a formula gives.

    pip install torch==2.* torchvision numpy diffusers lpips piq pytorch-fid
    python generate.py

The weights are not stored: both sides draw them from the tensors' names (see `weight`). The U-Nets of NVlabs' kinds are
written here with torch's own functions, from the papers; the others are the packages' own modules.
"""
import json, math, sys
import numpy as np
import torch
import torch.nn.functional as F

from common import noise, numbers, one_hot, save, uniform, weight

torch.manual_seed(0)
torch.set_grad_enabled(False)


# --- U-Nets of NVlabs' kinds, by name lookup of their weights ---------------------------------------------------------


class Named:
    """Draws a weight when it is first asked for."""

    def conv(self, name, x, outputs, kernel=3, padding=None, stride=1):
        w = weight(f"{name}.weight", (outputs, x.shape[1], kernel, kernel))
        padding = kernel // 2 if padding is None else padding
        return F.conv2d(x, w, weight(f"{name}.bias", (outputs,)), padding=padding, stride=stride)

    def linear(self, name, x, outputs, bias=True):
        b = weight(f"{name}.bias", (outputs,)) if bias else None
        return F.linear(x, weight(f"{name}.weight", (outputs, x.shape[1])), b)

    def norm(self, name, x, eps):
        c = x.shape[1]
        return F.group_norm(x, min(32, c // 4), weight(f"{name}.weight", (c,)), weight(f"{name}.bias", (c,)), eps)


def fir(taps, channels, gain):
    t = torch.tensor(taps, dtype=torch.float64)
    f = torch.outer(t, t) / t.sum() ** 2 * gain
    return f.float()[None, None].repeat(channels, 1, 1, 1)


def down(x, taps, padding=None):
    c = x.shape[1]
    padding = (len(taps) - 1) // 2 if padding is None else padding
    return F.conv2d(x, fir(taps, c, 1), stride=2, padding=padding, groups=c)


def up(x, taps):
    c = x.shape[1]
    return F.conv_transpose2d(x, fir(taps, c, 4), stride=2, padding=(len(taps) - 1) // 2, groups=c)


def resample(x, taps, mode):
    return {"keep": lambda: x, "down": lambda: down(x, taps), "up": lambda: up(x, taps)}[mode]()


def block(net, name, x, emb, outputs, mode="keep", heads=0, *, song, taps):
    eps, scale = (1e-6, math.sqrt(0.5)) if song else (1e-5, 1.0)
    h = net.conv(f"{name}.conv0", resample(F.silu(net.norm(f"{name}.norm0", x, eps)), taps, mode), outputs)
    p = net.linear(f"{name}.affine", emb, outputs if song else 2 * outputs)[:, :, None, None]
    if song:
        h = F.silu(net.norm(f"{name}.norm1", h + p, eps))
    else:
        gain, shift = p.chunk(2, 1)
        h = F.silu(net.norm(f"{name}.norm1", h, eps) * (gain + 1) + shift)
    h = net.conv(f"{name}.conv1", h, outputs)
    skip = resample(x, taps, mode)
    if x.shape[1] != outputs or (song and mode != "keep"):
        skip = net.conv(f"{name}.skip", skip, outputs, 1)
    h = (h + skip) * scale
    if heads:
        n, c, side, _ = h.shape
        qkv = net.conv(f"{name}.qkv", net.norm(f"{name}.norm2", h, eps), 3 * c, 1)
        q, k, v = qkv.reshape(n, heads, c // heads, 3, side * side).unbind(3)
        # torch's own attention, on (pixels, channels)
        a = F.scaled_dot_product_attention(*(t.transpose(2, 3) for t in (q, k, v)))
        h = (net.conv(f"{name}.proj", a.transpose(2, 3).reshape(n, c, side, side), c, 1) + h) * scale
    return h


def sinusoids(t, width, shift):
    half = width // 2
    f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - shift)).float()
    return torch.cat([torch.cos(t[:, None] * f), torch.sin(t[:, None] * f)], 1)


def song_unet(c, x, t, labels, augment):
    net, base = Named(), c["model_channels"]
    wide, width = base * c["channel_mult_emb"], base * c["channel_mult_noise"]
    if c["embedding_type"] == "fourier":
        a = 2 * math.pi * t[:, None] * weight("map_noise.freqs", (width // 2,))
        emb = torch.cat([a.cos(), a.sin()], 1)
    else:
        emb = sinusoids(t, width, 1)
    emb = torch.cat(emb.chunk(2, 1)[::-1], 1)
    if c["label_dim"]:
        emb = emb + net.linear("map_label", labels * math.sqrt(c["label_dim"]), width)
    if c["augment_dim"] and augment is not None:
        emb = emb + net.linear("map_augment", augment, width, bias=False)
    emb = F.silu(net.linear("map_layer1", F.silu(net.linear("map_layer0", emb, wide)), wide))
    taps = c["resample_filter"]

    def res(name, x, outputs, mode="keep", heads=0):
        return block(net, name, x, emb, outputs, mode, heads, song=True, taps=taps)

    kept, aux, h = [], x, x
    for level, mult in enumerate(c["channel_mult"]):
        side = c["resolution"] >> level
        at = f"enc.{side}x{side}"
        if level == 0:
            h = net.conv(f"{at}_conv", h, base)
        else:
            h = res(f"{at}_down", h, h.shape[1], "down")
            if c["encoder_type"] == "skip":
                aux = down(aux, taps)
                h = h + net.conv(f"{at}_aux_skip", aux, h.shape[1], 1)
            if c["encoder_type"] == "residual":
                aux = net.conv(f"{at}_aux_residual", aux, h.shape[1], 3, padding=1 + (len(taps) - 1) // 2)
                aux = h = (h + down(aux, taps, 0)) / math.sqrt(2)
        kept.append(h)
        for i in range(c["num_blocks"]):
            h = res(f"{at}_block{i}", h, base * mult, heads=int(side in c["attn_resolutions"]))
            kept.append(h)
    out = None
    last = len(c["channel_mult"]) - 1
    for level, mult in reversed(list(enumerate(c["channel_mult"]))):
        side = c["resolution"] >> level
        at = f"dec.{side}x{side}"
        if level == last:
            h = res(f"{at}_in1", res(f"{at}_in0", h, h.shape[1], heads=1), h.shape[1])
        else:
            h = res(f"{at}_up", h, h.shape[1], "up")
        for i in range(c["num_blocks"] + 1):
            heads = int(i == c["num_blocks"] and side in c["attn_resolutions"])
            h = res(f"{at}_block{i}", torch.cat([h, kept.pop()], 1), base * mult, heads=heads)
        if level == 0 or c["decoder_type"] == "skip":
            drawn = net.conv(f"{at}_aux_conv", F.silu(net.norm(f"{at}_aux_norm", h, 1e-6)), c["out_channels"])
            out = drawn if out is None else up(out, taps) + drawn
    return out


def adm_unet(c, x, t, labels, augment):
    net, base = Named(), c["model_channels"]
    wide = base * c["channel_mult_emb"]
    emb = sinusoids(t, base, 0)
    if c["augment_dim"] and augment is not None:
        emb = emb + net.linear("map_augment", augment, base, bias=False)
    emb = net.linear("map_layer1", F.silu(net.linear("map_layer0", emb, wide)), wide)
    if c["label_dim"]:
        emb = emb + net.linear("map_label", labels, wide, bias=False)
    emb = F.silu(emb)

    def res(name, x, outputs, mode="keep", attend=False):
        heads = outputs // 64 if attend else 0
        return block(net, name, x, emb, outputs, mode, heads, song=False, taps=[1, 1])

    kept, h = [], x
    for level, mult in enumerate(c["channel_mult"]):
        side = c["resolution"] >> level
        at, attend = f"enc.{side}x{side}", side in c["attn_resolutions"]
        h = net.conv(f"{at}_conv", h, base * mult) if level == 0 else res(f"{at}_down", h, h.shape[1], "down")
        kept.append(h)
        for i in range(c["num_blocks"]):
            h = res(f"{at}_block{i}", h, base * mult, attend=attend)
            kept.append(h)
    last = len(c["channel_mult"]) - 1
    for level, mult in reversed(list(enumerate(c["channel_mult"]))):
        side = c["resolution"] >> level
        at, attend = f"dec.{side}x{side}", side in c["attn_resolutions"]
        if level == last:
            h = res(f"{at}_in1", res(f"{at}_in0", h, h.shape[1], attend=True), h.shape[1])
        else:
            h = res(f"{at}_up", h, h.shape[1], "up")
        for i in range(c["num_blocks"] + 1):
            h = res(f"{at}_block{i}", torch.cat([h, kept.pop()], 1), base * mult, attend=attend)
    return net.conv("out_conv", F.silu(net.norm("out_norm", h, 1e-5)), c["out_channels"])


SONG = dict(architecture="song-unet", resolution=8, in_channels=3, out_channels=3, label_dim=0, augment_dim=0, model_channels=8,
            channel_mult=[1, 2], channel_mult_emb=4, num_blocks=1, attn_resolutions=[4], embedding_type="positional",
            channel_mult_noise=1, encoder_type="standard", decoder_type="standard", resample_filter=[1.0, 1.0])
SONG_CASES = {
    "song_latent": dict(in_channels=3, out_channels=1),
    "song_decoder": dict(in_channels=2, out_channels=3, label_dim=5),
    "song_deep": dict(resolution=16, channel_mult=[1, 2, 2, 2], num_blocks=2, attn_resolutions=[16, 4]),
    "song_no_attention": dict(attn_resolutions=[], num_blocks=3),
    "song_one_level": dict(channel_mult=[2], attn_resolutions=[8]),
    "song_skip": dict(encoder_type="skip", decoder_type="skip", channel_mult=[1, 1, 2], resample_filter=[1.0, 3.0, 3.0, 1.0]),
    "song_residual_skip": dict(encoder_type="residual", decoder_type="skip", channel_mult=[1, 2, 1], label_dim=3, augment_dim=9),
    "song_ncsnpp": dict(encoder_type="residual", embedding_type="fourier", channel_mult_noise=2, augment_dim=9,
                        resample_filter=[1.0, 3.0, 3.0, 1.0], channel_mult=[2, 2, 2]),
    "song_long_filter": dict(resample_filter=[1.0, 2.0, 5.0, 5.0, 2.0, 1.0], resolution=16, channel_mult_emb=2),
    "song_wide": dict(model_channels=64),
}
ADM = dict(architecture="adm-unet", resolution=8, in_channels=3, out_channels=3, label_dim=0, augment_dim=0, model_channels=32,
           channel_mult=[1, 2], channel_mult_emb=4, num_blocks=1, attn_resolutions=[4])
ADM_CASES = {
    "adm_uncond": dict(),
    "adm_labels": dict(label_dim=4, augment_dim=9, channel_mult=[2, 4], num_blocks=2, attn_resolutions=[8, 4]),
    "adm_variance": dict(out_channels=6, channel_mult_emb=2, attn_resolutions=[]),
    "adm_narrow": dict(model_channels=8, channel_mult=[1, 1, 2]),
}
for cases, base, network in [(SONG_CASES, SONG, song_unet), (ADM_CASES, ADM, adm_unet)]:
    for name, changes in cases.items():
        c = {**base, **changes}
        x, t = noise(f"{name}.x", 2, c["in_channels"], c["resolution"], c["resolution"]), torch.tensor([0.3, -1.1])
        if "adm" in name:
            t = t * 100
        labels = one_hot(2, c["label_dim"]) if c["label_dim"] else None
        augment = noise(f"{name}.augment", 2, 9) if c["augment_dim"] else None
        extra = {} if augment is None else dict(augment=augment)
        save(name, config=c, x=x, noise=t, y=network(c, x, t, labels, augment), **extra)

# --- diffusers ----------------------------------------------------------------------------------------------------------
from diffusers import UNet2DModel

DIFFUSERS = dict(sample_size=8, in_channels=3, out_channels=3, block_out_channels=[8, 16], layers_per_block=1, norm_num_groups=4,
                 down_block_types=["DownBlock2D", "AttnDownBlock2D"], up_block_types=["AttnUpBlock2D", "UpBlock2D"],
                 attention_head_dim=8)
DIFFUSERS_CASES = {
    "diffusers_plain": dict(down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2),
    # As google/ddpm-cifar10-32 is set.
    "diffusers_ddpm": dict(attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
                           center_input_sample=False),
    "diffusers_heads": dict(attention_head_dim=4, norm_num_groups=8, layers_per_block=2, mid_block_scale_factor=1.5),
    "diffusers_uneven_heads": dict(attention_head_dim=3),
    "diffusers_deep": dict(block_out_channels=[8, 8, 16], sample_size=16, center_input_sample=True, freq_shift=0,
                           down_block_types=["AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
                           up_block_types=["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"], attn_norm_num_groups=2),
    "diffusers_fourier": dict(time_embedding_type="fourier"),
    "diffusers_scale_shift": dict(resnet_time_scale_shift="scale_shift", act_fn="gelu", add_attention=False, out_channels=6),
    "diffusers_classes": dict(num_class_embeds=5, act_fn="relu", time_embedding_dim=20),
    "diffusers_swish": dict(act_fn="swish", downsample_padding=0, in_channels=1, out_channels=1),
}
for name, changes in DIFFUSERS_CASES.items():
    c = {**DIFFUSERS, **changes}
    model = UNet2DModel(**c).eval()
    state = {k: weight(k, v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    x, t = noise(f"{name}.x", 2, c["in_channels"], c["sample_size"], c["sample_size"]), torch.tensor([3.0, 777.0])
    classes = torch.arange(2) % c["num_class_embeds"] if "num_class_embeds" in c else None
    y = model(x, t, class_labels=classes).sample
    save(name, config=json.loads(model.to_json_string()), names=sorted(state), x=x, noise=t, y=y)

# --- LPIPS --------------------------------------------------------------------------------------------------------------
import lpips, piq, torchvision
from unittest import mock

CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
x, y = (noise(f"lpips.{k}", 2, 3, 32, 32).clamp(-1, 1) for k in "xy")
theirs = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).eval()
state = theirs.state_dict()
for key, value in state.items():
    parts = key.split(".")
    if parts[0] == "net":
        state[key] = weight(f"features.{parts[2]}.{parts[3]}", value.shape)
    elif parts[0].startswith("lin") and parts[0][3:].isdigit():
        state[key] = weight(key, value.shape)
    elif parts[0] == "lins":
        state[key] = weight(f"lin{parts[1]}.model.1.weight", value.shape)
theirs.load_state_dict(state)

vgg = torchvision.models.vgg16(weights=None)
vgg.load_state_dict({k: weight(k, v.shape) if k.startswith("features") else v for k, v in vgg.state_dict().items()})
heads = [weight(f"lin{i}.model.1.weight", (1, c, 1, 1)) for i, c in enumerate([64, 128, 256, 512, 512])]
with mock.patch("torch.hub.load_state_dict_from_url", return_value=heads), \
     mock.patch("piq.perceptual.load_state_dict_from_url", return_value=heads, create=True), \
     mock.patch("torchvision.models.vgg16", return_value=vgg), mock.patch("piq.perceptual.vgg16", return_value=vgg, create=True):
    replaced = piq.LPIPS(replace_pooling=True, reduction="none")
save("lpips", x=x, y=y, max=theirs(x, y).flatten(), average=replaced((x + 1) / 2, (y + 1) / 2).flatten())

# --- Inception ------------------------------------------------------------------------------------------------------------
from pytorch_fid import inception

made = {}


def fake(*_args, **_kwargs):
    net = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for block_name, block_type in [("Mixed_5b", lambda: inception.FIDInceptionA(192, 32)), ("Mixed_5c", lambda: inception.FIDInceptionA(256, 64)),
                                   ("Mixed_5d", lambda: inception.FIDInceptionA(288, 64)), ("Mixed_6b", lambda: inception.FIDInceptionC(768, 128)),
                                   ("Mixed_6c", lambda: inception.FIDInceptionC(768, 160)), ("Mixed_6d", lambda: inception.FIDInceptionC(768, 160)),
                                   ("Mixed_6e", lambda: inception.FIDInceptionC(768, 192)), ("Mixed_7b", lambda: inception.FIDInceptionE_1(1280)),
                                   ("Mixed_7c", lambda: inception.FIDInceptionE_2(2048))]:
        setattr(net, block_name, block_type())
    return {k: v if v.dtype == torch.long else weight(k, v.shape) for k, v in net.state_dict().items()}


with mock.patch("pytorch_fid.inception.load_state_dict_from_url", fake):
    features = inception.InceptionV3([3], resize_input=True, normalize_input=True).eval()
    whole = inception.fid_inception_v3().eval()
x = noise("inception.x", 2, 3, 24, 24).clamp(-1, 1)
f = features((x + 1) / 2)[0].flatten(1)
save("inception", x=x, features=f, logits=(f @ whole.fc.weight.T))
