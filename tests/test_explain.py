"Explaining runs: killed it goes on with the next model, seeds of one model are averaged, boxes are found, and what cannot be compared is refused."
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

DATA = ['source=phantom', 'options={n: 60, size: 64, per_patient: 1}', 'size=48', 'valid=0.2']
TINY = ['n_boot=50', 'checked=4', 'show=3']


def command(name, *words): return [sys.executable, '-m', 'cxr_ssl.run', name, *words]
def go(folder, name, *words): return subprocess.run(command(name, *words), cwd=folder, capture_output=True, text=True)


def done(folder, name, *words):
    found = go(folder, name, *words)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "Two seeds of a small classifier, in runs/."
    folder = tmp_path_factory.mktemp('explain')
    for seed in (0, 1): done(folder, 'finetune', *DATA, 'encoder=small_cnn', 'epochs=1', f'seed={seed}', f'out=runs/s{seed}')
    return folder


@pytest.mark.slow
def test_killed_it_goes_on_with_the_next_model(trained):
    from cxr_ssl.record import Record
    words = [*DATA, *TINY, 'runs=one=runs/s0,two=runs/s1']
    done(trained, 'explain', *words, 'out=runs/whole')
    run = subprocess.Popen(command('explain', *words, 'out=runs/cut'), cwd=trained, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first, deadline = trained / 'runs/cut/units/scores-one-0.parquet', time.monotonic() + 300
    while not first.exists() and run.poll() is None and time.monotonic() < deadline: time.sleep(.02)
    run.kill()
    assert run.wait() == -signal.SIGKILL and first.exists() and not (trained / 'runs/cut/metrics.json').exists()
    time.sleep(3)  # its kernel notices that it is alone
    before = first.stat().st_mtime_ns
    done(trained, 'explain', *words, 'out=runs/cut')
    assert first.stat().st_mtime_ns == before, 'what was scored is not scored again'
    whole, cut = (Record.open(trained / 'runs' / k) for k in ('whole', 'cut'))
    assert cut.complete and cut.edited() == []
    pd.testing.assert_frame_equal(whole.metrics(), cut.metrics(), check_exact=True)
    a, b = (pd.read_csv(r.path / 'images.csv') for r in (whole, cut))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.slow
def test_a_row_for_each_image_and_chance_beside_it(trained):
    done(trained, 'explain', *DATA, *TINY, 'runs=both=runs/s0,both=runs/s1', 'out=runs/seeds')
    out = trained / 'runs/seeds'
    data, table = json.loads((out / 'data.json').read_text()), pd.read_csv(out / 'images.csv')
    n = data['parts']['test']['images']
    assert table.groupby('arm').size().to_dict() == dict(both=2 * n, uniform=n, centre=n, **{'random boxes': n})
    assert {'focus_area', 'mean_intensity', 'confidence', 'threshold'} <= set(table) and (table.threshold_from == 'valid').all()
    rows = {(r['arm'], r['metric'], r['label']): r for r in json.loads((out / 'metrics.json').read_text())['rows']}
    own = table[table.arm == 'both'].groupby('id').inside.mean()
    assert rows['both', 'inside', '']['n'] == own.notna().sum() and np.isclose(rows['both', 'inside', '']['value'], own.mean()), 'a seed is no patient'
    assert ('both', 'other seeds spearman', '1 model') in rows and ('both', 'confidence ~ inside', '') in rows
    assert len(list((out / 'overlays').rglob('*.png'))) == 3


@pytest.mark.slow
def test_boxes_of_nih(tmp_path):
    from cxr_ssl.data.phantom import phantom_layout
    phantom_layout('nih14', tmp_path / 'nih', n=60, size=64)
    data = ['source=nih14', 'root=nih', 'classes=Pneumonia', 'size=48', 'valid=0.25', 'test=0.4']
    done(tmp_path, 'finetune', *data, 'encoder=small_cnn', 'epochs=1', 'out=runs/nih')
    done(tmp_path, 'explain', *data, *TINY, 'runs=runs/nih', 'against=boxes', 'out=runs/explain')
    table = pd.read_csv(tmp_path / 'runs/explain/images.csv')
    assert set(table.label) == {'Pneumonia'} and (table.truth == 'Pneumonia').all() and (table.area < .4).all()
    boxes = pd.read_csv(tmp_path / 'nih/BBox_List_2017.csv')
    assert {i.split('/')[-1] for i in table.image} <= set(boxes['Image Index'][boxes['Finding Label'] == 'Pneumonia'])


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(trained):
    for words, said in ((['split_seed=1'], 'have seen'), (['against=boxes'], 'has a box of'), (['maps=rollout'], 'rollout follows the attention')):
        found = go(trained, 'explain', *[d for d in DATA if d.split('=')[0] != words[0].split('=')[0]], *TINY, 'runs=runs/s0', *words, f'out=runs/refused-{words[0].split("=")[0]}')
        assert found.returncode and said in found.stdout + found.stderr, (words, found.stdout + found.stderr)
