"A DANN that is killed goes on bit for bit, the adapt experiment does what was done only once, and target labels change nothing."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import check_report

TRAIN = '''
import os, signal, sys
from cxr_ssl.adapt.dann import DANN, bottleneck, dann_learner, toy_domain
from cxr_ssl.record import Record
from cxr_ssl.training import FitCallback
import torch
class Die(FitCallback):
    order = 99
    def after_batch(self):
        if self.training and self.learn.train_iter == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
model = DANN(bottleneck(24), 128, ['Sick'])
record = Record.start('toy', dict(out=sys.argv[1]))
learn = dann_learner(model, toy_domain(), toy_domain(n=100, seed=1), toy_domain(2., seed=2, dataset='target').x, record=record, every=0.,
                     cbs=[Die()], device='cpu', precision='fp32', bar=False)
learn.fit_one_cycle(3)
torch.save(model.state_dict(), sys.argv[1] + '/weights.pt')
'''


def train(folder, name, at=-1):
    return subprocess.run([sys.executable, '-c', TRAIN, str(folder / name), str(at)], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_killed_it_goes_on_bit_for_bit(tmp_path):
    import torch
    assert train(tmp_path, 'whole').returncode == 0
    for at in (5, 9, 20):  # in the first epoch, at its end, in the third
        assert train(tmp_path, 'cut', at).returncode == -signal.SIGKILL
    out = train(tmp_path, 'cut')
    assert out.returncode == 0, out.stderr
    a, b = (torch.load(tmp_path / n / 'weights.pt', weights_only=True) for n in ('whole', 'cut'))
    assert all(torch.equal(a[k], b[k]) for k in a)
    ha, hb = (pd.read_csv(tmp_path / n / 'history.csv').drop(columns='seconds') for n in ('whole', 'cut'))
    pd.testing.assert_frame_equal(ha, hb, check_exact=True)


WORDS = ['arms=mlp,dann', 'head_epochs=3', 'steps=20', 'lams=0.0,1.0', 'seeds=0,1']


def adapt(folder, *words): return [sys.executable, '-m', 'cxr_ssl.run', 'adapt', *WORDS, *words]


@pytest.mark.slow
def test_adapt_is_killed_and_goes_on(tmp_path):
    run = subprocess.Popen(adapt(tmp_path, 'out=a'), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    units = tmp_path / 'a/units'
    done = lambda: {p.name: p.stat().st_mtime_ns for p in units.glob('*.parquet') if not p.name.startswith('.')}
    deadline = time.monotonic() + 300
    while len(done()) < 2 and run.poll() is None and time.monotonic() < deadline: time.sleep(.05)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    time.sleep(3)  # its kernel notices that it is alone
    before = done()
    assert len(before) >= 2
    again = subprocess.run(adapt(tmp_path, 'out=a'), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {k: done()[k] for k in before} == before, 'what was done is not done again'
    metrics = pd.DataFrame(json.loads((tmp_path / 'a/metrics.json').read_text())['rows'])
    assert {'mlp from kermany', 'dann from nih', 'majority', 'thumbnail', 'thumbnail from nih'} <= set(metrics.arm)
    assert metrics[metrics.value.isna()].reason.ne('').all()
    check_report(tmp_path / 'a')


@pytest.mark.slow
@pytest.mark.parametrize('words, says', [
    (['classes=Bacterial'], 'domain nih is empty'), (['domains=sample/kermany,twin=sample/kermany'], 'the same image stands in two rows'),
    (['domains=sample/kermany'], 'make no pair'), (['domains=sample/kermany,sample/nobody'], "no dataset 'nobody'")], ids=lambda v: str(v)[:30])
def test_adapt_refuses(tmp_path, words, says):
    out = subprocess.run(adapt(tmp_path, 'out=a', *words), cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode != 0 and says in out.stderr, out.stderr


@pytest.mark.slow
def test_transfer_both_ways_on_small_copies(tmp_path):
    seeds = 'seeds=0,1' if 'CXR_LONG' in os.environ else 'seeds=0'  # each costs two minutes
    command = [sys.executable, '-m', 'cxr_ssl.run', 'transfer', 'min_steps=1', 'encoder=small_cnn', seeds, 'out=t']
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    metrics = pd.DataFrame(json.loads((tmp_path / 't/metrics.json').read_text())['rows'])
    auc = metrics[metrics.metric == 'auc']
    assert set(auc.part) == {'nih14', 'chexpert'} and {'Pneumonia', 'macro'} <= set(auc.label)
    assert {'transfer full 1', 'none full 1', 'majority', 'thumbnail'} <= set(auc.arm)
    data = json.loads((tmp_path / 't/data.json').read_text())
    assert 'imagenet' in data['not_run'] and data['not_run']['imagenet']
    params = json.loads((tmp_path / 't/runs/chexpert-transfer-full-1-d0-s0/params.json').read_text())['params']
    assert params['classes'] == 'Pneumonia' and Path(params['weights']).name == 'first-nih14-s0'
    check_report(tmp_path / 't')
