"A study that was killed goes on, an arm or a seed more costs its own runs alone, and what it says is drawn from the records of its runs."
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import check_report

WORDS = dict(compare_imbalance=['epochs=1'], label_efficiency=['epochs=1', 'min_steps=1', 'shares=1.0', 'encoder=small_cnn', 'seeds=0,1'],
             ablate_augmentation=['settings={epochs: 1, encoder: small_cnn}', 'seeds=0,1'])


def run(folder, name, *words):
    command = [sys.executable, '-m', 'cxr_ssl.run', name, *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(runs):
    whole = [p.parent for p in runs.glob('*/environment.json') if json.loads(p.read_text())['state'] == 'complete']
    return {p.name: (p / 'metrics.json').stat().st_mtime_ns for p in whole}


def two_seeds(rec):
    models = [a.partition(' #') for a in rec.predictions().arm.unique() if ' #' in a]
    assert models and all(len({s for a, _, s in models if a == m}) == 2 for m, _, _ in models), 'two seeds of each arm'


@pytest.mark.slow
@pytest.mark.parametrize('name', WORDS)
def test_killed_it_goes_on_and_takes_more_arms_and_seeds(tmp_path, name):
    from cxr_ssl.record import Record
    runs = tmp_path / 'a' / 'runs'
    first = run(tmp_path, name, *WORDS[name], 'out=a')
    deadline = time.monotonic() + 300
    while not done(runs) and first.poll() is None and time.monotonic() < deadline: time.sleep(.05)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    time.sleep(3)  # its kernel, and the runs in it, notice that they are alone
    before = done(runs)
    assert before

    out, err = (again := run(tmp_path, name, *WORDS[name], 'out=a')).communicate()
    assert again.returncode == 0, out + err
    after = done(runs)
    assert {k: after[k] for k in before} == before, 'what was done is not done again'
    rec = Record.open(tmp_path / 'a')
    assert rec.complete and rec.edited() == []
    check_report(rec.path)
    metrics = rec.metrics()
    assert {'majority', 'thumbnail'} <= set(metrics.arm) and np.isfinite(metrics.value[metrics.reason == '']).all()
    assert metrics[metrics.value.isna()].reason.ne('').all()
    sources = [json.loads(p.read_text()) if p.suffix == '.json' else p.read_text() for p in (tmp_path / 'a' / 'figures').glob('*.csv')]
    assert any(k in str(s) for s in sources for k in after), 'a figure names the runs it was drawn from'

    if name != 'compare_imbalance': return two_seeds(rec)
    out, err = (more := run(tmp_path, name, *WORDS[name], 'strategies=none,focal', 'seeds=0,1', 'runs_in=a/runs', 'out=b')).communicate()
    assert more.returncode == 0, out + err
    last = done(runs)
    assert {k: last[k] for k in after} == after and len(last) == len(after) + 3, 'only what is new was run'
    check_report(tmp_path / 'b')
    two_seeds(Record.open(tmp_path / 'b'))
