"The readers of foreign bytes with valid seeds: what they get they read, or refuse in a line that names it"
import contextlib
import functools
import io
import json
import struct
import warnings
import zlib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

from busiseg_nb import comparison, dataset, images, predict, preprocessing, runs
from busiseg_nb.core import BusisegError
from busiseg_nb.dataset import Case
from busiseg_nb.metrics import confusion, counts_frame, counts_from_frame
from busiseg_nb.models import build_model, load_model, save_model
from busiseg_nb.splits import load_split, save_split

# images beyond this are refused here, so that time goes into reading and not into filling memory
PIXELS = 2**20
NET = dict(name='tu-mobilenetv3_small_050', encoder_weights=None, in_channels=1, decoder_channels=(8,)*5,
           tile_size=64, resize=64)
NAMES = [f'{label} ({i})' for label in ('benign', 'malignant', 'normal') for i in (1, 2)]
CASES = [Case(n, n.split()[0], Path(f'{n}.png'), ()) for n in NAMES]


class Target(NamedTuple):
    "A way in for foreign bytes"
    seeds: Callable     # folder -> list of valid contents
    readers: Callable   # (folder to write in, content) -> list of functions that read it


@contextlib.contextmanager
def small_limits():
    "Bombs explode at a million pixels"
    old = images.MAX_PIXELS, Image.MAX_IMAGE_PIXELS
    images.MAX_PIXELS, Image.MAX_IMAGE_PIXELS = PIXELS, PIXELS//2
    try:
        yield
    finally:
        images.MAX_PIXELS, Image.MAX_IMAGE_PIXELS = old


def refused(read, folder) -> bool:
    "Call a reader: False if it returned, True if it refused in one line; anything else is a finding"
    try:
        read()
    except BusisegError as e:
        line = str(e)
        short = len(line) < 500 + 3*len(str(folder))
        assert '\n' not in line and '\r' not in line and short, f'no line: {line!r}'
        assert str(folder) in line and ';' in line, f'names no file or no remedy: {line!r}'
        return True
    return False


def try_bytes(name, folder, data) -> int:
    "Give `data` to all readers of a target; how many refused it"
    with warnings.catch_warnings(), small_limits():
        warnings.simplefilter('ignore')
        return sum([refused(r, folder) for r in TARGETS[name].readers(Path(folder), data)])


def put(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


# ---- mutation ----

JUNK = [None, True, 0, -1, 1, .5, 2**31, 2**63, 10**400, 1e308, float('nan'), float('inf'), '', 'x',
        'benign (1)', 'a\nb\x1b[2J', '\ud800', '../../x', 'tu-hf-hub:a/b', '9'*5000,
        [], {}, [[]], [None]*3, [1, 2, 3], {'x': None}, {'parts': 3}]
# sizes, depth, compression, strips, tiles
TIFF_TAGS = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 530)
TIFF_VALUES = (0, 1, 2, 5, 7, 8, 16, 32, 256, 2**14, 2**16 - 1, 2**23, 2**24, 2**27, 2**31 - 1, 2**32 - 1)
NUMBERS = [bytes([b])*n for b in (0, 1, 127, 128, 255) for n in (1, 2, 4, 8)]


def nodes(tree):
    "(container, key) of everything inside a JSON value"
    if not isinstance(tree, (dict, list)):
        return
    for k, v in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, k
        yield from nodes(v)


def mutate_json(data, rng):
    "Put junk in the place of one value, take one out, or add one"
    tree = json.loads(data)
    if not (found := list(nodes(tree))):
        return json.dumps(rng.choice(JUNK)).encode()
    at, k = rng.choice(found)
    kind = rng.randrange(4)
    if kind == 0:
        del at[k]
    elif kind == 1 and isinstance(at, list):
        at.insert(k, rng.choice(JUNK))
    elif kind == 1:
        at[rng.choice(['', 'x', 'a\nb', *at])] = rng.choice(JUNK)
    else:
        at[k] = rng.choice(JUNK)
    return json.dumps(tree).encode()


def mutate_table(data, rng):
    "Put junk in the place of one field of a CSV"
    rows = [r.split(b',') for r in data.split(b'\n')]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = str(rng.choice(JUNK)).encode('utf-8', 'replace')
    return b'\n'.join(b','.join(r) for r in rows)


def mutate_tiff(data, rng):
    "Replace, add, repeat or take out one to four entries of the first directory; the new stands at the end"
    e = '<' if data[:2] == b'II' else '>'
    at, = struct.unpack(e + 'I', data[4:8])
    n, = struct.unpack_from(e + 'H', data, at)
    entries = [data[at + 2 + 12*i:at + 14 + 12*i] for i in range(n)]
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(entries)) if entries else 0
        new = struct.pack(e + 'HHII', rng.choice(TIFF_TAGS), rng.choice((3, 4)), 1, rng.choice(TIFF_VALUES))
        entries[i:i + rng.randrange(2)] = rng.choice(([], [new], [new], [new, new]))
    if rng.random() < .8:
        entries.sort(key=lambda x: struct.unpack(e + 'H', x[:2])[0])
    directory = struct.pack(e + 'H', len(entries)) + b''.join(entries) + bytes(4)
    return data[:4] + struct.pack(e + 'I', len(data)) + data[8:] + directory


