"What a user gets wrong: one clear error that names the thing and the remedy, an exit code that is not 0, nothing half-written."
import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch


def quickstart(folder, *args, **kwargs):
    "The quickstart at its smallest, run in `folder`."
    given = dict(a.split('=', 1) for a in ('epochs=1', 'size=32', 'finetune_epochs=1', 'out=run', *args))
    return subprocess.run([sys.executable, '-m', 'cxr_ssl.run', 'quickstart', *[f'{k}={v}' for k, v in given.items()]], cwd=folder, capture_output=True, text=True, **kwargs)


def refused(done, code, *words):
    "Check the exit code and the words of the error; a traceback is never shown."
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    assert 'Traceback' not in text and all(w in text for w in words), text


def write_images(folder, n=20, seed=0):
    "`n` small pictures of noise."
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(n): cv2.imwrite(str(folder / f'{i:03d}.png'), rng.integers(0, 256, (40, 40), np.uint8))


@pytest.mark.parametrize('args, words', [
    (['source=folder', 'root=nowhere'], ['nowhere', 'does not exist']),
    (['sorce=sample'], ['sorce', "did you mean 'source'"]),
    (['seed=many'], ['seed', 'int', 'many']),
    (['epochs=1.5'], ['epochs', 'int', '1.5']),
])
def test_refused_before_anything_runs(tmp_path, args, words):
    refused(quickstart(tmp_path, *args), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_a_gpu_that_is_not_there(tmp_path):
    refused(quickstart(tmp_path, 'device=cuda'), 2, "device='cuda'", 'device=cpu')
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'run').write_text('a file stands where the run folder should')
    refused(quickstart(tmp_path), 2, 'run', '->')
    assert (tmp_path / 'run').read_text().startswith('a file')


@pytest.mark.slow
@pytest.mark.parametrize('case, words', [
    ('an empty folder', ['images', 'is empty']),
    ('a class without an image', ["ill"]),
    ('a class that does not exist', ["sick"]),
    ('many corrupt images', ['003.png', '->']),
])
def test_folders_that_are_not_datasets(tmp_path, case, words):
    root = tmp_path / 'images'
    root.mkdir()
    if case != 'an empty folder':
        write_images(root / 'normal')
        if case == 'a class without an image': (root / 'ill').mkdir()
        else: write_images(root / 'ill', seed=1)
    if case == 'many corrupt images':
        for i in range(3, 9): (root / 'ill' / f'{i:03d}.png').write_bytes((root / 'ill' / f'{i:03d}.png').read_bytes()[:200])
    classes = 'normal,sick' if case == 'a class that does not exist' else 'normal,ill'
    refused(quickstart(tmp_path, 'source=folder', 'root=images', f'classes={classes}'), 1, *words)
    assert not (tmp_path / 'run' / 'metrics.json').exists() and not (tmp_path / 'run' / 'report.html').exists()


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path):
    "Files may grow to 2 MB only: the run stops with one error, and no half-written file bears a final name."
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    refused(quickstart(tmp_path, preexec_fn=limit), 1, 'larger than allowed', '->')
    assert not (tmp_path / 'run' / 'encoder.safetensors').exists()
    assert list((tmp_path / 'run' / 'checkpoints').glob('*.safetensors')) == [] if (tmp_path / 'run' / 'checkpoints').exists() else True
