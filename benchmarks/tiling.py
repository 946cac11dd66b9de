"""Cutting and merging tiles: this project beside np.copy, patchify, tiler and MONAI, in one run.

    python benchmarks/tiling.py --data BUSI_FOLDER --json results/benchmarks/tiling.json

100 images (spread evenly over the data set; random ones of like sizes without it) and one of 8192x8192
pixels. Every way ends with the same product: one contiguous array of all tiles, or the image cropped to its
own size; this is checked before anything is timed. Each way gets its input in the layout that it takes
(channels first for MONAI), made before the clock starts, and its fastest fitting settings. The ways take
turns within each repetition, so what else the machine does falls on all alike: judge by the ratios. `np.copy`
copies the padded image (cutting) or the image (merging).

Cutting is timed twice: 'freed', each result dropped at once, which leaves the allocator warm; and 'kept', all
results held, where fresh memory costs more than the cutting.
"""
import gc
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, data_beside, finish, rotated, show_goals, write_result
from busiseg_nb.tiling import make_grid, merge_tiles, tile_image

S = 256
RIVALS = ('patchify', 'tiler', 'monai')


def images(root, n=100):
    "n (H,W,3) uint8 images and a word on where they are from"
    files = sorted(p for p in Path(root).glob('*/*.png') if '_mask' not in p.name) if root else []
    if files:
        pick = np.linspace(0, len(files) - 1, n).round().astype(int)
        imgs = [np.array(Image.open(files[i]).convert('RGB')) for i in pick]
        return imgs, f'{n} of the {len(files)} images of BUSI'
    rng = np.random.default_rng(0)
    imgs = [rng.integers(0, 256, (rng.integers(310, 720), rng.integers(190, 1049), 3), np.uint8)
            for _ in range(n)]
    return imgs, f"{n} random images of BUSI's range of sizes"


def padded(a):
    grid = make_grid(a.shape, S)
    more = [(0, to - n) for to, n in zip(grid.padded, a.shape[:2], strict=True)]
    return np.pad(a, more + [(0, 0)]*(a.ndim - 2))


def planes(a):
    "(1,C,H,W) tensor, MONAI's layout"
    a = a if a.ndim == 3 else a[..., None]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 0)))[None]


# --- cutting: prepare(image) -> input; cut(input) -> tiles; view(tiles, image) -> (N,S,S[,C]) to compare

def cut_patchify(a):
    from patchify import patchify
    p = padded(a)
    shape = (S, S, *a.shape[2:])
    return np.ascontiguousarray(patchify(p, shape, step=S)).reshape(-1, *shape)


def cut_tiler(a):
    from tiler import Tiler
    t = Tiler(a.shape, (S, S, *a.shape[2:]), channel_dimension=2 if a.ndim == 3 else None)
    return np.asarray(t.get_all_tiles(a))


def cut_monai(x):
    from monai.inferers import SlidingWindowSplitter
    return torch.cat([t for t, _ in SlidingWindowSplitter((S, S), overlap=0., pad_mode='constant')(x)])


def from_planes(t, a):
    return np.moveaxis(t.numpy(), 1, -1).reshape(len(t), S, S, *a.shape[2:])


CUT = {'np.copy': (padded, np.copy, None),
       'ours': (lambda a: a, lambda a: tile_image(a, S)[0], lambda t, a: t),
       'patchify': (lambda a: a, cut_patchify, lambda t, a: t),
       'tiler': (lambda a: a, cut_tiler, lambda t, a: t.reshape(-1, S, S, *a.shape[2:])),
       'monai': (planes, cut_monai, from_planes)}


# --- merging: prepare(image, its tiles, grid) -> input; merge(input) -> image
#     view(result, image) -> (H,W[,C]) to compare

def merge_patchify(x):
    from patchify import unpatchify
    tiles, p, (h, w) = x
    return unpatchify(tiles, p)[:h, :w].copy()


def pre_patchify(a, t, g):
    tiles = t.reshape(g.rows, g.cols, *[1]*(a.ndim - 2), S, S, *a.shape[2:])
    return tiles, (*g.padded, *a.shape[2:]), a.shape[:2]


def merge_tiler(x):
    from tiler import Merger, Tiler
    tiles, shape = x
    t = Tiler(shape, (S, S, *shape[2:]), channel_dimension=2 if len(shape) == 3 else None)
    # its default window is float and would not add to labels
    ones = np.ones((S, S, *shape[2:]), tiles.dtype)
    m = Merger(t, window=ones, save_visits=False, data_dtype=tiles.dtype, weights_dtype=tiles.dtype)
    m.add_batch(0, len(tiles), tiles)
    return m.merge(normalize_by_weights=False, dtype=tiles.dtype)


def merge_monai(x):
    from monai.inferers import AvgMerger
    tiles, g, dtype = x
    n = tiles.shape[1]
    m = AvgMerger((1, n, *g.padded), (1, n, g.height, g.width))
    for tile, origin in zip(tiles, g.origins, strict=True):
        m.aggregate(tile[None], origin)
    return m.finalize().to(dtype).contiguous()


def pre_monai(a, t, g):
    t = torch.from_numpy(np.ascontiguousarray(np.moveaxis(t if a.ndim == 3 else t[..., None], -1, 1)))
    return t.float(), g, t.dtype         # AvgMerger averages, so it takes and holds floats


