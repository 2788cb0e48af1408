"What pip installs: a wheel holds the modules, the sample with its licences, and the experiments with their settings."
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import EXPERIMENTS, LIBRARY, NBS, ROOT

SAMPLE = ROOT / 'cxr_ssl' / 'sample'


def test_sample_is_small_and_carries_its_licences():
    files = [p for p in SAMPLE.rglob('*') if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 12e6
    assert {'LICENCES.md', 'ATTRIBUTION_covid.csv', 'manifest.csv'} <= {p.name for p in files}


@pytest.mark.slow
def test_wheel_holds_everything(tmp_path):
    copy = tmp_path / 'source'  # pip builds inside the tree; leave this one alone
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns('.git', 'runs', 'banks', 'build', '*.egg-info', 'venv', '.venv', '__pycache__'))
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(tmp_path), str(copy)], check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist())
    modules = {'cxr_ssl/' + nb.stem.split('_', 1)[1].replace('.', '/') + '.py' for nb in LIBRARY}
    sample = {p.relative_to(ROOT).as_posix() for p in SAMPLE.rglob('*') if p.is_file()}
    experiments = {f'cxr_ssl/experiments/{p.name}' for p in EXPERIMENTS}
    settings = {f'cxr_ssl/experiments/params/{p.name}' for p in (NBS / 'experiments' / 'params').glob('*.yaml')}
    assert sorted((modules | sample | experiments | settings) - names) == []
