"""What the page of `cxr_run` cannot show of itself: exit codes, signals, a folder that may not be written, other kernels,
and that a run that was cut off goes on. The experiment is a tiny one, written into a temporary folder."""
import json
import os
import pty
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from cxr_ssl import run

PARAMS = '''source: str = "sample"        # a registered source
root: str = ""                # its folder
stages: int = 3               # how many stages
wait: float = 0.0             # seconds in each stage
names: list[str] = ["a","b"]  # some words
flip: bool = False            # a truth value
fail: str = ""                # what to raise: fault, bug or death
device: str = "cpu"           # where to compute
seed: int = 0                 # any whole number
time_budget: int = 0          # minutes
out: str = "runs/tiny"        # the run folder'''
START = '''import os, sys, time
from pathlib import Path
from cxr_ssl.core import DataError, Status
from cxr_ssl.record import Record
rec = Record.start("tiny", globals())
Path(out, "pid").write_text(f"{os.getpid()} {sys.executable} {os.getcwd()}")'''
STAGES = '''status = Status(every=0)
for i in range(stages):
    status.update(f"stage {i+1} of {stages}")
    done = rec.checkpoints/f"{i}"
    if done.exists(): continue
    done.parent.mkdir(exist_ok=True)
    time.sleep(wait)
    rec.log("tiny", i, loss=1/(i+1+seed))
    done.write_text(str(rec.params["seed"])) # last: what is marked as done is logged'''
