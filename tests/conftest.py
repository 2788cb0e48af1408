"Shared by all tests: where things are, and an environment that reaches for no network, no screen and one thread each."
import os
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE='1', MPLBACKEND='agg', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / 'nbs'
LIBRARY = sorted(NBS.glob('[0-9]*.ipynb'))
EXPERIMENTS = sorted((NBS / 'experiments').glob('[0-9]*.ipynb'))
RESULTS = sorted((NBS / 'results').glob('*.ipynb'))
PAGES = [*LIBRARY, *EXPERIMENTS, *RESULTS, NBS / 'index.ipynb']
