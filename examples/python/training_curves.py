# %% [markdown]
# # Training curves
#
# Of a run of `kdm.distill`, `kdm distill` or `kdm run`, whether it is finished or still on its way:
# the terms of the loss, the error on held-out pairs, and the operator's spectrum. The cells are
# those of a notebook (Jupyter, VS Code); as a script it writes a picture:
#
#     pip install ./apps/kdm-python matplotlib
#     python training_curves.py moons/run curves.png

# %%
import sys
from collections import defaultdict

import kdm
import matplotlib.pyplot as plt
import numpy as np

run = sys.argv[1] if len(sys.argv) > 1 else "run"

# %%
# Each row of the log has an iteration and some values by name; not every row has all of them.
curves = defaultdict(list)
for row in kdm.training_log(run):
    for key, value in row.items():
        if isinstance(value, (int, float)) and key != "iteration":
            curves[key].append((row["iteration"], value))
print({key: len(points) for key, points in curves.items()})

# %%
groups = {
    "loss and its terms": ["train/loss", "train/latent", "train/rec", "train/push"],
    "error on held-out pairs": ["validation/rmse", "validation/median_error"],
}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for axes, (title, keys) in zip((left, middle), groups.items()):
    for key in filter(curves.get, keys):
        axes.plot(*np.transpose(curves[key]), label=key)
    axes.set(title=title, xlabel="iteration", yscale="log")
    axes.legend(fontsize="small")

# %%
# The eigenvalues of the student's operator beside the unit circle.
student = kdm.Student.load(f"{run}/student.safetensors")
eigenvalues = np.linalg.eigvals(student.operator().matrix)
circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
right.plot(circle.real, circle.imag, color="0.8", linewidth=1)
right.scatter(eigenvalues.real, eigenvalues.imag, s=8)
right.set(title="eigenvalues", xlabel="real", ylabel="imaginary", aspect="equal")

# %%
if len(sys.argv) > 2:
    figure.savefig(sys.argv[2], dpi=150)
    print(sys.argv[2])
else:
    plt.show()
