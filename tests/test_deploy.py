"ONNX export and the three predictors: parity with torch, the agreement of bfloat16, and files from strangers"
import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from busiseg_nb import deploy
from busiseg_nb.core import BusisegError, seed_everything
from busiseg_nb.deploy import (
    CANDIDATES,
    OnnxPredictor,
    OpenVINOPredictor,
    TorchPredictor,
    agreement,
    best_way,
    export_onnx,
    fastest,
    load_predictor,
)
from busiseg_nb.inference import predict_proba, predict_tiles, weights_id
from busiseg_nb.models import DiceCELoss, build_model, ensemble, save_model

SMALL = dict(encoder_weights=None, tile_size=64, decoder_channels=(32, 32, 16, 16, 8))


def discs(n, size=64, seed=0):
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    imgs, masks = [], []
    for i in range(n):
        r, (cy, cx), k = rng.uniform(.15, .3)*size, rng.uniform(.3, .7, 2)*size, 1 + i % 2
        inside = (y - cy)**2 + (x - cx)**2 < r*r
        img = 110 + inside*(80 if k == 1 else -80) + rng.normal(0, 10, (size, size))
        imgs.append(img.clip(0, 255).astype(np.uint8))
        masks.append(inside*k)
    return np.stack(imgs), np.stack(masks)


@pytest.fixture(scope='module')
def model():
    "A small network that is sure: it has learnt bright and dark discs"
    seed_everything(0)
    m = build_model('tu-mobilenetv3_small_050', in_channels=1, **SMALL)
    x, y = map(torch.from_numpy, discs(64))
    opt, loss = torch.optim.Adam(m.parameters(), 3e-3), DiceCELoss()
    for _ in range(50):
        b = torch.randperm(len(x))[:8]
        opt.zero_grad()
        loss(m(x[b, None]), y[b]).backward()
        opt.step()
    return m.eval()


@pytest.fixture(scope='module')
def onnx_file(model, tmp_path_factory):
    pytest.importorskip('onnxscript', reason='the extra busiseg_nb[onnx] is not installed')
    pytest.importorskip('onnxruntime', reason='the extra busiseg_nb[onnx] is not installed')
    return export_onnx(model, tmp_path_factory.mktemp('onnx')/'m.onnx')


@pytest.fixture
def tiles():
    return discs(20, seed=9)[0][..., None]


def test_torch_predictor_is_the_network(model, tiles):
    p = TorchPredictor(model, bf16=False).predict_tiles(tiles, batch=3)
    assert p.shape == (20, 64, 64, 3) and p.dtype == np.float32
    np.testing.assert_allclose(p, predict_tiles(model, tiles, bf16=False), atol=1e-5)
    assert (p.argmax(-1) == discs(20, seed=9)[1]).mean() > .97


def test_an_ensemble_is_exported_whole(model, onnx_file, tiles, tmp_path):
    other = build_model('tu-mobilenetv3_small_050', in_channels=1, **SMALL).eval()
    other.meta = dict(model.meta)
    both = ensemble([model, other])
    p = OnnxPredictor(export_onnx(both, tmp_path/'both.onnx')).predict_tiles(tiles)
    wanted = sum(TorchPredictor(net, bf16=False).predict_tiles(tiles) for net in (model, other))/2
    np.testing.assert_allclose(p, wanted, atol=1e-5)
    assert weights_id(both) != weights_id(model)


def test_bf16_keeps_the_classes(model, tiles):
    "The default on a CPU that has bf16"
    p, q = (TorchPredictor(model, bf16=b).predict_tiles(tiles) for b in (False, True))
    change, equal = agreement(p, q)
    assert equal >= .999 and 0 < change < .2            # 0 would mean that bf16 was not used
    img = np.concatenate([t[..., 0] for t in tiles[:3]], 1)[:60, :150]
    assert agreement(predict_proba(model, img, bf16=True), predict_proba(model, img, bf16=False))[1] >= .999


