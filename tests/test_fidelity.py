"Scores of generated images: the same numbers as pytorch-fid and torch-fidelity, weights that are found or missed, and memory that does not grow."
import time
import tracemalloc
import warnings
from unittest.mock import patch

import numpy as np
import pytest
import torch

from cxr_ssl.core import DataError, WeightsError, hash_file
from cxr_ssl.gan import fidelity
from cxr_ssl.gan.fidelity import ClassShares, Gaussian, _mmd, _subsets, describe, find_extractors, fidelity_report, frechet, kid, manifold, of_inception


@pytest.fixture
def features():
    g = np.random.default_rng(0)
    turn = g.normal(size=(48, 48)) / 7
    return np.maximum(g.normal(size=(300, 48)) @ turn, 0), np.maximum(g.normal(.1, 1.2, size=(260, 48)) @ turn, 0)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "A file with the keys and shapes of pytorch-fid's Inception."
    import pytorch_fid.inception as pf
    with patch.object(pf, 'load_state_dict_from_url', lambda *a, **k: None), patch.object(torch.nn.Module, 'load_state_dict', lambda *a, **k: None):
        torch.manual_seed(0)
        net = pf.fid_inception_v3()
    file = tmp_path_factory.mktemp('hub') / 'hub' / 'checkpoints' / 'pt_inception-2015-12-05-6726825d.pth'
    file.parent.mkdir(parents=True)
    torch.save(net.state_dict(), file)
    return file


def images(n, side=48, seed=0):
    g = np.random.default_rng(seed)
    return [g.integers(0, 256, (side, side)).astype(np.uint8) for _ in range(n)]


def test_frechet_distance_is_that_of_pytorch_fid_and_of_torch_fidelity(features):
    torch_fidelity = pytest.importorskip('torch_fidelity.metric_fid')
    from pytorch_fid.fid_score import calculate_frechet_distance
    a, b = features
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        theirs = calculate_frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
        stats = [torch_fidelity.fid_features_to_statistics(torch.tensor(x)) for x in features]
        other = torch_fidelity.fid_statistics_to_metric(*stats, verbose=False)['frechet_inception_distance']
    assert frechet(a, b) == pytest.approx(theirs, rel=1e-7) and frechet(a, b) == pytest.approx(other, rel=1e-7)
    assert frechet(a, a) < 1e-10


@pytest.mark.parametrize('d', [1, 3, 40])
def test_frechet_distance_of_gaussians_that_are_known(d):
    g = np.random.default_rng(d)
    m, s, t = g.normal(size=d), g.uniform(.1, 2, d), g.uniform(.1, 2, d)
    turn = np.linalg.qr(g.normal(size=(d, d)))[0]
    cov = lambda s: turn @ np.diag(s ** 2) @ turn.T
    assert frechet((m, cov(s)), (np.zeros(d), cov(t))) == pytest.approx((m ** 2).sum() + ((s - t) ** 2).sum(), rel=1e-9)
    assert frechet((m, np.zeros((d, d))), (np.zeros(d), cov(t))) == pytest.approx((m ** 2).sum() + (t ** 2).sum(), rel=1e-9), 'a single point'


def test_a_collapsed_generator_has_a_finite_distance():
    a = np.random.default_rng(0).normal(size=(100, 10))
    same = np.repeat(a[:1], 50, axis=0)
    assert frechet(a, same) == pytest.approx(((a.mean(0) - a[0]) ** 2).sum() + np.trace(np.cov(a.T)), rel=1e-6)


def test_the_sums_do_not_cancel():
    x = np.random.default_rng(0).normal(1e6, 1, (5000, 4))
    g = Gaussian(4)
    for part in np.array_split(x, 61): g.update(part.astype(np.float64))
    assert np.allclose(g.cov, np.cov(x.T), rtol=1e-6)


