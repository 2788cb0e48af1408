"A full-size MedSAM checkpoint comes in key by key and computes what SAM's formulas say; a cache and a head that were killed go on bit for bit."
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

SMALL = dict(depth=3, embed_dim=48, num_heads=3, global_attn_indexes=(1,), img_size=128, window_size=3)


def write_checkpoint(path, **timm_args):
    "A checkpoint with the names and shapes of SAM's, all weights random; gives its tensors."
    from cxr_ssl.adapt.medsam import medsam_network
    g = torch.Generator().manual_seed(0)
    names = {f"image_encoder.{k.replace('.mlp.fc', '.mlp.lin')}": v.shape for k, v in medsam_network(**timm_args).state_dict().items()}
    names |= {'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix': (2, 128), 'prompt_encoder.no_mask_embed.weight': (1, 256),
              'mask_decoder.iou_token.weight': (1, 256), 'mask_decoder.transformer.layers.0.mlp.lin1.weight': (2048, 256)}
    tensors = {k: torch.randn(s, generator=g) * (.02 if len(s) > 1 else .1) + (1 if k.endswith('norm1.weight') else 0) for k, s in names.items()}
    torch.save(tensors, path)
    return tensors


def windows(x, w):
    "Maps (h,w,c) cut into squares of side w, zeros added at the right and below."
    h, v, c = x.shape
    x = F.pad(x, (0, 0, 0, -v % w, 0, -h % w))
    H, V = x.shape[:2]
    return x.view(H // w, w, V // w, w, c).transpose(1, 2).reshape(-1, w, w, c), (H, V)


def attention(x, t, heads):
    "SAM's attention in one square (h,w,c), with positions of rows and columns relative to each other, one pair of places at a time."
    h, w, c = x.shape
    q, k, v = (x.reshape(h * w, c) @ t['attn.qkv.weight'].T + t['attn.qkv.bias']).view(h * w, 3, heads, -1).permute(1, 2, 0, 3)
    def positions(p, n):
        if len(p) != 2 * n - 1: p = F.interpolate(p.T[None], size=2 * n - 1, mode='linear')[0].T
        return torch.stack([torch.stack([p[i - j + n - 1] for j in range(n)]) for i in range(n)])
    rows, cols = positions(t['attn.rel_pos_h'], h), positions(t['attn.rel_pos_w'], w)
    bias = torch.zeros(heads, h * w, h * w)
    for a in range(h * w):
        for b in range(h * w):
            bias[:, a, b] = (q[:, a] * (rows[a // w, b // w] + cols[a % w, b % w])).sum(1)
    a = (q @ k.transpose(1, 2) / q.shape[-1]**.5 + bias).softmax(-1) @ v
    return a.transpose(0, 1).reshape(h, w, c) @ t['attn.proj.weight'].T + t['attn.proj.bias']


def sam(tensors, x, depth, num_heads, global_attn_indexes, window_size, **_):
    "SAM's image encoder by the published formulas, from a checkpoint's own names: (3,h,w) to maps (256,h/16,w/16)."
    T = {k.removeprefix('image_encoder.'): v for k, v in tensors.items()}
    norm = lambda x, t, name, dim: F.layer_norm(x, (dim,), t[f'{name}.weight'], t[f'{name}.bias'], 1e-6)
    x = F.conv2d(x[None], T['patch_embed.proj.weight'], T['patch_embed.proj.bias'], stride=16)[0].permute(1, 2, 0)
    pos = T['pos_embed'].permute(0, 3, 1, 2)
    if pos.shape[2:] != x.shape[:2]: pos = F.interpolate(pos, size=x.shape[:2], mode='bicubic', antialias=True)
    x = x + pos[0].permute(1, 2, 0)
    for i in range(depth):
        t = {k.removeprefix(f'blocks.{i}.'): v for k, v in T.items() if k.startswith(f'blocks.{i}.')}
        y, (h, w, c) = norm(x, t, 'norm1', x.shape[-1]), x.shape
        if i in global_attn_indexes: y = attention(y, t, num_heads)
        else:
            parts, (H, W) = windows(y, window_size)
            done = torch.stack([attention(p, t, num_heads) for p in parts])
            y = done.view(H // window_size, W // window_size, window_size, window_size, c).transpose(1, 2).reshape(H, W, c)[:h, :w]
        x = x + y
        y = norm(x, t, 'norm2', c) @ t['mlp.lin1.weight'].T + t['mlp.lin1.bias']
        x = x + F.gelu(y) @ t['mlp.lin2.weight'].T + t['mlp.lin2.bias']
    x = x.permute(2, 0, 1)[None]
    for conv, ln, pad in ((0, 1, 0), (2, 3, 1)):
        x = F.conv2d(x, T[f'neck.{conv}.weight'], padding=pad)
        x = norm(x.permute(0, 2, 3, 1), T, f'neck.{ln}', 256).permute(0, 3, 1, 2)
    return x[0]


@pytest.mark.parametrize('size', (128, 80, 160))
def test_features_are_what_the_published_formulas_give(tmp_path, size):
    "At the checkpoint's own size, and at others, where positions are interpolated."
    from cxr_ssl.adapt.medsam import convert_medsam, embedder
    from cxr_ssl.data.phantom import draw_chest
    tensors = write_checkpoint(tmp_path / 'medsam_vit_b.pth', **SMALL)
    convert_medsam(tmp_path / 'medsam_vit_b.pth', tmp_path / 'medsam.safetensors', **SMALL)
    e = embedder('medsam', tmp_path / 'medsam.safetensors', size=size, pool=False, device='cpu', precision='fp32')
    image = draw_chest(1, 200).pixels
    x = e.pixels.floats(torch.from_numpy(e.pixels.squares([image])))[0]
    assert x.shape == (3, size, size) and x.min() == 0 and x.max() == 1
    ours, theirs = e([image])[0], sam(tensors, x, **SMALL).numpy()
    assert ours.shape == (256, size // 16, size // 16) and theirs.std() > .01
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())
    pooled = embedder('medsam', tmp_path / 'medsam.safetensors', size=size, device='cpu', precision='fp32')([image])[0]
    np.testing.assert_allclose(pooled, ours.mean((1, 2)), atol=1e-5)


@pytest.mark.slow
def test_every_key_of_the_full_checkpoint(tmp_path):
    "ViT-B's names and shapes, as MedSAM has them: each key is told, and none of the image encoder is lost."
    from cxr_ssl.adapt.medsam import convert_medsam, embedder
    tensors = write_checkpoint(tmp_path / 'medsam_vit_b.pth')
    table = convert_medsam(tmp_path / 'medsam_vit_b.pth', tmp_path / 'medsam.safetensors')
    assert set(table.key) == set(tensors) and table.kept.sum() == 177
    assert (table.part[table.kept] == 'image_encoder').all() and (table.new[~table.kept] == '').all()
    e = embedder('medsam', tmp_path / 'medsam.safetensors', device='cpu', precision='fp32')
    own = e.net.state_dict()
    assert all(torch.equal(own[r.new], tensors[r.key]) for r in table[table.kept].itertuples()) and len(own) == 177
    assert (e.pixels.size, e.pixels.channels, e.pixels.levels, e.dim) == (1024, 3, 'minmax', 256)


def test_a_key_that_is_lost_is_named(tmp_path):
    from cxr_ssl.adapt.medsam import convert_medsam
    from cxr_ssl.core import WeightsError
    tensors = write_checkpoint(tmp_path / 'medsam_vit_b.pth', **SMALL)
    del tensors['image_encoder.neck.3.bias']
    torch.save(tensors, tmp_path / 'cut.pth')
    with pytest.raises(WeightsError, match='1 missing: neck.3.bias'): convert_medsam(tmp_path / 'cut.pth', tmp_path / 'cut.safetensors', **SMALL)
    assert not (tmp_path / 'cut.safetensors').exists()


def test_missing_weights_are_told_at_once():
    from cxr_ssl.adapt.medsam import embedder
    from cxr_ssl.core import WeightsError
    t0 = time.monotonic()
    for name in ('medsam', 'timm/vit_tiny_patch16_224'):
        with pytest.raises(WeightsError) as e: embedder(name, 'nowhere.safetensors')
        assert 'nowhere.safetensors' in str(e.value)
    with pytest.raises(WeightsError, match='no download'): embedder('timm/vit_tiny_patch16_224', 'pretrained')
    assert time.monotonic() - t0 < 30  # timm by itself would ask the network for a minute


FILL = '''
import sys, time, numpy as np, torch
torch.set_num_threads(1)
from pathlib import Path
from cxr_ssl.adapt.medsam import Embeddings, embedder
from cxr_ssl.data.bank import Bank
folder = Path(sys.argv[1]); bank = Bank.open(folder / "bank"); slow = float(sys.argv[3])
e = embedder("resnet18", "none", size=32, seed=0, device="cpu", precision="fp32")
e.net.register_forward_hook(lambda *a: time.sleep(slow))
cache = Embeddings(folder / sys.argv[2], e, bank).fill(bs=16, threads=2, desc="")
print(len(cache))
'''


@pytest.mark.slow
def test_a_killed_fill_goes_on(tmp_path):
    "SIGKILL in the middle: what is there stays, the rest is made, and all is as if nothing had happened."
    from cxr_ssl.adapt.medsam import Embeddings
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.sources import read_source
    from cxr_ssl.store import Store
    m = read_source('sample')
    bank = Bank.build(m.where(m.table.dataset == 'nih'), tmp_path / 'bank', side=32)
    command = [sys.executable, '-c', FILL, str(tmp_path)]
    first = subprocess.Popen([*command, 'killed', '.4'])
    held, deadline = 0, time.monotonic() + 120
    while held < 20 and time.monotonic() < deadline:
        time.sleep(.1)
        try: held = len(Store.open(tmp_path / 'killed'))
        except Exception: pass
    first.kill()
    assert first.wait() == -signal.SIGKILL and 20 <= held < len(bank)
    kept = Embeddings(tmp_path / 'killed')
    before = kept.get(kept.store.keys)
    for name in ('killed', 'whole'): assert int(subprocess.run([*command, name, '0'], capture_output=True, text=True, check=True).stdout) == len(bank)
    killed, whole = (Embeddings(tmp_path / n) for n in ('killed', 'whole'))
    assert np.array_equal(killed.get(kept.store.keys), before)
    assert np.array_equal(killed.get(bank.ids), whole.get(bank.ids))
    killed.store.verify()


class Folder:
    "As much of a Record as a learner needs."
    def __init__(self, path): self.checkpoints = path
    def log(self, arm, epoch, **values): pass


@pytest.mark.parametrize('how', ('bce', 'margin', 'supcon'))
def test_a_killed_head_goes_on_bit_for_bit(tmp_path, how):
    "Stopped in the middle of an epoch, in the first fit and in the second; also one that had ended early does not move again."
    from fastai.callback.core import Callback
    from cxr_ssl.adapt.contrastive import Embedded, Head, fit_head
    g = np.random.default_rng(0)
    def part(n):
        y = (np.arange(n) % 2)[:, None].astype(np.float32)
        rows = pd.DataFrame(dict(patient=[str(i) for i in range(n)], view='', dataset='toy'))
        return Embedded((g.normal(size=(n, 16)) + .8 * y).astype(np.float32), y, np.arange(n, dtype=np.uint64), rows, ('a',), False)
    train, valid = part(200), part(60)

    class Kill(Callback):
        order = 100
        def __init__(self, fit, epoch, batch): self.left, self.at = fit, (epoch, batch)
        def before_fit(self): self.left -= 1
        def after_batch(self):
            if self.training and self.left < 0 and (self.epoch, self.iter) == self.at: raise KeyboardInterrupt

    def run(folder, *cbs, **kwargs):
        head = Head(16, ['a'], dropout=.3)
        fit_head(head, train, valid, how, epochs=4, record=Folder(tmp_path / folder), every=0, cbs=cbs, device='cpu', precision='fp32', bar=False, bs=32, **kwargs)
        return head.state_dict()

    whole = run('whole')
    for k, at in enumerate([(0, 1, 2), (1, 2, 3)] if how != 'bce' else [(0, 1, 2)]):
        with pytest.raises(KeyboardInterrupt): run(f'killed{k}', Kill(*at))
        again = run(f'killed{k}')
        assert all(torch.equal(again[n], v) for n, v in whole.items()), at
    stopped = run('early', patience=1)
    assert all(torch.equal(v, stopped[n]) for n, v in run('early', patience=1).items())


def test_other_embeddings_are_another_run(tmp_path):
    from cxr_ssl.adapt.contrastive import Embedded, Head, fit_head
    from cxr_ssl.core import RecordError
    def part(n, seed):
        x = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
        return Embedded(x, (np.arange(n) % 2)[:, None].astype(np.float32), np.arange(n, dtype=np.uint64), pd.DataFrame(dict(patient=['a'] * n, view='', dataset='toy')), ('a',), False)
    run = lambda seed: fit_head(Head(8, ['a']), part(40, seed), part(20, 9), epochs=2, record=Folder(tmp_path), every=0, device='cpu', precision='fp32', bar=False)
    run(0)
    with pytest.raises(RecordError, match='belongs to another run: data'): run(1)
