"""Time reading a whole data set: a plain Pillow loop, this package, and this package's tile cache, in one run.

python benchmarks/loading.py --data FOLDER [--json results/benchmarks/loading.json]

Without --data the folder in BUSI_ROOT is read, and without that a phantom made for the purpose. Every image is decoded to
(H,W,3) uint8 with its label mask (the union of its mask files, then the class value).
"""
import argparse, os, statistics, sys, tempfile, time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from busiseg_nb.core import VALUES, BusisegError, make_phantom, provenance, write_json
from busiseg_nb.dataset import find_cases, fingerprint, thread_map
from busiseg_nb.preprocessing import build_cache, load_case


def plain(case):
    "What one would write with Pillow alone"
    img = np.array(Image.open(case.image).convert('RGB'))
    mask = np.zeros(img.shape[:2], np.uint8)
    for p in case.masks:
        m = np.array(Image.open(p).convert('L'))
        mask[m > 0] = VALUES.get(case.label, 0)
    return img, mask


def read_cache(cache, batch=256):
    "Copy every byte of the cache into a batch that is used again"
    images = np.empty((batch, *cache.images.shape[1:]), np.uint8)
    masks = np.empty((batch, *cache.masks.shape[1:]), np.uint8)
    for i in range(0, len(cache), batch):
        n = min(batch, len(cache) - i)
        np.copyto(images[:n], cache.images[i:i + n])
        np.copyto(masks[:n], cache.masks[i:i + n])


def seconds(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def main(args):
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(args.data or os.environ.get('BUSI_ROOT') or make_phantom(Path(tmp)/'phantom'))
        cases = find_cases(root)
        for c in cases:   # the two loops give the same arrays; this also brings all files into memory
            for a, b in zip(plain(c), load_case(c)): assert np.array_equal(a, b), c.image
        build = seconds(lambda: build_cache(cases, Path(tmp)/'cache', progress=False))
        cache = build_cache(cases, Path(tmp)/'cache', progress=False)
        read_cache(cache)

        loops = {'pillow loop': plain, 'ours, one thread': load_case}
        whole = {'ours, threads': lambda: thread_map(lambda c: load_case(c) and None, cases), 'tile cache': lambda: read_cache(cache)}
        times = {k: [] for k in (*loops, *whole)}
        for r in range(args.repeats):
            total = dict.fromkeys(loops, 0.)
            for i, c in enumerate(cases):   # the two loops case by case in turn, so that a busy moment of the machine meets both
                for k in list(loops)[::1 if (i + r) % 2 else -1]: total[k] += seconds(lambda: loops[k](c))
            for k in loops: times[k].append(total[k])
            for k, fn in whole.items(): times[k].append(seconds(fn))
        median = {k: statistics.median(v) for k, v in times.items()}
        base = median['pillow loop']
        print(f'{len(cases)} images, {len(cache)} tiles, {(cache.images.nbytes + cache.masks.nbytes)/1e9:.2f} GB; '
              f'building the cache took {build:.1f} s')
        for k, t in median.items(): print(f'{k:18} {t:8.3f} s   {base/t:6.2f}x')
        met = {'one thread is no slower than the Pillow loop': median['ours, one thread'] <= base,
               'the cache is at least 15x faster': base/median['tile cache'] >= 15}
        for k, ok in met.items(): print(f'{"yes" if ok else "NO":3} {k}')
        if args.json:
            write_json({'images': len(cases), 'tiles': len(cache), 'bytes': cache.images.nbytes + cache.masks.nbytes,
                        'build_seconds': round(build, 3), 'repeats': args.repeats,
                        'seconds': {k: [round(x, 4) for x in v] for k, v in times.items()},
                        'median_seconds': {k: round(v, 4) for k, v in median.items()},
                        'times_faster_than_pillow_loop': {k: round(base/v, 2) for k, v in median.items()}, 'met': met,
                        'provenance': provenance(f'python benchmarks/loading.py --data {root.name} --json {args.json}', data=root.name,
                                                 fingerprint=fingerprint(cases))}, args.json)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', help='folder with benign, malignant and normal; default BUSI_ROOT, else a phantom')
    parser.add_argument('--json', help='file for the results')
    parser.add_argument('--repeats', type=int, default=3, help='runs of each way; the median counts')
    try: main(parser.parse_args())
    except BusisegError as e:
        print(f'error: {e}', file=sys.stderr)
        sys.exit(2)