def test_kernel_distance_is_that_of_torch_fidelity(features):
    theirs = pytest.importorskip('torch_fidelity.metric_kid')
    a, b = features
    sets = [_subsets(np.arange(len(x)), 100, 20, np.random.default_rng(i)) for i, x in enumerate(features)]
    ours = _mmd(a, sets[0], b, sets[1])
    assert ours == pytest.approx([theirs.kernel_mmd(a[u == 1], b[v == 1]) for u, v in zip(sets[0].T, sets[1].T)], rel=1e-7)
    drawn = theirs.kid_features_to_metric(torch.tensor(a), torch.tensor(b), kid_subsets=100, kid_subset_size=130, rng_seed=1, verbose=False)
    value, low, high = kid(a, b)
    assert low < drawn['kernel_inception_distance_mean'] < high and value == pytest.approx(drawn['kernel_inception_distance_mean'], rel=.1)


def test_the_subsets_are_whole_patients():
    who = np.repeat(np.arange(50), 4)
    sets = _subsets(who, 100, 30, np.random.default_rng(0))
    assert (sets.sum(0) == 100).all() and len({tuple(s) for s in sets.T}) == 30
    per = sets.reshape(50, 4, 30).sum(1)
    assert np.isin(per, (0, 4)).all()


def test_precision_and_recall_are_those_of_torch_fidelity(features):
    theirs = pytest.importorskip('torch_fidelity.metric_prc')
    real, fake = features
    found = theirs.prc_features_to_metric(torch.tensor(fake), torch.tensor(real), prc_neighborhood=3, verbose=False)
    ours = manifold(real, fake)
    assert [ours['precision'].mean(), ours['recall'].mean()] == pytest.approx([found['precision'], found['recall']], abs=1e-6)


def test_density_and_coverage_as_defined(features):
    real, fake = features[0][:60], features[1][:50]
    d = np.linalg.norm(real[:, None] - real, axis=2)
    radius = np.sort(d, 1)[:, 5]  # the first is the image itself
    cross = np.linalg.norm(real[:, None] - fake, axis=2)
    ours = manifold(real, fake)
    assert ours['density'].mean() == pytest.approx((cross < radius[:, None]).sum(0).mean() / 5)
    assert ours['coverage'].mean() == pytest.approx((cross.min(1) < radius).mean())


def test_inception_score_is_that_of_torch_fidelity():
    theirs = pytest.importorskip('torch_fidelity.metric_isc')
    logits = torch.randn(400, 30, generator=torch.Generator().manual_seed(0)) * 2
    for splits in (1, 10):
        order = np.concatenate([np.arange(i, 400, splits) for i in range(splits)])  # they cut, we deal
        found = theirs.isc_features_to_metric(logits[order], splits, shuffle=False)
        ours = ClassShares(30, splits)
        for part in logits.split(37): ours.update(part)
        assert ours.score()[0] == pytest.approx(found['inception_score_mean'], rel=1e-6)


def test_inception_is_that_of_pytorch_fid_and_is_found_in_the_cache(weights, monkeypatch):
    import pytorch_fid.inception as pf
    monkeypatch.setenv('TORCH_HOME', str(weights.parents[2]))
    monkeypatch.setattr('urllib.request.urlopen', lambda *a, **k: pytest.fail('the network was asked'))
    x = torch.from_numpy(np.stack(images(3)))
    ours, logits = of_inception(device='cpu').run(x.numpy())
    theirs = pf.InceptionV3([3], resize_input=False).eval()
    same = theirs((fidelity.to_inception(x) + 1) / 2)[0].flatten(1)
    assert np.abs(ours - same.numpy()).max() < 1e-4 * np.abs(ours).max()
    full = torch.load(weights, weights_only=True)
    assert torch.allclose(logits, torch.from_numpy(ours) @ full['fc.weight'].T, rtol=1e-3, atol=1e-3)


def test_only_the_published_weights_make_an_fid(weights, monkeypatch):
    other = of_inception(weights, 'cpu')
    assert not other.fid and 'FID' not in other.called('Fréchet distance') and 'inception ' in other.called('KID')
    monkeypatch.setattr(fidelity, 'FID_WEIGHTS', f'https://example.org/pt_inception-{hash_file(weights)[:8]}.pth')
    true = of_inception(weights, 'cpu')
    assert true.fid and [true.called(w) for w in ('Fréchet distance', 'KID', 'Inception score')] == ['FID', 'KID', 'Inception score']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        table = fidelity_report((images(12), ['a'] * 12), (images(12, seed=1), ['a'] * 12), inception=weights, device='cpu')
    rows = table[table['class'] == 'all'].set_index('metric')
    assert np.isnan(rows.value['FID']) and '12 images are too few for the covariance of 2048 features' in rows.reason['FID'] and 'KID' in rows.reason['FID']
    assert rows.value['Inception score'] >= 1 and rows.floor['Inception score'] >= 1 and np.isfinite(rows.value['KID'])
    assert '299' in rows.how['FID'] and '48 px' in rows.how['FID'] and '8 bit' in rows.how['FID'] and rows.n_fake['FID'] == 12


