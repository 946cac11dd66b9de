"""Peak memory and time of `predict_files` on one huge colour image, each way in a fresh process.

    python benchmarks/memory.py --json results/benchmarks/memory.json

Memory is the peak resident size of the whole process, libraries included (VmHWM of Linux).
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np

WAYS = {'working size of the model': dict(resize='model'), 'native tiles': dict(resize='native')}


def child(file, way):
    "Predict and print MB and seconds"
    from busiseg_nb.predict import predict_files
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out: report = predict_files([file], out, **WAYS[way])
    if report['failed']: sys.exit(report['failed'][0]['error'])
    peak = next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM'))
    print(round(int(peak.split()[1])/1024), round(time.perf_counter() - start, 1))


def main():
    if sys.argv[1:2] == ['--child']: return child(*sys.argv[2:])
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--side', type=int, default=20_000, help='pixels')
    ap.add_argument('--formats', nargs='+', default=['png', 'tif', 'jpg'])
    ap.add_argument('--json', help='write the result to this file')
    a = ap.parse_args()
    import cv2
    from busiseg_nb.core import phantom_image, provenance, write_json
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        tile = phantom_image('malignant', (2000, 2000), 3)[0]; n = -(-a.side//2000)
        img = np.repeat(np.tile(tile, (n, n))[:a.side, :a.side, None], 3, 2); img[:40, :40] = 10, 200, 30      # BGR: a coloured mark
        for f in a.formats: cv2.imwrite(f'{tmp}/image.{f}', img)
        del img
        for f in a.formats:
            for way in WAYS if f == a.formats[0] else [*WAYS][:1]:
                run = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--child', f'{tmp}/image.{f}', way], capture_output=True, text=True)
                if run.returncode: sys.exit(run.stderr[-500:])
                mb, s = map(float, run.stdout.split()[-2:])
                rows.append(dict(format=f, channels=3, side=a.side, way=way, peak_mb=mb, seconds=s)); print(rows[-1], flush=True)
    if a.json: write_json({'rows': rows, **provenance(seed=3)}, a.json)


if __name__ == '__main__': main()
