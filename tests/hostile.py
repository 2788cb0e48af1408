"""Bad pictures, tables and datasets, each with what must happen to it.

    python tests/hostile.py FOLDER          writes them all, to look at
    python tests/hostile.py FOLDER --check  reads them too: one line of JSON a case, on the standard output

A bad thing may end in one of these ways, and in no other: `refused` (an error of the library that names it), `quarantined` (a line
that names it), `warned` (a value left blank, and a warning that names it) or, where it is odd and not wrong, `right` (read, and equal
to what is known to be in it)."""
import argparse
import faulthandler
import gzip
import io
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import time
import traceback
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Callable

import numpy as np
import pandas as pd
from PIL import Image

BAD = ('refused', 'quarantined', 'warned')
ODD = (*BAD, 'right')
FINE = ('right',)


@dataclass
class Case:
    "One thing to read, and what may come of it."
    group: str
    name: str
    read: str  # key of READ
    write: Callable  # writes it into the folder it is given
    file: str  # what is at fault, relative to that folder
    allow: tuple = BAD
    right: object = None  # where it may be read: the pixels, or a test of the manifest; for own files: the damage
    says: tuple = ()  # words of which one must stand in the error or the quarantine; the name of the file if empty
    options: dict = field(default_factory=dict)  # of the source

    def folder(self, root): return Path(root) / self.group / ('pictures' if self.read == 'picture' else self.name)


# ---- files, byte by byte

def picture(seed=0, h=40, w=48, high=256):
    "Noise on a ramp: every value occurs, no two seeds are alike."
    ramp = np.linspace(0, .6 * high, h * w).reshape(h, w)
    return (ramp + np.random.default_rng(seed).integers(0, int(.4 * high), (h, w))).astype(np.uint8 if high <= 256 else np.uint16)


A = picture()
CALM = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)  # compresses well, so that many pixels hang on one byte


def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(a=A, bits=8, colour=0, size=None, level=9, extra=b'', surplus=0):
    "A PNG; `size` (width, height) may lie, `extra` stands before the pixels, `surplus` zeros behind them."
    h, w = a.shape[:2]
    a = a.astype('>u2') if bits == 16 else a
    raw = b''.join(b'\0' + row.tobytes() for row in a)
    data = inflating(raw, surplus) if surplus else zlib.compress(raw, level)
    head = struct.pack('>IIBBBBB', *(size or (w, h)), bits, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + extra + chunk(b'IDAT', data) + chunk(b'IEND', b'')


BLOCK = (lambda z: z.compress(bytes(1 << 20)) + z.flush(zlib.Z_FULL_FLUSH))(zlib.compressobj(9, wbits=-15))  # a million zeros that stand for themselves


def inflating(head, n, wrap=True):
    "`head` and then `n` zeros, compressed, without making them; `wrap` as zlib does, or else bare."
    first, last = zlib.compressobj(9, wbits=-15), zlib.compressobj(9, wbits=-15)
    body = first.compress(head) + first.flush(zlib.Z_FULL_FLUSH) + BLOCK * (n >> 20) + last.compress(bytes(n & 0xFFFFF)) + last.flush()
    low, high = zlib.adler32(head) & 0xFFFF, zlib.adler32(head) >> 16
    return b'\x78\xda' + body + struct.pack('>HH', (high + n * low) % 65521, low) if wrap else body


def bomb(w, h, colour=0, channels=1):
    "A PNG whose header is true and whose pixels are all black."
    head = struct.pack('>IIBBBBB', w, h, 8, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', inflating(b'', h * (w * channels + 1))) + chunk(b'IEND', b'')


def saved(image, kind, **options):
    "What Pillow writes."
    f = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(f, kind, **options)
    return f.getvalue()


def loaded(data):
    "What a JPEG holds, as Pillow reads it whole."
    return np.array(Image.open(io.BytesIO(data)).convert('L'))


def patched(data, at, new):
    "`data` with other bytes at one place."
    return data[:at] + new + data[at + len(new):]


def tiff(tags, strip, order='<', next_ifd=0):
    "A TIFF of one strip; `tags` maps numbers to (type, values)."
    sizes = {1: 'B', 3: 'H', 4: 'I', 5: 'II', 2: 'B', 16: 'Q'}
    tags = {**tags, 273: (4, [8]), 279: (4, [len(strip)])}
    body, entries, extra_at = strip, b'', 8 + len(strip) + 2 + 12 * len(tags) + 4
    extra = b''
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(order + sizes[kind] * len(values), *values)
        if len(packed) > 4: packed, extra = struct.pack(order + 'I', extra_at + len(extra)), extra + packed
        entries += struct.pack(order + 'HHI', tag, kind, len(values)) + packed.ljust(4, b'\0')
    head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8 + len(body))
    return head + body + struct.pack(order + 'H', len(tags)) + entries + struct.pack(order + 'I', next_ifd) + extra


def grey_tiff(a, photometric=1, order='<', form=1, **kw):
    "An uncompressed grey TIFF of any depth; `form` 1 unsigned, 2 signed, 3 floating."
    h, w = a.shape
    tags = {256: (4, [w]), 257: (4, [h]), 258: (3, [a.dtype.itemsize * 8]), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [1]), 278: (4, [h]),
            339: (3, [form])}
    return tiff({**tags, **kw.pop('tags', {})}, a.astype(a.dtype.newbyteorder(order)).tobytes(), order, **kw)


# ---- DICOM, byte by byte: no library that would refuse to write what is wrong

TAGS = dict(SOPClass=(0x0008, 0x0016, 'UI'), Charset=(0x0008, 0x0005, 'CS'), Modality=(0x0008, 0x0060, 'CS'), PatientName=(0x0010, 0x0010, 'PN'),
            PatientID=(0x0010, 0x0020, 'LO'), SamplesPerPixel=(0x0028, 0x0002, 'US'), Photometric=(0x0028, 0x0004, 'CS'),
            PlanarConfiguration=(0x0028, 0x0006, 'US'), Frames=(0x0028, 0x0008, 'IS'), Rows=(0x0028, 0x0010, 'US'), Columns=(0x0028, 0x0011, 'US'),
            BitsAllocated=(0x0028, 0x0100, 'US'), BitsStored=(0x0028, 0x0101, 'US'), HighBit=(0x0028, 0x0102, 'US'), Signed=(0x0028, 0x0103, 'US'),
            Padding=(0x0028, 0x0120, 'US'), Center=(0x0028, 0x1050, 'DS'), Width=(0x0028, 0x1051, 'DS'), Intercept=(0x0028, 0x1052, 'DS'),
            Slope=(0x0028, 0x1053, 'DS'), Function=(0x0028, 0x1056, 'CS'), LutShape=(0x2050, 0x0020, 'CS'), Float=(0x7FE0, 0x0008, 'OF'),
            Pixels=(0x7FE0, 0x0010, 'OW'))
LONG = ('OB', 'OW', 'OF', 'OD', 'OL', 'SQ', 'UC', 'UN', 'UR', 'UT')
IMPLICIT, EXPLICIT, DEFLATED, BIG = '1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.2'
JPEG, JPEG_LS, J2K, RLE, MPEG = (f'1.2.840.10008.1.2.{o}' for o in ('4.50', '4.80', '4.90', '5', '4.100'))


def element(group, number, vr, value, order='<', implicit=False, length=None):
    "One data element; `length` may lie."
    if isinstance(value, int): value = struct.pack(order + 'H', value)
    if isinstance(value, str): value = value.encode('latin-1')
    if len(value) % 2: value += b'\0' if vr in ('UI', 'OB') else b' '
    n = len(value) if length is None else length
    head = struct.pack(order + 'HH', group, number)
    if implicit: return head + struct.pack(order + 'I', n) + value
    return head + vr.encode() + (b'\0\0' + struct.pack(order + 'I', n) if vr in LONG else struct.pack(order + 'H', n)) + value


def fragments(*frames, end=True):
    "Encapsulated pixels."
    item = lambda b: struct.pack('<HHI', 0xFFFE, 0xE000, len(b)) + b
    return item(b'') + b''.join(item(f + b'\0' * (len(f) % 2)) for f in frames) + (struct.pack('<HHI', 0xFFFE, 0xE0DD, 0) if end else b'')


def dicom(a=A, syntax=EXPLICIT, drop=(), says=None, extra=b'', length=None, preamble=True, meta=True, **tags):
    "A DICOM file. `says`: the transfer syntax it claims; `drop`: tags left out; `length`: of the pixels, may lie; `tags`: other values."
    order, implicit, packed = '>' if syntax == BIG else '<', syntax == IMPLICIT, syntax not in (IMPLICIT, EXPLICIT, DEFLATED, BIG)
    if packed: length = 0xFFFFFFFF if length is None else length
    bits = a.dtype.itemsize * 8
    values = dict(SOPClass='1.2.840.10008.5.1.4.1.1.1.1', Modality='DX', PatientName='Nobody', PatientID='p1', SamplesPerPixel=1, Photometric='MONOCHROME2',
                  Rows=a.shape[0], Columns=a.shape[1], BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, Signed=int(a.dtype.kind == 'i'),
                  Pixels=a.astype(a.dtype.newbyteorder(order)).tobytes())
    values = {k: v for k, v in {**values, **tags}.items() if k not in drop}
    out = b''
    for k in sorted(values, key=lambda k: TAGS[k]):
        group, number, vr = TAGS[k]
        if group >= 0x7FE0: out, extra = out + extra, b''
        vr = 'OB' if k == 'Pixels' and (packed or bits == 8) else vr
        out += element(group, number, vr, values[k], order, implicit, length if k == 'Pixels' else None)
    out += extra
    if syntax == DEFLATED: z = zlib.compressobj(9, wbits=-15); out = z.compress(out) + z.flush()
    head = element(2, 1, 'OB', b'\0\1') + element(2, 2, 'UI', '1.2.840.10008.5.1.4.1.1.1.1') + element(2, 3, 'UI',
        '1.2.3') + (element(2, 0x10, 'UI', syntax if says is None else says) if says != '' else b'')
    head = element(2, 0, 'UL', struct.pack('<I', len(head))) + head if meta else b''
    return (bytes(128) + b'DICM' if preamble else b'') + head + out


def rle(a, segments=1, offset=64):
    "The pixels of an 8-bit picture as one RLE segment of literal runs."
    flat = a.tobytes()
    runs = b''.join(bytes([len(flat[i:i + 128]) - 1]) + flat[i:i + 128] for i in range(0, len(flat), 128))
    return struct.pack('<16I', segments, offset, *[0] * 14) + runs


# ---- pictures

def files(group, contents, allow=BAD, right=None, suffix=''):
    "A case for each entry of `contents`: name -> bytes, or (bytes, pixels) where it may be read."
    for name, data in contents.items():
        data, pixels = data if isinstance(data, tuple) else (data, right)
        name = name if '.' in name else name + suffix
        yield Case(group, name, 'picture', lambda folder, name=name, data=data: (folder / name).write_bytes(data), name,
                   allow if allow == FINE or pixels is not None else BAD, pixels)


