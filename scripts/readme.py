"Write README.md from nbs/index.ipynb: Markdown as it is, code in fences, outputs as they are stored. --check only compares"
import json, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def output(o):
    "One stored output as Markdown"
    data = o.get('data', {}); join = lambda t: ''.join(t)
    if 'text/markdown' in data: return join(data['text/markdown']).strip()
    if any(k.startswith('image/') for k in data): raise ValueError('index.ipynb: a picture made by a cell has no file; save it under nbs/images and show it in a text cell')
    text = join(o.get('text') or data.get('text/plain') or '').rstrip('\n')
    if o.get('name') == 'stderr': raise ValueError(f'index.ipynb: a stored output is a warning: {text[:200]}')
    if o.get('output_type') == 'error': raise ValueError('index.ipynb: a stored output is an error; run the notebook again')
    return f'```text\n{text}\n```' if text else ''

def cell_markdown(c):
    "One cell as Markdown; '' for hidden ones"
    source = ''.join(c['source'])
    if c['cell_type'] == 'markdown': return source
    if c['cell_type'] != 'code' or re.search(r'^#\|\s*hide\s*$', source, re.M) or not source: return ''
    silent = re.search(r'^#\|\s*echo:\s*false', source, re.M)
    code = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip()
    return '\n\n'.join(t for t in ('' if silent or not code else f'```python\n{code}\n```', *map(output, c['outputs'])) if t)

def readme():
    "The text of README.md"
    nb = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    text = '\n\n'.join(t.strip() for t in map(cell_markdown, nb['cells']) if t.strip())
    text = re.sub(r'\]\((?=images/|[\w.-]+\.(?:ipynb|svg|png)[)#])', '](nbs/', text)                 # files of the notebooks' folder
    for page, file in dict(changelog='CHANGELOG.md', results='results', model_card='busiseg_nb/data/model/README.md').items(): text = text.replace(f']({page}.md)', f']({file})')
    return '<!-- Written by scripts/readme.py from nbs/index.ipynb: edit that notebook. -->\n\n' + text + '\n'

if __name__ == '__main__':
    new, file = readme(), ROOT/'README.md'
    if '--check' in sys.argv:
        same = file.exists() and file.read_text(encoding='utf-8') == new
        if not same: print('README.md is not what nbs/index.ipynb gives: run scripts/readme.py', file=sys.stderr)
        sys.exit(not same)
    file.write_text(new, encoding='utf-8'); print(f'README.md: {len(new.splitlines())} lines')
