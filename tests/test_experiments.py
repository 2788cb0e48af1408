"Every experiment runs under papermill, leaves a complete Record with finite metrics, and gives the same numbers when it is killed and called again."
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import papermill as pm
import pytest
from conftest import EXPERIMENTS, check_report

SMOKE = {'00_quickstart': dict(epochs=1, size=32, finetune_epochs=2)}  # the quickstart's defaults are a real run of minutes
FILES = ['params.json', 'environment.json', 'data.json', 'predictions.parquet', 'metrics.json']
TRAINED = ['history.csv']  # left by experiments that train


def known(page): return pm.inspect_notebook(str(page))
def trains(page): return 'epochs' in known(page)
def is_study(page): return 'runs_in' in known(page)  # made of runs of other experiments: see test_studies


def ready(page, a, b):
    "A folder for the next run. The classifiers that 60_explain trains first are those of its run before: 40_finetune shows that they repeat."
    if page.stem == '60_explain': shutil.copytree(a / 'runs', b / 'runs')


def killed_and_called_again(command, folder, begun, early):
    "SIGKILL as soon as there is something to go on with, the file `begun`; then the same command again."
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not begun.exists() and run.poll() is None and time.monotonic() < deadline: time.sleep(.05)
    run.kill()
    assert run.wait() == -signal.SIGKILL and begun.exists() and not early.exists()
    time.sleep(2)  # the kernel notices that its parent is gone
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert again.returncode == 0 and 'going on' in again.stdout + again.stderr, again.stdout + again.stderr


@pytest.fixture(scope='session', params=[p for p in EXPERIMENTS if not is_study(p) and 'synthesise' not in p.stem], ids=lambda p: p.stem)
def twice(request, tmp_path_factory):
    "The run folders of two runs of one experiment: undisturbed with plain papermill, and with cxr_run, killed and called again."
    page, folder = request.param, tmp_path_factory.mktemp(request.param.stem)
    params, a, b = SMOKE.get(page.stem, {}), folder / 'a', folder / 'b'
    pm.execute_notebook(str(page), str(folder / 'plain.ipynb'), dict(params, out=str(a)), progress_bar=False, cwd=str(folder))
    ready(page, a, b)
    command = [sys.executable, '-m', 'cxr_ssl.run', page.stem, *[f'{k}={v}' for k, v in params.items()], 'out=b']
    sign = 'history.csv' if trains(page) else 'bank/pixels' if 'side' in known(page) else 'params.json'
    killed_and_called_again(command, folder, b / sign, b / 'metrics.json')
    return page, a, b


@pytest.mark.slow
def test_record_is_complete(twice):
    from cxr_ssl.record import DISCLAIMER, Record
    page, a, b = twice
    rec = Record.open(b)
    assert rec.complete and rec.edited() == []
    assert [f for f in FILES + TRAINED * trains(page) if not (b / f).is_file()] == []
    assert rec.environment['disclaimer'] == DISCLAIMER
    if page.stem != '10_prepare_data': check_report(b)
    assert set(rec.params) == set(known(page)), 'params.json holds exactly the parameters of the tagged cell'
    assert (b / 'executed.ipynb').is_file()
    for png in (b / 'figures').glob('*.png'):
        assert list(png.parent.glob(f'{png.stem}.csv')) + list(png.parent.glob(f'{png.stem}.json')), f'{png.name} has no data beside it'


@pytest.mark.slow
def test_metrics_are_finite_or_say_why(twice):
    rows = json.loads((twice[1] / 'metrics.json').read_text())['rows']
    assert rows
    for r in rows:
        if r['value'] is None: assert r['reason']
        else: assert np.isfinite(r['value']) and r['n'] > 0
    measured = [r for r in rows if r['value'] is not None]
    assert all(r['low'] <= r['value'] <= r['high'] for r in measured if r['low'] is not None)
    assert {'majority', 'thumbnail'} <= {r['arm'] for r in rows}, 'the trivial baselines stand in every table'


@pytest.mark.slow
def test_killed_and_called_again_it_gives_the_same_numbers(twice):
    page, a, b = twice
    assert json.loads((a / 'metrics.json').read_text()) == json.loads((b / 'metrics.json').read_text())
    pd.testing.assert_frame_equal(pd.read_parquet(a / 'predictions.parquet'), pd.read_parquet(b / 'predictions.parquet'), check_exact=True)
    if not trains(page): return
    ha, hb = (pd.read_csv(x / 'history.csv') for x in (a, b))
    timed = [c for c in ha if 'second' in c or 'wait' in c or 'rate' in c]
    pd.testing.assert_frame_equal(ha.drop(columns=timed), hb.drop(columns=timed), check_exact=True)
    assert (a / 'encoder.safetensors').read_bytes() == (b / 'encoder.safetensors').read_bytes()


@pytest.mark.slow
def test_encoder_loads_in_plain_timm(twice):
    import timm
    from safetensors.torch import load_file
    if not trains(twice[0]): pytest.skip('this experiment trains nothing')
    info = json.loads((twice[1] / 'encoder.json').read_text())
    model = timm.create_model(info['timm_name'], in_chans=1, num_classes=0)
    model.load_state_dict(load_file(twice[1] / 'encoder.safetensors'), strict=True)
