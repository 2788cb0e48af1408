"How the notebooks are kept: clean, tagged, small, without errors or secrets in them, and each page tests itself."
import ast
import copy
import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import EXPERIMENTS, LIBRARY, NBS, PAGES, RESULTS, ROOT

ids = dict(ids=lambda p: p.stem)


def cells(page): return json.loads(page.read_text())['cells']
def text(cell): return ''.join(cell['source'])


@pytest.mark.parametrize('page', PAGES, **ids)
def test_cleaning_changes_nothing(page):
    from execnb.nbio import read_nb
    from nbdev.clean import clean_nb
    nb = read_nb(page)
    before = copy.deepcopy(json.loads(json.dumps(nb)))
    clean_nb(nb, allowed_cell_metadata_keys=['tags'], clean_ids=True)
    assert json.loads(json.dumps(nb)) == before, 'run nbdev_clean'


@pytest.mark.parametrize('page', PAGES, **ids)
def test_saved_outputs_are_small_and_free_of_errors(page):
    assert page.stat().st_size < 1_500_000, 'saved outputs are too large for a page'
    for c in cells(page):
        for out in c.get('outputs', []):
            assert out['output_type'] != 'error', f'a saved error in {page.name}: {out.get("ename")}'
            shown = ''.join(out.get('text', [])) if out['output_type'] == 'stream' else ''
            assert 'Warning' not in shown or 'warn' in text(c).lower(), f'a saved warning in {page.name}: {shown[:200]}'


@pytest.mark.parametrize('page', PAGES, **ids)
def test_opens_with_a_title_and_a_promise(page):
    lines = text(cells(page)[0]).splitlines()
    assert lines[0].startswith('# ') and any(line.startswith('> ') for line in lines)


@pytest.mark.parametrize('page', LIBRARY, **ids)
def test_imports_of_the_package_stand_alone_in_their_cell(page):
    "nbdev runs cells that import the package when it makes the site; other code in them would run without what came before."
    for c in cells(page):
        if c['cell_type'] != 'code' or text(c).startswith(('%', '!')): continue
        body = ast.parse(text(c)).body
        ours = [n for n in body if isinstance(n, ast.ImportFrom) and (n.module or '').startswith('cxr_ssl')]
        assert not ours or all(isinstance(n, (ast.Import, ast.ImportFrom, ast.Try)) for n in body), text(c)


@pytest.mark.parametrize('page', LIBRARY, **ids)
def test_library_page_tests_itself_and_shows_a_failing_case(page):
    code = '\n'.join(text(c) for c in cells(page) if c['cell_type'] == 'code')
    assert len(re.findall(r'^\s*(?:assert\b|test_\w+\()', code, re.M)) >= 3
    assert 'test_fail(' in code or 'ExceptionExpected' in code


@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_experiment_has_one_parameters_cell_and_defines_nothing(page):
    tagged = [c for c in cells(page) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1
    first = next(c for c in cells(page) if c['cell_type'] == 'code')
    assert tagged[0]['source'] == first['source'], 'parameters come first'
    for line in text(tagged[0]).splitlines():
        assert re.match(r'\w+: (str|int|float|bool|list\[(str|int|float)\]) = .+ # .+', line), f'a parameter needs a type, a default and a comment: {line}'
    for c in cells(page):
        if c['cell_type'] == 'code':
            assert '#|' not in text(c), 'papermill ignores directives'
            assert not re.search(r'^\s*(def|class) ', text(c), re.M), 'an experiment defines nothing'


@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_cxr_run_can_read_the_parameters(page):
    from cxr_ssl.run import experiment_parameters, find_experiment, question
    assert find_experiment(page.stem) == page and question(page)
    assert all(p.comment for p in experiment_parameters(page).values())


@pytest.mark.parametrize('page', EXPERIMENTS, **ids)
def test_experiment_is_listed_in_the_sidebar(page):
    assert f'experiments/{page.name}' in (NBS / 'sidebar.yml').read_text()


@pytest.mark.parametrize('page', RESULTS, **ids)
def test_page_of_results_is_listed_and_types_no_number_into_code(page):
    assert f'results/{page.name}' in (NBS / 'sidebar.yml').read_text()
    for c in cells(page):
        if c['cell_type'] == 'code': assert not re.search(r'\b0?\.\d{3}', text(c)), f'a number in code, not from a Record: {text(c)}'


PUBLISHED = sorted(p.parent for p in (NBS / 'results').rglob('params.json'))


@pytest.mark.parametrize('folder', PUBLISHED, ids=lambda p: p.name)
def test_command_of_a_published_record_asks_for_its_parameters(folder):
    "As the experiments are today; what the command leaves to the defaults has not moved since."
    from cxr_ssl.record import Record
    from cxr_ssl.run import _settings, check_parameters, experiment_parameters, find_experiment
    record = Record.open(folder)
    known = experiment_parameters(find_experiment(record.experiment))
    default = {k: list(p.default) if isinstance(p.default, tuple) else p.default for k, p in known.items()}
    asked = check_parameters(record.experiment, known, _settings(shlex.split(record.environment['command'])[2:]))
    assert default | asked == default | record.params


@pytest.mark.parametrize('folder', PUBLISHED, ids=lambda p: p.name)
def test_published_record_is_as_the_run_left_it(folder):
    "Weights, embeddings and single drawn images may have been taken away; nothing else may be missing, changed or added."
    from cxr_ssl.record import Record
    record = Record.open(folder)
    assert record.complete and [f for f in record.edited() if (folder / f).exists() or not {Path(f).stem, Path(f).parts[0]} & {'encoder', 'classifier', 'generator', 'embeddings', 'samples', 'grids', 'overlays'}] == []
    assert len(record.metrics())


def test_no_secret_and_no_foreign_path_in_the_tree():
    "Keys typed into cells, and paths that exist on one machine only."
    bad = re.compile(r'AKIA[0-9A-Z]{16}|KAGGLE_KEY\s*=\s*\S|ghp_[A-Za-z0-9]{30}|-----BEGIN [A-Z ]*PRIVATE KEY|/home/\w+/|/root/|/work/|C:\\\\Users')
    files = [p for pat in ('nbs/**/*.ipynb', 'nbs/**/*.y*ml', 'nbs/results/**/*.json', 'cxr_ssl/**/*.py', '*.md', '*.ini', '*.py', '*.yml') for p in ROOT.glob(pat)]
    found = [f'{p.relative_to(ROOT)}: {m.group()}' for p in files for m in [bad.search(p.read_text())] if m]
    assert not found


def test_nothing_is_read_by_unpickling():
    "Unpickling runs whatever a file says. One explicit converter may call torch.load, with weights_only=True."
    bad = re.compile(r'\b[pP]ickle\.(?!UnpicklingError)|\bjoblib\b|pd\.read_pickle|allow_pickle=True|torch\.load\((?!.*weights_only=True)|np\.load\((?!.*allow_pickle=False|.*mmap_mode)')
    found = [f'{p.relative_to(ROOT)}: {line.strip()}' for p in (ROOT / 'cxr_ssl').rglob('*.py')
             for line in p.read_text().splitlines() if bad.search(line.split('#')[0]) and '"""' not in line]
    assert not found
