"""Package metadata come from `settings.ini`; the experiments in `nbs/experiments` are shipped beside the modules."""
from configparser import ConfigParser
from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']


class BuildWithExperiments(build_py):
    "Copies the experiment notebooks into the package, so that `cxr_run` finds them when installed from a wheel."

    def run(self):
        super().run()
        if not self.editable_mode:
            copytree(here / 'nbs' / 'experiments', Path(self.build_lib) / cfg['lib_name'] / 'experiments',
                     dirs_exist_ok=True, ignore=ignore_patterns('.ipynb_checkpoints', '__pycache__', 'runs'))


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='MIT',
    license_files=['LICENSE'],
    packages=find_packages(include=['cxr_ssl', 'cxr_ssl.*']),
    package_data={'cxr_ssl': ['sample/**/*']},
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={'dev': cfg['dev_requirements'].split()},
    entry_points={'console_scripts': cfg['console_scripts'].split()},
    cmdclass={'build_py': BuildWithExperiments},
    zip_safe=False,
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
    ],
)
