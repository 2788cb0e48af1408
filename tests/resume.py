"""The toy pretraining that test_resume.py kills: any of the five methods, in a process of its own.

Real SIGKILL, real files. The process tells, in memory that it shares with its parent, where it is; and it can be made to end at one of
the moments in `MOMENTS`, which are too short to be hit by chance."""
import os, resource, signal, time, warnings
from pathlib import Path
import cv2
import numpy as np
import torch
from fastai.callback.core import Callback
from torch import nn
from cxr_ssl import core, training
from cxr_ssl.core import CxrError, hash_arrays, hash_json, write_json
from cxr_ssl.data.phantom import draw_chest
from cxr_ssl.pretrain import byol, dino, moco, simclr, swav  # noqa: F401, they register themselves
from cxr_ssl.pretrain.health import Health
from cxr_ssl.pretrain.method import make_method, pretrain_learner
from cxr_ssl.record import Record

SETTINGS = dict(simclr=dict(out_dim=16), moco=dict(out_dim=16, queue=24, groups=2, momentum=.9), byol=dict(hidden=32, out_dim=16, momentum=.9),
                swav=dict(out_dim=16, prototypes=12, queue=16, queue_from=.3), dino=dict(out_dim=32, hidden=32, bottleneck=16, momentum=.9))
STARTING, BATCH, WRITE, BETWEEN = range(4)  # where the process is

cv2.setNumThreads(1)  # this module is imported by a process that forks
torch.set_num_threads(1)
PIXELS = [draw_chest(i, 40).pixels for i in range(32)]


class Pictures:
    ids = np.arange(32, dtype=np.uint64)
    def images(self, ids): return [PIXELS[int(i)] for i in ids]
    def shapes(self, ids): return np.full((len(ids), 2), 40)


def append(path, text):
    "At once, so that a kill loses nothing."
    with open(path, "ab", buffering=0) as f: f.write(text.encode())


class Told(Callback):
    "Writes where the run is into shared memory, and the loss of every step into a file; takes its time if asked to."
    order = -50  # before all others
    def __init__(self, told, out, pause): self.told, self.out, self.pause = told, out, pause
    def before_fit(self): self.told[1] = 0
    def before_batch(self): self.told[0] = BATCH
    def after_loss(self):
        append(f"{self.out}.losses", f"{self.epoch*self.n_iter + self.iter} {float(self.learn.loss.detach()).hex()}\n")
        time.sleep(self.pause)
    def after_batch(self): self.told[1] += 1
    def after_train(self): self.told[0] = BETWEEN


def tell_writes(told):
    "Say so while a checkpoint is being written and old ones are deleted."
    save = training.Checkpoint.save
    def telling(self, *args, **kwargs):
        before, told[0] = told[0], WRITE
        save(self, *args, **kwargs)
        told[0] = before
    training.Checkpoint.save = telling


def die(): os.kill(os.getpid(), signal.SIGKILL)


def is_checkpoint(path): return Path(path).suffix == ".safetensors"


def half_written(nth):
    "The first half of a checkpoint is in its temporary file."
    write, left = Path.write_bytes, [nth]
    def writing(self, data):
        left[0] -= is_checkpoint(self)
        if left[0] or not is_checkpoint(self): return write(self, data)
        write(self, data[:len(data) // 2])
        die()
    Path.write_bytes = writing


def renaming(nth, of, after):
    "A file whose name ends with `of` is whole, and just about to get its name; or has just got it."
    replace, left = os.replace, [nth]
    def replacing(a, b):
        left[0] -= str(b).endswith(of)
        now = not left[0] and str(b).endswith(of)
        if now and not after: die()
        replace(a, b)
        if now: die()
    core.os.replace = replacing


def deleting(nth):
    "The checkpoint has its name, and the old one is not yet deleted."
    unlink, left = Path.unlink, [nth]
    def unlinking(self, **kwargs):
        old = is_checkpoint(self) and ".tmp" not in self.name
        left[0] -= old
        if old and not left[0]: die()
        unlink(self, **kwargs)
    Path.unlink = unlinking


MOMENTS = {"half written": half_written, "before its name": lambda n: renaming(n, ".safetensors", False),
           "with its name": lambda n: renaming(n, ".safetensors", True), "old not deleted": deleting,
           "history written": lambda n: renaming(n, "history.csv", True)}


def toy_encoder():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(.2), nn.Conv2d(8, 32, 3, 2, 1), nn.BatchNorm2d(32)]
    encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder.num_features = 32
    return encoder


def everything(learn, record):
    "All that a run leaves behind and that the next step would depend on, but for seconds; tensors as hashes."
    seconds_off = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]
    rng = {k: hash_json(v) if k != "torch" else hash_arrays(v) for k, v in training._rng_state(learn.dls).items()}
    opt = training._opt_state(learn.opt)
    return dict(state={k: hash_arrays(v) for k, v in learn.model.state_dict().items()}, hypers=opt["hypers"], rng=rng,
                moments=[{k: hash_arrays(v) for k, v in s.items()} for s in opt["params"]],
                rows=seconds_off(learn.history.rows), history=record.history().drop(columns="seconds").to_dict("list"))


def train(out, told, method="simclr", epochs=6, threads=1, pause=0., every=0., budget=0., dies=None, forgets=None, file_limit=None, **settings):
    """What an experiment does: open the run folder, pretrain, write the result. Called again, the same run goes on.

    An error that the library raises is written beside the folder, and so are warnings. `dies` is one of `MOMENTS`, and which time;
    `forgets` the name of a function of the engine that is to do nothing."""
    told[0], told[1] = STARTING, -1
    tell_writes(told)
    if settings.get("compile"):  # kernels are kept beside the folder; no further processes
        os.environ.update(TORCHINDUCTOR_CACHE_DIR=str(Path(out).parent / "kernels"), TORCHINDUCTOR_COMPILE_THREADS="1")
    record, bank = Record.start("toy", dict(out=str(out), epochs=epochs, method=method, time_budget=budget)), Pictures()
    learn = pretrain_learner(make_method(method, toy_encoder(), size=32, **SETTINGS[method]), bank, bank.ids, record, arm="toy", lr=.01,
                             bs=8, device="cpu", cbs=[Told(told, out, pause), Health(every=2, alarm="off")], bar=False, every=every,
                             precision="fp32", **settings)
    learn.dls.train.threads = threads
    if file_limit: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    if forgets: setattr(training, forgets, lambda *_: None)
    if dies: MOMENTS[dies[0]](dies[1])
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = lambda message, *_, **__: append(f"{out}.warnings", f"{message}\n")
    try: learn.fit_one_cycle(epochs)
    except CxrError as e: return write_json(f"{out}.error", dict(kind=type(e).__name__, text=str(e), early=record.deadline-time.monotonic() > 0))
    write_json(Path(out) / "result.json", everything(learn, record))
