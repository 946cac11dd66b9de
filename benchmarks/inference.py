"""Speed, memory and agreement of every way to compute the network, and MONAI's sliding window beside ours, in
one run.

    python benchmarks/inference.py --data BUSI_FOLDER --json results/benchmarks/inference-amx.json

Every way gets the same uint8 tiles and gives float32 probabilities; the ways take turns within each
repetition, so what else the machine does falls on all alike: judge by the ratios. Agreement is with eager
single precision, on the tiles of the images. The classes of a random network nearly tie everywhere, so its
share of equal classes says little: read that of the trained one. Peak memory is that of a fresh process that
loads the way and computes one batch. MONAI's sliding_window_inference gets the same network, precision, batch
and padded image, from uint8 array to array of probabilities, as `predict_proba` does, and the same weights of
overlapping tiles: its own Gaussian is cut off at 0.001 in two dimensions, ours along each side, so near the
border of an image its tiles count alike; `own_window` says by how much that changes the probabilities.
"""
import os
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count()))

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import (
    SHIPPED,
    arguments,
    data_beside,
    finish,
    in_turns,
    peak_mb,
    show_goals,
    write_result,
)
from busiseg_nb.core import BusisegError, seed_everything
from busiseg_nb.deploy import (
    OnnxPredictor,
    OpenVINOPredictor,
    TorchPredictor,
    agreement,
    export_onnx,
    with_probabilities,
)
from busiseg_nb.inference import predict_proba, to_channels
from busiseg_nb.models import build_model, load_model, save_model
from busiseg_nb.phantom import phantom_image
from busiseg_nb.preprocessing import resize_image
from busiseg_nb.tiling import blend_window, make_grid, merge_tiles, tile_image

BASE, DEFAULT = 'torch eager fp32', 'torch bf16 channels_last'
COMPILED, ONNX = 'torch compiled bf16 channels_last', 'ONNX Runtime fp32'
WAYS = {BASE: lambda folder: TorchPredictor(folder, bf16=False, channels_last=False),
        'torch eager bf16': lambda folder: TorchPredictor(folder, bf16=True, channels_last=False),
        DEFAULT: lambda folder: TorchPredictor(folder, bf16=True),
        COMPILED: lambda folder: TorchPredictor(folder, bf16=True, compile=True),
        ONNX: lambda folder: OnnxPredictor(folder/'model.onnx'),
        'OpenVINO fp32': lambda folder: OpenVINOPredictor(folder/'model.onnx', bf16=False),
        'OpenVINO bf16': lambda folder: OpenVINOPredictor(folder/'model.onnx', bf16=True)}
AIMS = {'resnext50': 8, 'shipped': 4}    # times eager fp32, where OpenVINO and AMX are
PACKAGES = ('monai', 'onnx', 'onnxscript', 'onnxruntime', 'openvino')


def images(root, n):
    "n images, (H,W) or (H,W,3) uint8, and a word on where they are from"
    if root:
        from busiseg_nb.dataset import find_cases
        from busiseg_nb.preprocessing import load_image
        cases = find_cases(root)
        pick = np.linspace(0, len(cases) - 1, n).round().astype(int)
        return [load_image(cases[i].image) for i in pick], f'{n} of the {len(cases)} images of BUSI'
    labels = ('benign', 'malignant')
    phantoms = [phantom_image(labels[i % 2], (470 + 20*(i % 5), 560), seed=i)[0] for i in range(n)]
    return phantoms, f'{n} phantom images'


def cut(img, model):
    return tile_image(resize_image(to_channels(img, model.in_channels), model.resize), model.tile_size)


def predict_images(model, imgs, batch):
    "Image after image from array to array of probabilities; the results are dropped"
    for img in imgs:
        tiles, grid = cut(img, model)
        merge_tiles(model.predict_tiles(tiles, batch), grid)


def peak_of(way, folder, batch):
    "Peak resident memory of a fresh process, MB; None where it fails"
    command = [sys.executable, __file__, '--peak', way, str(folder), str(batch)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])
    except (subprocess.CalledProcessError, IndexError, ValueError):
        return None


def show_peak(way, folder, batch):
    "What the fresh process does: compute one batch, print MB"
    model = WAYS[way](Path(folder))
    size, channels = model.tile_size, model.in_channels
    model.predict_tiles(np.zeros((int(batch), size, size, channels), np.uint8), int(batch))
    print(round(peak_mb()))


