"""A training process killed at any moment goes on where it was: the same bits in the end as without the kill.

Real processes, real SIGKILL, all five methods with augmentation, dropout, batch norm and loader threads, and with states saved within
epochs; what the notebooks show with exceptions. `resume.py` holds what the processes do."""
import json, multiprocessing, os, random, shutil, signal, time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path
import pytest

METHODS = ("simclr", "moco", "byol", "swav", "dino")
MOMENTS = ("half written", "before its name", "with its name", "old not deleted", "history written")
PLACES = ("starting", "in an epoch", "in a write", "between epochs")
EPOCHS, STEPS = 6, 24
pytestmark = pytest.mark.xdist_group("resume")  # one process imports for all of them
start = multiprocessing.get_context("forkserver")  # imports once, then forks a clean process for each run
start.set_forkserver_preload(["resume"])


@pytest.fixture(scope="module", autouse=True)
def server():
    "Start it where it finds `resume`: older Pythons do not hand their own path on."
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()
    p = start.Process(target=os.getpid)
    p.start(); p.join()  # it has imported everything


def go(*args, **kwargs):
    from resume import train
    train(*args, **kwargs)


def launch(out, **kwargs):
    "A process that trains, and the memory in which it tells where it is: place, and batches done (-1 before it fits)."
    told = start.RawArray("i", [0, -1])
    p = start.Process(target=go, args=(str(out), told), kwargs=kwargs)
    p.start()
    return p, told


def run(out, **kwargs):
    "Train to the end. What is left behind; or the library's error, as a dict with `kind` and `text`."
    p, told = launch(out, **kwargs)
    p.join(120)
    assert p.exitcode == 0
    error = out.with_name(f"{out.name}.error")
    if error.exists(): return json.loads(error.read_text()) | dict(clean=error.unlink())
    return json.loads((out/"result.json").read_text()) | dict(losses=losses(out))


def losses(out):
    "The loss of each step, in hexadecimal: one, unless a step that was done again after a kill had another one then."
    found = {}
    for line in done(out): found.setdefault(int(line.split()[0]), set()).add(line.split()[1])
    return [" and ".join(sorted(found[i])) for i in range(len(found))]


def done(out): return out.with_name(f"{out.name}.losses").read_text().splitlines()


def wait(p, told, batches):
    while p.is_alive() and told[1] < batches: p.join(.001)


def kill(out, batches=-1, seconds=0., **kwargs):
    "Train; some time after so many batches of this process, kill it. Where it was then; None if it had come to its end."
    p, told = launch(out, **kwargs)
    wait(p, told, batches)
    p.join(seconds)
    if p.is_alive(): os.kill(p.pid, signal.SIGKILL)
    p.join()
    assert p.exitcode in (0, -signal.SIGKILL)
    return PLACES[told[0]] if p.exitcode else None


def killed(out, batches, **kwargs): assert kill(out, batches, pause=.1, **kwargs)
def files(out): return sorted(p.name for p in (out/"checkpoints").glob("*.safetensors"))
def warned(out): return out.with_name(f"{out.name}.warnings").read_text().splitlines()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "What the run of a method leaves behind that nobody disturbs, and that saves at its beginning and its end only."
    known, folder = {}, tmp_path_factory.mktemp("whole")
    def result(method="simclr", **kwargs):
        key = "_".join([method, *(f"{k}={v}" for k, v in kwargs.items())])
        if key not in known:
            t0, known[key] = time.monotonic(), run(folder/key, method=method, every=1e9, **kwargs)
            assert len(known[key]["rows"]) == EPOCHS and len(known[key]["losses"]) == STEPS
            known[key, "seconds"] = time.monotonic()-t0
        return known[key]
    result.pace = lambda method: known[method, "seconds"]/STEPS
    return result


def killed_many_times(method, tmp_path, reference, pace, times, moments, seed=0):
    "Kill `times` times at random moments and once at each of `moments`; where that was. The ends must equal `reference`."
    rng, found, n = random.Random(f"{method} {seed}"), Counter(), 0
    plan = [None]*times + list(moments)
    rng.shuffle(plan)
    while plan:
        out = tmp_path/f"run{(n := n+1)}"
        while plan:
            how = dict(method=method, threads=rng.randrange(3))
            if plan[0]: place = plan[0] if kill(out, STEPS, 60, dies=(plan[0], rng.choice((1, 2))), **how) else None
            else: place = kill(out, rng.choice((-1, 0, 1, 1, 2, 2)), rng.uniform(0, 2)*pace, **how)
            if place is None: break  # it was done before it was hit: another run takes the rest
            found[place] += 1
            plan.pop(0)
        assert run(out, method=method, threads=rng.randrange(3), every=1e9) == reference
        assert not [p.name for p in (out/"checkpoints").iterdir() if p.name.startswith(".")] and len(files(out)) == 2
    assert sum(found.values()) == times+len(moments)
    print(f"\n{method}: {sum(found.values())} kills in {n} runs:", ", ".join(f"{found[k]} {k}" for k in (*PLACES, *MOMENTS) if found[k]))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_few_kills(method, undisturbed, tmp_path):
    "A few kills of each method, one of them within a save."
    moment = MOMENTS[METHODS.index(method)]
    killed_many_times(method, tmp_path, undisturbed(method), undisturbed.pace(method), 3, [moment])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_many_kills(method, undisturbed, tmp_path):
    "Killed again and again at random moments and within saves, with another number of loader threads each time."
    found = killed_many_times(method, tmp_path, undisturbed(method), undisturbed.pace(method), 20, MOMENTS, seed=1)
    assert found["in an epoch"] and found["in a write"]


