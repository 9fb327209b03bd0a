"""The notebook of the documentation runs from top to bottom."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# In a process of its own: what the kernel's client leaves open would warn in another test.
EXECUTE = """
import sys, nbclient, nbformat
from jupyter_client import KernelManager
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=120, km=KernelManager(transport="ipc")).execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="pip install 'hrnet-jax[dev]'")
    pytest.importorskip("nbclient", reason="pip install 'hrnet-jax[dev]'")
    source, executed = ROOT / "docs" / "ten_minutes.ipynb", tmp_path / "executed.ipynb"
    notebook = nbformat.read(source, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept out of the repository"
    path = str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", EXECUTE, str(source), str(executed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(executed, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    assert "heatmaps (8, 16, 16, 68)" in printed and "loss" in printed