def load_ways(folder, compiled):
    "The ways that work here, and why the others do not"
    ways, missing = {}, {}
    for name, make in WAYS.items():
        if name == COMPILED and not compiled:
            continue
        try:
            ways[name] = make(folder)
        except BusisegError as error:
            missing[name] = str(error)
    return ways, missing


def time_tiles(ways, tiles, args):
    "Per way, what a full batch and a single tile take"
    full = np.resize(tiles, (args.batch, *tiles.shape[1:]))
    batch = in_turns({name: partial(model.predict_tiles, full, args.batch) for name, model in ways.items()},
                     args.reps)
    one = in_turns({name: partial(model.predict_tiles, full[:1], 1) for name, model in ways.items()},
                   args.reps)
    rows = {}
    for name in ways:
        typical = float(np.median(batch[name]))
        rows[name] = {'batch_ms_per_tile': round(1e3*typical/args.batch, 2),
                      'tiles_per_s': round(args.batch/typical, 2),
                      'speedup': round(float(np.median(batch[BASE]/batch[name])), 2),
                      'one_ms_per_tile': round(1e3*float(np.median(one[name])), 2)}
    return rows


def time_images(ways, imgs, args):
    "Per way, ms an image: its tiles are no full batch"
    # a compiled network is left out: it would be compiled again for each number of tiles
    jobs = {name: partial(predict_images, model, imgs, args.batch)
            for name, model in ways.items() if name != COMPILED}
    times = in_turns(jobs, args.reps)
    return {name: {'ms_per_image': round(1e3*float(np.median(took))/len(imgs), 1)}
            for name, took in times.items()}


def measure(folder, imgs, args):
    "All ways with one model: rows, ways that are missing, number of tiles"
    ways, missing = load_ways(folder, args.compile)
    tiles = np.concatenate([cut(img, ways[BASE])[0] for img in imgs])
    want, rows = ways[BASE].predict_tiles(tiles, args.batch), {}
    for name, model in ways.items():
        gap, equal = agreement(model.predict_tiles(tiles, args.batch), want)
        rows[name] = dict(max_difference=gap, equal_classes=equal)
    for timed in (time_tiles(ways, tiles, args), time_images(ways, imgs, args)):
        for name, row in timed.items():
            rows[name] |= row
    del ways, model
    for name, row in rows.items():
        row['peak_mb'] = None if args.no_memory else peak_of(name, folder, args.batch)
        print(f"  {name:34s}{row['tiles_per_s']:8.1f} tiles/s{row['speedup']:7.2f}x  "
              f"max|dp| {row['max_difference']:.2g}  equal {row['equal_classes']:.5f}  "
              f"peak {row['peak_mb']} MB", flush=True)
    return rows, missing, len(tiles)


def monai_window(model, batch, overlap, bf16):
    "MONAI's sliding window over one image as a function of the image and of the weights of overlapping tiles"
    from monai.inferers import sliding_window_inference
    net, size = with_probabilities(model).eval(), model.tile_size
    mode = 'gaussian' if overlap else 'constant'

    @torch.inference_mode()
    def predict(img, window):
        img = to_channels(img, model.in_channels)
        grid = make_grid(img.shape, size, overlap)
        img = np.pad(img, [(0, grid.padded[0] - grid.height), (0, grid.padded[1] - grid.width), (0, 0)])
        # NHWC strides; the network takes 0..1 too
        x = torch.from_numpy(img).permute(2, 0, 1)[None].float()/255
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            p = sliding_window_inference(x, (size, size), batch, net, overlap=overlap, mode=mode,
                                         sigma_scale=.125, roi_weight_map=window)
        return p[0, :, :grid.height, :grid.width].permute(1, 2, 0).numpy()
    return predict


def for_each(f, imgs):
    "Run on each image; the results are held until the last, as both sides do"
    return [f(img) for img in imgs]