@pytest.mark.parametrize("forgets", ["_set_rng_state", "_set_opt_state"])
def test_the_comparison_has_eyes(forgets, undisturbed, tmp_path):
    "A run that does not restore all of its state ends elsewhere."
    killed(tmp_path/"run", 5)
    assert run(tmp_path/"run", forgets=forgets)["state"] != undisturbed()["state"]


@pytest.mark.parametrize("settings", [dict(clip=.05), dict(accumulate=3), dict(chunk=3)], ids=lambda s: next(iter(s)))
def test_kills_with(settings, undisturbed, tmp_path):
    "Gradients that are clipped, added up over batches (also over the end of an epoch), or made in chunks."
    reference, out = undisturbed(**settings), tmp_path/"run"
    assert reference["losses"] != undisturbed()["losses"]
    for batches in (3, 5): killed(out, batches, **settings)
    assert run(out, every=1e9, **settings) == reference


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))), reason="torch.compile needs a C++ compiler")
def test_kills_when_compiled(undisturbed, tmp_path):
    "The same names of weights as without, and the same bits after kills."
    whole, plain = run(tmp_path/"whole", compile=True, every=1e9), undisturbed()
    assert list((tmp_path/"kernels").rglob("*.so")) and list(whole["state"]) == list(plain["state"]) and whole["losses"] != plain["losses"]
    for batches in (5, 2): killed(tmp_path/"run", batches, compile=True)
    assert run(tmp_path/"run", compile=True) == whole


def test_sigterm(undisturbed, tmp_path):
    "Asked to go, it saves, which nothing else does here, and goes; no batch is done twice."
    out = tmp_path/"run"
    p, told = launch(out, every=1e9, pause=.05)
    wait(p, told, 10)
    p.terminate()
    p.join(20)
    assert p.exitcode == 0 and 10 <= told[1] < STEPS
    error = json.loads(out.with_name("run.error").read_text())
    assert error["kind"] == "Stopped" and "SIGTERM arrived" in error["text"] and f"{files(out)[-1]} is saved" in error["text"]
    assert files(out)[-1] == "toy_{:05d}_{:06d}.safetensors".format(*divmod(told[1], 4)).replace("_000000", "")
    out.with_name("run.error").unlink()
    assert run(out, every=1e9) == undisturbed()
    assert len(done(out)) == STEPS


@pytest.mark.slow
def test_time_budget(undisturbed, tmp_path):
    "The same for a deadline, and before it."
    out = tmp_path/"run"
    error = run(out, every=1e9, pause=.4, budget=.1)
    assert error["kind"] == "Stopped" and "the time budget is used up" in error["text"] and error["early"]
    assert f"{files(out)[-1]} is saved" in error["text"]
    assert run(out, every=1e9) == undisturbed()
    assert len(done(out)) == STEPS


def test_damaged_checkpoints(undisturbed, tmp_path):
    "The newest file cut short, altered, empty, or something else: it is named, and the run goes on from the one before."
    out, hurt = tmp_path/"run", []
    weights = b"\x3c" + bytes(7) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + bytes(4)  # whole, but no state
    for damage in (lambda b: b[:-100], lambda b: b[:len(b)//2] + bytes([b[len(b)//2] ^ 1]) + b[len(b)//2+1:], lambda b: b"", lambda b: weights):
        killed(out, 3)
        hurt.append(newest := out/"checkpoints"/files(out)[-1])
        newest.write_bytes(damage(newest.read_bytes()))
    assert run(out) == undisturbed()
    assert len(warned(out)) == 4
    for path, line, says in zip(hurt, warned(out), ("cannot be read", "is damaged", "cannot be read", "holds no state")):
        assert line.startswith(f"{path} {says}") and line.endswith("trying the checkpoint before it")


def test_another_runs_checkpoint(undisturbed, tmp_path):
    "It is refused by name and stays as it is; with it gone the run goes on."
    out, other = tmp_path/"run", tmp_path/"other"
    killed(out, 3)
    killed(other, 3, clip=.5)
    foreign = shutil.copy(other/"checkpoints"/files(other)[-1], out/"checkpoints"/"toy_00007.safetensors")
    before = {p.name: p.read_bytes() for p in (out/"checkpoints").iterdir()}
    error = run(out)
    assert error["kind"] == "RecordError" and f"{foreign} belongs to another run: clip is 0.5 there and 0.0 here" in error["text"]
    assert before.items() <= {p.name: p.read_bytes() for p in (out/"checkpoints").iterdir()}.items()
    os.unlink(foreign)
    assert run(out) == undisturbed()


def test_called_again_after_the_end(undisturbed, tmp_path):
    "A complete run trains nothing and gives the same."
    out = tmp_path/"run"
    run(out)
    before = {p.name: p.stat().st_mtime_ns for p in (out/"checkpoints").iterdir()}
    (out/"result.json").unlink()
    assert run(out) == undisturbed()
    assert before == {p.name: p.stat().st_mtime_ns for p in (out/"checkpoints").iterdir()}
    assert len(done(out)) == STEPS


def test_full_disk(undisturbed, tmp_path):
    "No room for a checkpoint: one clear error, the last good one untouched, nothing half-written; with room again it goes on."
    out = tmp_path/"run"
    killed(out, 6)
    before = {p.name: p.read_bytes() for p in (out/"checkpoints").glob("*.safetensors")}
    error = run(out, file_limit=min(map(len, before.values()))//2)
    assert error["kind"] == "DiskError" and "cannot write" in error["text"] and f"{max(before)} stays" in error["text"]
    assert {p.name: p.read_bytes() for p in (out/"checkpoints").iterdir()} == before
    assert run(out) == undisturbed()
