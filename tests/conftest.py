"Shared by all tests: where things are, and an environment that reaches for no network, no screen and one thread each."
import os
import signal
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE='1', MPLBACKEND='agg', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')

# A suite that was started in the background ignores ctrl-c, and so would every command that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / 'nbs'
LIBRARY = sorted(NBS.glob('[0-9]*.ipynb'))
EXPERIMENTS = sorted((NBS / 'experiments').glob('[0-9]*.ipynb'))
RESULTS = sorted((NBS / 'results').glob('*.ipynb'))
PAGES = [*LIBRARY, *EXPERIMENTS, *RESULTS, NBS / 'index.ipynb']


def check_report(run):
    "Is the report about arms that were measured?"
    from cxr_ssl.record import DISCLAIMER, Record
    html = (run / 'report.html').read_text()
    assert DISCLAIMER in html and 'not measured' not in html
    for arm in Record.open(run).metrics().arm.unique(): assert arm in html