def test_bf16_keeps_the_classes_of_the_shipped_model(request):
    folder = Path(str(files('busiseg_nb')))/'data'/'model'
    if not (folder/'model.safetensors').is_file():
        pytest.skip('no model is shipped yet')
    from busiseg_nb.models import load_model
    from busiseg_nb.phantom import phantom_image
    net = load_model(folder)
    imgs = [phantom_image(label, (300, 400), seed=i)[0]
            for i, label in enumerate(('benign', 'malignant', 'normal')*2)]
    a, b = (np.concatenate([predict_proba(net, im, bf16=b).reshape(-1, net.classes) for im in imgs])
            for b in (False, True))
    assert agreement(a, b)[1] >= .999


def test_onnx_parity_for_any_batch(model, onnx_file, tiles):
    net = OnnxPredictor(onnx_file)
    want = TorchPredictor(model, bf16=False).predict_tiles(tiles)
    for batch in (1, 7, 16):
        assert agreement(net.predict_tiles(tiles, batch), want)[0] <= 1e-4
    assert net.predict_tiles(tiles[:0]).shape == (0, 64, 64, 3)
    assert (net.in_channels, net.tile_size, net.resize, net.classes,
            net.class_names) == (1, 64, None, 3, model.class_names)
    with pytest.raises(BusisegError, match='do not fit'):
        net.predict_tiles(np.zeros((1, 96, 96, 1), np.uint8))


def test_export_leaves_the_model_alone_and_no_paths(model, onnx_file):
    import onnx
    assert next(model.parameters()).requires_grad and not model.training
    data = onnx_file.read_bytes()
    assert b'site-packages' not in data and b'/busiseg_nb/' not in data and b'torch/nn' not in data
    m = onnx.load(onnx_file)
    assert {p.key: json.loads(p.value) for p in m.metadata_props}['class_names'] == model.class_names
    onnx.checker.check_model(m)


def test_binary_form_and_resize(tmp_path):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    seed_everything(1)
    net = build_model('tu-mobilenetv3_small_050', classes=1, input_norm='bn', resize=(96, 128),
                      **SMALL).eval()
    p = OnnxPredictor(export_onnx(net, tmp_path/'b.onnx', tile_size=32))
    x = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert (p.classes, p.tile_size, p.resize, p.in_channels) == (2, 32, (96, 128), 3)
    assert agreement(p.predict_tiles(x), predict_tiles(net, x, bf16=False))[0] <= 1e-4


def test_export_refuses_and_leaves_nothing(model, onnx_file, tmp_path, monkeypatch):
    import onnx
    m = onnx.load(onnx_file)
    del m.metadata_props[:]
    monkeypatch.setattr(deploy, '_graph', lambda *_: m)
    for i in m.graph.initializer[:1]:
        i.CopyFrom(onnx.numpy_helper.from_array(1.5*onnx.numpy_helper.to_array(i) + .1, i.name))
    with pytest.raises(BusisegError, match='differs from torch'):
        export_onnx(model, tmp_path/'m.onnx')
    with pytest.raises(BusisegError, match='multiple of 32'):
        export_onnx(model, tmp_path/'m.onnx', tile_size=50)
    with pytest.raises(BusisegError, match='end in .onnx'):
        export_onnx(model, tmp_path/'m.pt')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('bf16', (False, True))
def test_openvino(model, onnx_file, tiles, bf16):
    pytest.importorskip('openvino', reason='the extra busiseg_nb[openvino] is not installed')
    p = OpenVINOPredictor(onnx_file, bf16=bf16).predict_tiles(tiles)
    change, equal = agreement(p, TorchPredictor(model, bf16=False).predict_tiles(tiles))
    assert equal >= .999 and (bf16 or change <= 1e-3)


