"""Golden values for tests/goldens.rs: modes of a matrix given by a formula, by NumPy and SciPy.

    pip install numpy scipy
    python make.py
"""
import numpy as np
import scipy.linalg as la

n, rows = 24, 40
i, j = np.mgrid[0:n, 0:n]
a = 0.25 * np.cos(1.7 * i + 0.9 * j * j + 0.05 * i * j)
b = np.sin(0.3 * np.arange(n) + 1)
r, k = np.mgrid[0:rows, 0:n]
z = np.sin(0.7 * r * r + 1.3 * k + 0.11 * r * k)
z = z.astype(np.float32).astype(np.float64)

values, v = np.linalg.eig(a)
w = np.linalg.inv(v)
half = [m for m in range(n) if values[m].imag >= 0]
conditions = [np.linalg.norm(w[m]) * np.linalg.norm(v[:, m]) for m in half]
phi = z @ w.T


def part(m):
    """What a mode gives to every row; with its conjugate, if it has one."""
    one = np.outer(phi[:, m] * values[m], v[:, m])
    return (one if values[m].imag == 0 else 2 * one).real


amplitudes = np.array([np.sqrt(((part(m) - part(m).mean(0)) ** 2).sum(1).mean()) for m in half])
leading = [half[m] for m in np.argsort(-amplitudes)[:3]]
truncated = sum((1 if values[m].imag == 0 else 2) * (values[m] * np.outer(v[:, m], w[m])).real for m in leading)
singular = np.linalg.svd(a, compute_uv=False)
t = 0.3
root = la.fractional_matrix_power(a.astype(complex), t)
shift = (root - np.eye(n)) @ np.linalg.solve(a - np.eye(n), b)
np.savez(
    "modes.npz",
    eigenvalues=np.stack([values.real, values.imag], 1).astype(np.float32),
    amplitudes=np.sort(amplitudes)[::-1].astype(np.float32),
    truncated=truncated.astype(np.float32),
    conditioning=np.array(
        [singular[0], singular[0] / singular[-1], np.sqrt(1 - (abs(values) ** 2).sum() / (a**2).sum()), max(conditions)]
    ).astype(np.float32),
    flow=(z @ root.T + shift).real.astype(np.float32),
)