MERGE = {'np.copy': (lambda a, t, g: a, np.copy, None),
         'ours': (lambda a, t, g: (t, g), lambda x: merge_tiles(*x), lambda o, a: o),
         'patchify': (pre_patchify, merge_patchify, lambda o, a: o),
         'tiler': (lambda a, t, g: (t, a.shape), merge_tiler, lambda o, a: o),
         'monai': (pre_monai, merge_monai, lambda o, a: np.moveaxis(o[0].numpy(), 0, -1).reshape(a.shape))}


def run_all(run, inputs, keep):
    "Milliseconds to run on every input; results are held until the clock has stopped, or dropped at once"
    start = time.perf_counter()
    if keep:
        out = [run(x) for x in inputs]
    else:
        for x in inputs:
            out = run(x)
    took = time.perf_counter() - start
    del out
    return took*1e3


def check(ways, inputs, imgs, truth, n=3):
    "Every way gives the same product"
    for name, (_, run, view) in ways.items():
        for x, a in list(zip(inputs[name], imgs, strict=True))[:n]:
            if view is not None:
                np.testing.assert_array_equal(view(run(x), a), truth(a), err_msg=name)


def compare(ways, imgs, reps, truth, keep=False):
    "Median ms per way and the median over repetitions of its time relative to ours"
    sources = [(a, *tile_image(a, S)) for a in imgs] if ways is MERGE else [(a,) for a in imgs]
    inputs = {name: [prepare(*source) for source in sources] for name, (prepare, _, _) in ways.items()}
    check(ways, inputs, imgs, truth)
    times = {name: [] for name in ways}
    gc.collect()
    gc.disable()
    for rep in range(reps + 1):                   # the first is a warm-up
        for name in rotated(ways, rep):
            took = run_all(ways[name][1], inputs[name], keep)
            if rep:
                times[name].append(took)
    gc.enable()
    t = {name: np.array(values) for name, values in times.items()}
    return {'ms': {name: round(float(np.median(v)), 2) for name, v in t.items()},
            'repetitions': reps,
            'relative': {name: round(float(np.median(v/t['ours'])), 3) for name, v in t.items()},
            'ours_to_copy': round(float(np.median(t['ours']/t['np.copy'])), 3)}


def reference(a):
    "The tiles by the most plain way there is"
    p = padded(a)
    return np.stack([p[y:y+S, x:x+S] for y in range(0, p.shape[0], S) for x in range(0, p.shape[1], S)])


def itself(a):
    return a


def show(name, result):
    "One line a task"
    ways = ''.join(f'{way} {ms:8.1f} ms ({result["relative"][way]:.2f})   '
                   for way, ms in result['ms'].items())
    print(f'{name:38s}{ways}ours/copy {result["ours_to_copy"]:.2f}', flush=True)


def all_tasks(rgb, large, reps):
    "What is timed: (name, arguments of `compare`); the large inputs are made when their turn comes"
    rng = np.random.default_rng(1)
    labels = [np.where(i[..., 0] > 128, i[..., 0] % 3, 0).astype(np.uint8) for i in rgb]
    big = rng.integers(0, 256, (large, large, 3), np.uint8)
    size, few = f'{large}x{large}', max(3, reps//6)
    yield 'cut 100 RGB, freed', (CUT, rgb, reps, reference)
    yield 'cut 100 RGB, kept', (CUT, rgb, reps, reference, True)
    yield 'cut 100 label masks, kept', (CUT, labels, reps, reference, True)
    yield 'cut 100 label masks, freed', (CUT, labels, reps, reference)
    yield f'cut {size} RGB', (CUT, [big], few, reference)
    yield 'merge 100 label masks', (MERGE, labels, reps, itself)
    yield 'merge 100 of 3 float channels', (MERGE, [i.astype(np.float32)/255 for i in rgb], few, itself)
    yield f'merge {size} labels', (MERGE, [big[..., 0] % 3], few, itself)
    yield f'merge {size} of 3 float channels', (MERGE, [big.astype(np.float32)/255], 3, itself)


def main():
    parser = arguments(__doc__, data=data_beside())
    parser.add_argument('--reps', type=int, default=31,
                        help='repetitions of the quick tasks; a sixth of it of the slow ones')
    parser.add_argument('--large', type=int, default=8192, help='side of the large image, pixels')
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    rgb, source = images(args.data)
    print(f'{source}; in brackets: time relative to ours')
    tasks = {}
    for name, what in all_tasks(rgb, args.large, args.reps):
        tasks[name] = compare(*what)
        show(name, tasks[name])
    to_copy = max(tasks[f'cut 100 RGB, {kind}']['ours_to_copy'] for kind in ('freed', 'kept'))
    ahead = all(min(task['relative'][rival] for rival in RIVALS) > 1 for task in tasks.values())
    goals = {'cutting 100 RGB images is at most 1.8x np.copy': to_copy <= 1.8,
             'ahead of patchify, tiler and MONAI everywhere': ahead}
    show_goals(goals)
    packages = {rival: version(rival) for rival in RIVALS}
    write_result({'source': source, 'tasks': tasks, 'goals': goals}, args.json, under=None, packages=packages,
                 threads=torch.get_num_threads())


if __name__ == '__main__':
    finish(main)
