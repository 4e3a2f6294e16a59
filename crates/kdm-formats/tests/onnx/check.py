"""Runs every case of a folder in onnxruntime: NAME.onnx with NAME.x.npy, NAME.sigma.npy, and
NAME.labels.npy where there are classes, beside NAME.expected.npy. Prints a JSON object: of each
case the largest difference of an image over the standard deviation of what is expected of it."""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

errors = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    load = lambda name: np.load(path.with_suffix(f".{name}.npy"))
    feed = {one.name: load(one.name) for one in session.get_inputs()}
    (found,) = session.run(None, feed)
    expected = load("expected")
    assert found.shape == expected.shape, (path.name, found.shape, expected.shape)
    rows = zip(found.reshape(len(found), -1), expected.reshape(len(found), -1))
    errors[path.stem] = max(float(np.abs(a - b).max() / b.std()) for a, b in rows)
    assert np.isfinite(errors[path.stem]), path.name
print(json.dumps(errors))
