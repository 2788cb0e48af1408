"Generated images in training: they are learned from and never tested on, and the study of twelve starts is one grid."
import os
import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import NBS

CLASSES = ['Normal', 'Bacterial', 'Viral']


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    "A folder as the sampler writes it: 150 images of noise for each class."
    folder, g = tmp_path_factory.mktemp('samples'), np.random.default_rng(0)
    rows = [dict(image=f'{c}_{i}.png', dataset='synthetic', patient=f'synthetic:{c}.{i}', split='train', **{k: int(k == c) for k in CLASSES}, generator='g', latent_seed=0)
            for c in CLASSES for i in range(150)]
    for r in rows: cv2.imwrite(str(folder / r['image']), g.integers(0, 256, (32, 32), np.uint8))
    pd.DataFrame(rows).to_csv(folder / 'manifest.csv', index=False)
    return folder


def finetune(folder, *words):
    command = [sys.executable, '-m', 'cxr_ssl.run', 'finetune', *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def write_seen(samples, part):
    from cxr_ssl.data.quality import prepare
    from cxr_ssl.data.splits import save_seen, split
    bank = prepare('sample', folder=samples.parent / 'bank', side=32, near=False)
    save_seen(samples, bank.manifest, split(bank.manifest, CLASSES, valid=.15, test=.3).parts[part][:5])


@pytest.mark.slow
def test_generated_images_are_in_train_alone_and_their_maker_is_asked(samples, tmp_path):
    from cxr_ssl.record import Record
    write_seen(samples, 'train')
    words = ['encoder=small_cnn', 'epochs=1', f'synthetic={samples}']
    p = finetune(tmp_path, *words, 'mix=balanced', 'out=a')
    assert p.returncode == 0, p.stdout + p.stderr
    parts = Record.open(tmp_path / 'a').data()['parts']
    counts = [parts['train']['classes'][c] for c in CLASSES]
    assert len(set(counts)) == 1, 'every class is as large as the largest'
    assert parts['train']['datasets']['synthetic'] > 0 and all('synthetic' not in parts[k]['datasets'] for k in ('valid', 'test'))
    seen = json.loads((tmp_path / 'a' / 'seen.json').read_text())['learned']['images']
    assert set(json.loads((samples / 'seen.json').read_text())['learned']['images']) <= set(seen), 'what the generator has learned from, the classifier has'
    write_seen(samples, 'test')
    p = finetune(tmp_path, *words, 'out=b')
    assert p.returncode != 0 and 'images of test' in p.stdout + p.stderr


@pytest.mark.slow
def test_a_mix_without_generated_images_is_refused(tmp_path):
    p = finetune(tmp_path, 'epochs=1', 'mix=both', 'out=a')
    assert p.returncode != 0 and 'there are no generated images' in p.stdout + p.stderr


@pytest.mark.slow
@pytest.mark.skipif('CXR_LONG' not in os.environ, reason='half an hour on two cores; CXR_LONG=1 runs it')
def test_the_grid_of_twelve_has_twelve_rows(tmp_path):
    from cxr_ssl.record import Record
    words = yaml.safe_load((NBS / 'experiments' / 'params' / 'seed_benefit.yaml').read_text())
    assert len(words['backbones']) * len(words['starts']) == 12
    tiny = ['size=32', 'epochs=1', 'pretrain_epochs=1', 'samples=40', 'mixes=real', 'seeds=0', 'generator_settings={epochs: 1, width: 4}',
            'settings={vit_small: {pretrain: {settings: "{out_dim: 64, hidden: 32, bottleneck: 16}"}}}']
    given = [f'{k}={",".join(words[k])}' for k in ('backbones', 'starts')]
    p = subprocess.run([sys.executable, '-m', 'cxr_ssl.run', 'synthetic_benefit', *tiny, *given, 'out=a'], cwd=tmp_path, capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    rows = Record.open(tmp_path / 'a').metrics().query("metric == 'f1' and label == 'macro'").set_index('arm')
    grid = [r for r in rows.index if r.split()[0] in ('resnet18', 'vit_small')]
    assert len(grid) == 12
    lost = rows.loc[grid].value.isna()
    assert lost.sum() in (0, 6) and rows.loc[grid][lost].reason.str.startswith('not run').all(), 'arms without ImageNet weights say so'
    assert 'no detectable difference' in (tmp_path / 'a' / 'figures' / 'differences.csv').read_text() or 'is better' in (tmp_path / 'a' / 'figures' / 'differences.csv').read_text()