def test_weights_that_cannot_be_had_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr('urllib.request.urlopen', lambda *a, **k: pytest.fail('the network was asked'))
    start = time.monotonic()
    with pytest.raises(WeightsError, match='name the file with inception='): of_inception()
    with pytest.raises(WeightsError, match='nothing.pth'): find_extractors(inception=tmp_path / 'nothing.pth')
    with pytest.warns(UserWarning, match='no FID and no Inception score'): looks = find_extractors()
    assert time.monotonic() - start < 2 and [e.run is None for e in looks] == [False, True]
    table = fidelity_report(describe(images(12), ['a'] * 12, extractors=looks), describe(images(9, seed=1), ['a'] * 9, extractors=looks))
    assert table.value[table.extractor.str.startswith('pixels')].notna().all()
    lost = table[table.extractor == 'Inception 2015-12-05']
    assert lost.value.isna().all() and lost.reason.str.contains('are not at').all()


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / 'w.pth').write_bytes(b'nothing of the kind')
    with pytest.raises(WeightsError, match='w.pth does not hold the Inception'): of_inception(tmp_path / 'w.pth', 'cpu')


def test_memory_does_not_grow_with_the_number_of_images():
    def peak(n):
        g = np.random.default_rng(0)
        stream = (g.integers(0, 256, (64, 64), np.uint8) for _ in range(n))
        labels = np.array(['a', 'b'] * (n // 2))
        tracemalloc.start()
        side = describe(stream, labels, extractors=[fidelity.Extractor('mean', 8, '', lambda x: np.stack(x).reshape(len(x), 8, -1).mean(2))], most=500)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert side.seen['mean'].gaussian('all').n == n and len(side.seen['mean'].rows) == 500
        return found
    small, large = peak(2000), peak(20000)
    assert large - small < 18000 * 512, 'names grow, images of 4096 bytes do not stay'


@pytest.mark.parametrize('labels,patients,bad,what', [
    (['a'] * 3, None, lambda x: x[:2], '2 images, but 3 labels'),
    (['a'] * 3, None, lambda x: [*x[:2], x[0][:10]], 'image 2 has 48×10 pixels'),
    (['a'] * 3, None, lambda x: [*x[:2], x[0][:10, :10]], 'image 2 has 10 pixels on a side'),
    (['a'] * 3, None, lambda x: [i.astype(float) for i in x], 'not grey and uint8'),
    (['a'] * 3, ['p'], lambda x: x, '1 patients for 3 labels'),
    ([], None, lambda x: [], 'no images')])
def test_bad_sides_are_refused(labels, patients, bad, what):
    with pytest.raises(DataError, match=what): describe(bad(images(3)), labels, patients)


def test_a_class_of_one_is_undefined_with_a_reason():
    table = fidelity_report((images(12), ['a'] * 11 + ['b']), (images(12, seed=1), ['a'] * 11 + ['b']), inception='none')
    rows = table[table['class'] == 'b']
    assert rows.value.notna().all() and (rows.metric == 'nearer than real (pixels 32×32)').all(), 'one generated image can be a copy'
    from cxr_ssl.encoders import encoder
    table = fidelity_report((images(12), ['a'] * 11 + ['b']), (images(12, seed=1), ['a'] * 11 + ['b']), {'tiny': encoder('small_cnn', size=32, seed=0)}, 'none')
    rows = table[(table['class'] == 'b') & (table.extractor == 'tiny') & ~table.metric.str.startswith('nearer')]
    assert len(rows) == 6 and rows.value.isna().all() and rows.reason.ne('').all()
