"""Write the setup cell and the Colab badge into every notebook, and the line that leads on if it is missing.

    python scripts/setup_cell.py            writes them; a second run changes nothing
    python scripts/setup_cell.py --check    only says which notebooks differ

The cell installs the library where it is absent, makes figures sharp and, where the notebook shows recorded
results or example images, says where they are. Its address comes from settings.ini.
"""
import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT/'scripts')]

from address import read_address  # noqa: E402  (the folder of scripts is on the path only now)
from docsite.cells import title_of  # noqa: E402

EXTRAS = {'00c_images': 'dicom', '07b_predict': 'dicom', '10_deploy': 'onnx,openvino', '12_app': 'app',
          '13_scale': 'distributed', '14_robustness': 'app,dicom'}      # of the library that a notebook needs
DATA = ('01_dataset', '02_preprocessing', '06_metrics', '09_leakage')      # they show BUSI where it is
MARK = '# Setup: '
BADGE_IMAGE = 'https://colab.research.google.com/assets/colab-badge.svg'
FOLDER = re.compile(r"""Path\((f?)'\.\./results(?:/([^']*))?'\)(?=(\.)?)""")
PATH = re.compile(r"""(f?)'\.\./results(?:/([^']*))?'""")


def setup_cell(name: str, results: bool, data: bool, tables: bool) -> str:    # notebook; what else it shows
    "The text of the cell"
    extras = f'[{EXTRAS[name]}]' if name in EXTRAS else ''
    lines = [f'{MARK}on Colab this installs the library; elsewhere it is installed already',
             'import importlib.util', '',
             "if importlib.util.find_spec('busiseg_nb') is None:",
             f'    %pip install -q "busiseg_nb{extras} @ git+{read_address().git_url}"',
             "%config InlineBackend.figure_format = 'retina'      # sharp figures"]
    imports, names = [], []
    if results:
        imports.append('from busiseg_nb.files import recorded')
        names.append('results = recorded()      # of the long runs; they come with the library')
    if tables:
        imports.insert(0, 'import pandas as pd\n')
        names.append('pd.options.display.max_colwidth = None      # tables show whole texts')
    if data:
        imports.append('from busiseg_nb.phantom import example_data')
        what = 'BUSI where BUSI_ROOT names its folder, else the phantom'
        names.append(f'example = example_data(scale=.5)      # {what}')
    if not names:
        return '\n'.join(lines)
    return '\n'.join([*lines, '\n'.join(imports).rstrip('\n'), '', *names])


def badge(name: str) -> str:
    "The badge that opens the notebook on Colab"
    return f'[![Open in Colab]({BADGE_IMAGE})]({read_address().colab(f"{name}.ipynb")})'


def joined(folder, kind: str, rest: str | None) -> str:    # 'results', 'f' or '', 'analysis/x.json'
    "A path under the folder, as code"
    return f"{folder}/{kind}'{rest}'" if rest else folder


def on_results(source: str) -> str:    # of a code cell
    "Paths of recorded results through the folder that the setup cell found"
    def path(m):
        whole = joined('results', m[1], m[2])
        return f'({whole})' if m[3] and m[2] else whole
    source = FOLDER.sub(path, source)
    return PATH.sub(lambda m: joined('results', m[1], m[2]), source)


def is_setup(cell: dict) -> bool:
    "Whether a cell is the setup cell, or the hidden one that stood in its place"
    source = ''.join(cell['source'])
    return cell['cell_type'] == 'code' and (source.startswith(MARK) or 'git clone -q' in source or
                                            ('pip install' in source and 'eval: false' in source))


def is_badge(cell: dict) -> bool:
    "Whether a cell is the badge"
    return cell['cell_type'] == 'markdown' and BADGE_IMAGE in ''.join(cell['source'])


def lines_of(source: str) -> list[str]:
    "As notebooks store text"
    return source.splitlines(keepends=True)


def new_cell(kind: str, source: str, ident: str) -> dict:
    "A cell without outputs"
    cell = {'cell_type': kind, 'id': ident, 'metadata': {}, 'source': lines_of(source)}
    return cell | ({'execution_count': None, 'outputs': []} if kind == 'code' else {})


def leads_on(cells: list[dict]) -> bool:
    "Whether the last text says what to read next"
    texts = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
    return bool(re.search(r'Next: .*\]\(\d\d\w?_\w+\.ipynb\)', texts[-1], re.S))


def following(name: str) -> Path | None:
    "The notebook that comes next in the sidebar"
    order = re.findall(r'(\d\d\w?_\w+)\.ipynb', (ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))
    later = order[order.index(name) + 1:] if name in order else []
    return next((ROOT/'nbs'/f'{n}.ipynb' for n in later if (ROOT/'nbs'/f'{n}.ipynb').exists()), None)


def rewritten(path: Path) -> dict:    # of a notebook
    "The notebook with its setup cell, badge and line that leads on"
    notebook = json.loads(path.read_text(encoding='utf-8'))
    name, old = path.stem, notebook['cells']
    results = any(is_setup(c) and 'recorded()' in ''.join(c['source']) for c in old)
    cells = [c for c in old if not is_setup(c) and not is_badge(c)]
    for cell in cells:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'code':
            cell['source'] = lines_of(on_results(source))
            results = results or bool(re.search(r"\bresults/f?'", ''.join(cell['source'])))
    tables = 'dataframe' in json.dumps([c.get('outputs') for c in cells])
    setup = new_cell('code', setup_cell(name, results, name in DATA, tables), f'setup-{name}')
    setup['outputs'] = next((c['outputs'] for c in old if is_setup(c)), [])
    cells[1:1] = [new_cell('markdown', badge(name), f'badge-{name}'), setup]
    if name != 'index' and not leads_on(cells) and (later := following(name)):
        title = title_of(json.loads(later.read_text(encoding='utf-8'))['cells'])
        text = f'Next: [{title[:1].lower()}{title[1:]}]({later.name}).'
        cells.append(new_cell('markdown', text, f'next-{name}'))
    return notebook | {'cells': cells}


def main(check: bool) -> int:    # only look
    "Write, or compare; returns the exit status"
    changed = []
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        old = path.read_text(encoding='utf-8')
        new = json.dumps(rewritten(path), indent=1, ensure_ascii=False, sort_keys=True) + '\n'
        if json.loads(old) != json.loads(new):
            changed.append(path.name)
            if not check:
                path.write_text(new, encoding='utf-8')
    print(f'{len(changed)} notebooks {"differ" if check else "written"}: {" ".join(changed)}'.rstrip(': '))
    return int(check and bool(changed))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='only say which notebooks differ')
    sys.exit(main(parser.parse_args().check))
