"""The notebook of the documentation runs from top to bottom."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
def test_the_notebook_runs_and_shows_what_it_says(monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install 'hrnet-jax[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'hrnet-jax[dev]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(ROOT / "docs" / "ten_minutes.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept out of the repository"
    kernel = pytest.importorskip("jupyter_client").KernelManager(transport="ipc")
    nbclient.NotebookClient(notebook, timeout=120, km=kernel).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    assert "heatmaps (8, 16, 16, 68)" in printed and "loss" in printed
