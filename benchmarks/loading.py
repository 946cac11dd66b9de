"""Time reading a whole data set: a plain Pillow loop, this package, and this package's tile cache, in one
run.

    python benchmarks/loading.py --data FOLDER [--json results/benchmarks/loading.json]

Without --data the folder in BUSI_ROOT is read, and without that a phantom made for the purpose. Every image
is decoded to (H,W,3) uint8 with its label mask (the union of its mask files, then the class value).
"""
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, seconds, show_goals, write_result
from busiseg_nb.core import VALUES
from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.machine import thread_map
from busiseg_nb.phantom import make_phantom
from busiseg_nb.preprocessing import build_cache, load_case

BASE, CACHE = 'pillow loop', 'tile cache'


def plain(case):
    "What one would write with Pillow alone"
    img = np.array(Image.open(case.image).convert('RGB'))
    mask = np.zeros(img.shape[:2], np.uint8)
    for path in case.masks:
        one = np.array(Image.open(path).convert('L'))
        mask[one > 0] = VALUES.get(case.label, 0)
    return img, mask


def read_cache(cache, batch=256):
    "Copy every byte of the cache into a batch that is used again"
    images = np.empty((batch, *cache.images.shape[1:]), np.uint8)
    masks = np.empty((batch, *cache.masks.shape[1:]), np.uint8)
    for i in range(0, len(cache), batch):
        n = min(batch, len(cache) - i)
        np.copyto(images[:n], cache.images[i:i + n])
        np.copyto(masks[:n], cache.masks[i:i + n])


def check(cases):
    "The two loops give the same arrays; this also brings all files into memory"
    for case in cases:
        for a, b in zip(plain(case), load_case(case), strict=True):
            assert np.array_equal(a, b), case.image


def load_and_drop(case):
    load_case(case)


def measure(cases, cache, repeats):
    "Seconds of each way in each repetition"
    loops = {BASE: plain, 'ours, one thread': load_case}
    whole = {'ours, threads': lambda: thread_map(load_and_drop, cases), CACHE: lambda: read_cache(cache)}
    times = {way: [] for way in (*loops, *whole)}
    for turn in range(repeats):
        total = dict.fromkeys(loops, 0.)
        # case by case in turn, so that a busy moment of the machine meets both
        for i, case in enumerate(cases):
            for way in list(loops)[::-1 if (i + turn) % 2 else 1]:
                total[way] += seconds(partial(loops[way], case))
        for way in loops:
            times[way].append(total[way])
        for way, job in whole.items():
            times[way].append(seconds(job))
    return times


def main():
    parser = arguments(__doc__)
    parser.add_argument('--repeats', type=int, default=3, help='runs of each way; the median counts')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(args.data or make_phantom(Path(tmp)/'phantom'))
        cases = find_cases(root)
        check(cases)
        build = seconds(lambda: build_cache(cases, Path(tmp)/'cache', progress=False))
        cache = build_cache(cases, Path(tmp)/'cache', progress=False)
        read_cache(cache)
        times = measure(cases, cache, args.repeats)
        size = cache.images.nbytes + cache.masks.nbytes
        tiles = len(cache)
    median = {way: statistics.median(values) for way, values in times.items()}
    ratio = {way: median[BASE]/value for way, value in median.items()}
    print(f'{len(cases)} images, {tiles} tiles, {size/1e9:.2f} GB; building the cache took {build:.1f} s')
    for way, value in median.items():
        print(f'{way:18} {value:8.3f} s   {ratio[way]:6.2f}x')
    met = {'one thread is no slower than the Pillow loop': median['ours, one thread'] <= median[BASE],
           'the cache is at least 15x faster': ratio[CACHE] >= 15}
    show_goals(met)
    result = {'images': len(cases),
              'tiles': tiles,
              'bytes': size,
              'build_seconds': round(build, 3),
              'repeats': args.repeats,
              'seconds': {way: [round(x, 4) for x in values] for way, values in times.items()},
              'median_seconds': {way: round(value, 4) for way, value in median.items()},
              'times_faster_than_pillow_loop': {way: round(value, 2) for way, value in ratio.items()},
              'met': met}
    command = f'python benchmarks/loading.py --data {root.name} --json {args.json}'
    write_result(result, args.json, command=command, data=root.name, fingerprint=fingerprint(cases))


if __name__ == '__main__':
    finish(main)