def monai(folder, imgs, args, overlap, bf16):
    "Our `predict_proba` and MONAI's sliding window: seconds, ratio, agreement"
    model = load_model(folder).to(memory_format=torch.channels_last)
    ours = partial(predict_proba, model, overlap=overlap, resize=None, batch=args.batch, bf16=bf16)
    window = None
    if overlap:
        side = blend_window(model.tile_size)
        window = torch.from_numpy(np.outer(side, side)).float()
    either = monai_window(model, args.batch, overlap, bf16)
    theirs = partial(either, window=window)
    some = imgs[:4]
    pairs = [agreement(ours(img), theirs(img)) for img in some]
    times = in_turns({'ours': partial(for_each, ours, imgs), 'monai': partial(for_each, theirs, imgs)},
                     args.reps)
    row = dict(overlap=overlap, bf16=bf16, images=len(imgs),
               ms_per_image={name: round(1e3*float(np.median(took))/len(imgs), 1)
                             for name, took in times.items()},
               ours_to_monai=round(float(np.median(times['ours']/times['monai'])), 3),
               max_difference=max(gap for gap, _ in pairs), equal_classes=min(equal for _, equal in pairs))
    if overlap:
        row['own_window'] = max(agreement(ours(img), either(img, None))[0] for img in some)
    print('  MONAI:', row, flush=True)
    return row


def measure_model(name, folder, imgs, args):
    "The account of one model: a folder, or the name of a network with random weights"
    seed_everything(0)
    trained = Path(name).is_dir()
    model = load_model(name) if trained else build_model(name, encoder_weights=None).eval()
    folder = save_model(model, folder)
    export_onnx(model, folder/'model.onnx')
    few = imgs[:max(1, args.images//5)]
    ways, missing, tiles = measure(folder, few, args)
    rival = [monai(folder, imgs, args, 0, True), monai(folder, few, args, .5, True)]
    return dict(weights='trained' if trained else 'random', encoder=model.encoder_name,
                tile_size=model.tile_size, tiles=tiles, ways=ways, missing=missing, monai=rival)


def installed(packages):
    "Versions of those that are here"
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def parse():
    parser = arguments(__doc__, data=data_beside())
    parser.add_argument('--model', nargs='+',
                        help='names (random weights) or folders; default resnext50 and the shipped model')
    parser.add_argument('--images', type=int, default=20, help='for MONAI; a fifth of them for the ways')
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--reps', type=int, default=3)
    parser.add_argument('--compile', action='store_true', help='torch.compile too: a minute more per model')
    parser.add_argument('--no-memory', action='store_true', help='do not start a process per way')
    parser.add_argument('--quick', action='store_true', help='test size')
    args = parser.parse_args()
    if args.quick:
        args.images, args.reps, args.batch, args.no_memory = min(args.images, 2), 1, 2, True
    if not args.model:
        args.model = ['resnext50'] + [str(SHIPPED)]*(SHIPPED/'config.json').is_file()
    return args


def main():
    args = parse()
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    imgs, source = images(args.data, args.images)
    print(source, flush=True)
    models = {}
    with tempfile.TemporaryDirectory() as tmp:
        for i, path in enumerate(args.model):
            name = 'shipped' if path == str(SHIPPED) else Path(path).name
            print(name, flush=True)
            models[name] = measure_model(path, Path(tmp)/str(i), imgs, args)
    first = next(iter(models.values()))['ways']
    level = all(row['ours_to_monai'] <= 1 for model in models.values() for row in model['monai'])
    ahead = {name: max(way['speedup'] for way in model['ways'].values()) for name, model in models.items()}
    goals = {'no slower than MONAI at equal settings': level,
             'the default (bf16, channels last) is at least 4x eager fp32 (asked of processors with AMX)':
                 first[DEFAULT]['speedup'] >= 4,
             'ONNX Runtime is ahead of eager fp32': first.get(ONNX, {}).get('speedup', 0) > 1}
    for name, aim in AIMS.items():
        if name in ahead:
            goal = f'{name}: the fastest way is {aim} times eager fp32 or more (asked of AMX)'
            goals[goal] = ahead[name] >= aim
    show_goals(goals)
    print('fastest way:', ', '.join(f'{name} {times}x' for name, times in ahead.items()))
    result = {'source': source, 'batch': args.batch, 'repetitions': args.reps,
              'threads': torch.get_num_threads(),
              'models': models, 'goals': goals}
    write_result(result, args.json, under=None, packages=installed(PACKAGES), seed=0)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--peak']:
        show_peak(*sys.argv[2:])
    else:
        finish(main)
