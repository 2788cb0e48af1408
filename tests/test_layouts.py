"Phantoms laid out as each dataset is downloaded go through the whole experiment; and a run that is asked to stop saves and goes on."
import json
import subprocess
import sys
import time

import pandas as pd
import pytest


@pytest.mark.slow
@pytest.mark.parametrize('source, params', [
    ('kermany', ['classes=Normal,Pneumonia', 'official=true']), ('covid_radiography', ['lungs=focus']), ('covid_pneumonia', []),
    ('nih14', ['classes=Infiltration,Pneumonia', 'official=true']), ('chexpert', ['classes=Edema,Consolidation,Pneumonia', 'policy=ones', 'blank=negative']),
    ('rsna', [])], ids=lambda v: v if isinstance(v, str) else '')
def test_every_layout_is_prepared_as_downloaded(tmp_path, source, params):
    "Phantoms in the folders and tables of each dataset, through the whole experiment."
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.phantom import phantom_layout
    from cxr_ssl.data.splits import Protocol
    phantom_layout(source, tmp_path / 'data', n=80, size=48)
    root = tmp_path / 'data' / ('CheXpert-v1.0-small' if source == 'chexpert' else '')
    out = subprocess.run([sys.executable, '-m', 'cxr_ssl.run', 'prepare_data', f'source={source}', f'root={root}', 'size=32', 'out=run', *params],
                         cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    bank, protocol = Bank.open(tmp_path / 'run/bank', verify=True), Protocol.load(tmp_path / 'run/protocol.json')
    assert len(protocol.check(bank.manifest).train) > 20 and not len(protocol.leaks(bank.manifest))
    data = json.loads((tmp_path / 'run/data.json').read_text())
    assert data['leaks'] == 0 and data['manifest_hash'] == bank.manifest.hash


@pytest.mark.slow
def test_asked_to_stop_it_saves_and_goes_on(tmp_path):
    "SIGTERM in the middle of training: the state is saved within seconds, and the same command goes on."
    command = [sys.executable, '-m', 'cxr_ssl.run', 'pretrain', 'epochs=5', 'out=cut']
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / 'cut/history.csv').exists() and run.poll() is None: time.sleep(.05)
    run.terminate()
    out, err = run.communicate(timeout=120)
    assert run.returncode == 143 and 'SIGTERM arrived in epoch' in err and 'is saved' in err, out + err
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and 'going on' in again.stderr, again.stderr
    history = pd.read_csv(tmp_path / 'cut/history.csv').query("arm == 'simclr'")
    assert list(history.epoch) == list(range(5))
