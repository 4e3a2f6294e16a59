"""Values that other programs compute of small random arrays, for tests/goldens.rs.

pip install numpy torch scipy pytorch-fid torch-fidelity prdc piq; python make.py
"""

import numpy as np
import piq
import torch
from prdc import compute_prdc
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_poly, mmd2

rng = np.random.default_rng(0)
mix = rng.standard_normal((12, 12)) * 0.4 + np.eye(12)
real = (rng.standard_normal((300, 12)) @ mix + 0.3).astype(np.float32)
fake = (rng.standard_normal((250, 12)) @ mix * 1.1).astype(np.float32)
# Fewer rows than features: a singular covariance.
few = fake[:8]


def moments(x):
    return x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)


def fidelity_fid(a, b):
    (m1, s1), (m2, s2) = moments(a), moments(b)
    return fid_statistics_to_metric(dict(mu=m1, sigma=s1), dict(mu=m2, sigma=s2), False)["frechet_inception_distance"]


def fidelity_kid(x, y):
    k = dict(kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1.0)
    x, y = x.astype(np.float64), y.astype(np.float64)
    return mmd2(kernel_poly(x, x, **k), kernel_poly(x, y, **k), kernel_poly(y, y, **k))


logits = (rng.standard_normal((60, 7)) * 2).astype(np.float32)
isc = isc_features_to_metric(torch.from_numpy(logits), splits=1, shuffle=False)["inception_score_mean"]
prdc = compute_prdc(real.astype(np.float64), fake.astype(np.float64), nearest_k=5)
a = np.clip(rng.standard_normal((3, 2, 24, 20)) * 0.5, -1, 1).astype(np.float32)
b = np.clip(a + rng.standard_normal(a.shape) * 0.2, -1, 1).astype(np.float32)
unit = [torch.from_numpy((x + 1) / 2).double() for x in (a, b)]
values = {
    "fid": calculate_frechet_distance(*moments(fake), *moments(real)),
    "fid_fidelity": fidelity_fid(fake, real),
    "fid_few": calculate_frechet_distance(*moments(few), *moments(real)),
    "kid": fidelity_kid(fake, real[:250]),
    "isc": isc,
    "precision": prdc["precision"],
    "recall": prdc["recall"],
    "density": prdc["density"],
    "coverage": prdc["coverage"],
    "psnr": piq.psnr(*unit, data_range=1.0).item(),
    "ssim": piq.ssim(*unit, data_range=1.0, downsample=False).item(),
}
print(values)
np.savez(
    "goldens.npz", real=real, fake=fake, logits=logits, a=a, b=b,
    **{name: np.array([value], np.float32) for name, value in values.items()},
)
