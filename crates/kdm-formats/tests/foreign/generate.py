"""Makes the small foreign files beside this one, and what the networks in them compute.

    pip install torch==2.* numpy diffusers safetensors
    python generate.py

Classes of other programs are imitated by empty ones of the same names: only their names and attributes reach the files.
"""
import collections, io, json, math, os, pickle, shutil, sys, types
import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(1)
np.random.seed(1)


def module(name):
    parts = name.split(".")
    for i in range(len(parts)):
        full = ".".join(parts[: i + 1])
        if full not in sys.modules:
            sys.modules[full] = types.ModuleType(full)
            if i:
                setattr(sys.modules[".".join(parts[:i])], parts[i], sys.modules[full])
    return sys.modules[name]


def foreign(name, *bases):
    """An empty class of this full name."""
    where, _, short = name.rpartition(".")
    cls = type(short, bases or (nn.Module,), {"__module__": where})
    setattr(module(where), short, cls)
    return cls


# --- the U-Net's parts, as modules with the right names ---------------------------------------------------------------
names = "SongUNet UNetBlock Conv2d GroupNorm Linear PositionalEmbedding LinearControlModule"
B = {n: foreign(f"models.basic_modules.{n}") for n in names.split()}


def layer(kind, **tensors):
    m = B[kind]()
    for name, shape in tensors.items():
        setattr(m, name, nn.Parameter(torch.randn(*shape) * 0.3))
    return m


def conv(i, o, k=3):
    return layer("Conv2d", weight=(o, i, k, k), bias=(o,))


def linear(i, o, bias=True):
    return layer("Linear", weight=(o, i), **({"bias": (o,)} if bias else {}))


def norm(c):
    return layer("GroupNorm", weight=(c,), bias=(c,))


def block(i, o, emb, resample=False, attention=False):
    m = B["UNetBlock"]()
    m.norm0, m.conv0, m.affine, m.norm1, m.conv1 = norm(i), conv(i, o), linear(emb, o), norm(o), conv(o, o)
    m.skip = conv(i, o, 1) if i != o or resample else None
    if attention:
        m.norm2, m.qkv, m.proj = norm(o), conv(o, 3 * o, 1), conv(o, o, 1)
    m.dropout, m.skip_scale, m.num_heads = 0.1, np.sqrt(0.5), int(attention)
    return m


def song(inputs, outputs, base=4, side=4, labels=0, augment=0):
    """One level; two would be four times the file."""
    m = B["SongUNet"]()
    emb = 4 * base
    m.map_noise = B["PositionalEmbedding"]()
    if labels:
        m.map_label = linear(labels, base)
    else:
        m.map_label = None
    if augment:
        m.map_augment = linear(augment, base, bias=False)
    m.map_layer0, m.map_layer1 = linear(base, emb), linear(emb, emb)
    m.enc = nn.ModuleDict({f"{side}x{side}_conv": conv(inputs, base), f"{side}x{side}_block0": block(base, base, emb)})
    m.dec = nn.ModuleDict({
        f"{side}x{side}_in0": block(base, base, emb, attention=True),
        f"{side}x{side}_in1": block(base, base, emb),
        f"{side}x{side}_block0": block(2 * base, base, emb),
        f"{side}x{side}_block1": block(2 * base, base, emb),
        f"{side}x{side}_aux_norm": norm(base),
        f"{side}x{side}_aux_conv": conv(base, outputs),
    })
    return m.eval()


# --- NVlabs pickles: every module is a call of torch_utils.persistence on one dict -----------------------------------------
persistence = module("torch_utils.persistence")


def _reconstruct_persistent_obj(meta):
    raise NotImplementedError


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj


class Persistent:
    def __init__(self, class_name, state):
        self.meta = dict(type="class", version=6, module_src="raise SystemExit('never run')", class_name=class_name, state=state)

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


def persistent(m, **kwargs):
    """A module tree as persistent objects; containers of torch stay what they are."""
    if isinstance(m, nn.ModuleDict):
        inner = nn.ModuleDict()
        inner.__dict__["_modules"] = {k: persistent(v) for k, v in m._modules.items()}
        return inner
    state = dict(m.__dict__)
    state["_modules"] = collections.OrderedDict((k, None if v is None else persistent(v)) for k, v in m._modules.items())
    state["_init_args"], state["_init_kwargs"] = (), kwargs
    return Persistent(type(m).__name__, state)


def preconditioned(class_name, inner, **attributes):
    wrapper = nn.Module()
    wrapper.model = inner
    state = dict(wrapper.__dict__)
    state["_modules"] = collections.OrderedDict(model=persistent(inner, dropout=0.13, label_dropout=0, img_resolution=4))
    state.update(attributes)
    state["_init_args"], state["_init_kwargs"] = (), {}
    return Persistent(class_name, state)


