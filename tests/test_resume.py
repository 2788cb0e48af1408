"""A training process killed at any moment goes on where it was: the same bits in the end as without the kill.

Real processes, real SIGKILL, real SimCLR with augmentation and loader threads; what the notebooks show with exceptions.
"""
import json, multiprocessing, os, random, resource, signal, time
from pathlib import Path
import pytest

EPOCHS = 8
pytestmark = pytest.mark.xdist_group("resume") # one process imports for all of them
start = multiprocessing.get_context("forkserver") # imports once, then forks a clean process for each run
start.set_forkserver_preload(["cxr_ssl.pretrain.simclr", "cxr_ssl.record", "cxr_ssl.data.phantom"])


def train(out, begun=None, pause=0., threads=2, file_limit=None, epochs=EPOCHS):
    "What an experiment does: open the run folder, pretrain, write the result. Called again, the same run goes on."
    import numpy as np, torch
    from fastai.callback.core import Callback
    from torch import nn
    from cxr_ssl.core import DiskError, hash_arrays, write_json
    from cxr_ssl.data.phantom import draw_chest
    from cxr_ssl.pretrain.method import pretrain_learner
    from cxr_ssl.pretrain.simclr import SimCLR
    from cxr_ssl.record import Record

    class Pictures:
        ids = np.arange(32, dtype=np.uint64)
        pixels = [draw_chest(i, 40).pixels for i in range(32)]
        def images(self, ids): return [self.pixels[int(i)] for i in ids]
        def shapes(self, ids): return np.full((len(ids), 2), 40)

    class Slow(Callback):
        def after_step(self): time.sleep(pause)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(.2), nn.Conv2d(8, 64, 3, 2, 1), nn.BatchNorm2d(64)]
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder.num_features = 64
    record, bank = Record.start("toy", dict(out=str(out), epochs=epochs)), Pictures()
    learn = pretrain_learner(SimCLR(encoder, 32, out_dim=16), bank, bank.ids, record, arm="simclr", bs=8, lr=.01, device="cpu",
                             cbs=Slow(), bar=False, every=0)
    learn.dls.train.threads = threads
    if begun: begun.set()
    if file_limit: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    try: learn.fit_one_cycle(epochs)
    except DiskError as e: return Path(f"{out}.error").write_text(str(e))
    table = record.history().drop(columns="seconds")
    weights = {k: hash_arrays(v) for k, v in learn.model.state_dict().items()}
    moments = {str(i): hash_arrays(v) for i, s in enumerate(learn.opt.state.values()) for v in s.values() if isinstance(v, torch.Tensor)}
    write_json(Path(out)/"result.json", dict(weights=weights, moments=moments, history=table.to_dict("list"),
                                             rows=[{k: v for k, v in r.items() if k != "seconds"} for r in learn.history.rows]))


def run(out, **kwargs):
    "Train in a process of its own, to the end."
    p = start.Process(target=train, args=(out,), kwargs=kwargs)
    p.start(); p.join(60)
    assert p.exitcode == 0
    return json.loads((out/"result.json").read_text()) if (out/"result.json").exists() else None


def kill_after(out, seconds, **kwargs):
    "Train, and kill the process some time after it has begun; True if it was still running."
    begun = start.Event()
    p = start.Process(target=train, args=(out, begun), kwargs=kwargs)
    p.start()
    assert begun.wait(60)
    p.join(seconds)
    if p.exitcode is None: os.kill(p.pid, signal.SIGKILL)
    p.join()
    return p.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    "The run that nobody disturbs."
    result = run(tmp_path_factory.mktemp("whole")/"run")
    assert len(result["rows"]) == EPOCHS
    return result


def test_killed_many_times(reference, tmp_path):
    "Killed again and again at random moments, with another number of loader threads each time."
    out, rng, kills = tmp_path/"run", random.Random(0), 0
    for i in range(40):
        if not kill_after(out, rng.uniform(.02, .35), pause=.01, threads=i % 3): break
        kills += 1
    assert kills >= 3, f"only {kills} kills before the end: the test has become too easy"
    assert run(out) == reference


def test_called_again_after_the_end(reference, tmp_path):
    "A complete run trains nothing and gives the same."
    out = tmp_path/"run"
    run(out)
    files = {p.name: p.stat().st_mtime_ns for p in (out/"checkpoints").iterdir()}
    (out/"result.json").unlink()
    assert run(out) == reference
    assert files == {p.name: p.stat().st_mtime_ns for p in (out/"checkpoints").iterdir()}


def test_full_disk(reference, tmp_path):
    "No room for a checkpoint: one clear error, the last good one untouched, nothing half-written; with room again it goes on."
    out = tmp_path/"run"
    while not (out/"checkpoints/simclr_00002.safetensors").exists(): kill_after(out, .3, pause=.03)
    before = {p.name: p.read_bytes() for p in (out/"checkpoints").glob("*.safetensors")}
    run(out, file_limit=min(map(len, before.values()))//2)
    error = Path(f"{out}.error").read_text()
    assert "cannot write" in error and ".safetensors" in error and f"{max(before)} stays" in error
    assert {p.name: p.read_bytes() for p in (out/"checkpoints").iterdir()} == before
    assert run(out) == reference
