"""Failures are exceptions with the texts of the command line."""

import numpy as np
import pytest

import kdm


def told(program, *arguments):
    done = program(*arguments)
    assert done.returncode in (1, 2), (done.returncode, done.stderr)
    return done.stderr.strip().removeprefix("error: ")


def test_texts_are_the_programs(program, tmp_path, pairs):
    (tmp_path / "text.safetensors").write_text("no tensors")
    np.save(tmp_path / "array.npy", np.zeros(3))
    sampled = ["--seeds", "0", "--out", tmp_path.parent / "x.npy"]
    for model in ("nothing", "text.safetensors", "array.npy", "missing.safetensors", "."):
        path = model if model == "nothing" else str(tmp_path / model)
        with pytest.raises(kdm.Error) as caught:
            kdm.Student.load(path)
        assert str(caught.value) == told(program, "sample", "--model", path, *sampled)
    for folder in ("missing", "."):
        folder = tmp_path / folder
        with pytest.raises(kdm.Error) as caught:
            kdm.PairStore(folder)
        evaluated = ["--model", "fashion-mnist", "--pairs", folder]
        assert str(caught.value) == told(program, "evaluate", *evaluated)
    arguments = ["--pairs", pairs, "--out", tmp_path / "run"]
    with pytest.raises(kdm.Error) as caught:
        kdm.distill(pairs, "fashion-mnist-ful", out=tmp_path / "run")
    assert str(caught.value) == told(
        program, "distill", "--preset", "fashion-mnist-ful", *arguments
    )


def test_what_is_missing_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path"):
        kdm.Student.load(tmp_path / "no.safetensors")
    with pytest.raises(FileNotFoundError):
        kdm.training_log(tmp_path)
    assert issubclass(kdm.UsageError, ValueError) and issubclass(kdm.UsageError, kdm.Error)


def test_damage_is_told(student, tmp_path):
    data = bytearray(student.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(kdm.Error, match="sha256|checksum"):
        kdm.Student.load(tmp_path / "x.safetensors")