def broken(kind, good):
    "The bytes of a file that must be refused"
    import onnx
    m = onnx.load(good)
    if kind == 'empty':
        return b''
    if kind == 'text':
        return b'a text that somebody renamed'
    if kind == 'truncated':
        return good.read_bytes()[:-5000]
    if kind == 'png':
        return b'\x89PNG\r\n\x1a\n' + bytes(500)
    if kind == 'weights elsewhere':
        m.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        m.graph.initializer[0].external_data.add(key='location', value='/etc/passwd')
    if kind == 'weights elsewhere, in an attribute':
        t = m.graph.node[0].attribute.add(name='x', type=onnx.AttributeProto.TENSOR).t
        t.data_location = onnx.TensorProto.EXTERNAL
        t.external_data.add(key='location', value='../secret')
    if kind == 'no facts':
        del m.metadata_props[:]
    if kind == 'other facts':
        next(p for p in m.metadata_props if p.key == 'tile_size').value = '256'
    if kind == 'bad facts':
        next(p for p in m.metadata_props if p.key == 'class_names').value = '[["a"], 2, 3]'
    if kind == 'plug-in':
        m.graph.node[0].domain = 'evil.ops'
    if kind == 'unknown operator':
        m.graph.node[0].op_type = 'DoesNotExist'
    if kind == 'loop':
        m.graph.node[0].attribute.add(name='body', type=onnx.AttributeProto.GRAPH).g.name = 'g'
    return m.SerializeToString()


@pytest.mark.parametrize('kind', ('empty', 'text', 'truncated', 'png', 'weights elsewhere',
                                  'weights elsewhere, in an attribute', 'no facts',
                                  'other facts', 'bad facts', 'plug-in', 'unknown operator', 'loop'))
def test_broken_files_give_one_line(kind, onnx_file, tmp_path, capfd):
    path = tmp_path/'bad.onnx'
    path.write_bytes(broken(kind, onnx_file))
    with pytest.raises(BusisegError) as e:
        OnnxPredictor(path)
    assert str(e.value).startswith(str(path)) and '\n' not in str(e.value) and len(str(e.value)) < 400
    assert capfd.readouterr().err == ''


def test_no_file_and_a_folder(onnx_file, tmp_path):
    for p in (tmp_path/'absent.onnx', tmp_path):
        with pytest.raises(BusisegError):
            OnnxPredictor(p)


def test_missing_extra_names_the_remedy(model, onnx_file, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'onnxruntime', None)
    with pytest.raises(BusisegError, match=r'pip install busiseg_nb\[onnx\]'):
        OnnxPredictor(onnx_file)
    with pytest.raises(BusisegError, match=r'pip install busiseg_nb\[onnx\]'):
        export_onnx(model, tmp_path/'m.onnx')
    monkeypatch.setitem(__import__('sys').modules, 'openvino', None)
    with pytest.raises(BusisegError, match=r'pip install busiseg_nb\[openvino\]'):
        OpenVINOPredictor(onnx_file)


def test_load_predictor(model, onnx_file, tmp_path):
    save_model(model, tmp_path/'m')
    assert isinstance(load_predictor(tmp_path/'m', bf16=False), TorchPredictor)
    assert isinstance(load_predictor(onnx_file), OnnxPredictor)
    for bad in ((onnx_file, 'torch'), (tmp_path/'m', 'onnx'), (onnx_file, 'tensorrt')):
        with pytest.raises(BusisegError):
            load_predictor(*bad)


def test_inference_takes_a_predictor(model, onnx_file):
    "One image of any size through the file, as through the network"
    img = np.concatenate(list(discs(4, seed=3)[0]), 1)[:50, :200]
    net = OnnxPredictor(onnx_file)
    assert agreement(predict_proba(net, img, overlap=.5),
                     predict_proba(model, img, overlap=.5, bf16=False))[0] <= 1e-4


@pytest.fixture(scope='module')
def measured(model, onnx_file, tmp_path_factory):
    "A folder with a model and the cache in which it was measured, and the lines that were said"
    folder, said = tmp_path_factory.mktemp('measured'), []
    save_model(model, folder/'m')
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv('BUSISEG_CACHE', str(folder/'cache'))
        fastest(folder/'m', said.append)
    return folder, said


