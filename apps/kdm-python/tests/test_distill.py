import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import kdm
from conftest import EXPERIMENT, teacher

SHORT = {**EXPERIMENT, "train": {**EXPERIMENT["train"], "iterations": 60, "checkpoint_every": 20}}


def bytes_of(folder):
    return (folder / "student.safetensors").read_bytes()


def test_a_teacher_in_numpy_becomes_a_student(student, program, tmp_path):
    """All in Python: the samples are the teacher's, and the program draws the same bits."""
    noise, labels = student.draw_noise(range(5000, 6000))
    assert labels is None
    drawn, wanted = student.sample(noise=noise), teacher(noise.astype(np.float64))
    error = np.sqrt(((drawn - wanted) ** 2).sum(1).mean())
    spread = np.sqrt(((wanted - wanted.mean(0)) ** 2).sum(1).mean())
    # One that gives the mean alone would have an error of the spread.
    assert error < 0.25 * spread, (error, spread)
    out = tmp_path / "x.npy"
    done = program("sample", "--model", student.path, "--seeds", "5000-5999", "--out", out)
    assert done.returncode == 0, done.stderr
    assert np.load(out).tobytes() == student.sample(range(5000, 6000)).tobytes() == drawn.tobytes()


def test_the_program_distills_the_same_bytes(pairs, program, tmp_path):
    ours = kdm.distill(pairs, SHORT, out=tmp_path / "ours")
    settings = []
    for section in ("student", "train"):
        for key, value in SHORT[section].items():
            if isinstance(value, dict):
                inner = ",".join(f"{k}={json.dumps(v)}" for k, v in value.items())
                value = "{" + inner + "}"
            settings += ["--set", f"{section}.{key}={value}"]
    arguments = ["--pairs", pairs, "--preset", "checkerboard", "--out", tmp_path / "theirs"]
    done = program("distill", *arguments, *settings)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "ours") == bytes_of(tmp_path / "theirs")
    assert ours.config["origin"]["source"]["experiment"] == "checkerboard"


def test_progress_and_curves(pairs, tmp_path):
    seen = []
    kdm.distill(pairs, SHORT, out=tmp_path / "run", on_progress=seen.append)
    last = [p for p in seen if p.unit == "iterations"][-1]
    assert (last.done, last.total) == (60, 60) and "iterations" in repr(last)
    rows = kdm.training_log(tmp_path / "run")
    assert rows[-1]["iteration"] == 60
    assert all(isinstance(row["iteration"], int) for row in rows)


def test_an_exception_of_on_progress_stops_and_is_raised(pairs, tmp_path):
    """What is begun goes on, and ends in the same bytes."""

    def stop(progress):
        if progress.unit == "iterations":
            raise RuntimeError("enough")

    long = {**SHORT, "train": {**SHORT["train"], "iterations": 1000}}
    with pytest.raises(RuntimeError, match="enough"):
        kdm.distill(pairs, long, out=tmp_path / "run", on_progress=stop)
    assert (tmp_path / "run/checkpoint.safetensors").exists()
    assert not (tmp_path / "run/student.safetensors").exists()
    with pytest.raises(ValueError, match="--resume"):
        kdm.distill(pairs, long, out=tmp_path / "run")
    kdm.distill(pairs, long, out=tmp_path / "run", resume=True)
    kdm.distill(pairs, long, out=tmp_path / "whole")
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_ctrl_c_in_python_keeps_a_checkpoint(pairs, tmp_path):
    """The interrupt of a callback, as from a person in a notebook."""
    long = {**SHORT, "train": {**SHORT["train"], "iterations": 100_000}}

    def press(progress):
        if progress.unit == "iterations" and progress.done > 20:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="checkpoint of that iteration is kept"):
        kdm.distill(pairs, long, out=tmp_path / "run", on_progress=press)
    assert (tmp_path / "run/checkpoint.safetensors").exists()