net = song(3, 3, labels=2, augment=9)
edm = dict(ema=preconditioned("EDMPrecond", net, sigma_data=np.float64(0.5), sigma_min=0, sigma_max=float("inf")),
           loss_fn=Persistent("EDMLoss", dict(P_mean=-1.2)), augment_pipe=None, dataset_kwargs=dict(path="cifar10.zip"))
for protocol in [2, 3, 4, 5]:
    with open(f"edm_protocol{protocol}.pkl", "wb") as file:
        pickle.dump(edm, file, protocol=protocol)
for kind, attributes in [("VPPrecond", dict(beta_d=19.9, beta_min=0.1, M=1000, epsilon_t=1e-5)),
                         ("VEPrecond", dict(sigma_min=0.02, sigma_max=100))]:
    with open(f"edm_{kind}.pkl", "wb") as file:
        pickle.dump(dict(ema=preconditioned(kind, net, **attributes)), file, protocol=4)

# --- plain state dicts of the same network, in every container -------------------------------------------------------------
state = {f"model.{k}": v for k, v in net.state_dict().items()}
torch.save(state, "edm_state.pt")
torch.save(dict(state_dict={k: v.half() for k, v in state.items()}, step=7), "edm_state_half_legacy.pth", _use_new_zipfile_serialization=False)
from safetensors.torch import save_file
save_file({k: v.contiguous() for k, v in state.items()}, "edm_state.safetensors")

# --- official students ---------------------------------------------------------------------------------------------------
student_class = foreign("models.koopman_model.AdversarialOneStepKoopmanCifar10")
factorized_class = foreign("models.koopman_model.FastKoopmanMatrix")


def wrapped(unet, i, o):
    m = B["LinearControlModule"]()
    m.main_module, m.linear = unet, nn.Linear(i, o)
    return m


def student(control, project, **settings):
    m, n, labels = student_class(), 16, 3 if control else 0
    m.x0_observables_encoder, m.xT_observables_encoder = song(2, 1, labels=labels), song(2, 1, labels=labels)
    m.x0_observables_decoder = song(1, 2, labels=labels)
    if project:
        n = 5
        m.x0_observables_encoder = wrapped(m.x0_observables_encoder, 16, n)
        m.xT_observables_encoder = wrapped(m.xT_observables_encoder, 16, n)
        m.x0_observables_decoder = wrapped(m.x0_observables_decoder, n, 16)
        k = factorized_class()
        for name in ["P_re", "P_im", "P_inv_re", "P_inv_im"]:
            setattr(k, name, nn.Parameter(torch.randn(n, n)))
        k.nu_log, k.theta_log = nn.Parameter(torch.randn(n)), nn.Parameter(torch.randn(n))
        m.koopman_operator = k
    else:
        m.koopman_operator = nn.Linear(n, n)
    if control:
        m.koopman_control = nn.Linear(labels, n)
    for key, value in dict(initial_noise_factor=80, noisy_latent=0.4, cond_type="x", **settings).items():
        setattr(m, key, value)
    return m


torch.save(student(True, False, rec_loss_type="L2", koopman_loss_type="NoLoss"), "kdm_control.pt")
torch.save(student(False, True, rec_loss_type="PsudoHuber", koopman_loss_type="OnTheCircle", advers_w=0), "kdm_factorized.pt")
torch.save(student(True, False).state_dict(), "kdm_state.pt")

# --- diffusers ------------------------------------------------------------------------------------------------------------
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

with torch.no_grad():
    unet = UNet2DModel(sample_size=8, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, attention_head_dim=4,
                       down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                       downsample_padding=0, freq_shift=1, flip_sin_to_cos=False).eval()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02)
    shutil.rmtree("diffusers", ignore_errors=True)
    DDPMPipeline(unet, scheduler).save_pretrained("diffusers")
    shutil.rmtree("diffusers_old", ignore_errors=True)
    unet.save_pretrained("diffusers_old", safe_serialization=False)
    # As files from before the attention's names were changed.
    old = torch.load("diffusers_old/diffusion_pytorch_model.bin")
    for new, was in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]:
        old = {k.replace(new, was): v for k, v in old.items()}
    torch.save(old, "diffusers_old/diffusion_pytorch_model.bin")
    cases = []
    for t in [0, 300, 999]:
        abar = float(scheduler.alphas_cumprod[t])
        sigma = math.sqrt((1 - abar) / abar)
        x = torch.randn(2, 3, 8, 8) * math.sqrt(1 + sigma**2)
        eps = unet(x / math.sqrt(1 + sigma**2), t).sample
        cases.append(dict(sigma=sigma, x=x.flatten().tolist(), denoised=(x - sigma * eps).flatten().tolist()))
json.dump(cases, open("diffusers.golden.json", "w"))

# --- other containers of tensors ----------------------------------------------------------------------------------------------
torch.save([torch.rand(1, c, 1, 1) for c in [64, 128, 256, 512, 512]], "piq_heads.pt")
torch.save({f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate([64, 128, 256, 512, 512])}, "lpips_heads.pth",
           _use_new_zipfile_serialization=False)
torch.save(torch.randn(3), "tensor.pt")
