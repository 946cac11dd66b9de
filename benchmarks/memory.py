"""Peak memory and time of `predict_files` on one huge colour image, each way in a fresh process.

    python benchmarks/memory.py --json results/benchmarks/memory.json

Memory is the peak resident size of the whole process, libraries included (VmHWM of Linux).
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, peak_mb, write_result
from busiseg_nb.phantom import phantom_image

WAYS = {'working size of the model': dict(resize='model'), 'native tiles': dict(resize='native')}
TILE = 2000


def child(file, way):
    "Predict and print MB and seconds"
    from busiseg_nb.predict import predict_files
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        report = predict_files([file], out, **WAYS[way])
    if report['failed']:
        sys.exit(report['failed'][0]['error'])
    print(round(peak_mb()), round(time.perf_counter() - start, 1))


def write_images(folder, side, formats):
    "The same image of side x side pixels in each format, of one phantom repeated, with a coloured mark"
    phantom = phantom_image('malignant', (TILE, TILE), 3)[0]
    n = -(-side//TILE)
    img = np.repeat(np.tile(phantom, (n, n))[:side, :side, None], 3, 2)
    img[:40, :40] = 10, 200, 30      # BGR
    for suffix in formats:
        cv2.imwrite(f'{folder}/image.{suffix}', img)


def measure(file, way):
    "MB and seconds of a fresh process"
    command = [sys.executable, '-W', 'ignore', __file__, '--child', file, way]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-500:])
    return map(float, done.stdout.split()[-2:])


def main():
    parser = arguments(__doc__)
    parser.add_argument('--side', type=int, default=20_000, help='pixels')
    parser.add_argument('--formats', nargs='+', default=['png', 'tif', 'jpg'])
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        write_images(tmp, args.side, args.formats)
        for suffix in args.formats:
            for way in list(WAYS)[:None if suffix == args.formats[0] else 1]:
                peak, took = measure(f'{tmp}/image.{suffix}', way)
                rows.append(dict(format=suffix, channels=3, side=args.side, way=way, peak_mb=peak,
                                 seconds=took))
                print(rows[-1], flush=True)
    write_result({'rows': rows}, args.json, under=None, seed=3)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--child']:
        child(*sys.argv[2:])
    else:
        finish(main)
