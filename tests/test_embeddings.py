"The comparison of embeddings goes on after a kill, refuses encoders that know its images, finds a planted shortcut and is silent without; UMAP repeats itself."
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

WORDS = ['source=phantom', 'classes=Normal,Bacterial,Viral', 'part=all', 'pictures=tsne 10,pca', 'size=32', 'neighbours=5', 'encoders=random', 'encoder=small_cnn']


def run(folder, *words):
    command = [sys.executable, '-m', 'cxr_ssl.run', 'compare_embeddings', *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def units(out): return {p.name: p.stat().st_mtime_ns for p in (out / 'units').glob('*.parquet')} if (out / 'units').is_dir() else {}


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    "A run on phantoms whose last class has a letter in the corner, killed when a few units were done, and gone on with."
    folder = tmp_path_factory.mktemp('planted')
    words = [*WORDS, 'options={n: 120, size: 64, shortcut: 1.0}', 'out=a']
    first = run(folder, *words)
    deadline = time.monotonic() + 400
    while len(units(folder / 'a')) < 3 and first.poll() is None and time.monotonic() < deadline: time.sleep(.05)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    time.sleep(3)  # its kernel notices that it is alone
    before = units(folder / 'a')
    out, err = (again := run(folder, *words)).communicate()
    assert again.returncode == 0, out + err
    return folder / 'a', before


@pytest.mark.slow
def test_killed_it_goes_on_with_what_was_done(planted):
    from cxr_ssl.record import Record
    out, before = planted
    assert len(before) >= 3 and {k: units(out)[k] for k in before} == before, 'what was done is not done again'
    rec = Record.open(out)
    assert rec.complete and rec.edited() == []
    assert {'majority', 'thumbnail', 'random'} <= set(rec.metrics().arm) and {'auc', 'purity', 'silhouette'} <= set(rec.metrics().metric)


@pytest.mark.slow
def test_arrays_are_saved_with_their_ids(planted):
    from cxr_ssl.interpret.embedding import Spaces
    spaces, flat = Spaces.load(planted[0] / 'embeddings.npz'), pd.read_parquet(planted[0] / 'pictures.parquet')
    assert len(spaces) == 120 and set(spaces.x) == {'thumbnail', 'random'}
    for _, d in flat.groupby(['encoder', 'picture']): assert d.id.tolist() == spaces.rows.id.tolist() and np.isfinite(d[['x', 'y']]).all(axis=None)


@pytest.mark.slow
def test_a_planted_letter_raises_the_banner_in_the_report(planted):
    html = (planted[0] / 'report.html').read_text()
    assert 'WARNING' in html and 'Viral' in html and 'without lungs' in html
    t = pd.read_csv(planted[0] / 'parts.csv').set_index(['part', 'label'])
    assert t.flagged['background', 'Viral'] and t.flagged['edge', 'Viral']


@pytest.mark.slow
def test_without_a_shortcut_there_is_no_banner(tmp_path):
    out, err = (p := run(tmp_path, *WORDS, 'options={n: 120, size: 64}', 'permutations=99', 'out=b')).communicate()
    assert p.returncode == 0, out + err
    assert 'WARNING' not in (tmp_path / 'b' / 'report.html').read_text()
    t = pd.read_csv(tmp_path / 'b' / 'parts.csv')
    assert not t.flagged[t.part.isin(['background', 'edge'])].any()


@pytest.mark.slow
def test_the_explorer_needs_no_network(planted):
    html = (planted[0] / 'explorer.html').read_text()
    assert 'http' not in html and 'src="data:image/jpeg;base64,' in html
    data = json.loads(html.split('id="data">')[1].split('</script>')[0])
    assert len(data['pictures']) == 4 and all(len(z) == 120 for z in data['pictures'].values()) and 'patient' not in data['facts']


@pytest.mark.slow
def test_an_encoder_that_knows_the_images_is_refused(tmp_path):
    from cxr_ssl.data.sources import read_source
    from cxr_ssl.data.splits import save_seen
    from cxr_ssl.encoders import encoder, export_encoder
    m = read_source('phantom', n=60, size=64)
    (tmp_path / 'known').mkdir()
    export_encoder(encoder('small_cnn', size=32, seed=0), tmp_path / 'known', method='none', data_hash=m.hash)
    save_seen(tmp_path / 'known', m, m.ids[:30])
    out, err = (p := run(tmp_path, *WORDS[:-2], 'encoders=known', 'options={n: 60, size: 64}', 'out=c')).communicate()
    assert p.returncode != 0 and 'have seen' in out + err and not (tmp_path / 'c' / 'embeddings.npz').exists()


@pytest.mark.slow
def test_umap_repeats_itself():
    from cxr_ssl.interpret.embedding import picture_measures, project
    g = np.random.default_rng(0)
    x = np.concatenate([g.normal(size=(60, 8)), g.normal(size=(60, 8)) + 6])
    a, b = project(x, 'umap', seed=3), project(x, 'umap', seed=3)
    assert np.array_equal(a, b) and a.shape == (120, 2) and np.abs(project(x, 'umap', seed=4) - a).max() > .1
    assert picture_measures(x, a)['trustworthiness'] > .8


@pytest.mark.slow
def test_memory_stays_bounded_for_a_hundred_thousand_images():
    "Measured in a process of its own: all pairs alone would be 40 GB."
    code = '''
import resource, numpy as np
from cxr_ssl.interpret.embedding import cka, cluster_measures, precision_at, picture_measures
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = np.random.default_rng(0).normal(size=(100_000, 64)).astype(np.float32); who = np.arange(100_000) // 2; y = who % 4
p = precision_at(x, y, who, ks=(1, 10), limit=500, n_boot=100)
m = cluster_measures(x, y, who, limit=1000, permutations=19, n_boot=100)
v, t = cka(x, x[:, :32]), picture_measures(x, x[:, :2], limit=1000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024, m.n[0], round(v, 2))
'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    used, n, _ = out.stdout.split()
    assert int(used) < 500 and int(n) == 1000, out.stdout
