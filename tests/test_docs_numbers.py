"""Every number on the index and on the comparison comes from a file of results/

Their tables, made again from these files alone, are those that are stored. What notebooks store is sharp and
whole, and it comes out of a wheel in another folder as well.
"""
import base64
import json
import os
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from modules import script

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
LEFT_OUT = re.compile(r'^#\|\s*(eval:\s*false|notest|slow|cuda|fig-cap)', re.M)      # figures hold no number
END = '# How the tables are made'      # of the comparison: what follows is on runs that are made up


def words(outputs):
    "What a cell printed, and the tables that it showed"
    found = []
    for out in outputs:
        data = out.get('data', {})
        text = ''.join(data.get('text/markdown', [])) or ''.join(out.get('text', []))
        found += [text.strip()] if text.strip() and out.get('name') != 'stderr' else []
    return found


def made_again(name):
    "(source, stored words, words of now) of each cell that shows some"
    from execnb.nbio import read_nb
    from execnb.shell import CaptureShell
    shell = CaptureShell(path=ROOT/'nbs')
    for cell in read_nb(ROOT/'nbs'/f'{name}.ipynb').cells:
        if cell.cell_type == 'markdown' and cell.source.startswith(END):
            break
        if cell.cell_type != 'code' or LEFT_OUT.search(cell.source):
            continue
        stored = words(deepcopy(cell.get('outputs', [])))
        shell.cell(cell)
        assert not shell.exc, f'{cell.source[:200]}: {shell.exc}'
        if stored or words(cell.outputs):
            yield cell.source, stored, words(cell.outputs)


@pytest.mark.parametrize('name, least', [('index', 4), ('08_comparison', 12)])
def test_each_number_comes_from_the_recorded_results(name, least, tmp_path):
    "In a process of its own, since a notebook sets up matplotlib for itself"
    out = tmp_path/'made.json'
    path = os.pathsep.join([str(ROOT), str(ROOT/'tests/helpers'), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run([sys.executable, '-W', 'ignore', __file__, name, out], cwd=ROOT/'nbs', text=True,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': path})
    assert done.returncode == 0, done.stderr[-2000:]
    same, tables = script('drift').same, 0
    for source, stored, now in json.loads(out.read_text(encoding='utf-8')):
        assert len(stored) == len(now), source[:200]
        for old, new in zip(stored, now, strict=True):
            assert same(old, new), f'{source[:200]}\n{old}\n{new}'
            tables += bool(re.search(r'\d', new))
    assert tables >= least


def test_tables_of_the_index_stand_in_the_readme():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    rows = [line for cell in cells for shown in words(cell.get('outputs', [])) for line in shown.split('\n')
            if line.startswith('| ') and '---' not in line]
    assert len(rows) > 10 and [row for row in rows if row not in text] == []


def pictures():
    "(notebook, number of the cell, bytes) of each stored PNG"
    for path in NOTEBOOKS:
        for i, cell in enumerate(json.loads(path.read_text(encoding='utf-8'))['cells']):
            for out in cell.get('outputs', []):
                if png := out.get('data', {}).get('image/png'):
                    yield path.stem, i, base64.b64decode(''.join(png))


def test_figures_are_sharp():
    "Each figure is SVG, or has twice the resolution at which it is shown"
    finish = script('docsite.finish')
    found = [(name, i, finish.png_size(png)[1]) for name, i, png in pictures()]
    assert len(found) > 30 and [f for f in found if f[2] < finish.SHARP] == []


CUT = re.compile(r'\[truncated\]|\.\.\. \[|<t[dh]>[^<]*\.\.\.</t[dh]>|^\.\.\s+\.\.\.', re.M)


def test_no_output_is_cut_off():
    "Nothing that a reader sees was shortened by pandas or by the notebook"
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            outputs = cell.get('outputs', [])
            html = [''.join(out.get('data', {}).get('text/html', [])) for out in outputs]
            assert [text for text in [*words(outputs), *html] if CUT.search(text)] == [], path.name


def test_the_pages_picture_is_on_its_page_and_on_the_index():
    for name in ('index', '12_app'):
        assert '](images/page.png)' in (ROOT/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8')
    assert (ROOT/'nbs'/'images'/'page.png').stat().st_size > 50_000


def test_the_index_tells_each_reader_where_to_begin():
    text = (ROOT/'README.md').read_text(encoding='utf-8').split('## Read on')[1]
    rows = [line.split('|')[1].strip() for line in text.split('\n') if line.startswith('| ')]
    assert rows[:5] == ['you have', 'the paper open', 'images', 'a data set', 'a change in mind']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_the_setup_cell_is_seen_and_short(path):
    "One cell, not hidden, that says what it is for; no other cell installs anything"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    code = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    installs = [source for source in code if '%pip install' in source]
    assert installs == code[:1] and installs[0].startswith('# Setup: ') and len(installs[0].split('\n')) <= 16


def test_notebooks_run_from_a_wheel_in_another_folder(capsys):
    "Those that show results, data and neither; `make colab-check` runs all of them so"
    status = script('colab_check').main(['00_core', '06_metrics', 'index'], full=False)
    assert status == 0, capsys.readouterr().out


if __name__ == '__main__':
    Path(sys.argv[2]).write_text(json.dumps(list(made_again(sys.argv[1]))), encoding='utf-8')
