"Write README.md from nbs/index.ipynb: text, code in fences, outputs as stored. --check only compares"
import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {'changelog': 'CHANGELOG.md', 'results': 'results', 'contributing': 'CONTRIBUTING.md',
         'model_card': 'busiseg_nb/data/model/README.md'}      # pages of the site that are files here
HEAD = '<!-- Written by scripts/readme.py from nbs/index.ipynb: edit that notebook. -->'


def output(o: dict) -> str:    # an output of a cell
    "One stored output as Markdown"
    data = o.get('data', {})
    if 'text/markdown' in data:
        return ''.join(data['text/markdown']).strip()
    if any(kind.startswith('image/') for kind in data):
        raise ValueError('index.ipynb: a picture made by a cell has no file; save it under nbs/images '
                         'and show it in a text cell')
    text = ''.join(o.get('text') or data.get('text/plain') or '').rstrip('\n')
    if o.get('name') == 'stderr':
        raise ValueError(f'index.ipynb: a stored output is a warning: {text[:200]}')
    if o.get('output_type') == 'error':
        raise ValueError('index.ipynb: a stored output is an error; run the notebook again')
    return f'```text\n{text}\n```' if text else ''


def cell_markdown(cell: dict) -> str:
    "One cell as Markdown; '' for hidden ones"
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
        return source
    hidden = re.search(r'^(#\|\s*(hide\s*$|include:\s*false)|# Setup: )', source, re.M)
    if cell['cell_type'] != 'code' or hidden or not source:
        return ''
    silent = re.search(r'^#\|\s*echo:\s*false', source, re.M)
    code = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip()
    shown = '' if silent or not code else f'```python\n{code}\n```'
    return '\n\n'.join(text for text in (shown, *map(output, cell['outputs'])) if text)


def readme() -> str:
    "The text of README.md"
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(t.strip() for t in map(cell_markdown, cells) if t.strip())
    text = re.sub(r'\]\((?=images/|[\w.-]+\.(?:ipynb|svg|png)[)#])', '](nbs/', text)
    for page, file in FILES.items():
        text = text.replace(f']({page}.md)', f']({file})')
    return f'{HEAD}\n\n{text}\n'


def main(check: bool) -> int:    # only compare
    "Write, or compare; returns the exit status"
    new, file = readme(), ROOT/'README.md'
    if not check:
        file.write_text(new, encoding='utf-8')
        print(f'README.md: {len(new.splitlines())} lines')
        return 0
    if file.exists() and file.read_text(encoding='utf-8') == new:
        return 0
    print('README.md is not what nbs/index.ipynb gives: run scripts/readme.py', file=sys.stderr)
    return 1


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='only compare')
    sys.exit(main(parser.parse_args().check))
