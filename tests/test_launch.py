"Experiments start on Kaggle and Colab, by plain papermill, and under any scheduler; the archives of a release are whole."
import json
import os
import shlex
import subprocess
import sys
import types

import nbformat
import pytest
import yaml
from conftest import EXPERIMENTS, NBS, ROOT

ids = dict(ids=lambda p: p.stem)


def cells(page): return nbformat.read(page, as_version=4).cells
def code(page): return [c.source for c in cells(page) if c.cell_type == 'code']
def command(page): return next(line for line in cells(page)[1].source.splitlines() if line.startswith('papermill '))


def test_every_experiment_has_its_badges_and_the_one_launch_cell():
    out = subprocess.run([sys.executable, ROOT / '.ci' / 'launch', '--check'], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_badges_lead_to_this_page_and_launch_comes_straight_after_the_parameters(page):
    top, here = cells(page)[1].source, f'github.com/cxr-ssl/cxr_ssl/blob/main/nbs/experiments/{page.name}'
    assert len([line for line in cells(page)[0].source.splitlines() if line]) == 2, 'title and promise alone: nbdev takes this cell for the head of the page'
    assert f'https://colab.research.google.com/{here.replace("github.com", "github")})' in top
    assert f'https://kaggle.com/kernels/welcome?src=https://{here})' in top
    assert 'launch(globals())' in code(page)[1] and sum('launch(globals())' in c for c in code(page)) == 1


@pytest.mark.parametrize('missing', [True, False])
def test_the_package_is_installed_only_if_it_is_missing(missing, monkeypatch):
    from IPython.core.inputtransformer2 import TransformerManager
    cell, asked = TransformerManager().transform_cell(code(EXPERIMENTS[0])[1]), []

    def install(magic, line):
        asked.append((magic, line.split()[:2]))
        monkeypatch.undo()
    import cxr_ssl  # noqa: F401
    if missing: monkeypatch.setitem(sys.modules, 'cxr_ssl', None)
    exec(cell, dict(get_ipython=lambda: types.SimpleNamespace(run_line_magic=install), out='runs/x'))
    assert asked == [('pip', ['install', '-q'])] * missing


def kaggle(folder, attach=()):
    "A small copy of Kaggle's folders."
    for d in ('kaggle/working', 'kaggle/input'): (folder / d).mkdir(parents=True)
    for name, source in attach: (folder / 'kaggle/input' / name).symlink_to(source)
    return folder


def session(base, page, **params):
    "One session of a notebook there: papermill without cxr_run, from the folder Kaggle starts in."
    nb = nbformat.read(page, as_version=4)
    for c in nb.cells: c.source = c.source.replace('launch(globals())', f'launch(globals(), {str(base)!r})')
    nbformat.write(nb, base / 'notebook.ipynb')
    env = {k: v for k, v in os.environ.items() if k != 'CXR_COMMAND'} | dict(KAGGLE_KERNEL_RUN_TYPE='Batch')
    words = ['papermill', base / 'notebook.ipynb', base / 'kaggle/working/__notebook__.ipynb', '-y', yaml.safe_dump(params, default_flow_style=True)]
    out = subprocess.run([sys.executable, '-m', *words], cwd=base / 'kaggle/working', env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-3000:]
    return base / 'kaggle/working/runs/prepare_data'


@pytest.mark.slow
def test_a_session_on_kaggle_finds_its_data_and_the_next_one_goes_on(tmp_path):
    from cxr_ssl.data.phantom import phantom_layout
    from cxr_ssl.record import Record
    page = NBS / 'experiments' / '10_prepare_data.ipynb'
    phantom_layout('kermany', tmp_path / 'data', n=120, size=64)
    asked = dict(source='kermany', classes='Normal,Pneumonia', side=64, size=32)
    first = session(kaggle(tmp_path / 'one', [('chest-xray-pneumonia', tmp_path / 'data')]), page, **asked)
    record = Record.open(first)
    assert record.complete and record.params['root'].endswith('kaggle/input/chest-xray-pneumonia')
    assert 'which has the layout of kermany' in (first.parent.parent / '__notebook__.ipynb').read_text()
    begun = json.loads((first / 'environment.json').read_text()) | dict(state='running', finished=None)
    (first / 'environment.json').write_text(json.dumps(begun))
    elsewhere = [('output', first.parent.parent), ('xrays-version-2', tmp_path / 'data')]  # the same data under another name
    second = session(kaggle(tmp_path / 'two', elsewhere), page, **asked)
    assert Record.open(second).complete and Record.open(second).environment['sessions'] == 2
    assert Record.open(second).params['root'].endswith('two/kaggle/input/xrays-version-2')
    assert (second / 'metrics.json').read_bytes() == (first / 'metrics.json').read_bytes()


@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_the_page_names_its_plain_papermill_command(page):
    words = shlex.split(command(page), comments=True)
    assert words == ['papermill', f'nbs/experiments/{page.name}', 'executed.ipynb']


@pytest.mark.slow
@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_plain_papermill_runs_as_the_page_says(page, tmp_path):
    "From the root of a clone; here a folder that holds nothing but its notebooks, so that the runs stay out of this one."
    if page.stem not in ('10_prepare_data', '40_finetune', '90_compare_runs') and 'CXR_LONG' not in os.environ:
        pytest.skip('by cxr_run it runs in test_experiments; CXR_LONG=1 runs every page by papermill too')
    from cxr_ssl.record import Record
    from cxr_ssl.run import experiment_parameters
    (tmp_path / 'nbs').symlink_to(NBS)
    out = subprocess.run(command(page), shell=True, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ, PATH=f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'))
    assert out.returncode == 0, out.stderr[-3000:]
    assert Record.open(tmp_path / experiment_parameters(page)['out'].default).complete and (tmp_path / 'executed.ipynb').is_file()


def launch_command(*words, cwd):
    out = subprocess.run([sys.executable, '-m', 'cxr_ssl.submit', *words], cwd=cwd, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout.splitlines()


def test_folder_for_kaggle_holds_the_notebook_with_its_parameters(tmp_path):
    from cxr_ssl.run import experiment_parameters
    said = launch_command('kaggle', 'finetune', '-f', 'finetune_kaggle_t4', 'source=nih14', 'classes=Pneumonia', '--user', 'you', '--dataset', 'a/b', '--to', 'push', cwd=tmp_path)
    about = json.loads((tmp_path / 'push/kernel-metadata.json').read_text())
    assert said == ['kaggle kernels push -p push'] and about['id'] == 'you/cxr-ssl-finetune' and about['dataset_sources'] == ['a/b'] and about['enable_gpu'] is True
    nb = tmp_path / 'push' / about['code_file']
    assert experiment_parameters(nb).keys() == experiment_parameters(NBS / 'experiments/40_finetune.ipynb').keys()
    scope = {}
    for c in code(nb)[:2]: exec(c, scope)  # parameters, then those that were given
    assert (scope['source'], scope['size'], scope['time_budget']) == ('nih14', 224, 500.0)
    assert 'launch(globals())' in code(nb)[2]


@pytest.mark.slow
def test_a_study_is_done_by_a_scheduler_that_knows_nothing_of_it(tmp_path):
    "The lines of a study run in a shell; then the study's own command has no run left to do."
    from cxr_ssl.record import Record
    words = ['compare_imbalance', 'strategies=none,oversample', 'epochs=1', 'out=study']
    lines = launch_command('lines', *words, cwd=tmp_path)
    assert len(lines) == 2 and all(line.startswith('papermill ') for line in lines)
    env = dict(os.environ, PATH=f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}')
    for line in lines: subprocess.run(line, shell=True, cwd=tmp_path, env=env, check=True, capture_output=True)
    runs = sorted(p.parent for p in (tmp_path / 'study/runs').glob('*/params.json'))
    before = {r: (r / 'metrics.json').stat().st_mtime_ns for r in runs}
    assert launch_command('lines', *words, cwd=tmp_path) == []
    out = subprocess.run([sys.executable, '-m', 'cxr_ssl.run', *words], cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-3000:]
    assert Record.open(tmp_path / 'study').complete and len(before) == 2
    assert {r: (r / 'metrics.json').stat().st_mtime_ns for r in runs} == before and all(Record.open(r).environment['sessions'] == 1 for r in runs)


def test_what_contributing_shows_works(tmp_path):
    "The dataset and the method that CONTRIBUTING.md adds, as they stand there."
    import re

    import cv2
    import numpy as np
    import torch
    from lightly.models.modules import heads

    from cxr_ssl.data import sources, views
    from cxr_ssl.encoders import encoder
    from cxr_ssl.pretrain import method
    adapter, simsiam = re.findall(r'```python\n(.*?)```', (ROOT / 'CONTRIBUTING.md').read_text(), re.S)
    rows = [f'{i}.png,p{i // 2},{"yes" if i % 4 < 2 else "no"}' for i in range(8)]
    for i in range(8): cv2.imwrite(str(tmp_path / f'{i}.png'), np.random.default_rng(i).integers(0, 255, (40, 40), dtype=np.uint8))
    (tmp_path / 'table.csv').write_text('\n'.join(['film,person,ill', *rows]) + '\n')
    try:
        exec(adapter, vars(sources).copy())
        found = sources.read_source('my_set', tmp_path)
        assert len(found) == 8 and found.table.patient.nunique() == 4 and found.table.Pneumonia.sum() == 4
        scope = {**vars(heads), **vars(method), 'F': torch.nn.functional, 'nn': torch.nn, 'simclr': views.simclr}
        exec(simsiam, scope)
        model = method.make_method('simsiam', encoder('small_cnn', size=32, seed=0), size=32)
        x = torch.rand(8, 1, 32, 32)
        model.loss(model(x, x.flip(-1)), None).backward()
        assert all(v > 0 for v in method.gradient_reach(model).values())
    finally:
        sources.SOURCES.pop('my_set', None)
        method.METHODS.pop('simsiam', None)


def test_ruff_finds_no_fault():
    out = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format', 'concise', 'cxr_ssl', 'tests', 'setup.py', '.ci/launch', '.ci/readme', '.ci/release', '.ci/card'],
                         cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr


@pytest.mark.slow
def test_release_archives_hold_everything(tmp_path):
    "The script itself looks for modules, sample, experiments and settings in both."
    out = subprocess.run([sys.executable, ROOT / '.ci' / 'release', tmp_path], capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ['.gz', '.whl']
