"""Speed, memory and agreement of every way to compute the network, and MONAI's sliding window beside ours, in one run.

    python benchmarks/inference.py --data BUSI_FOLDER --json results/benchmarks/inference.json

Every way gets the same uint8 tiles and gives float32 probabilities; the ways take turns within each repetition, so what else the
machine does falls on all alike: judge by the ratios. Agreement is with eager single precision, on the tiles of the images. The
classes of a random network nearly tie everywhere, so its share of equal classes says little: read that of the trained one.
Peak memory is that of a fresh process that loads the way and computes one batch. MONAI's sliding_window_inference gets the
same network, precision, batch and padded image, from uint8 array to array of probabilities, as `predict_proba` does, and the same
weights of overlapping tiles: its own Gaussian is cut off at 0.001 in two dimensions, ours along each side, so near the border of an
image its tiles count alike; `own_window` says by how much that changes the probabilities.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count()))

import numpy as np
import torch

from busiseg_nb.core import BusisegError, phantom_image, provenance, seed_everything, write_json
from busiseg_nb.deploy import OnnxPredictor, OpenVINOPredictor, Probabilities, TorchPredictor, agreement, export_onnx
from busiseg_nb.inference import predict_proba, to_channels
from busiseg_nb.models import build_model, load_model, save_model
from busiseg_nb.preprocessing import resize_image
from busiseg_nb.tiling import blend_window, make_grid, merge_tiles, tile_image

BASE = 'torch eager fp32'
WAYS = {BASE: lambda folder: TorchPredictor(folder, bf16=False, channels_last=False),
        'torch eager bf16': lambda folder: TorchPredictor(folder, bf16=True, channels_last=False),
        'torch bf16 channels_last': lambda folder: TorchPredictor(folder, bf16=True),
        'torch compiled bf16 channels_last': lambda folder: TorchPredictor(folder, bf16=True, compile=True),
        'ONNX Runtime fp32': lambda folder: OnnxPredictor(folder/'model.onnx'),
        'OpenVINO fp32': lambda folder: OpenVINOPredictor(folder/'model.onnx', bf16=False),
        'OpenVINO bf16': lambda folder: OpenVINOPredictor(folder/'model.onnx', bf16=True)}


def images(root, n):
    "n images, (H,W) or (H,W,3) uint8, and a word on where they are from"
    if root:
        from busiseg_nb.dataset import find_cases
        from busiseg_nb.preprocessing import load_image
        cases = find_cases(root)
        pick = np.linspace(0, len(cases) - 1, n).round().astype(int)
        return [load_image(cases[i].image) for i in pick], f'{n} of the {len(cases)} images of BUSI'
    return [phantom_image(('benign', 'malignant')[i % 2], (470 + 20*(i % 5), 560), seed=i)[0] for i in range(n)], f'{n} phantom images'


def clock(f, *a):
    start = time.perf_counter(); f(*a)
    return time.perf_counter() - start


def turns(jobs, reps):
    "Seconds of each job in each repetition, the jobs taking turns; one round of warming up goes before"
    names, out = list(jobs), {k: [] for k in jobs}
    for r in range(reps + 1):
        for k in names[r % len(names):] + names[:r % len(names)]:
            t = clock(jobs[k])
            if r: out[k].append(t)
    return {k: np.array(v) for k, v in out.items()}


def cut(img, m):
    return tile_image(resize_image(to_channels(img, m.in_channels), m.resize), m.tile_size)


def image_proba(m, img, batch):
    tiles, grid = cut(img, m)
    return merge_tiles(m.predict_tiles(tiles, batch), grid)


def peak_mb(way, folder, batch):
    "Peak resident memory of a fresh process, MB"
    try: return float(subprocess.run([sys.executable, __file__, '--peak', way, str(folder), str(batch)], capture_output=True, text=True, check=True).stdout.split()[-1])
    except (subprocess.CalledProcessError, IndexError, ValueError): return None


def measure(folder, imgs, a):
    "All ways with one model"
    ways, missing = {}, {}
    for k, make in WAYS.items():
        if 'compiled' in k and not a.compile: continue
        try: ways[k] = make(folder)
        except BusisegError as e: missing[k] = str(e)
    base = ways[BASE]
    tiles = np.concatenate([cut(i, base)[0] for i in imgs])
    full = np.resize(tiles, (a.batch, *tiles.shape[1:]))
    want, out = base.predict_tiles(tiles, a.batch), {}
    for k, m in ways.items():
        gap, equal = agreement(m.predict_tiles(tiles, a.batch), want)
        out[k] = dict(max_difference=gap, equal_classes=equal)
    for what, job in {'batch': lambda m: m.predict_tiles(full, a.batch), 'one': lambda m: m.predict_tiles(full[:1], 1)}.items():
        t = turns({k: (lambda m=m: job(m)) for k, m in ways.items()}, a.reps)
        for k, v in t.items():
            out[k][f'{what}_ms_per_tile'] = round(1e3*float(np.median(v))/(a.batch if what == 'batch' else 1), 2)
            if what == 'batch': out[k] |= dict(tiles_per_s=round(a.batch/float(np.median(v)), 2), speedup=round(float(np.median(t[BASE]/v)), 2))
    # an image's tiles are no full batch, and a compiled network would be compiled again for every number of tiles
    jobs = {k: (lambda m=m: [image_proba(m, i, a.batch) for i in imgs]) for k, m in ways.items() if 'compiled' not in k}
    for k, v in turns(jobs, a.reps).items(): out[k]['ms_per_image'] = round(1e3*float(np.median(v))/len(imgs), 1)
    del ways
    for k, r in out.items():
        r['peak_mb'] = None if a.no_memory else peak_mb(k, folder, a.batch)
        print(f"  {k:34s}{r['tiles_per_s']:8.1f} tiles/s{r['speedup']:7.2f}x  max|dp| {r['max_difference']:.2g}  equal {r['equal_classes']:.5f}  peak {r['peak_mb']} MB", flush=True)
    return out, missing, len(tiles)


def monai(folder, imgs, a, overlap, bf16):
    "Our `predict_proba` and MONAI's sliding window: seconds, ratio, agreement"
    from monai.inferers import sliding_window_inference
    model = load_model(folder).to(memory_format=torch.channels_last)
    net, S = Probabilities(model).eval(), model.tile_size
    ours = lambda img: predict_proba(model, img, overlap=overlap, resize=None, batch=a.batch, bf16=bf16)

    window = torch.from_numpy(np.outer(*[blend_window(S)]*2)).float() if overlap else None

    @torch.inference_mode()
    def theirs(img, window=window):
        img = to_channels(img, model.in_channels)
        g = make_grid(img.shape, S, overlap)
        img = np.pad(img, [(0, g.padded[0] - g.height), (0, g.padded[1] - g.width), (0, 0)])
        x = torch.from_numpy(img).permute(2, 0, 1)[None].float()/255        # NHWC strides; the network takes 0..1 too
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            p = sliding_window_inference(x, (S, S), a.batch, net, overlap=overlap, mode='gaussian' if overlap else 'constant', sigma_scale=.125, roi_weight_map=window)
        return p[0, :, :g.height, :g.width].permute(1, 2, 0).numpy()

    pairs = [agreement(ours(i), theirs(i)) for i in imgs[:4]]
    t = turns({k: (lambda f=f: [f(i) for i in imgs]) for k, f in (('ours', ours), ('monai', theirs))}, a.reps)
    r = dict(overlap=overlap, bf16=bf16, images=len(imgs), ms_per_image={k: round(1e3*float(np.median(v))/len(imgs), 1) for k, v in t.items()},
             ours_to_monai=round(float(np.median(t['ours']/t['monai'])), 3), max_difference=max(p[0] for p in pairs), equal_classes=min(p[1] for p in pairs))
    if overlap: r['own_window'] = max(agreement(ours(i), theirs(i, None))[0] for i in imgs[:4])
    print('  MONAI:', r, flush=True)
    return r


def main():
    if sys.argv[1:2] == ['--peak']:
        way, folder, batch = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
        m = WAYS[way](folder)
        m.predict_tiles(np.zeros((batch, m.tile_size, m.tile_size, m.in_channels), np.uint8), batch)
        return print(round(int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])/1024))   # ru_maxrss would hold the parent's
    beside = Path(__file__).resolve().parent.parent.parent/'shared'/'data'/'Dataset_BUSI_with_GT'
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--data', default=os.environ.get('BUSI_ROOT') or (beside if beside.is_dir() else None))
    ap.add_argument('--json', help='write the result to this file')
    ap.add_argument('--model', nargs='+', help='names (random weights) or model folders; default resnext50 and the shipped model')
    ap.add_argument('--images', type=int, default=20, help='for MONAI; a fifth of them for the ways')
    ap.add_argument('--batch', type=int, default=8)
    ap.add_argument('--reps', type=int, default=3)
    ap.add_argument('--compile', action='store_true', help='torch.compile too: a minute more per model')
    ap.add_argument('--no-memory', action='store_true', help='do not start a process per way')
    ap.add_argument('--quick', action='store_true', help='test size')
    a = ap.parse_args()
    if a.quick: a.images, a.reps, a.batch, a.no_memory = min(a.images, 2), 1, 2, True
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    shipped = Path(str(files('busiseg_nb')))/'data'/'model'
    names = a.model or ['resnext50', *([str(shipped)] if (shipped/'config.json').is_file() else [])]
    imgs, source = images(a.data, a.images)
    print(source, flush=True)
    models = {}
    with tempfile.TemporaryDirectory() as tmp:
        for i, n in enumerate(names):
            seed_everything(0)
            trained = Path(n).is_dir()
            model = load_model(n) if trained else build_model(n, encoder_weights=None).eval()
            folder = save_model(model, Path(tmp)/str(i))
            export_onnx(model, folder/'model.onnx')
            name = 'shipped' if n == str(shipped) else Path(n).name
            print(name, flush=True)
            ways, missing, tiles = measure(folder, imgs[:max(1, a.images//5)], a)
            rival = [monai(folder, imgs, a, 0, True), monai(folder, imgs[:max(1, a.images//5)], a, .5, True)]
            models[name] = dict(weights='trained' if trained else 'random', encoder=model.encoder_name, tile_size=model.tile_size, tiles=tiles,
                                ways=ways, missing=missing, monai=rival)
    first = next(iter(models.values()))['ways']
    fast = max(first[k]['speedup'] for k in first if k.startswith('torch'))
    goals = {'no slower than MONAI at equal settings': all(r['ours_to_monai'] <= 1 for m in models.values() for r in m['monai']),
             'the default (bf16, channels last) is at least 4x eager fp32 (asked of processors with AMX)': first['torch bf16 channels_last']['speedup'] >= 4,
             'ONNX Runtime is ahead of eager fp32': first.get('ONNX Runtime fp32', {}).get('speedup', 0) > 1}
    for k, v in goals.items(): print(f'{"yes" if v else "NO ":4s}{k}')
    print(f'fastest torch way: {fast}x')
    if a.json:
        packages = {p: version(p) for p in ('monai', 'onnx', 'onnxscript', 'onnxruntime', 'openvino') if _has(p)}
        write_json({'source': source, 'batch': a.batch, 'repetitions': a.reps, 'threads': torch.get_num_threads(), 'models': models, 'goals': goals,
                    **provenance(packages=packages, seed=0)}, a.json)


def _has(p):
    try: return bool(version(p))
    except ImportError: return False


if __name__ == '__main__': main()
