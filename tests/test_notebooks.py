"Every library notebook, and every page of results, runs from top to bottom in a fresh kernel; the inline tests live there."
import nbformat
import pytest
from conftest import LIBRARY, RESULTS
from nbclient import NotebookClient


@pytest.mark.slow
@pytest.mark.parametrize('page', [*LIBRARY, *RESULTS], ids=lambda p: p.stem)
def test_notebook_runs(page):
    nb = nbformat.read(page, as_version=4)
    NotebookClient(nb, timeout=300, kernel_name='python3', resources={'metadata': {'path': str(page.parent)}}).execute()
