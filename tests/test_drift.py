"The check of the notebooks' outputs: what it lets pass, what it finds"
import pytest

from modules import script

drift = script('drift')


def out(text):
    return {'output_type': 'stream', 'name': 'stdout', 'text': text}


def shown(**data):
    return {'output_type': 'display_data', 'data': {k.replace('_', '/'): v for k, v in data.items()}}


def code(source, text):
    return {'cell_type': 'code', 'source': source, 'outputs': [out(text)]}


@pytest.mark.parametrize('old, new', [
    ('3 images in 12.5 s', '3 images in 8 s'),
    ('12 ms a tile, 3.1 tiles/s', '9.5 ms a tile, 40 tiles/s'),
    ('at 2026-01-02 10:11:12', 'at 2026-11-24 04:05:06'),
    (' 40%|████      | 4/10 [00:01<00:02, 3.1it/s]', ' 40%|████      | 4/10 [00:09<00:12, 0.4it/s]'),
    ('in /tmp/tmpab12_x9z/a.png', 'in /var/folders/tmpqqqqqqqq/a.png'),
    ('IoU 73.17 [70.10, 76.02]', 'IoU 73.20 [70.11, 76.00]'),
    ('0.5', '0.4'),
    ('1e-07', '2e-07'),
    ('| a |  b  |', '| a | b |'),
    ('−0.200', '-0.201')])
def test_passes(old, new):
    assert drift.same(old, new)


@pytest.mark.parametrize('old, new', [
    ('3 images in 12.5 s', '4 images in 12.5 s'),
    ('benign', 'malignant'),
    ('100', '101'),
    ('23,748,531', '23,748,532'),
    ('1000', '1000.0'),
    ('12 stars', '13 stars'),
    ('3 s', '3 ms'),
    ('IoU 0.732', 'IoU 0.632'),
    ('0.50', '-0.50'),
    ('resnext50', 'resnext51'),
    ('a.png 3', 'b.png 3'),
    ('one two', 'one'),
    ('(6, 256)', '(7, 256)'),
    ('took 3 s', 'took <time>x'),
    ('12 / s', '13 / s'),
    ('4 min_area', '5 min_area'),
    ('nan', '0.5'),
    ('0.10', '1e-1 x')])
def test_finds(old, new):
    assert not drift.same(old, new)


def figure(size):
    return shown(image_png='aaaa', text_plain=f'<Figure size {size} with 1 Axes>')


def test_outputs_of_a_cell():
    """Kinds and order of outputs count. A picture is only there or not, and its size is in its text. What
    does not count is stderr, and how stdout was cut"""
    stderr = {'output_type': 'stream', 'name': 'stderr', 'text': 'warned'}
    assert drift.difference([out('a\n'), out('b\n')], [out('a\nb\n'), stderr]) == []
    other = figure('720x152')
    other['data'] = other['data'] | {'image/png': 'bbbb'}
    assert drift.difference([figure('720x152')], [other]) == []
    assert drift.difference([figure('720x152')], [figure('720x300')])[0] == 'text/plain'
    assert drift.difference([out('a')], [])[0] == 'outputs were stdout; now none'
    only_text = shown(text_plain='<Figure size 1x1 with 1 Axes>')
    found = drift.difference([figure('1x1')], [only_text])
    assert found[0].startswith('outputs were text/plain, image/png; now')
    error = {'output_type': 'error', 'ename': 'ValueError', 'evalue': 'no', 'traceback': []}
    assert drift.difference([], [error]) == ['outputs were none; now error']
    found = drift.difference([out('same\n3 images\n')], [out('same\n4 images\n')])
    assert found == ['stdout', '-3 images', '+4 images']


def test_cells_are_named():
    """By number and first line. Where a cell says that its decimals depend on the processor, its words and
    integers still count"""
    text = {'cell_type': 'markdown', 'source': '# T'}
    show, train = '#| echo: false\nshow(1)\n', '#| drift: decimals\ntrain()'
    old = [text, code(show, 'IoU 0.36'), code(train, '3 runs, IoU 0.36')]

    def found(a, b):
        new = [text, code(show, a), code(train, b)]
        return [x[:2] for x in drift.drifted({'cells': old}, {'cells': new})]
    assert found('IoU 0.36', '3 runs, IoU 0.41') == []
    assert found('IoU 0.41', '3 runs, IoU 0.36') == [(1, 'show(1)')]
    old[2]['outputs'] = [out('3 runs, IoU 0.00')]
    assert found('IoU 0.36', '3 runs, IoU 0.41') == []
    assert found('IoU 0.36', '2 runs, IoU 0.36') == [(2, 'train()')] == found('IoU 0.36', '3 runs, Dice 0.36')


def test_a_notebook_runs(tmp_path):
    "From the top, in its own folder; a cell that fails is what drifted"
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    (tmp_path/'nbs').mkdir()
    path = tmp_path/'nbs'/'a.ipynb'
    first = 'import os; print(os.environ.get("BUSI_ROOT"), os.path.basename(os.getcwd()))'
    nbformat.write(new_notebook(cells=[new_code_cell(first), new_code_cell('1/0')]), path)
    was, ran = drift.execute(path)
    assert ran.cells[0].outputs[0].text == 'None nbs\n'
    assert drift.pieces(ran.cells[1].outputs) == [('error', 'ZeroDivisionError: division by zero')]
    assert [i for i, *_ in drift.drifted(was, ran)] == [0, 1]