@pytest.fixture
def cached(measured, tmp_path, monkeypatch):
    "A model folder, measured in a cache of its own: its folder and the lines that were said"
    folder, said = measured
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv('BUSISEG_CACHE', str(tmp_path/'cache'))
    return tmp_path/'m', [*said]


def change_note(folder, **changes):
    "Write other things into the only note of a cache"
    path, = (folder.parent/'cache').glob('*/note.json')
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_the_fastest_is_measured_once_and_agrees(cached, model, tiles):
    folder, said = cached
    again = fastest(folder, said.append)
    assert len(said) == 1 and 'measured' in said[0]
    want = TorchPredictor(model, bf16=False).predict_tiles(tiles)
    assert agreement(again.predict_tiles(tiles), want)[1] >= .999
    assert again.weights == weights_id(model) and again.class_names == model.class_names
    note = json.loads(change_note(folder).read_text())
    assert again.way == note['fastest'] == best_way(note['ways']) and set(note['ways']) <= set(CANDIDATES)


def test_a_way_that_disagrees_is_not_taken():
    rows = {'PyTorch': {'tiles_per_s': 1., 'equal_classes': 1.},
            'ONNX Runtime': {'tiles_per_s': 9., 'equal_classes': .998},
            'OpenVINO': {'tiles_per_s': 5., 'equal_classes': .9995}}
    assert best_way(rows) == 'OpenVINO'


def test_a_note_for_another_computer_is_measured_again(cached):
    folder, said = cached
    change_note(folder, here={'processor': 'another'})
    fastest(folder, said.append)
    assert len(said) == 2


def test_a_cache_that_was_changed_or_cannot_be_written_is_no_harm(cached, tmp_path, monkeypatch, tiles):
    folder, said = cached
    change_note(folder, fastest='ONNX Runtime')
    network, = (folder.parent/'cache').glob('*/model.onnx')
    network.write_bytes(network.read_bytes() + b'x')
    assert isinstance(fastest(folder, said.append), TorchPredictor) and 'is not the network' in said[-1]
    (tmp_path/'file').write_text('no folder')
    monkeypatch.setenv('BUSISEG_CACHE', str(tmp_path/'file'))
    assert isinstance(fastest(folder, said.append), TorchPredictor) and 'computing with PyTorch' in said[-1]


def test_a_cached_network_starts_without_torch(cached):
    folder, _ = cached
    change_note(folder, fastest='ONNX Runtime')
    code = '''
import sys
import numpy as np
from busiseg_nb.deploy import fastest
from busiseg_nb.inference import predict_mask
predictor = fastest(sys.argv[1], print)
predict_mask(predictor, np.zeros((70, 90), np.uint8))
print(predictor.way, 'torch' in sys.modules)
'''
    out = subprocess.run([sys.executable, '-c', code, folder], capture_output=True, text=True)
    assert out.stdout == 'ONNX Runtime False\n', out.stderr


def test_the_command_with_a_cached_network_imports_no_torch(cached, tmp_path):
    folder, _ = cached
    change_note(folder, fastest='ONNX Runtime')
    Image.fromarray(np.zeros((70, 90), np.uint8)).save(tmp_path/'a.png')
    code = '''
import sys
from busiseg_nb.cli import app
try:
    app()
finally:
    print('torch' in sys.modules, 'fastai' in sys.modules)
'''
    words = ['predict', str(tmp_path/'a.png'), '--way', 'auto', '--model', str(folder)]
    words += ['--out', str(tmp_path/'o')]
    out = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True)
    assert out.stdout.endswith('False False\n'), out.stdout + out.stderr
    assert 'by ONNX Runtime' in out.stdout + out.stderr


def test_without_a_runtime_it_is_torch(model, tmp_path, monkeypatch):
    save_model(model, tmp_path/'m')
    monkeypatch.setattr(deploy, '_installed', lambda *names: False)
    assert isinstance(fastest(tmp_path/'m'), TorchPredictor)
