"The toy GANs that test_gan.py kills, each in a process of its own; resume.py has what tells where it is, and how it can be made to die."
from pathlib import Path
import numpy as np
import pandas as pd
from cxr_ssl import training
from cxr_ssl.core import CxrError, hash_file, write_json
from cxr_ssl.data.manifest import META, Manifest
from cxr_ssl.data.phantom import draw_chest
from cxr_ssl.data.splits import Protocol
from cxr_ssl.gan.models import make_gan
from cxr_ssl.gan.training import gan_learner, watch
from cxr_ssl.record import Record
from resume import MOMENTS, STARTING, Told, everything, tell_writes

HOW = dict(dcgan=dict(turns="dg", bs=24), acgan=dict(turns="dggg", bs=48, balanced=True))  # four turns in an epoch
NETS = dict(dcgan=dict(), acgan=dict(norm="spectral", loss="hinge"))
PIXELS = [draw_chest(i, 16).pixels for i in range(60)]


class Pictures:
    "Sixty phantoms in two classes."
    ids = np.arange(60, dtype=np.uint64)
    table = pd.DataFrame({c: "" for c in META}, index=range(60)).assign(
        image=[f"{i:02}.png" for i in ids], dataset="toy", patient=[f"p{i}" for i in ids], view="PA", age=np.nan, width=16, height=16,
        sha256=[f"{i:016x}" + 48 * "0" for i in ids.tolist()], A=(ids % 2).astype(float), B=((ids + 1) % 2).astype(float))
    manifest = Manifest(table, dict(toy="."), ["A", "B"])
    def images(self, ids): return [PIXELS[int(i)] for i in ids]
    def shapes(self, ids): return np.full((len(ids), 2), 16)
    def name(self, id): return f"image {int(id)}"


def toy_protocol():
    "The first 48 are train."
    ids = Pictures.ids
    return Protocol(ids[:48], ids[:48], ids[48:54], ids[54:], ("A", "B"), 0, Pictures.manifest.hash, True)


def train(out, told, method="dcgan", epochs=6, threads=1, pause=0., every=0., budget=0., dies=None, forgets=None, **settings):
    "As `resume.train`, for a GAN: networks, average, both optimizers, history and grids of a run that goes on when it is called again."
    told[0], told[1] = STARTING, -1
    tell_writes(told)
    record = Record.start("toy", dict(out=str(out), epochs=epochs, method=method, time_budget=budget))
    gan = make_gan(method, 16, 2, width=4, z=8, ema=.9, **NETS[method])
    learn = gan_learner(gan, Pictures(), toy_protocol(), ["A", "B"], record, "toy", lr=(1e-3, 2e-3), device="cpu", bar=False, every=every,
                        precision="fp32", cbs=[Told(told, out, pause)], **HOW[method], **settings)
    watch(learn, record.path / "grids", alarm="off", n=8)
    learn.dls.train.threads = threads
    if forgets: setattr(training, forgets, lambda *_: None)
    if dies: MOMENTS[dies[0]](dies[1])
    try: learn.fit(epochs)
    except CxrError as e: return write_json(f"{out}.error", dict(kind=type(e).__name__, text=str(e)))
    grids = {p.name: hash_file(p) for p in sorted((record.path / "grids").iterdir())}
    write_json(Path(out) / "result.json", everything(learn, record) | dict(grids=grids, steps=int(gan.steps)))