def test_ctrl_c_from_outside_keeps_a_checkpoint(pairs, tmp_path):
    long = {**SHORT, "train": {**SHORT["train"], "iterations": 100_000}}
    script = (
        "import json, sys, kdm\n"
        "try:\n"
        "    kdm.distill(sys.argv[1], json.loads(sys.argv[2]), out=sys.argv[3])\n"
        "except KeyboardInterrupt as stop:\n"
        "    print('kept:', stop)\n"
    )
    out = tmp_path / "run"
    command = [sys.executable, "-c", script, str(pairs), json.dumps(long), str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists():
        assert time.monotonic() < until and child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    told = child.communicate(timeout=120)[0]
    assert child.returncode == 0 and "kept: stopped at iteration" in told, told
    assert (out / "checkpoint.safetensors").exists()


def test_other_threads_run_meanwhile(pairs, tmp_path):
    """Python's lock is free while a training runs."""
    import threading

    ticks, ending = [], threading.Event()

    def tick():
        while not ending.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.monotonic()
    kdm.distill(pairs, SHORT, out=tmp_path / "run")
    ended = time.monotonic()
    ending.set()
    thread.join()
    during = [at for at in ticks if begun < at < ended]
    assert len(during) > 0.2 * (ended - begun) / 0.01


def test_evaluation_is_the_programs(student, pairs, program):
    found = kdm.evaluate(student, kdm.PairStore(pairs))
    done = program("evaluate", "--model", student.path, "--pairs", pairs, "--json")
    assert done.returncode == 0, done.stderr
    assert found == json.loads(done.stdout)
    assert found["pairs"] == 2304 and 0 < found["rmse"] < 1
    some = kdm.evaluate(student.path, pairs, metrics=["paired"])
    assert some["rmse"] == found["rmse"] and "energy_distance" not in some
    with pytest.raises(ValueError, match="losses, paired, distribution, features"):
        kdm.evaluate(student, pairs, metrics=["fid"])
    with pytest.raises(ValueError, match="--features"):
        kdm.evaluate(student, pairs, metrics=["features"])
    with pytest.raises(kdm.Error, match=r"\[1, 32, 32\] and the pairs are \[2\]"):
        kdm.evaluate("fashion-mnist", pairs)


def test_analysis_is_the_programs(student, pairs, program, tmp_path):
    found = kdm.analyze(student, pairs=pairs, samples=500, out=tmp_path / "ours")
    assert (tmp_path / "ours/report.html").exists()
    done = program(
        "analyze", "--model", student.path, "--pairs", pairs, "--samples", 500, "--json", "--out",
        tmp_path / "theirs",
    )
    assert done.returncode == 0, done.stderr
    assert found == json.loads(done.stdout)
    # The spectrum is that of the operator as numbers.
    eigenvalues = np.linalg.eigvals(student.operator().matrix)
    assert found["spectral_radius"] == pytest.approx(np.abs(eigenvalues).max(), rel=1e-6)
    assert kdm.analyze(student.path, samples=100)["eigenvalues"] == found["eigenvalues"]


def test_a_student_begins_with_anothers_weights(student, pairs, tmp_path, program):
    warm = kdm.distill(pairs, SHORT, out=tmp_path / "warm", init_from=student.path)
    cold = kdm.distill(pairs, SHORT, out=tmp_path / "cold")
    rmse = [kdm.evaluate(s, pairs, metrics=["paired"])["rmse"] for s in (warm, cold)]
    assert rmse[0] < rmse[1]


def test_experiments_are_whole_and_strict():
    assert "checkerboard" in kdm.presets()
    told = kdm.experiment(EXPERIMENT)
    assert told["train"]["iterations"] == 1500 and told["student"]["latent"] == 32
    assert told["train"]["warmup"] == kdm.experiment("checkerboard")["train"]["warmup"]
    for wrong, words in [
        ("checkerbord", "did you mean `checkerboard`"),
        ({"base": "checkerboard", "train": {"iteration": 3}}, "`train.iteration`"),
        ({"train": {"lr": float("nan")}}, "the experiment"),
        ({"train": {"lr": None}}, "without a value"),
        ([1], "the experiment"),
    ]:
        with pytest.raises(ValueError, match=words):
            kdm.experiment(wrong)
