import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[3] / "examples/python/training_curves.ipynb"


@pytest.mark.parametrize("given", [False, True], ids=["its own run", "a run that is there"])
def test_the_notebook_runs_from_a_clean_kernel(given, student, tmp_path):
    """As `jupyter nbconvert --execute` runs it; with a run's folder, as a person sets it."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert settings.source.startswith("run = None")
    if given:
        settings.source = f"run = {str(Path(student.path).parent)!r}"
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "'train/loss'" in outputs[0]["data"]["text/plain"]
    assert not list(tmp_path.iterdir()), "it writes into the folder that it runs in"


def test_the_notebook_is_saved_with_its_pictures():
    text = NOTEBOOK.read_text()
    outputs = [o for cell in json.loads(text)["cells"] for o in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert len(text) < 200_000
