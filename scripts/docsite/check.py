"What is wrong with a rendered site, in lines"
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from docsite.cells import twice

UNREAD = re.compile(r'src="data:[^"]*"|<details\b.*?</details>', re.S)     # pictures and folded source


class PageParser(HTMLParser):
    "Ids, links, images, folds, title and description of a page"
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.images, self.loads = [], [], [], []
        self.title, self.description, self.open_folds, self.in_title = '', '', 0, False

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'):
            self.ids.append(a['id'])
        if tag == 'a' and a.get('href'):
            self.links.append(a['href'])
        if tag == 'img':
            self.images.append((a.get('src') or '', a.get('alt')))
            self.loads.append(a.get('src') or '')
        if tag == 'script' and a.get('src'):
            self.loads.append(a['src'])
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon') and a.get('href'):
            self.loads.append(a['href'])
        if tag == 'meta' and a.get('name') == 'description':
            self.description = a.get('content') or ''
        if tag == 'details' and 'code-fold' in (a.get('class') or '') and 'open' in a:
            self.open_folds += 1
        if tag == 'title':
            self.in_title = True

    def handle_endtag(self, tag):
        self.in_title = self.in_title and tag != 'title'

    def handle_data(self, data):
        self.title += data if self.in_title else ''


def page_problems(page: PageParser, text: str):    # text: the page's HTML
    "Faults that a page shows by itself"
    if not page.title.strip():
        yield 'no title'
    if not page.description.strip():
        yield 'no description'
    if page.open_folds:
        yield f'{page.open_folds} folds of source stand open'
    yield from (f'image {src[:60]} without alt text' for src, alt in page.images if not (alt or '').strip())
    yield from (f'loads {u[:80]} from elsewhere' for u in page.loads if re.match(r'(https?:)?//', u))
    yield from (f'id {name} twice' for name in twice(page.ids))
    lineless = [href for href in page.links if re.search(r'#L(?!\d)', href)]
    yield from (f'source link {href[-60:]} without a line' for href in lineless)
    for cell in re.findall(r'<td[^>]*>([^<]*\.\.\.)</td>', text):
        yield f'a table is cut off: {cell[-40:]!r}'
    for name in sorted(set(re.findall(r'<td[^>]*>[^<]*(\{[A-Z_]+\})', text))):
        yield f'{name} stands in a table instead of what it names'
    for folder in sorted(set(re.findall(r'(?:/tmp|/var/folders)/[\w./-]+', UNREAD.sub('', text)))):
        yield f'the temporary folder {folder[:60]} is named'


def link_problems(file: Path, page: PageParser, parsed: dict):    # parsed: path -> page, of the whole site
    "Links of a page that lead nowhere"
    for href in sorted({*page.links, *(u for u in page.loads if u)}):
        if re.match(r'[a-zA-Z][\w+.-]*:|//', href):
            continue
        path, _, anchor = href.partition('#')
        path = unquote(path.partition('?')[0])
        to = (file.parent/path).resolve() if path else file
        to = to/'index.html' if to.is_dir() else to
        if not to.is_file():
            yield f'broken link {href}'
        elif anchor and to in parsed and unquote(anchor) not in parsed[to].ids:
            yield f'link to a missing anchor {href}'


def check_site(site) -> list[str]:    # folder of the rendered pages
    """Broken links and anchors, pages without title or description, images without alt text, files from
    elsewhere, ids that stand twice, open source, source links without lines, tables that are cut off or hold
    a `{NAME}`, temporary folders"""
    site, bad, parsed = Path(site).resolve(), [], {}
    for file in sorted(site.rglob('*.html')):
        if 'site_libs' not in file.parts:
            parsed[file] = PageParser()
            parsed[file].feed(file.read_text(encoding='utf-8'))
    for file, page in parsed.items():
        name = file.relative_to(site).as_posix()
        found = [*page_problems(page, file.read_text(encoding='utf-8')), *link_problems(file, page, parsed)]
        bad += [f'{name}: {line}' for line in found]
    if not parsed:
        bad.append(f'{site}: no pages')
    search = site/'search.json'
    if not search.is_file() or not json.loads(search.read_text(encoding='utf-8')):
        bad.append('search.json: missing or empty')
    return sorted(set(bad))


def blunt_figures(site) -> list[str]:    # folder of the rendered pages
    "Figures that are shown at their own pixels, and so are not sharp on a fine screen"
    bad = []
    for file in sorted(Path(site).glob('*.html')):
        n = file.read_text(encoding='utf-8').count('data-blunt="')
        bad += [f'{file.name}: {n} figures at single resolution'] if n else []
    return bad
