"Figures 6 and 7 from the networks themselves: stages, layers and drawings agree with the model"
import matplotlib
import pytest
import torch

matplotlib.use('Agg')
from busiseg_nb.architecture import block_layers, draw_block, draw_unet, unet_stages
from busiseg_nb.models import build_model, count_parameters


def texts(ax):
    return [t.get_text() for t in ax.texts]


@pytest.mark.parametrize('name, skips', [('unet', [512, 512, 256, 128, 0]), ('small', [208, 104, 48, 32, 0])])
def test_stages_add_up_to_the_network(name, skips):
    model = build_model(name, None).train()
    s = unet_stages(model, 128)
    assert s.parameters.sum() == count_parameters(model)[0] and model.training
    decoder = s[s.part == 'decoder']
    assert decoder.joins.tolist() == skips
    assert decoder.height.tolist() == [8, 16, 32, 64, 128] and (s.height == s.width).all()
    assert s.iloc[0][['channels', 'height']].tolist() == [model.in_channels, 128]
    assert s.iloc[-1].channels == model.classes
    drawn = texts(draw_unet(model, 128))
    assert [t for t in drawn if t.startswith('skip, ')] == [f'skip, {k} channels' for k in skips if k]
    assert {f'{r.channels}×{r.height}×{r.width}' for r in s.itertuples()} <= set(drawn)


def test_layers_of_a_residual_block():
    "The first block of ResNeXt-50: 32 groups in the middle, a shortcut with a convolution of its own"
    block, x = build_model('resnext50', None).encoder.layer1[0].train(), torch.zeros(1, 64, 16, 16)
    t = block_layers(block, x).set_index('layer')
    assert t.kind['conv2'] == 'Conv2d 3×3, 32 groups' and t.parameters['conv2'] == 3*3*128*128//32
    assert block.training
    assert t.loc['downsample.0', ['channels', 'height', 'parameters']].tolist() == [256, 16, 64*256]
    assert t.parameters.sum() == sum(p.numel() for p in block.parameters())
    drawn = texts(draw_block(block, x))
    assert 'shortcut' in drawn and drawn.count('Conv2d 1×1') == 3 and 'add' in drawn