def mutate_png(data, rng):
    "Change the body of a chunk, or the order of chunks, with checksums that are right"
    chunks, at = [], 8
    while at < len(data):
        n, = struct.unpack_from('>I', data, at)
        chunks.append((data[at + 4:at + 8], data[at + 8:at + 8 + n]))
        at += n + 12
    i, j = (rng.randrange(len(chunks)) for _ in range(2))
    if rng.random() < .7:
        chunks[i] = chunks[i][0], mutate_bytes(chunks[i][1], rng)
    else:
        chunks[i:i + rng.randrange(2)] = [chunks[j]]
    return data[:8] + b''.join(struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
                               for k, b in chunks)


def mutate_bytes(data, rng):
    "Cut, drop, repeat, overwrite or flip a few bytes"
    i, n = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 16, 100))
    kind, number = rng.randrange(5), rng.choice(NUMBERS)
    return (data[:i], data[:i] + data[i + n:], data[:i] + data[i:i + n]*2 + data[i + n:],
            data[:i] + number + data[i + len(number):],
            data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)] if i < len(data) else []) + data[i + 1:])[kind]


def mutate(data, rng) -> bytes:
    "Content one step away from `data`: in its structure, where it has one that is known, or in its bytes"
    how = rng.randrange(3)
    try:
        if how == 0:
            return mutate_json(data, rng)
        if how == 1 and data[8:9] == b'{':         # the header of safetensors behind its length
            head = mutate_json(data[8:8 + struct.unpack('<Q', data[:8])[0]], rng)
            return struct.pack('<Q', len(head)) + head
        if how == 1 and data[:4] in (b'II*\0', b'MM\0*'):
            return mutate_tiff(data, rng)
        if how == 1 and data[:4] == b'\x89PNG':
            return mutate_png(data, rng)
        if how == 1 and b',' in data.split(b'\n')[0]:
            return mutate_table(data, rng)
    except (ValueError, IndexError, RecursionError, MemoryError, struct.error):
        pass
    return mutate_bytes(data, rng)


# ---- images ----

