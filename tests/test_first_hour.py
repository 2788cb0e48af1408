"The commands of the first hour, as they stand on their page, one after the other in an empty folder with somebody's images."
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import NBS

PAGE = NBS / 'results' / 'first_hour.ipynb'


def commands():
    "Lines of the page's blocks of shell, without the installation and the quickstart, which other tests run."
    text = '\n'.join(''.join(c['source']) for c in json.loads(PAGE.read_text())['cells'] if c['cell_type'] == 'markdown')
    lines = [l for block in re.findall(r'```bash\n(.*?)```', text, re.S) for l in block.splitlines()]
    return [l for l in lines if l.startswith('cxr_') and 'quickstart' not in l]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with some of the sample's children as `xrays/normal` and `xrays/pneumonia`, without masks and patients."
    from cxr_ssl.data.sources import read_source
    here = tmp_path_factory.mktemp('hour')
    manifest = read_source('sample')
    t = manifest.table.assign(id=manifest.ids)
    for name, rows in dict(normal=t[t.Normal == 1], pneumonia=t[(t.Bacterial == 1) | (t.Viral == 1)]).items():
        (here / 'xrays' / name).mkdir(parents=True)
        for i, r in enumerate(rows.head(140).itertuples()):
            file = Path(manifest.path(r.id))
            shutil.copy(file, here / 'xrays' / name / (f'{i:03}{file.suffix}' if i else f'first{file.suffix}'))
    return here


@pytest.mark.slow
def test_each_command_does_what_it_says(place):
    listed = commands()
    assert [l.split()[0] for l in listed] == ['cxr_data', *['cxr_run'] * 5, 'cxr_predict', 'cxr_launch']
    for line in listed:
        word, *rest = line.replace('first.png', next((place / 'xrays/pneumonia').glob('first.*')).name).split(maxsplit=1)
        tool = Path(sys.executable).with_name(word)
        out = subprocess.run(f'{tool} {rest[0]}', shell=True, cwd=place, capture_output=True, text=True)
        assert out.returncode == 0, f'{line}\n{out.stdout[-2000:]}{out.stderr[-2000:]}'
        if word == 'cxr_run': assert (place / re.search(r'out=(\S+)', line)[1] / 'report.html').stat().st_size > 10_000, line
        if word == 'cxr_predict': assert 'pneumonia' in out.stdout and 'not for diagnosis' in out.stdout + out.stderr
    found = pd.read_csv(place / 'runs/compare/figures/differences.csv')
    assert set(found.arm_a) | set(found.arm_b) == {'scratch', 'simclr'} and found.value.notna().all()
    assert (place / 'runs/explain/figures/grid_1.png').is_file(), 'a folder without masks has maps all the same'
    assert len(list((place / 'runs/finetuned').glob('*.md'))) >= 1, 'the card lies in the run'


def test_the_commands_left_to_the_end_are_known():
    "The way on that the page points to begins, with everything it is given."
    from cxr_ssl.run import experiment_parameters, find_experiment
    text = PAGE.read_text()
    for name, words in re.findall(r'`cxr_run (\w+) ([^`]*)`', text):
        known = set(experiment_parameters(find_experiment(name)))
        assert set(re.findall(r'(?:^| )(\w+)=', words)) <= known, name
    for name in re.findall(r'-f (\w+)', text): assert (NBS / 'experiments/params' / f'{name}.yaml').is_file(), name
