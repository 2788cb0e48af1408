"Every file of settings is taken whole by an experiment, and makes the method it names."
import pytest
import yaml
from conftest import EXPERIMENTS, NBS

FILES = sorted((NBS / 'experiments' / 'params').glob('*.yaml'))
named = pytest.mark.parametrize('file', FILES, ids=lambda p: p.stem)


def taken_by(page, settings):
    "Its parameters with types, or None: papermill only warns about an unknown key."
    from cxr_ssl.core import ParameterError
    from cxr_ssl.run import check_parameters, experiment_parameters
    try: return check_parameters(page.stem, experiment_parameters(page), settings)
    except ParameterError: return None


@named
def test_an_experiment_takes_it(file):
    settings = yaml.safe_load(file.read_text())
    assert settings and any(taken_by(page, settings) == settings for page in EXPERIMENTS), 'unknown or ill-typed: 1e-2 is text in YAML'
    assert file.read_text().startswith('# '), 'says what it is for'


@named
def test_it_makes_its_method(file):
    from cxr_ssl.encoders import encoder
    from cxr_ssl.optimise import optimizer
    from cxr_ssl.pretrain.methods import make_method
    settings = yaml.safe_load(file.read_text())
    if 'method' not in settings: pytest.skip('trains no method')
    net = encoder(settings.get('encoder', 'resnet18'), size=64, seed=0)
    method = make_method(settings['method'], net, size=64, **(yaml.safe_load(settings.get('settings', '')) or {}))
    change = yaml.safe_load(settings.get('views', '')) or {}
    method.recipe.change(**{k: v for k, v in change.items() if k != 'without'}).without(*change.get('without', []))
    optimizer(settings.get('optimise', 'adamw'))
    assert settings.get('schedule', 'one_cycle') in ('one_cycle', 'cosine')
    assert not settings.get('chunk') or settings['batch_size'] % settings['chunk'] == 0
