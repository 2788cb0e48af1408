"The documentation: public names are documented, the site's configuration is sound, every page renders."
import ast
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import LIBRARY, NBS, PAGES, ROOT

MODULES = [ROOT / 'cxr_ssl' / (nb.stem.split('_', 1)[1].replace('.', '/') + '.py') for nb in LIBRARY]
HOOK = re.compile(r'_|forward$|before_|after_')  # private, or called by torch and fastai, which say what they are


def public(tree):
    "Public functions, methods and classes of a module, as (name, node)."
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'):
            yield node.name, node
            for sub in getattr(node, 'body', []) if isinstance(node, ast.ClassDef) else []:
                if isinstance(sub, ast.FunctionDef) and not HOOK.match(sub.name): yield f'{node.name}.{sub.name}', sub


@pytest.mark.parametrize('module', MODULES, ids=lambda p: p.stem)
def test_public_names_have_docstrings(module):
    bare = [name for name, node in public(ast.parse(module.read_text())) if not ast.get_docstring(node)]
    assert not bare


@pytest.mark.parametrize('module', MODULES, ids=lambda p: p.stem)
def test_parameters_have_docments(module):
    source = module.read_text()
    lines, bare = source.splitlines(), []
    for name, node in public(ast.parse(source)):
        inits = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == '__init__'] if isinstance(node, ast.ClassDef) else [node]
        for f in inits:
            args = [a for a in f.args.posonlyargs + f.args.args + f.args.kwonlyargs if a.arg not in ('self', 'cls')]
            args = [a for a in args if '# ' not in lines[a.lineno - 1] and not (a is args[0] and a.lineno == f.lineno and a.annotation is not None)]
            bare += [f'{name}({a.arg})' for a in args]
    assert not bare


def test_quarto_configuration_parses_and_is_one_file():
    config = yaml.safe_load((ROOT / '_quarto.yml').read_text())
    assert config['project']['type'] == 'website' and config['metadata-files'] == ['nbdev.yml', 'sidebar.yml']
    assert (NBS / '_quarto.yml').resolve() == (ROOT / '_quarto.yml').resolve()
    for file in (config['format']['html']['css'], config['website']['favicon'], config['website']['image']): assert (NBS / file).is_file()


def test_sidebar_names_every_page_once():
    def targets(items):
        for item in items: yield from targets(item['contents']) if isinstance(item, dict) else [item]
    listed = list(targets(yaml.safe_load((NBS / 'sidebar.yml').read_text())['website']['sidebar']['contents']))
    assert sorted(listed) == sorted(p.relative_to(NBS).as_posix() for p in PAGES)


def test_readme_is_the_index_page():
    out = subprocess.run([sys.executable, ROOT / '.ci' / 'readme', '--check'], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr


@pytest.mark.slow
def test_pages_render_to_html(tmp_path):
    "nbdev's own processing, then nbconvert; the site itself is rendered by Quarto from the same processed pages."
    copy = tmp_path / 'project'
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns('.git', 'sample', 'runs', '_proc', '_docs', '*.egg-info', 'venv', '.venv', 'build'))
    subprocess.run([sys.executable, '-c', 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=0)'], cwd=copy, check=True)
    made = [copy / '_proc' / p.relative_to(NBS) for p in PAGES]
    assert all(p.is_file() for p in made)
    subprocess.run([sys.executable, '-m', 'nbconvert', '--to', 'html', '--output-dir', str(tmp_path / 'html'), *map(str, made)], check=True, capture_output=True)
    for p in PAGES:
        html = (tmp_path / 'html' / f'{p.stem}.html').read_text()
        headings = re.findall(r'^## ([\w ,]+)$', '\n'.join(''.join(c['source']) for c in json.loads(p.read_text())['cells'] if c['cell_type'] == 'markdown'), re.M)
        assert len(html) > 10_000 and [h for h in headings if h not in html] == [], f'{p.name} lost a section'


def anchors(page):
    "What pandoc makes of the headings of a page."
    heads = re.findall(r'^#{1,6} +(.+?) *$', '\n'.join(''.join(c['source']) for c in json.loads(page.read_text())['cells'] if c['cell_type'] == 'markdown'), re.M)
    return {re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h.replace('`', '')).strip().lower()).lstrip('0123456789.-_') for h in heads}


@pytest.mark.parametrize('page', [*PAGES, *ROOT.glob('*.md')], ids=lambda p: p.stem)
def test_links_inside_the_tree_lead_somewhere(page):
    "Pages and pictures that are linked to exist, and so do the headings."
    text = page.read_text() if page.suffix == '.md' else '\n'.join(''.join(c['source']) for c in json.loads(page.read_text())['cells'] if c['cell_type'] == 'markdown')
    lost = []
    for link in re.findall(r'\]\((?!https?:|mailto:)([^)\s]+)\)', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)):
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == '.ipynb' and anchor not in anchors(target)): lost.append(link)
    assert not lost