def truncated():
    "A file that ends too early must be refused, unless all pixels had come by then."
    jpeg, progressive = saved(A, 'JPEG', quality=90), saved(CALM, 'JPEG', quality=90, progressive=True)
    whole = {'grey.png': (png(), A), 'calm.png': (png(CALM), CALM), 'deep.png': (png(picture(3, high=65536), bits=16), picture(3, high=65536)),
             'base.jpg': (jpeg, loaded(jpeg)), 'progressive.jpg': (progressive, loaded(progressive)), 'raw.tif': (saved(A, 'TIFF'), A),
             'lzw.tif': (saved(CALM, 'TIFF', compression='tiff_lzw'), CALM), 'deflate.tif': (saved(A, 'TIFF', compression='tiff_adobe_deflate'), A),
             'grey.bmp': (saved(A, 'BMP'), A), 'plain.dcm': (dicom(), A), 'implicit.dcm': (dicom(syntax=IMPLICIT), A),
             'jpeg.dcm': (dicom(syntax=JPEG, Pixels=fragments(jpeg)), loaded(jpeg)), 'rle.dcm': (dicom(syntax=RLE, Pixels=fragments(rle(A))), A)}
    for name, (data, a) in whole.items():
        stem, kind = name.split('.')
        cuts = sorted({1, 9, 30, 150, len(data) // 3, len(data) // 2, len(data) - 200, len(data) - 9, len(data) - 1})
        yield from files('truncated', {f'{stem}-{n}.{kind}': (data[:n], a) for n in cuts if 0 < n < len(data)}, ODD)


def flipped():
    "A flipped bit. A PNG knows it by its check sums; for the other formats the table's sha256 does."
    for stem, a, data in (('noise', A, png()), ('calm', CALM, png(CALM)), ('stored', CALM, png(CALM, level=0))):
        at = np.random.default_rng(1).choice(np.arange(8, len(data)), 10, replace=False)
        yield from files('flipped', {f'{stem}-{i}.png': (patched(data, i, bytes([data[i] ^ 16])), a) for i in sorted(at.tolist())}, ODD)
    jpeg = saved(A, 'JPEG', quality=90)
    whole = {'jpg': (jpeg, loaded(jpeg)), 'tif': (saved(A, 'TIFF'), A), 'bmp': (saved(A, 'BMP'), A), 'dcm': (dicom(), A)}
    for kind, (data, a) in whole.items():
        for i in sorted(np.random.default_rng(2).choice(len(data), 8, replace=False).tolist()):
            bad = patched(data, i, bytes([data[i] ^ 4]))
            yield Case('flipped', f'known-{i}.{kind}', 'hashed', lambda folder, bad=bad, a=a, kind=kind: write_hashed(folder, f'x.{kind}', bad, a),
                       f'x.{kind}', ODD, a)


def write_hashed(folder, name, data, a):
    "A table that knows the pixels' hash, one bad file and one good one."
    from cxr_ssl.data.images import pixel_hash
    (folder / name).write_bytes(data); (folder / 'good.png').write_bytes(png(picture(9)))
    (folder / 'manifest.csv').write_text(f'image,patient,sha256\n{name},p1,{pixel_hash(a)}\ngood.png,p2,{pixel_hash(picture(9))}\n')


PICKLE, POINTER = b'\x80\x04cos\nsystem\n(S"true"\ntR.', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'


def not_pictures():
    "Other things under a picture's name."
    page = b'<!DOCTYPE html><html><body>404 Not Found</body></html>'
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    things = {'empty': b'', 'one-byte': b'\x89', 'newline': b'\n', 'zeros': bytes(5000), 'ones': b'\xff' * 5000, 'noise': A.tobytes(), 'html': page,
              'html-spaces': b'\n \t' + page.lower(), 'html-bom': b'\xef\xbb\xbf' + page, 'html-utf16': page.decode().encode('utf-16'),
              'xml': b'<?xml version="1.0"?><Error>AccessDenied</Error>', 'svg': svg, 'lfs': POINTER, 'annex': b'/annex/objects/SHA256E-s9--0.png',
              'text': b'the picture was removed on request\n', 'json': b'{"error": "not found"}', 'csv': b'image,label\na.png,1\n',
              'pdf': b'%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\n%%EOF', 'zip': zipped([('a.png', png())]), 'gzip': gzip.compress(b'x' * 1000, mtime=0),
              'exe': b'MZ' + bytes(58) + b'\x80\0\0\0' + bytes(64) + b'PE\0\0' + bytes(200), 'elf': b'\x7fELF' + bytes(200),
              'script': b'#!/bin/sh\nrm -rf /\n', 'eps': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file closefile showpage\n',
              'mp4': b'\0\0\0\x20ftypisom' + bytes(100), 'gif': saved(A, 'GIF'), 'webp': saved(A, 'WEBP'), 'ppm': saved(A, 'PPM'),
              'ico': saved(Image.fromarray(A), 'ICO'), 'pcx': saved(A, 'PCX'), 'tga': saved(A, 'TGA'), 'npy': b'\x93NUMPY\1\0' + bytes(100), 'pickle': PICKLE,
              'hdf5': b'\x89HDF\r\n\x1a\n' + bytes(100), 'sqlite': b'SQLite format 3\0' + bytes(100), 'png-text-mode': png().replace(b'\r\n', b'\n'),
              'signature-only': png()[:8], 'no-idat': png()[:33] + chunk(b'IEND', b''), 'no-header': png()[:8] + png()[33:],
              'two-headers': png()[:33] + chunk(b'IHDR', struct.pack('>IIBBBBB', 9, 9, 8, 0, 0, 0, 0)) + png()[33:], 'jpeg-ends': b'\xff\xd8\xff\xd9',
              'bmp-head': b'BM' + bytes(30), 'tiff-head': b'II*\0\x08\0\0\0', 'bigtiff-head': b'II+\0\x08\0\0\0' + bytes(20),
              'dicom-head': bytes(128) + b'DICM'}
    yield from files('not a picture', things, suffix='.png')


def bombs():
    "Small files that ask for much memory or time."
    huge = {'png-50k': png(size=(50_000, 50_000)), 'png-2g': png(size=(2**31 - 1, 2**31 - 1)), 'png-line': png(size=(2**31 - 1, 1)),
            'png-0': png(size=(0, 40)), 'bmp-50k': patched(saved(A, 'BMP'), 18, struct.pack('<ii', 50_000, 50_000)),
            'bmp-minus': patched(saved(A, 'BMP'), 18, struct.pack('<ii', -48, 40)), 'bmp-min': patched(saved(A, 'BMP'), 18, struct.pack('<ii', 48, -2**31)),
            'tiff-50k': grey_tiff(A, tags={256: (4, [50_000]), 257: (4, [50_000]), 278: (4, [50_000])}),
            'tiff-4g': grey_tiff(A, tags={256: (4, [2**32 - 1]), 257: (4, [2**32 - 1])}), 'tiff-bits': grey_tiff(A, tags={258: (3, [65535])}),
            'tiff-samples': grey_tiff(A, tags={277: (3, [65535])}), 'tiff-no-strips': grey_tiff(A, tags={278: (4, [0])}),
            'tiff-loop': grey_tiff(A, next_ifd=8 + A.size), 'tiff-ifd-nowhere': patched(grey_tiff(A), 4, struct.pack('<I', 2**31)),
            'tiff-entries': patched(grey_tiff(A), 8 + A.size, b'\xff\xff'), 'dicom-50k': dicom(Rows=50_000, Columns=50_000),
            'dicom-frames': dicom(Frames='2147483647'), 'dicom-65k-deflated': dicom(syntax=DEFLATED, Rows=65_535, Columns=65_535),
            'dicom-length': dicom(length=0xFFFFFFF0), 'dicom-tag-length': dicom(extra=element(0x0011, 0x1001, 'UN', b'x', length=0xFFFFFFF0))}
    jpeg = saved(A, 'JPEG')
    huge['jpeg-65k'] = patched(jpeg, jpeg.index(b'\xff\xc0') + 5, b'\xff\xdc\xff\xdc')
    text = lambda kind, n: chunk(kind, b'Comment\0\0' + inflating(b'', n))
    huge |= {'png-ztxt': png(extra=text(b'zTXt', 300_000_000)), 'png-itxt': png(extra=chunk(b'iTXt', b'Comment\0\1\0\0\0' + inflating(b'', 300_000_000))),
             'png-iccp': png(extra=chunk(b'iCCP', b'Profile\0\0' + inflating(b'', 300_000_000)))}
    names = {f'{k}.{dict(png="png", bmp="bmp", tiff="tif", dicom="dcm", jpeg="jpg")[k.split("-")[0]]}': v for k, v in huge.items()}
    may = {'dicom-length.dcm': A, 'tiff-entries.tif': A, 'bmp-minus.bmp': None, 'tiff-loop.tif': A, 'png-ztxt.png': A, 'png-itxt.png': A, 'png-iccp.png': A,
           'tiff-no-strips.tif': A, 'tiff-ifd-nowhere.tif': None}
    yield from files('bomb', {k: (v, may.get(k)) for k, v in names.items()}, ODD)
    yield from files('bomb', {'ratio-grey.png': bomb(7_900, 8_000), 'ratio-rgba.png': bomb(7_900, 8_000, colour=6, channels=4),
                              'ratio-rgb.png': bomb(7_900, 8_000, colour=2, channels=3)})
    yield from files('bomb', {'surplus.png': (png(surplus=200_000_000), A)}, ODD)
    body = dicom(meta=False, preamble=False) + element(0xFFFC, 0xFFFC, 'OB', b'', length=1_500_000_000)
    body = inflating(body, 1_500_000_000, wrap=False)
    head = dicom(drop=['Pixels'], says=DEFLATED)
    yield from files('bomb', {'dicom-deflate.dcm': (head[:head.index(element(8, 0x16, 'UI', '1.2.840.10008.5.1.4.1.1.1.1'))] + body, A)}, ODD)
    yield Case('bomb', 'sparse.png', 'picture', lambda folder: sparse(folder / 'sparse.png', 50 << 30), 'sparse.png')
    slow = saved(np.full((4000, 4000), 128, np.uint8), 'JPEG', progressive=True)
    last = slow.rindex(b'\xff\xda')
    yield from files('bomb', {'scans.jpg': slow[:last] + slow[last:-2] * 2000 + slow[-2:]})


def sparse(path, n):
    "A file that is long and takes no room."
    path.write_bytes(png()); os.truncate(path, n)


def frames():
    "More than one picture in a file, or none that is whole."
    first, *more = [Image.fromarray(picture(i)) for i in (1, 2)]
    several = {name: saved(first, kind, save_all=True, append_images=more) for name, kind in {'multi.tif': 'TIFF', 'moving.gif': 'GIF', 'gif.png': 'GIF',
        'moving.png': 'PNG', 'mpo.jpg': 'MPO'}.items()}
    yield from files('frames', {**several, 'apng-lies.png': png(extra=chunk(b'acTL', struct.pack('>II', 2**31 - 1, 0)))})
    jpeg = saved(A, 'JPEG')
    yield from files('frames', {'twice.jpg': (jpeg * 2, loaded(jpeg)), 'png-then-zip.png': (png() + b'PK\3\4' + bytes(200), A),
                                'actl-one.png': (png(extra=chunk(b'acTL', struct.pack('>II', 1, 0))), A)}, ODD)


def depths():
    "Rare ways to write a picture: read right, or refused; never read wrong."
    deep, floats, rgb = picture(4, high=65536), picture(5).astype(np.float32) / 7 - 3, np.stack([picture(i) for i in (1, 2, 3)], -1)
    grey, bit = np.stack([A] * 3, -1), (A > 128)
    alpha = Image.merge('LA', [Image.fromarray(A), Image.new('L', A.shape[::-1], 255)])
    palette = Image.fromarray(255 - A, 'P'); palette.putpalette([255 - i // 3 for i in range(768)])
    luma = np.array(Image.fromarray(rgb).convert('L'))
    exif = Image.Exif(); exif[274] = 6
    signed = (deep.astype(np.int32) - 32768).astype(np.int16)
    odd = {'bit.png': (saved(Image.fromarray(bit), 'PNG'), bit * 255), 'bit.tif': (saved(Image.fromarray(bit), 'TIFF'), bit * 255),
           'bit.bmp': (saved(Image.fromarray(bit), 'BMP'), bit * 255), 'bit-g4.tif': (saved(Image.fromarray(bit), 'TIFF', compression='group4'), bit * 255),
           'bit-white0.tif': (saved(Image.fromarray(bit), 'TIFF', tiffinfo={262: 0}), bit * 255), 'la.png': (saved(alpha, 'PNG'), A),
           'la16.png': (png(np.stack([deep, np.full_like(deep, 65535)], -1), 16, 4), deep), 'palette.png': (saved(palette, 'PNG'), A),
           'palette.tif': (saved(palette, 'TIFF'), A), 'palette.bmp': (saved(palette, 'BMP'), A), 'rgb.png': (png(rgb, 8, 2), luma),
           'rgb16.png': (png(np.stack([deep] * 3, -1), 16, 2), deep), 'rgba.png': (png(np.concatenate([grey, np.full((40, 48, 1), 255, np.uint8)], -1), 8, 6),
           A), 'deep.png': (png(deep, 16), deep), 'deep-flat.png': (png(np.full((40, 48), 700, np.uint16), 16), np.zeros_like(A)),
           'cmyk.jpg': (saved(Image.fromarray(grey).convert('CMYK'), 'JPEG', quality=95), A),
           'cmyk.tif': (saved(Image.fromarray(grey).convert('CMYK'), 'TIFF'), A), 'rgb.jpg': (saved(grey, 'JPEG', quality=95), A),
           'lab.tif': (saved(Image.new('LAB', (48, 40), (128, 128, 128)), 'TIFF'), np.full_like(A, 119)),
           'turned.jpg': (saved(A, 'JPEG', quality=98, exif=exif), np.rot90(A, -1)), 'deep.tif': (grey_tiff(deep), deep),
           'deep-big.tif': (grey_tiff(deep, order='>'), deep), 'white0.tif': (grey_tiff(A, 0), 255 - A),
           'deep-white0.tif': (grey_tiff(deep, 0), 65535 - deep.astype(np.int64)), 'signed.tif': (grey_tiff(signed, form=2), signed),
           'signed8.tif': (grey_tiff((A.astype(int) - 128).astype(np.int8), form=2), A), 'int32.tif': (grey_tiff(deep.astype(np.int32) * 7, form=2), deep),
           'uint32.tif': (grey_tiff(deep.astype(np.uint32) * 65536), deep), 'float.tif': (grey_tiff(floats, form=3), floats),
           'double.tif': (grey_tiff(floats.astype(np.float64), form=3), floats), 'float-white0.tif': (grey_tiff(floats, 0, form=3), -floats),
           'key.png': (png(extra=chunk(b'tRNS', struct.pack('>H', 200))), np.where(A == 200, 0, A)),
           'key-outside.png': (png(extra=chunk(b'tRNS', struct.pack('>H', 300))), np.where(A == 44, 0, A)),
           'gamma.png': (png(extra=chunk(b'gAMA', struct.pack('>I', 45455))), A), 'thin.png': (png(picture(8, 1, 300)), picture(8, 1, 300)),
           'dot.png': (png(picture(8, 1, 1)), picture(8, 1, 1)), 'jpeg.png': (saved(A, 'JPEG'), loaded(saved(A, 'JPEG'))), 'png.jpg': (png(), A),
           'tiff.bmp': (saved(A, 'TIFF'), A), 'bmp.tif': (saved(A, 'BMP'), A), 'dicom.png': (dicom(), A), 'png.dcm': (png(), A)}
    yield from files('depths', odd, ODD)
    holes = {f'float-{name}.tif': grey_tiff(np.where(bit, floats, value).astype(np.float32), form=3) for name,
             value in dict(nan=np.nan, inf=np.inf, minus=-np.inf).items()}
    yield from files('depths', {**holes, 'float-all-nan.tif': grey_tiff(np.full((40, 48), np.nan, np.float32), form=3),
                                'complex.tif': grey_tiff(np.zeros((40, 48), np.complex64), form=6)})


def dicoms():
    "DICOM files that are odd (read right, or refused) or wrong; each is `dicom` with these options."
    deep, twelve, jpeg = picture(4, high=65536), picture(5, high=4096), saved(A, 'JPEG', quality=90)
    signed, junk = (deep.astype(np.int32) - 32768).astype(np.int16), element(0x0029, 0x1001, 'UN', b'junk')
    overlaid, colour = twelve | ((twelve % 3 == 0) << 12).astype(np.uint16), saved(np.stack([A, 255 - A, A], -1), 'JPEG')
    low12, packed = dict(BitsStored=12, HighBit=11), lambda *frames, **o: dict(syntax=JPEG, Pixels=fragments(*frames), **o)
    three = dict(SamplesPerPixel=3, PlanarConfiguration=0, Pixels=np.stack([A] * 3, -1).tobytes())
    odd = {  # name -> (options, pixels)
        'plain': ({}, A), 'implicit': (dict(syntax=IMPLICIT), A), 'big': (dict(a=deep, syntax=BIG), deep), 'deflated': (dict(syntax=DEFLATED), A),
        'no-preamble': (dict(preamble=False), A), 'bare': (dict(preamble=False, meta=False), A), 'deep': (dict(a=deep), deep),
        'signed': (dict(a=signed), signed), 'twelve': (dict(a=twelve, **low12), twelve), 'overlay-bits': (dict(a=overlaid, **low12), twelve),
        'high-bit': (dict(a=deep, BitsStored=12, HighBit=15), deep >> 4), 'inverse': (dict(Photometric='MONOCHROME1'), 255 - A),
        'inverse-deep': (dict(a=deep, Photometric='MONOCHROME1'), -deep.astype(np.int64)), 'shape-inverse': (dict(LutShape='INVERSE'), 255 - A),
        'slope-minus': (dict(Slope='-1', Intercept='255'), 255 - A), 'rescaled': (dict(a=twelve, Slope='2', Intercept='-1024', **low12), twelve),
        'jpeg': (packed(jpeg), loaded(jpeg)), 'jpeg-pieces': (packed(jpeg[:1000], jpeg[1000:]), loaded(jpeg)),
        'jpeg-colour': (packed(colour), loaded(colour)), 'jpeg-other-size': (packed(jpeg, Rows=41), loaded(jpeg)),
        'unclosed': (dict(syntax=JPEG, Pixels=fragments(jpeg, end=False)), loaded(jpeg)), 'rle': (dict(syntax=RLE, Pixels=fragments(rle(A))), A),
        'charset': (dict(Charset='ISO_IR 999', PatientName=b'\xe4\xf6\xfc\xff'), A), 'private': (dict(extra=junk), A),
        'vr-unknown': (dict(extra=element(0x0029, 0x1001, 'ZZ', b'junkjunk')), A), 'frames-one': (dict(Frames='1'), A),
        'frames-0': (dict(Frames='0'), A), 'frames-word': (dict(Frames='one'), A), 'no-photometric': (dict(drop=['Photometric']), A),
        'no-samples': (dict(drop=['SamplesPerPixel']), A), 'no-signed': (dict(drop=['Signed']), A), 'no-syntax': (dict(says=''), A),
        'no-stored': (dict(drop=['BitsStored', 'HighBit']), A), 'odd-length': (dict(a=A[:39, :47]), A[:39, :47]),
        'surplus': (dict(Pixels=A.tobytes() + bytes(64)), A), 'nested': (dict(extra=nested(5000)), A), 'lut-short': (dict(extra=lut(b'')), A)}
    yield from files('dicom', {k: (dicom(**o), a) for k, (o, a) in odd.items()}, ODD, suffix='.dcm')
    yield from files('dicom', {'trailing-junk': (dicom() + b'junk after the end', A)}, ODD, suffix='.dcm')
    wrong = {  # name -> options
        'no-pixels': dict(drop=['Pixels']), 'pixels-empty': dict(Pixels=b''), 'pixels-short': dict(Pixels=A.tobytes()[:-200]), 'pixels-length': dict(length=10),
        'report': dict(drop=['Pixels', 'Rows', 'Columns', 'BitsAllocated'], Modality='SR'), 'dicomdir': dict(SOPClass='1.2.840.10008.1.3.10',
            drop=['Pixels', 'Rows', 'Columns']),
        'rgb': dict(Photometric='RGB', **three), 'ybr': dict(Photometric='YBR_FULL', **three), 'three-greys': three,
        'palette': dict(Photometric='PALETTE COLOR'),
        'photometric-odd': dict(Photometric='MONOCHROME3'), 'two-frames': dict(Frames='2', Pixels=A.tobytes() * 2),
        'two-frames-jpeg': packed(jpeg, jpeg, Frames='2'),
        'frames-minus': dict(Frames='-1'), 'rows-0': dict(Rows=0), 'rows-more': dict(Rows=41), 'no-rows': dict(drop=['Rows']),
        'no-columns': dict(drop=['Columns']),
        'no-bits': dict(drop=['BitsAllocated']), 'bits-12': dict(BitsAllocated=12, **low12), 'bits-1': dict(BitsAllocated=1, BitsStored=1, HighBit=0),
        'bits-64': dict(BitsAllocated=64, BitsStored=64, HighBit=63), 'bits-0': dict(BitsAllocated=0), 'stored-more': dict(BitsStored=12),
        'stored-0': dict(BitsStored=0), 'sign-7': dict(Signed=7), 'padding-all': dict(a=np.full_like(A, 7), Padding=7),
        'slope-0': dict(Slope='0', Intercept='0'), 'slope-nan': dict(Slope='nan', Intercept='0'), 'slope-inf': dict(Slope='inf', Intercept='0'),
        'slope-word': dict(Slope='steep', Intercept='0'), 'intercept-huge': dict(Slope='1', Intercept='1e400'),
        'window-0': dict(Center='128', Width='0'), 'window-minus': dict(Center='128', Width='-5'), 'window-nan': dict(Center='nan', Width='nan'),
        'window-word': dict(Center='middle', Width='wide'), 'window-comma': dict(Center='127,5', Width='255'), 'window-no-width': dict(Center='128'),
        'window-counts': dict(Center='128\\100', Width='255'), 'window-outside': dict(Center='90000', Width='2'),
        'syntax-unknown': dict(says='1.2.3.4'), 'syntax-words': dict(says='raw please'), 'syntax-mpeg': dict(syntax=MPEG, Pixels=fragments(bytes(100))),
        'says-jpeg': dict(says=JPEG), 'says-raw': packed(jpeg, says=EXPLICIT), 'says-deflated': dict(says=DEFLATED), 'jpeg-empty': packed(),
        'jpeg-half': packed(jpeg[:700]),
        'jpeg-noise': packed(A.tobytes()), 'jpeg-large': packed(patched(jpeg, jpeg.index(b'\xff\xc0') + 5, b'\xff\xdc\xff\xdc')),
        'jpegls-noise': dict(syntax=JPEG_LS, Pixels=fragments(A.tobytes())), 'j2k-noise': dict(syntax=J2K, Pixels=fragments(A.tobytes())),
        'rle-short': dict(syntax=RLE, Pixels=fragments(rle(A)[:500])), 'rle-segments': dict(syntax=RLE, Pixels=fragments(rle(A, segments=2**31))),
        'rle-offset': dict(syntax=RLE, Pixels=fragments(rle(A, offset=2**31))),
        'sequence-unclosed': dict(extra=element(0x0040, 0xA730, 'SQ', struct.pack('<HHI', 0xFFFE, 0xE000, 0xFFFFFFFF), length=0xFFFFFFFF)),
        'float-nan': dict(drop=['Pixels', 'BitsStored', 'HighBit', 'Signed'], BitsAllocated=32, Float=np.full((40, 48), np.nan, np.float32).tobytes())}
    yield from files('dicom', {k: dicom(**o) for k, o in wrong.items()}, suffix='.dcm')


def nested(n):
    "A sequence in a sequence in a sequence ..."
    out = b''
    for _ in range(n): out = element(0x0040, 0xA730, 'SQ', struct.pack('<HHI', 0xFFFE, 0xE000, len(out)) + out)
    return out


def lut(data):
    "A VOI LUT of 256 entries, which may be missing."
    item = element(0x0028, 0x3002, 'US', struct.pack('<HHH', 256, 0, 16)) + element(0x0028, 0x3006, 'OW', data)
    return element(0x0028, 0x3010, 'SQ', struct.pack('<HHI', 0xFFFE, 0xE000, len(item)) + item)


# ---- names, links and special files: a folder with two good pictures, and one thing that is not

def strange():
    "What a folder may hold beside files."
    def case(name, write, file, allow=BAD, right=None, says=()):
        def build(folder):
            for i in (1, 2): put(folder / f'data/ill/good{i}.png', png(picture(i)))
            put(folder / 'secret.png', png(picture(99))); put(folder / 'outside/secret.png', png(picture(98)))
            write(folder / 'data/ill')
        return Case('strange', name, 'folder', build, file, allow, right or (lambda m: len(m) == 3), says)
    link = lambda target, name='link.png': lambda d: os.symlink(target, d / name)
    yield case('dangling link', link('nowhere.png'), 'link.png')
    yield case('link to itself', link('link.png'), 'link.png')
    yield case('link out of the root', link('../../secret.png'), 'link.png')
    yield case('absolute link out', lambda d: os.symlink((d / '../../secret.png').resolve(), d / 'link.png'), 'link.png')
    yield case('link to passwd', link('/etc/passwd'), 'link.png')
    yield case('link to zero', link('/dev/zero'), 'link.png')
    yield case('link to random', link('/dev/urandom'), 'link.png')
    yield case('link to tty', link('/dev/tty'), 'link.png')
    yield case('link to proc', link('/proc/self/mem'), 'link.png')
    yield case('link to standard input', link('/dev/stdin'), 'link.png')
    yield case('link to a folder', link('.'), 'link.png')
    yield case('link to a folder out', link('../../outside', 'out'), 'out')
    yield case('link to a good picture', link('good1.png'), 'link.png', ODD, lambda m: len(m) == 2)
    yield case('fifo', lambda d: os.mkfifo(d / 'pipe.png'), 'pipe.png')
    yield case('socket', bind, 'sock.png')
    yield case('folder named as a picture', lambda d: put(d / 'x.png/inner.txt', b'inner'), 'x.png', says=('x.png',))
    yield case('empty folder named as a picture', lambda d: (d / 'x.png').mkdir(), 'x.png')
    yield case('no rights', lambda d: (put(d / 'shut.png', png()), (d / 'shut.png').chmod(0)), 'shut.png', ODD)  # root reads it all the same
    names = {'newline': 'a\nb.png', 'carriage return': 'a\rb.png', 'tab': 'a\tb.png', 'escape': 'a\x1b[31mb.png', 'bell': 'a\x07b.png', 'delete': 'a\x7fb.png',
             'space before': ' a.png', 'space after': 'a.png ', 'only spaces': '   .png', 'quote': 'a"b.png', 'comma': 'a,b.png', 'backslash': 'a\\b.png',
             'dots': '..a..png', 'colon': 'c:x.png', 'percent': '%2e%2e%2fx.png', 'dollar': '$HOME.png', 'tilde': '~.png', 'bidi': 'a\u202egnp.png',
             'zero width': 'a\u200bb.png', 'combining': 'e\u0301.png', 'emoji': '\U0001fac1.png', 'long': 'x' * 251 + '.png', 'minus': '-rf.png',
             'formula': '=1+1.png', 'nan': 'NaN.png', 'dataset and colon': 'ill:1.png', 'upper': 'A.PNG', 'no stem': '.png', 'two suffixes': 'a.png.exe',
             'no suffix': 'picture', 'star': '*.png', 'brackets': '[ab].png', 'device': 'CON.png', 'unicode slash': 'a\u2215b.png'}
    for name, file in names.items():
        yield case(f'name: {name}', lambda d, file=file: put(d / file, png()), file, ODD, None if name not in ('no stem',
            'dots') else lambda m: True)  # hidden files are not looked at
    yield case('name: latin-1', lambda d: put(d / os.fsdecode(b'caf\xe9.png'), png()), 'caf', ODD, says=('caf',))
    yield case('name: broken utf-8', lambda d: put(d / os.fsdecode(b'\xff\xfe.png'), png()), '.png', ODD, says=('.png',))
    yield case('name: no picture, latin-1', lambda d: put(d / os.fsdecode(b'caf\xe9.txt'), b'none'), 'caf', says=('caf',))
    yield case('name: deep', lambda d: put(d.joinpath(*['d' * 100] * 20, 'x.png'), png()), 'x.png', ODD)
    yield case('class of a newline', lambda d: put(d.parent / 'a\nb/x.png', png()), 'x.png', ODD, says=('a\nb', 'a\\nb'))
    yield case('class of latin-1', lambda d: put(d.parent / os.fsdecode(b'caf\xe9/x.png'), png()), 'caf', ODD, says=('caf',))
    yield case('class named as a column', lambda d: put(d.parent / 'patient/x.png', png()), 'patient', ODD, says=('patient',))
    yield case('class named by number', lambda d: put(d.parent / '0/x.png', png()), '0', ODD)
    yield case('class empty', lambda d: (d.parent / 'well').mkdir(), 'well')
    yield case('class without pictures', lambda d: put(d.parent / 'well/notes.txt', b'none'), 'well')
    yield case('split beside class', lambda d: put(d.parent / 'train/ill/x.png', png()), 'train')
    yield case('class of masks only', lambda d: put(d.parent / 'well/masks/x.png', png()), 'well')
    yield case('other labels for the same pixels', lambda d: put(d.parent / 'well/x.png', png(picture(1))), 'x.png')
    yield case('the same pixels twice', lambda d: put(d / 'x.png', png(picture(1), level=1)), 'x.png')
    yield case('thumbnails', lambda d: put(d / 'Thumbs.db', bytes(100)), 'Thumbs.db')


def put(path, data):
    "Write a file and the folders above it."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def bind(folder):
    "A socket's file stays behind when its server dies."
    here = os.getcwd()
    try:
        os.chdir(folder)  # the whole path may be longer than a socket's address may be
        with socket.socket(socket.AF_UNIX) as s: s.bind('sock.png')
    finally: os.chdir(here)


# ---- tables in manifest columns

GOOD = [dict(image=f'{p}.png', patient=f'p{i}', study=f's{i}', view='PA', sex='MF'[i % 2], age=str(40 + i), Mass=str(i % 2), Nodule='') for i,
        p in enumerate('abcd')]


def csv_text(rows=GOOD, columns=None, sep=','):
    "Rows as CSV, quoted where need be."
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, sep=sep)


def beside(folder):
    "The good pictures of the tables, masks, and what must not be reached."
    for i, p in enumerate('abcd'):
        put(folder / f'data/{p}.png', png(picture(i + 10))); put(folder / f'data/sub/{p}.png', png(picture(i + 20))); put(folder / f'data/masks/{p}.png',
            png((picture(i) > 150).astype(np.uint8) * 255))
    put(folder / 'secret.png', png(picture(99))); put(folder / 'outside/secret.png', png(picture(98))); put(folder / 'data-outside/secret.png',
        png(picture(97)))


def tabled(group, name, content, file='manifest.csv', allow=BAD, right=None, says=(), more=None, read='csv'):
    "A case of a table beside good pictures."
    def build(folder):
        beside(folder)
        (folder / 'data' / file).write_bytes(content() if callable(content) else content.encode() if isinstance(content, str) else content)
        if more: more(folder / 'data')
    return Case(group, name, read, build, file, allow, right, says)


def row_b(**changes):
    "The good rows, with other values in the second one; columns that are new are blank elsewhere."
    rows = [dict(r) for r in GOOD]
    rows[1] |= changes
    return csv_text(rows)


def paths():
    "Paths that lead out of the root, or nowhere."
    ways = {'parent': '../secret.png', 'parent of parent': 'sub/../../secret.png', 'parent at the end': 'sub/..', 'neighbour': '../data-outside/secret.png',
            'absolute': '/etc/passwd', 'absolute with dots': '/../etc/passwd', 'slashes': '//secret.png', 'drive': 'C:\\secret.png',
            'drive with slash': 'C:/secret.png', 'drive relative': 'c:secret.png', 'unc': '\\\\server\\share\\secret.png',
            'unc with slashes': '//server/share/secret.png', 'device path': '\\\\.\\COM1', 'backslashes': '..\\secret.png', 'mixed': 'sub\\../..\\secret.png',
            'percent': '%2e%2e/secret.png', 'percent slash': '..%2fsecret.png', 'twice percent': '%252e%252e/secret.png',
            'wide dots': '\uff0e\uff0e/secret.png', 'wide slash': '..\uff0fsecret.png', 'overlong': '..\u2215secret.png', 'tilde': '~/secret.png',
            'variable': '$HOME/secret.png', 'file url': 'file:///etc/passwd', 'web url': 'http://localhost/secret.png',
            'data url': 'data:image/png;base64,AAAA', 's3': 's3://bucket/x.png', 'zip inside': 'x.zip!a.png', 'stream': 'a.png::$DATA', 'folder': 'sub',
            'folder with slash': 'sub/', 'here': '.', 'blank': '', 'space': '  ', 'nan': 'nan', 'file as folder': 'a.png/b.png', 'file with slash': 'b.png/',
            'three dots': '.../secret.png', 'space and dots': ' ../secret.png', 'dots and space': '.. /secret.png', 'nul': 'b\0.png',
            'nul and way out': '../secret.png\0.png', 'newline': 'b\n.png', 'wrong case': 'B.PNG', 'not there': 'zzz.png', 'device': '/dev/zero',
            'process': '/proc/self/environ', 'long name': 'x' * 300 + '.png', 'long path': 'd/' * 3000 + 'x.png', 'long cell': 'x' * 1_000_000,
            'formula': "=cmd|'/c calc'!A1", 'minus': '-1+1', 'at': '@SUM(1)', 'surrogate': 'caf\xe9\x80.png', 'glob': '*.png', 'number': '7'}
    for name, way in ways.items():
        say = ('manifest.csv', way[:20].strip() or 'row 1', repr(way)[1:20])
        free = name == 'file with slash'  # the same file, by whoever reads it
        yield tabled('paths', f'image: {name}', row_b(image=way), says=say, allow=ODD if free else BAD, right=lambda m: len(m) == 4)
        if name in ('parent', 'absolute', 'drive', 'backslashes', 'nul', 'not there', 'folder', 'device', 'long cell', 'percent'):
            yield tabled('paths', f'mask: {name}', row_b(mask=way), says=say)
    yield tabled('paths', 'image: link out', row_b(image='link.png'), says=('link.png',), more=lambda d: os.symlink('../secret.png', d / 'link.png'))
    yield tabled('paths', 'image: folder link out', row_b(image='out/secret.png'), says=('data/out',), more=lambda d: os.symlink('../outside', d / 'out'))
    yield tabled('paths', 'mask: link out', row_b(mask='link.png'), says=('link.png',), more=lambda d: os.symlink('../secret.png', d / 'link.png'))
    yield tabled('paths', 'image: fifo', row_b(image='pipe.png'), says=('pipe.png',), more=lambda d: os.mkfifo(d / 'pipe.png'))
    yield tabled('paths', 'mask: fifo', row_b(mask='pipe.png'), says=('pipe.png',), more=lambda d: os.mkfifo(d / 'pipe.png'))
    yield tabled('paths', 'image: the same by another way', row_b(image='sub/../a.png'), says=('a.png',))
    yield tabled('paths', 'image: the same with a dot', row_b(image='./a.png'), says=('a.png',))
    yield tabled('paths', 'image: the table itself', row_b(image='manifest.csv'), says=('manifest.csv',))
    yield tabled('paths', 'table is a folder', b'', file='notes.txt', more=lambda d: (d / 'manifest.csv').mkdir(), says=('manifest.csv', 'data'))
    yield tabled('paths', 'table is a fifo', b'', file='notes.txt', more=lambda d: os.mkfifo(d / 'manifest.csv'), says=('manifest.csv',))
    yield tabled('paths', 'table is a dangling link', b'', file='notes.txt', more=lambda d: os.symlink('nowhere.csv', d / 'manifest.csv'),
                 says=('manifest.csv',))


def cells():
    "Values that mean nothing."
    values = dict(Mass=['2', '-2', '0.5', '1.0000001', 'yes', 'true', 'TRUE', 'NaN', 'nan', 'None', 'null', 'N/A', '#N/A', '#REF!', 'inf', '-inf', '1e400',
                        '1e-400x', '0x1', '1,0', '1;0', '1|0', '\uff11', '\u00bd', '=1+1', '+', '--1', '1 1', '\u22121', 'positive', '\0', '1\n', '9' * 400,
                        '1' * 1_000_000], age=['411', '-1', '121', '1e9', 'old', '45Y', '045Y', 'inf', 'NaN', 'forty', '40-50', '1980-01-01', '40,5',
                        '\u0664\u0660', '=40', '9' * 5000], sex=['X', 'male', 'f', '0', 'W', 'nan', 'M F'], view=['frontal', 'pa', 'AP ,', '0', 'PA/AP'],
                        patient=['', '  '], sha256=['0', 'f' * 64, 'F' * 63, 'not a hash', '0x' + 'f' * 62, '1e9'],
                        dataset=['../x', 'a/b', 'a b', '..\\x', 'x\0', 'a\nb', '=1'], width=['-5', 'wide', '1e12', 'inf', '1.5'], height=['1e400', '-1'])
    alike = {('Mass', 'true'), ('Mass', 'TRUE'), ('Mass', '1\n'), ('sex', 'nan'), *(('width', v) for v in ('-5', '1e12', 'inf', '1.5')),
             *(('height', v) for v in ('1e400', '-1'))}  # sizes are measured
    for column, odd in values.items():
        for v in odd:
            name = f'{column}: {v[:20]!r}' + (f' of {len(v):,}' if len(v) > 20 else '')
            rows = [dict(r) for r in GOOD]
            if column == 'dataset': rows = [dict(r, dataset='good') for r in rows]
            rows[1][column] = v
            yield tabled('cells', name.replace('/', '\u2215').replace('\0', '0'), csv_text(rows), says=('b.png', 'manifest.csv'),
                         allow=BAD if (column, v) not in alike else ODD,
                         right=lambda m: m.table.Mass.tolist()[1] == 1 and m.table.width.tolist() == [48] * 4 and m.table.height.tolist() == [40] * 4)
    yield tabled('cells', 'dots for every dataset', csv_text([dict(r, dataset='..') for r in GOOD]), says=('manifest.csv', "'..'", 'a.png'))
    other = [GOOD[0], {**GOOD[0], 'Mass': '1'}, *GOOD[1:]]
    yield tabled('cells', 'the same image twice', csv_text([GOOD[0], *GOOD]), says=('a.png',))
    yield tabled('cells', 'the same image with another label', csv_text(other), says=('a.png',))
    yield tabled('cells', 'the same image of another patient', csv_text([{**GOOD[0], 'patient': 'p9'}, *GOOD]), says=('a.png',))
    yield tabled('cells', 'the same pixels with another label', csv_text([*GOOD, {**GOOD[0], 'image': 'copy.png', 'Mass': '1'}]), says=('copy.png',),
                 more=lambda d: put(d / 'copy.png', png(picture(10), level=1)))
    yield tabled('cells', 'the same pixels in a bad row', csv_text([*GOOD, {**GOOD[0], 'image': 'copy.png'}]), says=('copy.png',),
                 more=lambda d: put(d / 'copy.png', png(picture(10), level=1)))
    yield tabled('cells', 'all pictures are gone', csv_text([{**r, 'image': f'gone/{i}.png'} for i, r in enumerate(GOOD * 500)]),
                 says=('gone/', 'manifest.csv'))


def lists():
    "Published parts: the official column of a table, and CSV files that name pictures."
    for name, new in {'a part that is none': dict(split='tset'), 'a part by number': dict(split='2'), 'two parts': dict(split='train;test'),
                      'a leak': dict(split='test', patient='p1')}.items():
        yield tabled('lists', f'official, {name}', csv_text([{**OFFICIAL[0], **new}, *OFFICIAL[1:]]), read='official', says=(repr(new['split']), 'p1'))
    good, lines = ['a.png', 'b.png', 'c.png', 'd.png'], 'image\n{}\n'.format
    tests = {'the same picture': lines('a.png'), 'the same picture by another way': lines('/content/data/a.png'),
             'the same patient': lines('sub/d.png\nsub/e.png'), 'unknown': lines('sub/c.png\nzzz.png'), 'way out': lines('sub/c.png\n../secret.png'),
             'absolute': lines('sub/c.png\n/etc/passwd'), 'blank line': lines('sub/c.png\n""'), 'empty': b'', 'only a header': 'image\n',
             'other columns': 'label\n1\n0\n', 'NUL': lines('sub/c.png\0'), 'latin-1': lines('sub/c.png\ncaf\xe9.png').encode('latin-1'),
             'utf-16': lines('sub/c.png').encode('utf-16'), 'ragged': 'image,label\nsub/c.png,1,2,3\nsub/a.png\n',
             'long cell': lines('sub/c.png\n' + 'x' * 1_000_000), 'a web page': '<html>sign in</html>', 'a picture': png(),
             'many columns': 'image' + ',x' * 200_000 + '\n', 'a quote': lines('"sub/c.png\nsub/a.png')}
    for name, data in tests.items(): yield listed('lists', f'test list: {name}', good, data)
    yield listed('lists', 'test list: a folder', good, lambda p: p.mkdir())
    yield listed('lists', 'test list: not there', good, lambda p: None)
    yield listed('lists', 'test list: a fifo', good, os.mkfifo)


TWICE = [*GOOD, *[{**r, 'image': f'sub/{r["image"]}', 'patient': f'p{i + 4 if i < 3 else 3}', 'study': f's{i + 4}'} for i,
                  r in enumerate(GOOD)]]  # the last patient has two pictures
OFFICIAL = [dict(r, patient=f'p{i}', split='train' if i < 6 else 'test') for i, r in enumerate(TWICE)]


def listed(group, name, train, test, **kw):
    "A case of a split by two lists of pictures."
    def more(d):
        put(d / 'train.csv', 'image\n' + '\n'.join(train) + '\n')
        test(d / 'test.csv') if callable(test) else put(d / 'test.csv', test)
    return tabled(group, name, csv_text(TWICE), read='listed', says=('test.csv', 'p3', 'a.png'), more=more, **kw)


def masks():
    "Masks that are not there, not masks, or another picture's."
    def case(name, data, allow=BAD, **kw):
        return tabled('masks', name, csv_text([dict(r, mask=f'masks/{r["image"]}' if i != 1 else 'masks/odd.png') for i, r in enumerate(GOOD)]),
                      says=('odd.png', 'b.png'), read='masked', allow=allow, more=lambda d: put(d / 'masks/odd.png', data) if data is not None else None, **kw)
    half = np.zeros((40, 48), np.uint8); half[:, :20] = 255
    yield case('not there', None)
    yield case('other proportions', png(np.tile(half, (1, 3))))
    yield case('turned', png(np.ascontiguousarray(half.T)))
    yield case('marks nothing', png(half * 0))
    yield case('0 and 1', png(half // 255))
    yield case('empty file', b'')
    yield case('a web page', b'<html>404</html>')
    yield case('truncated', png(half)[:60])
    yield case('larger than allowed', png(size=(50_000, 41_666)))
    yield case('several frames', saved(Image.fromarray(half), 'TIFF', save_all=True, append_images=[Image.fromarray(half)]))
    yield case('one pixel', png(half[:1, :1]))
    yield case('half the size', png(half[::2, ::2].copy()), FINE, right=lambda m: len(m) == 4)
    yield case('float with NaN', grey_tiff(np.where(half > 0, np.nan, 0).astype(np.float32), form=3))


def encodings():
    "Tables that are no plain UTF-8 CSV."
    text, change = csv_text(), lambda patient: csv_text([{**GOOD[0], 'patient': patient}, *GOOD[1:]])
    fine = lambda m: m.labels == ('Mass', 'Nodule') and m.table.patient.str[-2:].tolist() == ['p0', 'p1', 'p2', 'p3'] and m.table.age.tolist() == [40, 41, 42,
        43]
    odd = {'utf-16': text.encode('utf-16'), 'utf-16 little': text.encode('utf-16-le'), 'utf-16 big': text.encode('utf-16-be'), 'utf-32': text.encode('utf-32'),
           'bom': text.encode('utf-8-sig'), 'returns and line feeds': text.replace('\n', '\r\n'), 'returns': text.replace('\n', '\r'),
           'blank lines': text.replace('\n', '\n\n'), 'no last newline': text.rstrip('\n'), 'spaces after commas': text.replace(',', ', ')}
    for name, data in odd.items(): yield tabled('encodings', name, data, allow=ODD, right=fine, says=('manifest.csv', 'a.png'))
    accented = lambda m: len(m) == 4 and m.table.patient[0].endswith('caf\xe9')
    yield tabled('encodings', 'latin-1', change('caf\xe9').encode('latin-1'), allow=ODD, right=accented)
    long = f'image,patient,{"x" * 1_000_000}\na.png,p,1\n'
    yield tabled('encodings', 'long header', long, allow=ODD, right=lambda m: len(m) == 1)
    bad = {'utf-8 then latin-1': (text + 'sub/a.png,caf\xe9,,PA,M,40,0,\n').encode('latin-1') + change('caf\xe9').encode(),
           'surrogates': text.encode().replace(b'p0', b'\xed\xa0\x80'), 'cp1252 quotes': change('\u201cp0\u201d').encode('cp1252'),
           'shift-jis': change('\u80f8\u90e8').encode('shift-jis'), 'ebcdic': text.encode('cp500'), 'bom twice': b'\xef\xbb\xbf' + text.encode('utf-8-sig'),
           'control-z at the end': text + '\x1a', 'NUL inside': text.replace('p1', 'p\x001'), 'NUL at the end': text + '\0' * 4096, 'only NUL': bytes(4096),
           'empty': '', 'only a newline': '\n', 'only a bom': b'\xef\xbb\xbf', 'only the header': text.split('\n')[0] + '\n',
           'no header': text.split('\n', 1)[1], 'header twice': text + text, 'header in the middle': text.replace('c.png', text.split('\n')[0] + '\nc.png'),
           'header in capitals': text.replace('image', 'IMAGE', 1), 'header with spaces': text.replace('image,', 'image ,', 1),
           'comment lines': '# made by hand\n' + text, 'semicolons': csv_text(sep=';'), 'tabs': csv_text(sep='\t'),
           'gzip': gzip.compress(text.encode(), mtime=0), 'png': png(), 'html': '<!DOCTYPE html><html><table><tr><td>image</td></tr></table></html>',
           'json': json.dumps(GOOD), 'pickle': PICKLE, 'lfs': POINTER, 'parquet': parquet(GOOD), 'xlsx': b'PK\3\4' + bytes(300), 'noise': A.tobytes()}
    for name, data in bad.items(): yield tabled('encodings', name, data, says=('manifest.csv', 'b.png', 'row 4', 'row 2'))


def parquet(rows, **columns):
    "Rows as parquet bytes."
    f = io.BytesIO()
    pd.DataFrame(rows).assign(**columns).to_parquet(f)
    return f.getvalue()


def shapes():
    "Tables whose rows and columns do not fit."
    text = csv_text()
    head, *lines = text.splitlines()
    joined = lambda *lines: '\n'.join([*lines, ''])
    second = lambda new: joined(head, lines[0], new, *lines[2:])
    column = lambda name, value: joined(f'{head},{name}', *[f'{o},{value}' for o in lines])
    bad = {'a field too many': second(lines[1] + ',1'), 'a field too few': second(lines[1].rsplit(',', 2)[0]), 'only an image': second('b.png'),
           'every row a field too many': joined(head, *[f'{i},{o}' for i, o in enumerate(lines)]), 'every row a comma too many': joined(head,
           *[f'{o},' for o in lines]), 'the last line is cut': text[:-12], 'a quote is not closed': text.replace('b.png', '"b.png'),
           'a quote closes two rows on': text.replace('b.png', '"b.png').replace('d.png', 'd".png'), 'a column twice': column('Mass', 1),
           'the image column twice': column('image', 'a.png'), 'a column in two cases': column('Patient', 'q'), 'a column of spaces': column('  ', 1),
           'a column of text': column('notes', 'well'), 'a column without a name': joined(f',{head}', *[f'{i},{o}' for i, o in enumerate(lines)]),
           'no image column': csv_text(GOOD, [c for c in GOOD[0] if c != 'image']),
           'a million columns': joined('image,patient,' + ','.join(f'c{i}' for i in range(1_000_000)), 'a.png,p' + ',1' * 1_000_000)}
    for name, data in bad.items(): yield tabled('shapes', name, data, says=('manifest.csv', 'b.png', 'd.png', 'notes', 'Patient', 'Unnamed', 'image.1'))
    for name, label in {'a label of two lines': 'Ma\nss', 'a label as formula': '=1+1'}.items():
        yield tabled('shapes', name, f'image,patient,"{label}"\na.png,p,1\nb.png,q,0\n', allow=ODD, right=lambda m, label=label: m.labels == (label,))
    yield tabled('shapes', 'a million commas', text + ',' * 1_000_000 + '\n', allow=ODD, right=lambda m: len(m) == 4)
    whole, change = parquet(GOOD), lambda **new: parquet([{**r, **{k: v(i, r) for k, v in new.items()}} for i, r in enumerate(GOOD)])
    bad = {'that is none': b'this is no parquet', 'empty': b'', 'of magic words': b'PAR1PAR1', 'cut': whole[:-40],
           'flipped': patched(whole, 60, b'\xff\xff\xff\xff'), 'of a csv': text, 'of a long footer': b'PAR1' + b'\xff' * 64 + struct.pack('<I',
           2**31 - 1) + b'PAR1', 'without rows': parquet([], **{c: [] for c in GOOD[0]}), 'of lists': change(image=lambda i, r: [r['image']]),
           'of bytes': change(image=lambda i, r: r['image'].encode()), 'of numbers': change(image=lambda i, r: i),
           'of dicts': change(Mass=lambda i, r: {'value': 1}), 'of dates': change(age=lambda i, r: pd.Timestamp('1980-01-01')),
           'of infinity': change(Mass=lambda i, r: np.float32(np.inf)), 'with a way out': change(image=lambda i, r: '../secret.png' if i else 'a.png')}
    for name, data in bad.items(): yield tabled('shapes', f'parquet {name}', data, file='manifest.parquet',
        says=('manifest.parquet', 'a.png', '0', '../secret.png'))
    yield tabled('shapes', 'parquet of true and false', change(Mass=lambda i, r: bool(i % 2)), file='manifest.parquet', allow=ODD,
                 right=lambda m: m.table.Mass.tolist() == [0, 1, 0, 1])


# ---- archives

def zipped(members, method=zipfile.ZIP_DEFLATED):
    "A zip of (name, data) or (ZipInfo, data) pairs."
    f = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(f, 'w', method) as z:
        warnings.simplefilter('ignore')  # of names that stand there twice
        for name, data in members: z.writestr(name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name), data, method)
    return f.getvalue()


def tarred(*members, mode='w:gz', form=tarfile.PAX_FORMAT):
    "A tar of (name, data) pairs, or of dicts with other fields of its header."
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode=mode, format=form) as t:
        for m in members:
            m = dict(name=m[0], data=m[1]) if isinstance(m, tuple) else m
            info = tarfile.TarInfo(m['name'])
            for k, v in {'size': len(m.get('data', b'')), **m}.items(): k in ('name', 'data') or setattr(info, k, v)
            t.addfile(info, io.BytesIO(m.get('data', b'')))
    return f.getvalue()


def archives():
    "Archives that would write elsewhere, or without end, or are broken. Each is unpacked into the folder `out`, which holds a file and a link."
    good, x = ('images/a.png', png()), png(picture(5))
    link = zipfile.ZipInfo('link.png'); link.create_system, link.external_attr = 3, 0o120777 << 16
    locked = zipfile.ZipInfo('locked.png')
    ways = {'parent': '../evil.png', 'parent inside': 'images/../../evil.png', 'absolute': '/evil.png', 'drive': 'C:\\evil.png',
            'drive relative': 'c:evil.png', 'backslashes': '..\\evil.png', 'unc': '\\\\server\\share\\evil.png', 'two slashes': '//evil.png',
            'only parent': '..', 'parent folder': '../', 'through a link': 'way/evil.png', 'over a file': 'there.png', 'over a link': 'way',
            'long name': 'x' * 300 + '.png', 'deep': 'd/' * 3000 + 'x.png', 'through a file': 'there.png/evil.png'}
    bad = {f'{name}.zip': zipped([good, (way, x)]) for name, way in ways.items()} | {f'{name}.tar.gz': tarred(good, (way, x)) for name, way in ways.items()}
    whole, z = zipped([good, ('images/b.png', x)]), zipped([good, (locked, x)], zipfile.ZIP_STORED)
    central = z.rindex(b'PK\1\2')
    bad |= {'link.zip': zipped([good, (link, '../secret.png')]), 'link and through it.zip': zipped([(link, '..'), ('link.png/evil.png', x)]),
            'twice.zip': zipped([good, good]), 'file and folder.zip': zipped([good, ('images/a.png/b.png', x)]),
            'NUL in a name.zip': zipped([good, ('evilX.png', x)]).replace(b'evilX', b'evil\0'), 'ratio.zip': zipped([good, ('zeros.bin', bytes(30_000_000))]),
            'many files.zip': zipped([(f'{i}.txt', b'') for i in range(1100)]), 'says 2 to the 62.zip': patched(z, central + 24, b'\xff\xff\xff\xfe'),
            'encrypted.zip': patched(z, central + 8, b'\1'), 'method 99.zip': patched(patched(z, central + 10, b'\x63'), z.index(b'PK\3\4', 4) + 8, b'\x63'),
            'wrong sum.zip': z.replace(x[-40:], bytes(40)), 'cut.zip': whole[:-30], 'half.zip': whole[:len(whole) // 2],
            'no directory.zip': whole[:whole.index(b'PK\1\2')], 'flipped.zip': patched(whole, 60, b'\xff\xff\xff'),
            'offset nowhere.zip': patched(z, central + 42, b'\xff\xff\xff\x7f'), 'overlap.zip': patched(z, central + 42, b'\0\0\0\0'), 'empty.zip': b'',
            'page.zip': b'<!DOCTYPE html><html>sign in</html>', 'pointer.zip': POINTER, 'rar.zip': b'Rar!\x1a\7\1\0' + bytes(50),
            '7z.zip': b'7z\xbc\xaf\x27\x1c' + bytes(50), 'gzip of text.tar.gz': gzip.compress(b'no archive', mtime=0),
            'cut.tar.gz': tarred(good, ('b.png', x))[:-200], 'half.tar': tarred(good, ('b.png', x), mode='w')[:2000],
            'wrong sum.tar.gz': patched(tarred(good), len(tarred(good)) - 8, b'\0\0\0\0'), 'header flipped.tar': patched(tarred(good, mode='w'), 20, b'\xff'),
            'symlink.tar.gz': tarred(good, dict(name='link', type=tarfile.SYMTYPE, linkname='..')),
            'symlink and through it.tar.gz': tarred(dict(name='link', type=tarfile.SYMTYPE, linkname='..'), ('link/evil.png', x)),
            'hard link out.tar.gz': tarred(dict(name='link.png', type=tarfile.LNKTYPE, linkname='../secret.png')),
            'hard link to passwd.tar.gz': tarred(dict(name='link.png', type=tarfile.LNKTYPE, linkname='/etc/passwd')),
            'device.tar.gz': tarred(dict(name='zero', type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
            'fifo.tar.gz': tarred(dict(name='pipe', type=tarfile.FIFOTYPE)),
            'hidden path.tar.gz': tarred(dict(name='fine.png', data=x, pax_headers={'path': '../evil.png'})),
            'old long name.tar.gz': tarred(('../' * 60 + 'evil.png', x), form=tarfile.GNU_FORMAT), 'twice.tar.gz': tarred(good, good),
            'ratio.tar.gz': gzipped(claims(1_900_000_000)[:512], 2_000_000_000), 'endless end.tar.gz': gzipped(b'', 2_000_000_000),
            'no members.zip': zipped([]), 'no members.tar': tarred(mode='w'), 'only a folder.zip': zipped([('images/', b'')]), 'says much.tar': claims(2**33),
            'says minus.tar': claims(-1)}
    odd = {'nested.zip': zipped([('inner.zip', zipped([('../evil.png', x)]))]), 'dots.zip': zipped([('./images/./a.png', x)]),
           'latin-1.zip': zipped([('caf\xe9.png', x)]).replace('\xe9'.encode(), b'\xe9\xe9'), 'stream.zip': zipped([('a.png:stream', x)]),
           'comment.zip': patched(whole, len(whole) - 2, b'\5\0') + b'hello', 'before.zip': b'#!/bin/sh\n' + whole,
           'modes.tar.gz': tarred(dict(name='tool', data=x, mode=0o7777, uid=0)), 'zip named.tar.gz': whole, 'tar named.zip': tarred(good)}
    for name, data in {**bad, **odd}.items():
        def build(folder, name=name, data=data):
            put(folder / 'out/there.png', png()); os.symlink('..', folder / 'out/way'); put(folder / 'secret.png', png(picture(99))); put(folder / name, data)
        yield Case('archives', name, 'archive', build, name, ODD if name in odd else BAD, says=(name, 'out/'))
    yield Case('archives', 'not there', 'archive', lambda folder: None, 'nothing.zip')
    yield Case('archives', 'a folder', 'archive', lambda folder: (folder / 'x.zip').mkdir(), 'x.zip')
    yield Case('archives', 'a fifo', 'archive', lambda folder: os.mkfifo(folder / 'x.zip'), 'x.zip')


def gzipped(head, n):
    "`head` and `n` zeros as gzip, without its check sum being right."
    return b'\x1f\x8b\x08\0\0\0\0\0\2\xff' + inflating(head, n, wrap=False) + bytes(8)


def claims(size):
    "A tar whose only member says it has `size` bytes."
    block = bytearray(tarred(dict(name='a.png'), mode='w', form=tarfile.GNU_FORMAT)[:512])
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b'%06o\0 ' % (sum(block) - sum(block[148:156]) + 8 * 32)
    return bytes(block) + bytes(1024)


# ---- what the library wrote itself, damaged afterwards

def own_files():
    "A manifest or a bank that was changed behind the library's back."
    for name, read, file, change in damages():
        yield Case('own files', name, read, before(read), file, right=change)


def before(read):
    "What a case of this kind writes; a whole manifest or bank is put there when it is read."
    return (lambda folder: (beside(folder), put(folder / 'data/manifest.csv', csv_text()))) if read == 'rebuild' else lambda folder: None


def tamper(path, change):
    "Rewrite a file through `change`."
    path.write_bytes(change(path.read_bytes()))


def tamper_json(path, **changes): tamper(path, lambda b: json.dumps({**json.loads(b), **changes}).encode())


def retable(path, **changes):
    "Change the table of a saved manifest, and leave its notes as they are."
    import pyarrow as pa
    import pyarrow.parquet as pq
    t = pq.read_table(path)
    for k, v in changes.items(): t = t.set_column(t.column_names.index(k), k, pa.array(v))
    pq.write_table(t, path)


def renote(path, note):
    "Change the notes of a saved manifest."
    import pyarrow.parquet as pq
    t = pq.read_table(path)
    old = json.loads(t.schema.metadata[b'cxr_ssl'])
    pq.write_table(t.replace_schema_metadata({**t.schema.metadata, b'cxr_ssl': note(old) if isinstance(note(old), bytes) else json.dumps(note(old)).encode()}),
                   path)


def damages():
    "Tuples (name, what reads it, what the message must name, the damage)."
    swap = lambda f: lambda p: (p.unlink(), f(p))
    one = lambda where, change: lambda d: change(d / where)
    flip = lambda p: tamper(p, lambda b: patched(b, len(b) // 2, bytes([b[len(b) // 2] ^ 1])))
    any_file = {'gone': Path.unlink, 'empty': lambda p: put(p, b''), 'cut': lambda p: tamper(p, lambda b: b[:len(b) // 2]), 'a folder': swap(Path.mkdir),
                'a fifo': swap(os.mkfifo)}
    picture_file = {'changed': lambda p: put(p, png(picture(70))), 'larger': lambda p: put(p, png(picture(70, 90, 90))),
                    'a bomb': lambda p: put(p, png(size=(50_000, 50_000))), 'a link out': swap(lambda p: os.symlink('../secret.png', p))}
    for name, change in {**any_file, **picture_file}.items(): yield f'picture {name}', 'rebuild', 'b.png', one('b.png', change)
    yield 'root gone', 'rebuild', 'a.png', shutil.rmtree
    notes = {'no JSON': lambda n: b'{', 'a list': lambda n: [], 'empty': lambda n: {}, 'with another hash': lambda n: {**n, 'hash': '0' * 64},
             'with another quarantine': lambda n: {**n, 'quarantine': 'image,reason\nx.png,hidden\n'},
             'with a quarantine of noise': lambda n: {**n, 'quarantine': '"\0'}, 'with other labels': lambda n: {**n, 'labels': ['Mass']},
             'with roots of numbers': lambda n: {**n, 'roots': [1]}}
    cells = dict(image=['../secret.png', 'b.png', 'c.png', 'd.png'], patient=['data:p0'] * 4, Mass=np.zeros(4, np.float32), sha256=['f' * 64] * 4)
    whole = {'a web page': lambda p: put(p, b'<html>'), 'without notes': lambda p: put(p, parquet(GOOD)),
             'a link to zero': swap(lambda p: os.symlink('/dev/zero', p))}
    for name, change in {**any_file, **whole}.items(): yield f'manifest {name}', 'manifest', 'manifest.parquet', one('manifest.parquet', change)
    for name, change in notes.items(): yield f'manifest, notes {name}', 'manifest', 'manifest.parquet', one('manifest.parquet', partial(renote, note=change))
    for name, values in cells.items(): yield f'manifest, other {name}', 'manifest', 'png' if name in ('image',
        'sha256') else 'manifest.parquet', one('manifest.parquet',
        partial(retable, **{name: values}))
    for file in ('bank.json', 'index.npy', 'manifest.parquet', 'pixels/data.bin', 'pixels/journal.bin', 'pixels/store.json'):
        more = {} if file.endswith('json') else {'flipped': flip}
        for name, change in {**any_file, **more}.items(): yield f'{file.replace("/", " ")} {name}', 'bank', 'bank', one(f'bank/{file}', change)
    for file in ('bank.json', 'pixels/store.json'):
        for name, data in {'a list': b'[]', 'of nothing': b'{}', 'no text': b'\xff\xfe\0', 'nested': b'[' * 100_000}.items():
            yield f'{file.replace("/", " ")} {name}', 'bank', 'bank', one(f'bank/{file}', lambda p, data=data: put(p, data))
    fields = {'without files': dict(files={}), 'with a way out': dict(files={'../../secret.png': dict(bytes=1, sha256='')}),
              'of another format': dict(format=99), 'of another manifest': dict(holds='0' * 64), 'of words': dict(bytes='many')}
    for name, new in fields.items(): yield f'bank.json {name}', 'bank', 'bank', one('bank/bank.json', partial(tamper_json, **new))
    types = {'of objects': dict(dtype='O'), 'of a type that is none': dict(dtype='pickle'), 'of another type': dict(dtype='<f8'),
             'of another note': dict(note=[['x', 'O']]), 'of another format': dict(format=99)}
    for name, new in types.items():
        yield f'store.json {name}', 'bank', 'bank', one('bank/pixels/store.json', partial(tamper_json, **new))
    yield 'index.npy a pickle', 'bank', 'index.npy', one('bank/index.npy', lambda p: put(p, PICKLE))
    yield 'bank a file', 'bank', 'bank', one('bank', lambda p: (shutil.rmtree(p), put(p, b'x')))


# ---- good things: nothing may be set aside

def control():
    "What is in order, in every format and spelling that is allowed."
    deep = picture(33, high=65536)
    good = {'grey.png': (png(picture(30)), picture(30)), 'deep.png': (png(deep, 16), deep), 'capitals.PNG': (png(picture(31)), picture(31)),
            'grey.bmp': (saved(picture(32), 'BMP'), picture(32)), 'grey.tif': (saved(picture(34), 'TIFF'), picture(34)),
            'lzw.tiff': (saved(picture(35), 'TIFF', compression='tiff_lzw'), picture(35)), 'with space.png': (png(picture(36)), picture(36)),
            'r\xf6ntgen.png': (png(picture(37)), picture(37)), '\u80f8.png': (png(picture(38)), picture(38)), 'a.b.c.png': (png(picture(39)), picture(39)),
            'plain.dcm': (dicom(picture(40)), picture(40)), 'twelve.dcm': (dicom(picture(41, high=4096), BitsStored=12, HighBit=11), picture(41, high=4096)),
            'inverse.dcm': (dicom(picture(42), Photometric='MONOCHROME1'), 255 - picture(42)), 'implicit.dcm': (dicom(picture(43), IMPLICIT), picture(43)),
            'rle.dcm': (dicom(picture(44), RLE, Pixels=fragments(rle(picture(44)))), picture(44))}
    for i, (name, options) in enumerate({'base.jpg': {}, 'progressive.jpeg': dict(progressive=True), 'best.JPG': dict(quality=98)}.items()):
        data = saved(picture(50 + i), 'JPEG', **options)
        good[name] = data, loaded(data)
    data = saved(picture(55), 'JPEG', quality=90)
    good['jpeg.dcm'] = dicom(picture(55), JPEG, Pixels=fragments(data)), loaded(data)
    yield from files('control', good, FINE)
    whole = lambda m: len(m) == 4 and not len(m.quarantine) and dict(zip(m.table.image.str[-5], m.table.Mass)) == dict(a=0, b=1, c=0, d=1)
    tables = {'plain': csv_text(), 'bom': csv_text().encode('utf-8-sig'), 'carriage returns': csv_text().replace('\n', '\r\n'),
              'quoted': csv_text().replace('a.png', '"a.png"'), 'points': csv_text().replace(',40,0', ',40.0,0.0'),
              'dot': csv_text().replace('a.png', 'sub/a.png'), 'masks': csv_text([dict(r, mask=f'masks/{r["image"]}') for r in GOOD]),
              'commas in names': csv_text([{**r, 'patient': f'Doe, {i}'} for i, r in enumerate(GOOD)]),
              'uncertain': csv_text([{**r, 'Nodule': '-1'} for r in GOOD]), 'accents': csv_text([{**r, 'patient': f'\xe9{i}'} for i, r in enumerate(GOOD)])}
    for name, text in tables.items(): yield tabled('control', name, text, allow=FINE, right=whole)
    yield tabled('control', 'official parts', csv_text(OFFICIAL), allow=FINE, read='official')
    yield listed('control', 'listed parts', ['a.png', 'b.png', 'c.png', 'd.png'], 'Path,label\ndata/sub/a.png,1\ndata/sub/b.png,0\n', allow=FINE)
    yield tabled('control', 'parquet', lambda: parquet(GOOD), file='manifest.parquet', allow=FINE, right=whole)
    for name in ADAPTERS: yield adapted('control', name, name, lambda d: None, allow=FINE, right=lambda m: len(m) >= 4 and not len(m.quarantine))
    for name in ('rebuild', 'manifest', 'bank'):
        yield Case('control', name, name, before(name), 'data', FINE)


# ---- datasets as their authors publish them

def nih_files(d):
    "Four pictures in NIH's layout."
    rows = ['00000001_000.png,Cardiomegaly|Mass,0,1,57,M,PA,48,40,0.14,0.14', '00000001_001.png,No Finding,1,1,58,M,AP,48,40,0.14,0.14',
            '00000002_000.png,Mass,0,2,60,F,PA,48,40,0.14,0.14', '00000003_000.png,Hernia,0,3,70,F,PA,48,40,0.14,0.14']
    put(d / 'Data_Entry_2017.csv',
        '\n'.join(['Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]', *rows, '']))
    put(d / 'BBox_List_2017.csv', 'Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,4.5,6.5,20.0,10.0,,,\n')
    put(d / 'train_val_list.txt', '00000001_000.png\n00000001_001.png\n00000002_000.png'); put(d / 'test_list.txt', '00000003_000.png\n')
    for i, r in enumerate(rows): put(d / 'images' / r.split(',')[0], png(picture(60 + i)))


def chexpert_files(d):
    "Four pictures in CheXpert's layout."
    from cxr_ssl.data.labels import LABEL_SETS
    names = ['patient00001/study1/view1_frontal.jpg', 'patient00001/study2/view1_frontal.jpg', 'patient00002/study1/view1_frontal.jpg',
             'patient00002/study1/view2_lateral.jpg']
    head = ['Path', 'Sex', 'Age', 'Frontal/Lateral', 'AP/PA', *LABEL_SETS['chexpert14']]
    row = lambda i, n: [f'CheXpert-v1.0-small/train/{n}', 'Female', str(50 + i), 'Lateral' if 'lateral' in n else 'Frontal', '' if 'lateral' in n else 'AP',
                        *(['1.0', '', '-1.0', '0.0'] * 4)[:14]]
    put(d / 'train.csv', '\n'.join(','.join(r) for r in [head, *[row(i, n) for i, n in enumerate(names)]]) + '\n')
    for i, n in enumerate(names): put(d / 'train' / n, saved(picture(70 + i), 'JPEG'))


def rsna_files(d):
    "Four pictures in RSNA's layout."
    ids, classes = [f'000{i}-abcd' for i in range(4)], ['Lung Opacity', 'Normal', 'No Lung Opacity / Not Normal', 'Normal']
    put(d / 'stage_2_train_labels.csv',
        'patientId,x,y,width,height,Target\n' + f'{ids[0]},4.0,5.0,10.0,12.0,1\n{ids[0]},24.0,5.0,10.0,12.0,1\n' + ''.join(f'{i},,,,,0\n' for i in ids[1:]))
    put(d / 'stage_2_detailed_class_info.csv', 'patientId,class\n' + ''.join(f'{i},{c}\n' for i, c in zip(ids, classes)))
    for k, i in enumerate(ids): put(d / f'stage_2_train_images/{i}.dcm', dicom(picture(80 + k), PatientID=i))


def kermany_files(d):
    "Four pictures in Kermany's layout."
    for i, n in enumerate(['train/NORMAL/IM-0115-0001.jpeg', 'train/PNEUMONIA/person1_bacteria_1.jpeg', 'val/PNEUMONIA/person2_virus_2.jpeg',
                           'test/NORMAL/NORMAL2-IM-0003-0001.jpeg', 'val/NORMAL/NORMAL2-IM-1427-0001.jpeg', 'test/PNEUMONIA/person3_virus_15.jpeg']):
        put(d / 'chest_xray' / n, saved(picture(90 + i), 'JPEG'))


def covid_files(d):
    "Two pictures a class in the layout of the COVID-19 Radiography Database."
    for i, n in enumerate([(c, k) for c in ('COVID', 'Lung_Opacity', 'Normal', 'Viral Pneumonia') for k in (1, 2)]):
        for kind, a in (('images', picture(110 + i)), ('masks', (picture(i) > 150).astype(np.uint8) * 255)): put(d / n[0] / kind / f'{n[0]}-{n[1]}.png', png(a))


def trio_files(d):
    "Two pictures a class in the layout of the COVID, pneumonia and normal set."
    for i, (c, k) in enumerate((c, k) for c in ('COVID', 'NORMAL', 'PNEUMONIA') for k in (1, 2)): put(d / c / f'{c}-{k}.png', png(picture(130 + i)))


ADAPTERS = dict(nih14=nih_files, chexpert=chexpert_files, rsna=rsna_files, kermany=kermany_files, covid_radiography=covid_files, covid_pneumonia=trio_files)


def adapted(group, name, source, change, file='', **kw):
    "A case of a dataset in its own layout, with one thing changed."
    return Case(group, name, source, lambda folder: (ADAPTERS[source](folder / 'data'), put(folder / 'secret.png', png(picture(99))),
        put(folder / 'secret.jpg', saved(picture(99), 'JPEG')), put(folder / 'secret.dcm', dicom(picture(99))), change(folder / 'data')), file, **kw)


def swap(file, old, new, count=1):
    "Replace text in a dataset's file; the test of the test: the text must be there."
    def change(d):
        data = (d / file).read_bytes()
        old_, new_ = (o.encode() if isinstance(o, str) else o for o in (old, new))
        assert old_ in data, f'{file} has no {old_!r}'
        (d / file).write_bytes(data.replace(old_, new_, count))
    return change


def datasets():
    "Broken cells and files in the published layouts."
    yield from nih_cases()
    yield from chexpert_cases()
    yield from rsna_cases()
    yield from folder_cases()


def nih_cases():
    entry, boxes, train, test, first = 'Data_Entry_2017.csv', 'BBox_List_2017.csv', 'train_val_list.txt', 'test_list.txt', '00000001_000.png'
    at = lambda name: f'images/{name}'
    case = lambda name, change, says=(), **kw: adapted('datasets', f'nih14: {name}', 'nih14', change, entry, says=says or (first, entry), **kw)
    rows = {'unknown finding': ('Cardiomegaly|Mass', 'Cancer'), 'finding and no finding': ('Cardiomegaly|Mass', 'No Finding|Mass'),
            'no label': ('Cardiomegaly|Mass', ''), 'empty part': ('Cardiomegaly|Mass', 'Cardiomegaly||Mass'), 'NaN': ('Cardiomegaly|Mass', 'NaN'),
            'semicolon': ('Cardiomegaly|Mass', 'Cardiomegaly;Mass'), 'latin-1': ('Cardiomegaly|Mass', b'Cardiom\xe9galie'), 'age 411': (',57,', ',411,'),
            'age minus': (',57,', ',-3,'), 'age in words': (',57,', ',old,'), 'age infinite': (',57,', ',inf,'), 'gender': (',57,M', ',57,X'),
            'view': ('M,PA', 'M,XX'), 'no patient': (',0,1,57', ',0,,57'), 'way out': (first, '../secret.png'), 'absolute': (first, '/etc/passwd'),
            'backslashes': (first, '..\\secret.png'), 'not there': (first, '00000009_000.png'), 'no image': (f'{first},Card', ',Card'),
            'NUL': (first, '00000001\0_000.png'), 'field missing': ('Cardiomegaly|Mass,0,', 'Cardiomegaly|Mass,'),
            'field more': ('Cardiomegaly|Mass,0,', 'Cardiomegaly|Mass,0,0,'), 'quote': ('Cardiomegaly|Mass', '"Cardiomegaly|Mass')}
    for name, (old, new) in rows.items():
        yield case(name, swap(entry, old, new), says=(first, entry, new if isinstance(new, str) and new else entry))
    yield case('lower case', swap(entry, 'Cardiomegaly|Mass', 'cardiomegaly'), allow=ODD, right=lambda m: m.table.Cardiomegaly.tolist() == [1, 0, 0, 0])
    yield case('age in years', swap(entry, ',57,', ',057Y,'), allow=ODD, right=lambda m: 57 in m.table.age.tolist())
    yield case('twice with other labels', lambda d: tamper(d / entry, lambda b: b + f'{first},Hernia,0,1,57,M,PA,48,40,0.14,0.14\n'.encode()))
    yield case('no column', swap(entry, 'Finding Labels', 'Labels'), says=('Finding Labels',))
    yield case('two tables', lambda d: shutil.copy(d / entry, d / 'Data_Entry_2017_v2020.csv'), says=('Data_Entry_2017',))
    yield case('no table', lambda d: (d / entry).unlink(), says=('data has no',))
    tables = {'empty': b'', 'a web page': b'<html>sign in</html>', 'a pointer': POINTER, 'only its header': lambda b: b[:b.index(b'\n') + 1],
              'cut': lambda b: b[:-20], 'utf-16': lambda b: b.decode().encode('utf-16'), 'of NUL': bytes(500)}
    for name, data in tables.items():
        yield case(f'table {name}', lambda d, data=data: tamper(d / entry, data if callable(data) else lambda b: data), says=('00000003_000.png', entry),
                   allow=ODD if name == 'utf-16' else BAD, right=lambda m: len(m) == 4)
    yield case('table a fifo', lambda d: ((d / entry).unlink(), os.mkfifo(d / entry)), says=(entry, 'data has no'))
    yield case('no pictures', lambda d: shutil.rmtree(d / 'images'))
    change = {'gone': lambda p: p.unlink(), 'empty': lambda p: put(p, b''), 'a web page': lambda p: put(p, b'<html>404</html>'),
              'a bomb': lambda p: put(p, png(size=(50_000, 50_000))), 'a folder': lambda p: (p.unlink(), p.mkdir()),
              'a fifo': lambda p: (p.unlink(), os.mkfifo(p)), 'a link out': lambda p: (p.unlink(), os.symlink('../../secret.png', p)),
              'a link to zero': lambda p: (p.unlink(), os.symlink('/dev/zero', p)), 'of two': lambda p: put(p.parents[1] / 'images_001/images' / p.name,
              png(picture(95)))}
    for name, f in change.items():
        yield case(f'picture {name}', lambda d, f=f: f(d / at(first)), says=(first,))
        if name != 'of two': yield case(f'picture {name}, none with a box', lambda d, f=f: (f(d / at('00000003_000.png'))), says=('00000003_000.png',),
                                        options=dict(missing='quarantine'))
    lists = {'names the unknown': '00000003_000.png\n00000099_000.png\n', 'overlaps': f'00000003_000.png\n{first}\n', 'with a way out': '../secret.png\n',
             'of noise': A.tobytes(), 'empty': b''}
    for name, data in lists.items():
        yield case(f'list {name}', lambda d, data=data: put(d / test, data), says=('00000099_000.png', '00000003_000.png', test, first),
                   allow=ODD if name == 'names the unknown' else BAD, right=lambda m: m.table.split.tolist() == ['train'] * 3 + ['test'])
    yield case('list missing', lambda d: (d / test).unlink(), says=(test, train))
    yield case('list a fifo', lambda d: ((d / test).unlink(), os.mkfifo(d / test)), says=(test, train))
    for name, old, new in [('of minus width', '20.0,10.0', '-20.0,10.0'), ('of no height', '20.0,10.0', '20.0,0'), ('of NaN', '4.5', 'nan'),
                           ('in words', '4.5', 'left'), ('infinite', '4.5', 'inf'), ('outside', '4.5', '4500'), ('of minus place', '4.5', '-900'),
                           ('of an unknown finding', ',Mass', ',Lump')]:
        yield case(f'box {name}', swap(boxes, old, new), says=(first, boxes))
    yield case('box of a way out', swap(boxes, first, '../secret.png'), says=(boxes, 'secret.png'), allow=ODD, right=lambda m: len(m) == 4)


def chexpert_cases():
    table, p1 = 'train.csv', 'CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg'
    case = lambda name, change, says=(), **kw: adapted('datasets', f'chexpert: {name}', 'chexpert', change, table, says=says or (table,), **kw)
    rows = {**{f'label {v or "blank"}': (',AP,1.0', f',AP,{v}') for v in ('2.0', 'yes', 'NaN', 'inf', '0.5', '1.0.0', '=1')}, 'age 411': (',50,', ',411,'),
            'age in words': (',50,', ',old,'), 'age minus': (',50,', ',-50,'), 'sex': ('Female,50', 'X,50'), 'side': ('Frontal,AP', 'Oblique,AP'),
            'projection': ('Frontal,AP', 'Frontal,XX'), 'side against the name': ('Frontal,AP', 'Lateral,AP'),
            'way out': (p1, 'CheXpert-v1.0-small/train/../../secret.jpg'), 'way out and back': (p1, f'../../../etc/{p1[26:]}x'),
            'absolute': (p1, '/etc/passwd'), 'backslashes': (p1, p1.replace('/', '\\')), 'no patient': (p1, 'CheXpert-v1.0-small/train/view1_frontal.jpg'),
            'not there': (p1, p1.replace('view1', 'view9')), 'twice': ('patient00001/study2/view1', 'patient00001/study1/view1'), 'no path': (p1, ''),
            'field more': (',AP,1.0', ',AP,1.0,1.0'), 'field less': (',AP,1.0', ',AP'), 'NUL': ('patient00001/', 'patient00001\0/')}
    for name, (old, new) in rows.items(): yield case(name, swap(table, old, new), says=(table, 'patient00001'))
    yield case('no column', swap(table, 'Pleural Effusion', 'Effusion'), says=('Pleural Effusion',))
    yield case('column twice', swap(table, 'Pleural Effusion', 'Edema'))
    yield case('no table', lambda d: (d / table).unlink())
    yield case('empty table', lambda d: put(d / table, b''))
    yield case('table a fifo', lambda d: ((d / table).unlink(), os.mkfifo(d / table)))
    yield case('the same row in two tables', lambda d: shutil.copy(d / table, d / 'valid.csv'), says=('patient00001', 'valid.csv'))
    yield case('picture cut', lambda d: tamper(d / 'train/patient00001/study1/view1_frontal.jpg', lambda b: b[:300]), says=('view1_frontal.jpg',))
    yield case('folder a link out', lambda d: (shutil.move(d / 'train/patient00001', d.parent / 'away'), os.symlink('../../away', d / 'train/patient00001')),
               says=('patient00001',))


def rsna_cases():
    labels, details, image = 'stage_2_train_labels.csv', 'stage_2_detailed_class_info.csv', 'stage_2_train_images/0000-abcd.dcm'
    case = lambda name, change, says=(), **kw: adapted('datasets', f'rsna: {name}', 'rsna', change, labels, says=says or ('0000-abcd',), **kw)
    rows = {'target 2': ('12.0,1', '12.0,2'), 'target in words': ('12.0,1', '12.0,yes'), 'target blank': ('12.0,1', '12.0,'),
            'target 1 without a box': ('4.0,5.0,10.0,12.0', ',,,'), 'half a box': ('4.0,5.0,10.0,12.0', '4.0,5.0,,'),
            'target 0 with a box': ('12.0,1\n0000', '12.0,0\n0000'), 'box of minus width': ('10.0,12.0', '-10.0,12.0'),
            'box outside': ('4.0,5.0', '4000.0,5.0'), 'box in words': ('4.0,5.0', 'left,5.0'), 'box infinite': ('4.0,5.0', 'inf,5.0'),
            'way out': ('0000-abcd', '../../secret'), 'absolute': ('0000-abcd', '/etc/passwd'), 'not there': ('0000-abcd', 'ffff-abcd'),
            'no patient': ('0000-abcd,4', ',4'), 'no column': ('Target', 'Label')}
    for name, (old, new) in rows.items(): yield case(name, swap(labels, old, new), says=('0000-abcd', labels, new))
    yield case('class unknown', swap(details, 'Lung Opacity', 'Opaque'), says=('0000-abcd', 'Opaque', details))
    yield case('class against target', swap(details, 'Lung Opacity', 'Normal'), says=('0000-abcd', details))
    yield case('class missing', swap(details, '0000-abcd,Lung Opacity\n', ''), says=('0000-abcd', details))
    yield case('class twice', lambda d: tamper(d / details, lambda b: b + b'0001-abcd,Lung Opacity\n'), says=('0001-abcd', details))
    yield case('mapping of noise', lambda d: put(d / 'pneumonia-challenge-dataset-mappings_2018.json', A.tobytes()), says=('mappings_2018.json',))
    yield case('mapping of another shape', lambda d: put(d / 'pneumonia-challenge-dataset-mappings_2018.json', '{"a": [1]}'), says=('mappings_2018.json',))
    change = {'empty': b'', 'a web page': b'<html>', 'without pixels': dicom(drop=['Pixels']), 'in colour': dicom(SamplesPerPixel=3, Photometric='RGB',
        PlanarConfiguration=0, Pixels=np.stack([A] * 3, -1).tobytes()), 'of two frames': dicom(Frames='2', Pixels=A.tobytes() * 2), 'cut': dicom()[:-300],
        'a text': b'no picture'}
    for name, data in change.items(): yield case(f'picture {name}', lambda d, data=data: put(d / image, data))
    links = {'gone': None, 'a link out': '../../secret.dcm', 'a link to zero': '/dev/zero', 'a link to random': '/dev/urandom'}
    for name, target in links.items(): yield case(f'picture {name}', lambda d, target=target: ((d / image).unlink(), target and os.symlink(target, d / image)))
    yield case('picture a fifo', lambda d: ((d / image).unlink(), os.mkfifo(d / image)))
    yield case('picture of two', lambda d: put(d / 'copy/0000-abcd.dcm', dicom(picture(95))))


def folder_cases():
    jpeg = saved(picture(150), 'JPEG')
    def case(source, name, change, *says, **kw): return adapted('datasets', f'{source}: {name}', source, change, says[0], says=says, **kw)
    add = lambda path, data: lambda d: put(d / path, data)
    gone = lambda path: lambda d: shutil.rmtree(d / path) if (d / path).is_dir() else (d / path).unlink()
    yield case('kermany', 'name without a patient', add('chest_xray/train/PNEUMONIA/scan.jpeg', jpeg), 'scan.jpeg')
    yield case('kermany', 'bacterial and normal', add('chest_xray/train/NORMAL/person9_bacteria_9.jpeg', jpeg), 'person9_bacteria_9.jpeg')
    yield case('kermany', 'neither bacteria nor virus', add('chest_xray/train/PNEUMONIA/person9_fungus_9.jpeg', jpeg), 'person9_fungus_9.jpeg', allow=ODD,
               right=lambda m: m.table.Viral.isna().sum() == 1)
    yield case('kermany', 'a third class', add('chest_xray/train/COVID/person9_virus_9.jpeg', jpeg), 'COVID')
    yield case('kermany', 'a class gone', lambda d: [shutil.rmtree(p) for p in d.glob('chest_xray/*/NORMAL')], 'Normal')
    yield case('kermany', 'picture empty', add('chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg', b''), 'person1_bacteria_1.jpeg')
    yield case('kermany', 'twice in the folder', lambda d: shutil.copytree(d / 'chest_xray', d / 'chest_xray/chest_xray'), 'chest_xray')
    yield case('kermany', 'other top folder', lambda d: (d / 'chest_xray').rename(d / 'other'), 'data', allow=ODD, right=lambda m: len(m) == 6)
    yield case('kermany', 'nothing in it', gone('chest_xray'), 'data')
    radiography = lambda *args, **kw: case('covid_radiography', *args, **kw)
    yield radiography('mask gone', gone('COVID/masks/COVID-1.png'), 'COVID-1.png')
    yield radiography('masks gone', gone('COVID/masks'), 'COVID')
    yield radiography('mask of another size', add('COVID/masks/COVID-1.png', png(picture(1, 40, 90))), 'COVID-1.png')
    yield radiography('mask without a picture', add('COVID/masks/COVID-9.png', png(picture(1))), 'COVID-9.png')
    yield radiography('mask a link out', lambda d: ((d / 'COVID/masks/COVID-1.png').unlink(),
        os.symlink('../../../secret.png', d / 'COVID/masks/COVID-1.png')), 'COVID-1.png')
    yield radiography('class gone', gone('Viral Pneumonia'), 'Viral Pneumonia')
    yield radiography('class unknown', add('Tuberculosis/images/T-1.png', png(picture(150))), 'Tuberculosis')
    yield radiography('picture empty', add('COVID/images/COVID-1.png', b''), 'COVID-1.png')
    yield radiography('picture beside its folder', add('COVID/COVID-9.png', png(picture(150))), 'COVID-9.png')
    sheets = {'missing': None, 'no workbook': b'no workbook', 'without sheets': zipped([('x', b'')]), 'of entities': workbook(laughs(9)),
              'of noise': workbook(A.tobytes()), 'of zeros': workbook(bytes(80_000_000)), 'of another table': workbook(b'<worksheet/>')}
    for name, data in sheets.items():
        yield radiography(f'workbook {name}', lambda d, data=data: data and [put(d / f'{c.name}.metadata.xlsx', data) for c in list(d.iterdir())],
                          'metadata.xlsx', options=dict(origin=True))
    trio = lambda *args, **kw: case('covid_pneumonia', *args, **kw)
    yield trio('class unknown', add('TB/T-1.png', png(picture(150))), 'TB')
    yield trio('class gone', gone('COVID'), 'COVID')
    yield trio('picture empty', add('COVID/COVID-1.png', b''), 'COVID-1.png')
    yield trio('the same class twice', add('Covid-19/C-1.png', png(picture(150))), 'Covid-19')


def laughs(n):
    "XML that grows tenfold with each of `n` entities."
    lines = ''.join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, n))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{lines}]><worksheet>&l{n - 1};</worksheet>'.encode()


def workbook(sheet): return zipped([('xl/worksheets/sheet1.xml', sheet)])


# ---- reading

def same(found, wanted):
    "Whether grey pixels are those wanted: equal for 8 bits, up to a linear stretch for more, up to JPEG's loss where the case says so."
    wanted = np.asarray(wanted)
    if found.dtype != np.uint8 or found.shape != wanted.shape: return False
    if wanted.dtype == np.uint8 or wanted.dtype == bool: return bool(np.abs(found.astype(int) - wanted).max() <= 1)
    x, y = wanted.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    slope, shift = np.polyfit((x - x.mean()) / max(np.ptp(x), 1e-12), y, 1)
    return bool(slope > 100 and np.abs(slope * (x - x.mean()) / max(np.ptp(x), 1e-12) + shift - y).max() <= 1.5)


def close(found, wanted):
    "Whether lossy pixels are near those wanted."
    return found.dtype == np.uint8 and found.shape == wanted.shape and bool(np.abs(found.astype(int) - wanted).mean() < 4)


def read_picture(case, folder):
    from cxr_ssl.data.images import decode
    a = decode(folder / case.file)
    if case.allow == BAD or case.right is None: return 'silent', f'read as {a.shape} {a.dtype}'
    lossy = case.file in ('cmyk.jpg', 'rgb.jpg', 'turned.jpg', 'lab.tif')
    return ('right', '') if (close if lossy else same)(a, np.asarray(case.right)) else ('wrong', f'read as {a.shape} {a.dtype}, not as it is')


def named(case, text):
    "Whether an error or a quarantine line says what it is about."
    words = case.says or (Path(case.file).name,)
    return any(w in text or repr(w)[1:-1] in text for w in words)


SECRETS = [picture(i) for i in (97, 98, 99)]


@cache
def secrets():
    "The hashes of pictures that no manifest may hold."
    from cxr_ssl.data.images import pixel_hash
    return [pixel_hash(a) for a in SECRETS] + [pixel_hash(loaded(saved(SECRETS[2], 'JPEG')))]


def judged(case, manifest, folder):
    "What became of the case in a manifest; where all is right, its pictures go into a bank too."
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.manifest import Manifest
    table, secret = manifest.table, secrets()
    if table.sha256.isin(secret).any(): return 'escaped', table.image[table.sha256.isin(secret)].iloc[0]
    manifest.save(folder / 'saved.parquet')
    assert Manifest.load(folder / 'saved.parquet').hash == manifest.hash
    lines = manifest.quarantine[['image', 'reason']].astype(str)
    if any(named(case, f'{a} {r}') and r for a, r in lines.itertuples(index=False)): return 'quarantined', '; '.join(lines.reason)
    if 'right' in case.allow and case.right(manifest):
        bank = Bank.build(manifest, folder / 'bank', side=16)
        return ('right', '') if all(min(a.shape) <= 16 for a in bank.images(manifest.ids)) else ('wrong', 'a picture of the bank is too large')
    return 'silent', f'{len(table)} images, quarantine: {lines.to_dict("records")}'


def read_folder(case, folder):
    from cxr_ssl.data.sources import read_source
    return judged(case, read_source('folder', folder / 'data', max_bad=1.), folder)


def read_csv(case, folder):
    from cxr_ssl.data.sources import read_source
    table = folder / 'data' / case.file
    return judged(case, read_source('csv', table if table.suffix in ('.csv', '.parquet') else folder / 'data/manifest.csv', max_bad=1.), folder)


def read_hashed(case, folder):
    "Pixels that must be those of the table."
    from cxr_ssl.data.sources import read_source
    m = read_source('csv', folder / 'manifest.csv', max_bad=1.)
    case.right = lambda m: len(m) == 2
    return judged(case, m, folder)


def read_masked(case, folder):
    "Pictures cut to the lungs, read and kept in one go."
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.images import Preprocess
    from cxr_ssl.data.sources import read_source
    lungs, bank = Preprocess(lungs='crop'), folder / 'lungs'
    m = read_source('csv', folder / 'data/manifest.csv', max_bad=1., bank=bank, side=16, preprocess=lungs)
    return judged(case, Bank.build(m, bank, side=16, preprocess=lungs, max_bad=1.).manifest, folder)


def read_official(case, folder):
    "The parts that a table names."
    from cxr_ssl.data.sources import read_source
    from cxr_ssl.data.splits import split
    m = read_source('csv', folder / 'data/manifest.csv', max_bad=1.)
    p = split(m, labels=['Mass'], valid=0., test=0., official=True)
    return ('right' if 'right' in case.allow and len(p.test) == 2 else 'silent'), f'{len(p.train)} to train, {len(p.test)} to test'


def read_listed(case, folder):
    "The parts that two files name."
    from cxr_ssl.data.sources import read_source
    from cxr_ssl.data.splits import fixed_split
    d = folder / 'data'
    p = fixed_split(read_source('csv', d / 'manifest.csv', max_bad=1.), dict(train=d / 'train.csv', test=d / 'test.csv'), labels=['Mass'])
    return ('right' if 'right' in case.allow and len(p.test) == 2 else 'silent'), f'{len(p.train)} to train, {len(p.test)} to test'


@cache
def finished(folder):
    "A folder with pictures, a manifest and a bank, made once."
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.sources import read_source
    beside(folder); put(folder / 'data/manifest.csv', csv_text())
    m = read_source('csv', folder / 'data/manifest.csv')
    m.save(folder / 'data/manifest.parquet'); Bank.build(m, folder / 'data/bank', side=16)
    return folder


def read_own(case, folder):
    "A manifest, or a bank, whose files were changed after they had been written; or pictures that were changed before the bank was built."
    from cxr_ssl.data.bank import Bank
    from cxr_ssl.data.manifest import Manifest
    from cxr_ssl.data.sources import read_source
    d = folder / 'data'
    if case.read == 'rebuild': m = read_source('csv', d / 'manifest.csv')
    else: shutil.copytree(finished(folder.parents[1] / 'finished'), folder, dirs_exist_ok=True)
    if case.group == 'own files': case.right(d)
    if case.read == 'rebuild': assert len(Bank.build(m, folder / 'new', side=16)) == 4
    if case.read == 'manifest': assert len(Manifest.load(d / 'manifest.parquet')) == 4
    if case.read == 'bank':
        b = Bank.open(d / 'bank', verify=True)
        assert len(b.images(b.manifest.ids)) == 4
    return ('right', '') if 'right' in case.allow else ('silent', 'nothing was noticed')


def read_adapter(case, folder):
    from cxr_ssl.data.sources import read_source
    return judged(case, read_source(case.read, folder / 'data', max_bad=1., **case.options), folder)


def read_pile(case, folder):
    "All pictures of a group in one folder: each is in the quarantine, or in the table with the pixels that `decode` gives."
    from cxr_ssl.core import CxrError
    from cxr_ssl.data.images import decode, pixel_hash
    from cxr_ssl.data.sources import read_source
    pictures = folder.parent / 'pictures'
    put(pictures / 'good one.png', png(picture(200)))
    m = read_source('folder', pictures, labelled=False, max_bad=1.)
    kept, aside, faults = dict(zip(m.table.image, m.table.sha256)), dict(zip(m.quarantine.image, m.quarantine.reason)), []
    for path in sorted(p for p in pictures.iterdir()):
        try: hash = pixel_hash(decode(path))
        except CxrError: hash = None
        if aside.get(path.name) or (hash and kept.get(path.name) == hash): continue
        faults.append(path.name)
    if case.allow == FINE and len(m.quarantine): faults += list(m.quarantine.image)
    if 'good one.png' not in kept: faults.append('good one.png')
    case.right = lambda m: True
    return ('silent', ', '.join(faults)) if faults else ('right', f'{len(kept)} kept, {len(aside)} in quarantine')


def tree(folder):
    "What lies in a folder: names, and the content of files."
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() and not p.is_symlink() else None for p in folder.rglob('*')}


def read_archive(case, folder):
    "Unpack into `out`: what was there stays as it was, and nothing is added when the archive is refused."
    from cxr_ssl.core import CxrError
    from cxr_ssl.data.sources import unpack
    before = tree(folder)
    try: unpack(folder / case.file, folder / 'out', max_files=1000)
    except CxrError:
        if {k: v for k, v in tree(folder).items() if k != 'out'} != {k: v for k, v in before.items() if k != 'out'}: return 'left', 'something stayed behind'
        raise
    after = tree(folder)
    new = [k for k in after if k not in before]
    if any(after.get(k, 0) != v for k, v in before.items()) or not all(k.startswith('out/') for k in new): return 'escaped', str(new)
    return ('right', str(new)) if 'right' in case.allow else ('silent', str(new))


READ = dict(archive=read_archive, picture=read_picture, folder=read_folder, csv=read_csv, official=read_official, listed=read_listed, hashed=read_hashed,
            masked=read_masked, rebuild=read_own, manifest=read_own, bank=read_own, pile=read_pile, **{k: read_adapter for k in ADAPTERS})
GROUPS = {'truncated': truncated, 'flipped': flipped, 'not a picture': not_pictures, 'bomb': bombs, 'frames': frames, 'depths': depths, 'dicom': dicoms,
          'strange': strange, 'paths': paths, 'cells': cells, 'masks': masks, 'lists': lists, 'encodings': encodings, 'shapes': shapes, 'archives': archives,
          'own files': own_files, 'datasets': datasets, 'control': control}


def cases():
    "All cases, group by group; the pictures of a group are read once more, all in one folder."
    for group, build in GROUPS.items():
        made = list(build())
        yield from made
        if any(c.read == 'picture' for c in made):
            yield Case(group, 'all in one folder', 'pile', lambda folder: None, 'good one.png', FINE if group == 'control' else ODD)


MEMORY, SECONDS = 1000, 15  # of a case: MB above what the process held before, and time


def memory(key):
    "A figure of this process's memory in MB."
    return next(int(line.split()[1]) for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(key)) / 1024


def outcome(case, root):
    "Write a case, read it, and say what came of it: an outcome and its words."
    from cxr_ssl.core import CxrError
    folder = case.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    case.write(folder)
    Path('/proc/self/clear_refs').write_text('5')  # forget the highest memory so far
    before = memory('VmRSS')
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter('always')
            found, words = READ[case.read](case, folder)
        said = [str(w.message) for w in heard if issubclass(w.category, UserWarning) and named(case, str(w.message))]
        if found == 'silent' and said and case.read in ADAPTERS: found, words = 'warned', said[0]
    except CxrError as e:
        words = str(e)
        found = 'unnamed' if not named(case, words) else 'wordy' if len(words) > 4000 else 'refused'
    except MemoryError: found, words = 'memory', 'MemoryError'
    except Exception as e: found, words = 'crashed', f'{type(e).__name__}: {e}'
    more = memory('VmHWM') - before
    return ('memory', f'{more:.0f} MB more') if more > MEMORY else (found, words)


def walk(cases, root, seconds, out):
    "Read cases, and write a line before and behind each. One that takes too long ends the process with code 1."
    limit = int(memory('VmSize') + 6 * MEMORY) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for case in cases:
        print(json.dumps(dict(group=case.group, name=case.name)), file=out, flush=True)
        faulthandler.dump_traceback_later(seconds, exit=True)
        began = time.perf_counter()
        found, words = outcome(case, root)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(dict(outcome=found, good=found in case.allow, words=words[:500], seconds=round(time.perf_counter() - began, 3))), file=out, flush=True)


def survey(cases, root, seconds=SECONDS):
    "What came of every case, as dicts. The cases are read in a process of their own; a new one goes on behind a case that hangs or kills it."
    todo = list(cases)
    while todo:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try: walk(todo, root, seconds, os.fdopen(write, 'w')); os._exit(0)
            except BaseException: traceback.print_exc(); os._exit(2)
        os.close(write)
        with os.fdopen(read) as lines: said = [json.loads(line) for line in lines]
        timed_out = os.waitpid(child, 0)[1] == 256
        if len(said) % 2: said.append(dict(outcome='hung' if timed_out else 'died', good=False, words='', seconds=seconds))
        yield from (case | end for case, end in zip(said[::2], said[1::2]))
        todo = todo[len(said) // 2:]
        if not said: raise RuntimeError('cases cannot be read')


def results(root):
    "What came of every case of the corpus: a list of dicts, from a fresh process."
    env = dict(os.environ, OMP_NUM_THREADS='1', MALLOC_ARENA_MAX='2')
    done = subprocess.run([sys.executable, '-W', 'ignore', __file__, str(root), '--check'], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    if done.returncode: raise RuntimeError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', help='where to write; made if need be')
    p.add_argument('--check', action='store_true', help='read each case after it is written')
    p.add_argument('--only', default='', help='one group')
    args = p.parse_args(argv)
    chosen = [c for c in cases() if args.only in ('', c.group)]
    if args.check:
        import cxr_ssl.data.bank, cxr_ssl.data.images, cxr_ssl.data.sources  # noqa: E401, F401  before the clock runs
        for line in survey(chosen, args.folder): print(json.dumps(line), flush=True)
    else:
        for case in chosen: case.folder(args.folder).mkdir(parents=True, exist_ok=True); case.write(case.folder(args.folder))
        print(f'{len(chosen)} cases in {args.folder}')


if __name__ == '__main__': main()