def written(folder, names):
    "Contents of the files that tests/test_predict.py writes, of a quarter of their size"
    import test_predict as T
    small = T.GRAY[:24, :32].copy()
    with mock.patch.multiple(T, GRAY=small, RGB=np.dstack([small, small//2, 255 - small])):
        for n in names:
            T.FORMATS[n][0](folder/n)
    return [(folder/n).read_bytes() for n in names]


def image_seeds(folder):
    from test_predict import FORMATS
    out = written(folder, [n for n in FORMATS if not n.endswith(('.dcm', '.dicom', 'nosuffix'))])
    frames = [Image.fromarray(np.full((8, 9), v, np.uint8)) for v in (0, 99, 200)]
    for kind in ('TIFF', 'GIF', 'WEBP', 'PNG'):
        frames[0].save(b := io.BytesIO(), kind, save_all=True, append_images=frames[1:])
        out.append(b.getvalue())
    return [*out, *odd_tiffs()]


def odd_tiffs():
    "TIFFs that tifffile reads: colours of 16 bits stored apart, and values of 64 bits"
    import tifffile
    values = np.arange(3*8*9, dtype=np.uint16).reshape(3, 8, 9)*300
    for how in (dict(compression='zlib'), dict(bigtiff=True, tile=(16, 16))):
        tifffile.imwrite(b := io.BytesIO(), values, photometric='rgb', planarconfig='separate', **how)
        yield b.getvalue()
    tifffile.imwrite(b := io.BytesIO(), values[0].astype(np.int64), compression='zlib')
    yield b.getvalue()


def damaged_exif():
    "A JPEG whose EXIF data begin with a bad header"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('L', (32, 32)).save(b := io.BytesIO(), 'JPEG', exif=exif, dpi=(72, 72))
    return b.getvalue().replace(b'Exif\0\0MM\0*', b'Exif\0\0ML\xfe*')


def image_readers(folder, data):
    p = put(folder/'image.png', data)
    classes = {'background': 0, **{f'c{i}': i for i in range(1, 200)}}
    def huge():
        with mock.patch.object(images, 'HUGE', 100):
            return images.read_image(p)
    return [lambda: images.read_image(p), huge, lambda: images.foreground(p), lambda: images.load_picture(p),
            lambda: images.image_size(p), lambda: images.read_class_values(p), lambda: images.mask_facts(p),
            lambda: images.orientation(p), lambda: dataset.read_class_mask(p, classes),
            lambda: preprocessing.label_mask(Case('x', '', p, (p,), values=tuple(classes.items())))]


def dicom_seeds(folder):
    from test_predict import FORMATS
    return written(folder, [n for n in FORMATS if n.endswith(('.dcm', '.dicom'))])


def dicom_readers(folder, data):
    p = put(folder/'image.dcm', data)
    def first_frames():
        for k, _ in enumerate(images.iter_images(p)):
            if k > 20:
                break
    return [first_frames]


# ---- models ----

@functools.cache
def model_files():
    "config.json, and the header and the body of model.safetensors"
    import tempfile
    with tempfile.TemporaryDirectory() as tmp:
        save_model(build_model(**NET), Path(tmp)/'m')
        raw = (Path(tmp)/'m'/'model.safetensors').read_bytes()
        n = 8 + struct.unpack('<Q', raw[:8])[0]
        return (Path(tmp)/'m'/'config.json').read_bytes(), raw[:n], raw[n:]


def model_readers(folder, config, weights):
    put(folder/'model'/'config.json', config)
    put(folder/'model'/'model.safetensors', weights)
    return [lambda: load_model(folder/'model')]


def config_readers(folder, data):
    return model_readers(folder, data, b''.join(model_files()[1:]))
def weights_readers(folder, data):
    return model_readers(folder, model_files()[0], data + model_files()[2])


# ---- JSON and CSV ----

def result():
    "A results.json as small as one can be"
    score = [.5, .4, .6]
    return {'name': 'r', 'finished': True, 'profile': 'quick', 'model': 'small', 'encoder_weights': None,
            'split': 'random',
            'config': {**asdict(runs.PROFILES['quick']), 'seed': 0, 'limit': None},
            'data': {'images': 6, 'is_busi': False}, 'split_sizes': {'train': 2, 'valid': 2, 'test': 2},
            'training': {'epochs': 1, 'tiles': 4, 'best_epoch': 1},
            'scores': {f'iou_{k}': score for k in ('background', 'benign', 'malignant', 'mean')},
            'background_only_iou_mean': .3, 'convention': 'pooled'}


def json_seeds(folder):
    save_split({'train': CASES[::3], 'valid': CASES[1::3], 'test': CASES[2::3]}, folder/'split.json',
               fingerprint='0')
    record = {'kind': predict.KIND, 'file': 'a', 'source': 'a', 'sha256': '0', 'settings': {},
              'images': [{'frame': None, 'mask': 'a_mask.png', 'overlay': None}]}
    meta = {'kind': preprocessing.TileCache.KIND, 'version': 1, 'size': 8, 'resize': None, 'channels': 1,
            'cases': 0, 'tiles': 0, 'fingerprint': '0', 'key': '0'}
    classes = {'background': 0, 'mass': [255, 0, 0], 'cyst': 7}
    written = [json.dumps(one).encode() for one in (result(), record, meta, classes)]
    return [(folder/'split.json').read_bytes(), *written]


def json_readers(folder, data):
    p = put(folder/'x.json', data)
    for n in ('run/results.json', 'cache/meta.json', 'start/split.json'):
        put(folder/n, data)
    tiles, index = np.zeros((0, 8, 8), np.uint8), b'case,label,row,col,height,width,fingerprint\n'
    np.save(folder/'cache'/'images.npy', tiles[..., None])
    np.save(folder/'cache'/'masks.npy', tiles)
    put(folder/'cache'/'index.csv', index)
    known = SimpleNamespace(cases=CASES, fingerprint='0', is_busi=False)
    return [lambda: load_split(p, CASES), lambda: dataset.read_classes(p), lambda: predict._record(p),
            lambda: comparison.run_table(folder/'run'), lambda: preprocessing.TileCache(folder/'cache'),
            lambda: runs.seen_before(folder/'start', known, {'test': CASES})]


def counts_table():
    rng = np.random.default_rng(0)
    conf = confusion(*rng.integers(0, 3, (2, 6, 4, 4)))
    return counts_frame(conf, 'image', NAMES, [n.split()[0] for n in NAMES])


def csv_seeds(folder):
    counts_table().to_csv(folder/'counts.csv', index=False)
    return [(folder/'counts.csv').read_bytes(),
            'group,name\n1,benign (1)\n1,benign (2)\n2,normal (1)\n'.encode(),
            b'epoch,train_loss,valid_loss,train_iou,valid_iou\n1,.9,.8,.1,.2\n2,.7,.8,.3,.4\n']


def csv_readers(folder, data):
    p = put(folder/'x.csv', data)
    for f in ('counts', 'history'):
        put(folder/f/f'{f}.csv', data), put(folder/f/'results.json', json.dumps(result()).encode())
    def counts():
        run = comparison.load_run(folder/'counts')
        counts_from_frame(run.counts)
    return [lambda: dataset.read_groups(p), counts, lambda: comparison.load_run(folder/'history')]


TARGETS = {'images': Target(image_seeds, image_readers), 'dicom': Target(dicom_seeds, dicom_readers),
           'config': Target(lambda _: [model_files()[0]], config_readers),
           'weights': Target(lambda _: [model_files()[1]], weights_readers),
           'json': Target(json_seeds, json_readers), 'csv': Target(csv_seeds, csv_readers)}
