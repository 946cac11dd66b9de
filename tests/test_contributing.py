"The lines of CONTRIBUTING.md, run as they stand: each adds a thing, and what reads the tables takes it."
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from busiseg_nb import dataset, images, metrics, models
from busiseg_nb.core import BusisegError

TEXT = (Path(__file__).resolve().parent.parent/'CONTRIBUTING.md').read_text(encoding='utf-8')
BLOCKS = dict(re.findall(r'^### (.+?)\n.*?^```python\n(.*?)^```', TEXT, re.M | re.S))


@pytest.fixture
def add(monkeypatch):
    "Run the lines under a title; what they add to the tables goes with the test"
    for module, table in ((images, 'READERS'), (dataset, 'LAYOUTS'), (models, 'WEIGHTS'), (models, 'LOSSES'),
                          (metrics, 'SCORES')):
        monkeypatch.setattr(module, table, dict(getattr(module, table)))

    def run(title):
        exec(compile(BLOCKS[title], f'CONTRIBUTING.md: {title}', 'exec'), {'__name__': 'a change'})

    return run


def test_all_five_changes_are_walked():
    assert [*BLOCKS] == ['A file format', 'A layout', 'A source of pretrained encoders', 'A loss', 'A score']


def test_a_file_format(add, tmp_path):
    values = np.arange(40*60, dtype=np.uint8).reshape(40, 60)
    np.save(tmp_path/'scan.npy', values)
    with pytest.raises(BusisegError, match='NumPy'):
        images.read_image(tmp_path/'scan.npy')
    add('A file format')
    (name, img, info), = images.read_image(tmp_path/'scan.npy')
    assert name == 'scan' and (img == values).all() and info['file'] == 'scan.npy'
    np.save(tmp_path/'evil.npy', np.array([{}]), allow_pickle=True)
    with pytest.raises(BusisegError, match='evil.npy'):
        images.read_image(tmp_path/'evil.npy')


def test_a_layout(add, tmp_path):
    for folder in ('scans', 'outlines'):
        (tmp_path/folder).mkdir()
        for name in ('b07-left', 'b07-right', 'm02-left'):
            Image.new('L', (40, 30), 255*(folder == 'outlines')).save(tmp_path/folder/f'{name}.png')
    with pytest.raises(BusisegError, match='no layout that is known'):
        dataset.find_data(tmp_path)
    add('A layout')
    data = dataset.find_data(tmp_path)
    assert data.layout == 'clinic' and [c.label for c in data.cases] == ['benign', 'benign', 'malignant']
    assert data.groups == (('b07-left', 'b07-right'),)


def test_a_source_of_encoders(add, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BusisegError, match="'ultrasound': do not exist for"):
        models.build_model('lite0', 'ultrasound')
    add('A source of pretrained encoders')
    assert models.weights_for('timm-tf_efficientnet_lite0')['ultrasound'] == 'folder'
    with pytest.raises(BusisegError, match='cannot be read .*put the weights of the encoder there'):
        models.build_model('lite0', 'ultrasound')
    given = models.build_model('lite0', None).encoder.state_dict()
    Path('weights').mkdir()
    save_file({k: v.contiguous() for k, v in given.items()}, 'weights/lite0-ultrasound.safetensors')
    net = models.build_model('lite0', 'ultrasound')
    assert net.encoder_weights == 'ultrasound'
    assert all(torch.equal(v, given[k]) for k, v in net.encoder.state_dict().items())


def test_a_loss(add):
    with pytest.raises(BusisegError, match='is not known'):
        models.make_loss('dice²')
    add('A loss')
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = models.make_loss('dice²')
    assert torch.isclose(loss(logits, target), models.DiceLoss()(logits, target)**2)
    assert loss.decodes(logits).shape == target.shape


def test_a_score(add):
    prob = np.zeros((30, 40, 3), np.float32)
    prob[..., 0] = 1
    prob[5:15, 5:15] = prob[20:28, 20:30] = (0, 1, 0)
    record = metrics.case_scores(prob, np.pad(np.ones((10, 10), np.uint8), ((5, 15), (5, 25))), 'benign')
    with pytest.raises(BusisegError, match='is not known'):
        metrics.score_records([record], ['miscounted'])
    add('A score')
    assert metrics.score_records([record], ['miscounted', 'lesion_sensitivity'])['miscounted'] == 1
