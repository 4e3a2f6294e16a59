"""Draws with an ONNX file and compares: FILE NOISE.npy LABELS.npy|- EXPECTED.npy; or PARTS/ for a
folder of encoder, operator and decoder; with a noise level after them a denoiser. Prints the largest difference over the standard deviation
of what is expected."""

import os
import sys

import numpy as np
import onnx
import onnxruntime

place, noise, labels, expected = sys.argv[1:5]
feed = {"noise": np.load(noise)}
if len(sys.argv) > 5:
    rows = len(feed["noise"])
    feed.update(x=feed["noise"], sigma=np.full(rows, float(sys.argv[5]), np.float32))
if labels != "-":
    feed["labels"] = np.load(labels)


def run(path, feed):
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    results = session.run(None, {name: value for name, value in feed.items() if name in wanted})
    return {out.name: value for out, value in zip(session.get_outputs(), results)}


if os.path.isdir(place):
    for part in ["encoder", "operator", "decoder"]:
        feed.update(run(os.path.join(place, part + ".onnx"), feed))
    drawn = feed["images"]
else:
    drawn, = run(place, feed).values()
expected = np.load(expected)
assert drawn.shape == expected.shape, (drawn.shape, expected.shape)
print(np.abs(drawn - expected).max() / expected.std())
