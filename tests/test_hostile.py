"Hostile input: whatever is bad ends in an error or a quarantine line that names it, and whatever is good passes."
import os
import shutil
import signal
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import hostile
from hostile import GROUPS, Case

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='memory is measured in /proc')


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    "What came of every case: a row each."
    folder = tmp_path_factory.mktemp('hostile')
    yield pd.DataFrame(hostile.results(folder))
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize('group', GROUPS)
def test_nothing_bad_passes_and_nothing_good_is_stopped(group, outcomes):
    found = outcomes[outcomes.group == group]
    print(f'{group}: {len(found)} cases;', ', '.join(f'{n} {k}' for k, n in Counter(found.outcome).most_common()))
    assert len(found)
    assert not [f'{r.name_}: {r.outcome}: {r.words}' for r in found[~found.good].rename(columns=dict(name='name_')).itertuples()]


@pytest.mark.slow
def test_the_corpus_is_large_and_each_case_has_its_own_name(outcomes):
    bad = outcomes[outcomes.group != 'control']
    print(f'{len(bad)} bad, {len(outcomes) - len(bad)} good:', dict(Counter(bad.outcome)))
    assert len(bad) >= 300 and not outcomes.duplicated(['group', 'name']).any()
    assert bad.outcome.isin(('refused', 'quarantined')).mean() > .7, 'most of the corpus is bad, not merely odd'


def test_the_corpus_is_the_same_each_time(tmp_path):
    few = [c for c in hostile.cases() if c.group in ('truncated', 'dicom')][:40]
    for folder in 'ab':
        for c in few: c.folder(tmp_path / folder).mkdir(parents=True, exist_ok=True); c.write(c.folder(tmp_path / folder))
    files = sorted(p.relative_to(tmp_path / 'a') for p in (tmp_path / 'a').rglob('*') if p.is_file())
    assert len(files) >= 39 and all((tmp_path / 'a' / f).read_bytes() == (tmp_path / 'b' / f).read_bytes() for f in files)


@pytest.mark.parametrize('name, decode, outcome', [
    ('half a picture passes for a whole one', lambda p: np.zeros((40, 48), np.uint8), 'wrong'),
    ('another error than ours', lambda p: 1 / 0, 'crashed'),
    ('an error that does not say which file', lambda p: fault('bad picture'), 'unnamed'),
    ('an error as long as the file', lambda p: fault(f'{p}: ' + 'x' * 10_000), 'wordy'),
    ('memory without end', lambda p: np.ones((200, 1 << 20), np.uint8)[:40, :48], 'memory'),
])
def test_the_net_has_no_hole(tmp_path, monkeypatch, name, decode, outcome):
    "Careless readers are found out."
    monkeypatch.setattr('cxr_ssl.data.images.decode', decode)
    monkeypatch.setattr(hostile, 'MEMORY', 100)
    case = next(c for c in hostile.cases() if c.file.startswith('grey-') and c.file.endswith('.png'))
    assert hostile.outcome(case, tmp_path)[0] == outcome


def fault(words):
    from cxr_ssl.core import DataError
    raise DataError(words)


def test_a_case_that_hangs_or_dies_is_told_from_the_rest(tmp_path, monkeypatch):
    "A new process goes on behind it."
    reads = dict(refused=lambda case, folder: fault('x.png'), hung=lambda case, folder: time.sleep(60), died=lambda case, folder: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(hostile, 'READ', reads)
    kinds = ['refused', 'hung', 'refused', 'died', 'refused']
    lines = hostile.survey([Case('drill', f'{i}', kind, lambda folder: None, 'x.png') for i, kind in enumerate(kinds)], tmp_path, seconds=.5)
    assert [(o['name'], o['outcome']) for o in lines] == [(f'{i}', kind) for i, kind in enumerate(kinds)]
