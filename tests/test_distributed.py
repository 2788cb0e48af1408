"""Two processes that share each batch train like one process with the whole batch; killed, they go on.

Real processes started by torchrun, over gloo; encoder and head without batch norm, whose synchronised form is CUDA's alone.
"""
import json, os, subprocess, sys
import numpy as np, pytest

SCRIPT = '''
import json, os, sys
import numpy as np, torch, torch.distributed as dist
from fastai.callback.core import Callback
from torch import nn
from cxr_ssl.core import process_rank
from cxr_ssl.data.phantom import draw_chest
from cxr_ssl.pretrain.method import METHODS, pretrain_learner
from cxr_ssl.record import Record


if int(os.environ.get("WORLD_SIZE", 1)) > 1: dist.init_process_group("gloo")
torch.set_num_threads(1)
name, out, kill_at, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
__import__(f"cxr_ssl.pretrain.{name}")

class Pictures:
    ids = np.arange(32, dtype=np.uint64)
    pixels = [draw_chest(i, 40).pixels for i in range(32)]
    def images(self, ids): return [self.pixels[int(i)] for i in ids]
    def shapes(self, ids): return np.full((len(ids), 2), 40)

class Watch(Callback):
    losses = []
    def after_loss(self): self.losses.append(float(self.loss.detach()))
    def after_step(self):
        if self.train_iter == kill_at: os._exit(9)

torch.manual_seed(process_rank()) # the first process's weights must win
norm = lambda c: nn.GroupNorm(4, c)
layers = [nn.Conv2d(1, 8, 3, 2, 1), norm(8), nn.ReLU(), nn.Conv2d(8, 32, 3, 2, 1), norm(32)]
encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
encoder.num_features = 32
method = METHODS[name](encoder, 32, **settings)
for m in list(method.modules()): # heads of the papers have batch norms
    for k, c in m.named_children():
        if not isinstance(c, nn.BatchNorm1d): continue
        setattr(m, k, nn.LayerNorm(c.num_features, elementwise_affine=c.affine).requires_grad_(c.affine and c.weight.requires_grad))
bank, record = Pictures(), Record.start("toy", dict(out=out, method=name))
learn = pretrain_learner(method, bank, bank.ids, record, bs=16, lr=.01, device="cpu", precision="fp32", every=0, bar=False, cbs=Watch())
learn.fit_one_cycle(3)
total = float(sum(p.detach().double().abs().sum() for p in learn.model.parameters()))
if process_rank() == 0: json.dump(dict(losses=Watch.losses, total=total, rows=len(record.history())), open(out + ".json", "w"))
if dist.is_initialized(): dist.barrier(); dist.destroy_process_group()
'''
METHODS = dict(simclr=dict(out_dim=16), moco=dict(out_dim=16, queue=64, groups=1), byol=dict(hidden=32, out_dim=16),
               swav=dict(out_dim=16, prototypes=12, queue=32, queue_from=.3), dino=dict(out_dim=32, hidden=32, bottleneck=16))


def run(folder, n, name, method, kill_at=-1):
    script = folder/"toy.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"] if n > 1 else []
    p = subprocess.run([sys.executable, *torchrun, str(script), method, str(folder/name), str(kill_at), json.dumps(METHODS[method])],
                       env=dict(os.environ, OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=300)
    assert (p.returncode == 0) == (kill_at < 0), p.stderr[-3000:]
    return json.loads((folder/f"{name}.json").read_text()) if kill_at < 0 else None


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one_with_the_double_batch(tmp_path, method):
    one, two = run(tmp_path, 1, "one", method), run(tmp_path, 2, "two", method)
    assert len(one["losses"]) == 6 and one["rows"] == two["rows"] == 3
    assert np.abs(np.subtract(one["losses"], two["losses"])).max() < 1e-5
    assert abs(one["total"]-two["total"]) < 1e-4*one["total"]


@pytest.mark.slow
def test_two_processes_killed_go_on(tmp_path):
    whole = run(tmp_path, 2, "whole", "simclr")
    run(tmp_path, 2, "cut", "simclr", kill_at=3)
    rest = run(tmp_path, 2, "cut", "simclr")
    assert rest["losses"] == whole["losses"][-len(rest["losses"]):] and len(rest["losses"]) < 6
    assert rest["total"] == whole["total"]