FAIL = '''if fail == "fault": raise DataError("labels.csv has no column 'patient'", "name the column with patient=")
if fail == "bug": 1/0
if fail == "death": os.kill(os.getpid(), 9)'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    "A folder holding the tiny experiment, as the working directory."
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [md('# Tiny\n\n> Does a run go on?'), code(PARAMS, metadata=dict(tags=['parameters'])), code(START),
             md('## Stages'), code(STAGES), md('## Failing'), code(FAIL), md('## Save'), code('rec.finish()')]
    nb = nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name='python3', language='python', display_name='python3')))
    nbformat.write(nb, tmp_path / '00_tiny.ipynb')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(line):
    return [sys.executable, '-m', 'cxr_ssl.run', '00_tiny.ipynb', *shlex.split(line)]


def env(**more):
    return dict(os.environ, PYTHONPATH=str(ROOT), **more)


def call(line, **kw):
    return subprocess.run(command(line), capture_output=True, text=True, env=env(), timeout=300, **kw)


def main(capsys, line):
    "Exit code, stdout and stderr of the command, in this process."
    code = run.main(['00_tiny.ipynb', *shlex.split(line)])
    return code, *capsys.readouterr()


def start(line, marker):
    "Start the command and wait until the file `marker` is there."
    p = subprocess.Popen(command(line), env=env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: Path(marker).exists() or p.poll() is not None)
    assert p.poll() is None, p.communicate()
    return p


def wait_for(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.05)


def kernel_pid(out='runs/tiny'):
    return int(Path(out, 'pid').read_text().split()[0])


def alive(pid):
    "Is there a process `pid` that is no zombie?"
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def tree(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).rglob('*')}


def losses(out='runs/tiny'):
    return [line.split(',')[2] for line in Path(out, 'history.csv').read_text().splitlines()[1:]]


# -- what is refused, before anything starts ---------------------------------------------------------------------------

@pytest.mark.parametrize('line, says', [
    ('stage=1', "no parameter 'stage'; did you mean 'stages'?"),
    ('stages=two', 'stages is of type int'),
    ('stages=1e2', 'stages is of type int'),
    ('wait=soon', 'wait is of type float'),
    ('flip=maybe', 'flip is of type bool'),
    ('stages', 'not of the form key=value'),
    ('--stages 2', 'without dashes'),
    ('seed=1 seed=2', 'given twice'),
    ('out=', 'out is empty'),
    ('root=/no/such/folder', 'root=/no/such/folder does not exist'),
    ('device=cuda:99', "device='cuda:99' was asked for"),
    ('device=gpu', "device='gpu' is not a device"),
    ('-f nowhere', 'there is no settings file nowhere'),
    ('out=00_tiny.ipynb', 'is a file, not a folder'),
])
def test_refused_with_one_error_and_no_trace(lab, capsys, line, says):
    before = tree(lab)
    code, out, err = main(capsys, line)
    assert code == 2 and says in err and '->' in err and 'Traceback' not in err and not out
    assert tree(lab) == before


def test_exit_codes_reach_the_shell(lab):
    bad = call('stage=1')
    assert bad.returncode == 2 and "did you mean 'stages'?" in bad.stderr and 'Traceback' not in bad.stderr
    shown = call('--help')
    assert shown.returncode == 0 and 'Does a run go on?' in shown.stdout and 'wait: float = 0.0' in shown.stdout


def test_files_come_first_and_words_win(lab):
    (lab / 'params').mkdir()
    (lab / 'params' / 'big.yaml').write_text('wait: 1e-2\nstages: 7\nnames: [x, y]\nflip: yes\n')
    (lab / 'more.yaml').write_text('stages: 8\nseed: 5\n')
    plan = run.plan_run('tiny', dict(seed='6'), ['big', 'more.yaml'], lab)
    assert (plan.params['wait'], plan.params['stages'], plan.params['seed']) == (.01, 8, 6)
    assert plan.params['names'] == ['x', 'y'] and plan.params['flip'] is True
    (lab / 'more.yaml').write_text('stage: 8\n')
    with pytest.raises(run.ParameterError, match=r"no parameter 'stage' \(in more.yaml\); did you mean 'stages'"):
        run.plan_run('tiny', {}, ['more.yaml'], lab)


def test_a_phantom_may_name_a_new_root(lab):
    assert run.plan_run('tiny', dict(source='phantom', root='new'), folder=lab).params['root'] == 'new'


def test_a_folder_that_may_not_be_written(lab, capsys):
    "Root may write anywhere, so under root another user has to try."
    open_to_all = Path(tempfile.mkdtemp())
    try:
        shutil.copy('00_tiny.ipynb', open_to_all)
        (open_to_all / 'shut').mkdir()
        for p in (open_to_all / 'shut', open_to_all):
            p.chmod(0o555)
        os.chdir(open_to_all)
        uid = os.geteuid()
        if uid == 0:
            os.seteuid(65534)
        try:
            code, out, err = main(capsys, 'out=shut/run')
        finally:
            if uid == 0:
                os.seteuid(0)
        assert code == 2 and 'cannot write shut/run: writing is not allowed' in err and 'Traceback' not in err
        assert not list(Path('shut').iterdir())
    finally:
        os.chdir(lab)
        for p in (open_to_all, open_to_all / 'shut'):
            p.chmod(0o755)
        shutil.rmtree(open_to_all)


def test_a_disk_that_fills_up(lab):
    "Files may grow to 4 kB only, so the executed notebook cannot be written."
    small = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    bad = call('', preexec_fn=small)
    assert bad.returncode == 1 and 'cannot write' in bad.stderr and 'executed.ipynb' in bad.stderr and 'Traceback' not in bad.stderr
    assert not list((lab / 'runs').rglob('*.tmp*'))


def test_experiments_are_found_in_a_clone_and_in_a_wheel(lab, monkeypatch):
    assert run.experiment_folder() == ROOT / 'nbs' / 'experiments'
    monkeypatch.setattr(run, 'repo_root', lambda: None)
    monkeypatch.setattr(run, 'package_dir', lambda: lab)
    (lab / 'experiments').mkdir()
    (lab / '00_tiny.ipynb').rename(lab / 'experiments' / '00_tiny.ipynb')
    assert run.find_experiment('tiny') == run.find_experiment('00_tiny') == lab / 'experiments' / '00_tiny.ipynb'
    assert run.main(['--list']) == 0


def test_the_command_is_installed_under_its_name():
    assert 'cxr_run=cxr_ssl.run:main' in (ROOT / 'settings.ini').read_text()


# -- what runs ---------------------------------------------------------------------------------------------------------

def test_run_then_complete_then_other_parameters(lab, capsys):
    done = call('stages=2 names=x,y')
    assert done.returncode == 0, done.stderr
    assert 'record  runs/tiny' in done.stdout and 'report' not in done.stdout and 'cell ' in done.stderr
    written = json.loads(Path('runs/tiny/params.json').read_text())
    assert written['experiment'] == 'tiny' and written['params']['names'] == ['x', 'y']
    environment = json.loads(Path('runs/tiny/environment.json').read_text())
    assert environment['command'] == 'cxr_run 00_tiny.ipynb stages=2 names=x,y' and environment['state'] == 'complete'
    pid, executable, cwd = Path('runs/tiny/pid').read_text().split()
    assert (executable, cwd) == (sys.executable, str(lab)) and not alive(int(pid))

    before = tree('runs')
    for line in ('stages=2 names=x,y', 'stages=2 names=x,y time_budget=5'):
        code, out, err = main(capsys, line)
        assert code == 0 and 'runs/tiny is complete (finished 20' in out and not err
    code, out, err = main(capsys, 'stages=2 seed=1')
    assert code == 2 and 'seed: 0 in the run, 1 asked for' in err and "names: ['x', 'y'] in the run, ['a', 'b'] asked for" in err
    assert tree('runs') == before


def test_a_fault_in_a_cell_is_told_in_its_own_words(lab, capsys):
    code, out, err = main(capsys, 'fail=fault')
    assert code == 1 and 'failed in cell 5/6: Failing' in err
    assert err.rstrip().endswith("labels.csv has no column 'patient'\n  -> name the column with patient=")
    assert 'Traceback' not in err and not alive(kernel_pid())
    statuses = [c.metadata.papermill.status for c in nbformat.read('runs/tiny/executed.ipynb', 4).cells if c.cell_type == 'code']
    assert statuses[-2:] == ['failed', 'pending']


def test_a_bug_in_a_cell_shows_the_end_of_its_traceback(lab, capsys):
    code, out, err = main(capsys, 'fail=bug')
    assert code == 1 and 'ZeroDivisionError: division by zero' in err and 'runs/tiny/executed.ipynb' in err
    assert len(err.splitlines()) < 20 and '\x1b' not in err


def test_a_kernel_that_dies_is_told_and_nothing_later_counts_as_done(lab, capsys):
    code, out, err = main(capsys, 'fail=death')
    assert code == 1 and 'the kernel died in cell 5/6: Failing' in err and 'memory' in err
    cells = nbformat.read('runs/tiny/executed.ipynb', 4).cells
    assert [c.metadata.papermill.status for c in cells[-3:]] == ['failed', 'pending', 'pending']


def test_a_kernel_that_does_not_start_says_why(lab, capsys):
    (lab / 'ipykernel_launcher.py').write_text('raise ImportError("nothing to launch")')
    code, out, err = main(capsys, '')
    assert code == 1 and 'the kernel did not start' in err and 'ImportError: nothing to launch' in err


def test_another_environments_kernel_is_not_used(lab, capsys, monkeypatch):
    spec = lab / 'share' / 'kernels' / 'python3'
    spec.mkdir(parents=True)
    (spec / 'kernel.json').write_text(json.dumps(dict(argv=['/no/such/python', '-f', '{connection_file}'], display_name='x', language='python')))
    monkeypatch.setenv('JUPYTER_PATH', str(lab / 'share'))
    assert main(capsys, 'stages=1')[0] == 0
    assert Path('runs/tiny/pid').read_text().split()[1] == sys.executable


def test_folders_with_braces_and_spaces(lab, capsys):
    assert main(capsys, '"out=runs/{a} b"')[0] == 0
    assert Path('runs/{a} b/executed.ipynb').exists()


@pytest.mark.slow
def test_plain_papermill_is_an_equal_way_in(lab):
    call('stages=1 out=runs/ours')
    subprocess.run([sys.executable, '-m', 'papermill', '00_tiny.ipynb', 'theirs.ipynb', '-p', 'stages', '1', '-p', 'out', 'runs/theirs',
                    '--no-progress-bar'], env=env(), check=True, capture_output=True)
    ours, theirs = (json.loads(Path('runs', d, 'params.json').read_text()) for d in ('ours', 'theirs'))
    assert ours['params'] | {'out': ''} == theirs['params'] | {'out': ''} and losses('runs/ours') == losses('runs/theirs')


@pytest.mark.slow
def test_on_a_terminal_the_line_changes_in_place(lab):
    host, guest = pty.openpty()
    p = subprocess.Popen(command('stages=2 wait=1.5'), env=env(COLUMNS='60'), stdout=guest, stderr=guest)
    os.close(guest)
    seen = b''
    while True:
        try:
            block = os.read(host, 4096)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        seen += block
    assert p.wait() == 0
    text = seen.decode()
    assert '\r\x1b[Kcell 4/6: Stages | stage 2 of 2' in text
    assert text.count('\n') <= 3 and 'done in' in text  # all of the progress on one line


# -- what is cut off ---------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize('sig, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_cut_off_and_gone_on(lab, sig, code):
    line = 'stages=4 wait=1'
    p = start(line, 'runs/tiny/checkpoints/1')
    pid = kernel_pid()
    p.send_signal(sig)
    out, err = p.communicate(timeout=60)
    assert p.returncode == code
    wait_for(lambda: not alive(pid), 10)
    if code > 0:
        assert 'the same command goes on: cxr_run 00_tiny.ipynb stages=4 wait=1' in err and 'Traceback' not in err and 'Task' not in err
        cells = nbformat.read('runs/tiny/executed.ipynb', 4).cells
        assert [c.metadata.papermill.status for c in cells if c.cell_type == 'code'][-3:] == ['failed', 'pending', 'pending']
    nbformat.validate(nbformat.read('runs/tiny/executed.ipynb', 4))
    assert not Path('runs/tiny/checkpoints/3').exists()
    stamp = Path('runs/tiny/checkpoints/0').stat().st_mtime_ns

    again = call(line)
    assert again.returncode == 0 and 'was begun before; going on' in again.stderr
    assert Path('runs/tiny/checkpoints/0').stat().st_mtime_ns == stamp  # what was done is not done again
    whole = call(line.replace('wait=1', 'out=runs/whole'))
    assert whole.returncode == 0 and losses() == losses('runs/whole')


@pytest.mark.slow
def test_what_an_older_version_began_goes_on(lab, capsys):
    line = 'stages=4 wait=.5'
    p = start(line, 'runs/tiny/checkpoints/1')
    pid = kernel_pid()
    p.kill()
    p.communicate(timeout=60)
    wait_for(lambda: not alive(pid), 10)
    newer = nbformat.read('00_tiny.ipynb', 4)
    newer.cells[1].source += '\nties: str = "none"            # came with the next version'
    nbformat.write(newer, '00_tiny.ipynb')

    code, _, err = main(capsys, line + ' ties=mean')
    assert code == 2 and "ties: 'none' in the run, 'mean' asked for" in err
    code, _, err = main(capsys, line)
    assert code == 0 and 'going on' in err and len(losses()) == 4
    assert json.loads(Path('runs/tiny/params.json').read_text())['params']['ties'] == 'none'
    code, out, _ = main(capsys, line)
    assert code == 0 and 'is complete' in out


@pytest.mark.slow
def test_a_second_command_in_the_same_folder_changes_nothing(lab):
    line = 'stages=2 wait=60'
    p = start(line, 'runs/tiny/checkpoints')
    try:
        before = tree('runs/tiny')
        second = call(line)
        assert second.returncode == 2 and 'another process is at work in runs/tiny' in second.stderr
        after = tree('runs/tiny')
        assert {f for f in before if after.get(f) != before[f]} == set() and p.poll() is None
    finally:
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=60)


@pytest.mark.slow
def test_a_kernel_that_will_not_listen_is_ended_all_the_same(lab):
    nb = nbformat.read('00_tiny.ipynb', 4)
    nb.cells[2].source = 'import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n' + nb.cells[2].source
    nbformat.write(nb, '00_tiny.ipynb')
    p = start('stages=2 wait=60', 'runs/tiny/checkpoints')
    pid = kernel_pid()
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=60)
    assert p.returncode == 143 and not alive(pid)


def test_a_reader_who_leaves_is_no_error():
    out = subprocess.run(f'{sys.executable} -m cxr_ssl.run --list | true', shell=True, capture_output=True, text=True)
    assert out.stderr == '', 'as with head, which has seen enough'
