"After rendering: formulas without scripts, tables that read well, sharp figures, nothing from elsewhere"
import base64
import html
import re
from pathlib import Path

from docsite.pages import source_of

KATEX = re.compile(r'<(?:script|link)\b[^>]*katex[^>]*>(?:\s*</script>)?')
MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)
CODE = re.compile(r'(<code class="sourceCode (?!text)\w+">)(.*?)(</code>)', re.S)
PRINTED = re.compile(r'(<div class="cell-output[^"]*">\s*)<pre>(<code>.*?</code>)</pre>', re.S)
TABLE = re.compile(r'<table\b.*?</table>', re.S)
ROW = re.compile(r'<tr\b.*?</tr>', re.S)
CELL = re.compile(r'<(t[hd])\b([^>]*)>(.*?)</\1>', re.S)
FONTS = re.compile(r'@import url\([^)]*fonts\.googleapis[^)]*\);')
PICTURE = re.compile(r'<img ([^>]*?)src="data:image/png;base64,([^"]+)"')

UNIT = r'(?:\s?(?:%|px|mm|ms|s|min|MB|GB|kB|x|×|tiles/s|images/s))?'
NUMBER = rf'[-+−±]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?{UNIT}'
NUMERIC = re.compile(rf'{NUMBER}(?:\s\[{NUMBER},\s{NUMBER}\]{UNIT})?')
EMPTY = {'', '-', '–', '—', 'nan', 'NaN', 'None', 'not run here'}
LEAST = {'images/page.png': 640}      # pixels, of a picture that is a file of its own
SHARP = 105          # dots per inch from which a figure has twice the resolution at which it is shown


# ------------------------------------------------------------------ formulas and code

def mathml(page: str, problems: list, name: str) -> str:    # name: of the page, for problems
    "Equations as MathML, which browsers typeset without a script"
    from latex2mathml.converter import convert

    def typeset(m):
        display = 'block' if m[1] == 'display' else 'inline'
        try:
            return f'<span class="math {m[1]}">{convert(html.unescape(m[2]), display=display)}</span>'
        except Exception as e:      # whatever that converter raises, the page says which equation it was
            problems.append(f'{name}: equation {m[2][:40]!r} cannot be typeset ({type(e).__name__})')
            return m[0]
    return KATEX.sub('', MATH.sub(typeset, page))


def indent(line: str) -> int:    # a line of HTML
    "Spaces at the start of a line of code"
    text = re.sub('<[^>]*>', '', line)
    return len(text) - len(text.lstrip())


def wrap_lines(m) -> str:    # match of CODE
    "Each line of code in a span that knows its indentation, so that long lines wrap under themselves"
    def one_line_each(span):
        return '\n'.join(f'{span[1]}{text}</span>' for text in span[2].split('\n'))
    code = re.sub(r'(<span class="\w+">)([^<]*)</span>', one_line_each, m[2])

    def spaced(line):
        return f'<span class="line" style="--in:{indent(line)}ch">{line}</span>' if line else line
    return m[1] + '\n'.join(map(spaced, code.split('\n'))) + m[3]


def sentences(m) -> str:    # match of PRINTED
    "Printed text wraps where it has no columns, which show by runs of spaces"
    columns = re.search(r'\S {2,}\S', m[2])
    return m[0] if columns else f'{m[1]}<pre class="wraps">{m[2]}</pre>'


# ------------------------------------------------------------------ tables

def plain(cell: str) -> str:
    "The text of a cell"
    return ' '.join(html.unescape(re.sub('<[^>]*>', '', cell)).split())


def numeric_columns(rows: list) -> list[int]:    # of the body: lists of cells' texts
    "Columns whose cells are all numbers or empty, and one is a number"
    def numbers(column):
        filled = [text for text in column if text not in EMPTY]
        return bool(filled) and all(NUMERIC.fullmatch(text) for text in filled)
    return [i for i, column in enumerate(zip(*rows, strict=True)) if numbers(column)]


def separated(cell: str) -> str:
    "Whole numbers of four digits and more with commas between thousands; tags stay"
    def commas(m):
        return f'{int(m[0]):,}' if len(m[0]) > 3 else m[0]
    pieces = re.split('(<[^>]*>)', cell)
    return ''.join(p if p.startswith('<') else re.sub(r'(?<![\d.,])\d+(?![\d.,])', commas, p) for p in pieces)


def with_class(attributes: str, name: str) -> str:
    "Attributes of a tag with one more class"
    attributes = re.sub(r'\s*style="text-align:[^"]*"', '', attributes)
    if 'class="' in attributes:
        return attributes.replace('class="', f'class="{name} ', 1)
    return f'{attributes} class="{name}"'


def kind_of_text(text: str) -> str:    # of a cell
    "The class of a cell with words, which is given room by it"
    kinds = ((160, 'essay'), (50, 'long'), (30, 'more'), (16, 'some'))
    return next((kind for least, kind in kinds if len(text) >= least), '')


def table(m) -> str:    # match of TABLE
    "A table whose numbers stand under each other, in a box that scrolls"
    found = [[(c[1], c[2], c[3]) for c in CELL.finditer(row)] for row in ROW.findall(m[0])]
    heads = sum(1 for cells in found if cells and all(tag == 'th' for tag, *_ in cells))
    body = [[plain(text) for *_, text in cells] for cells in found[heads:]]
    regular = body and len({len(cells) for cells in found}) == 1 and 'colspan' not in m[0]
    numeric = numeric_columns(body) if regular else []
    large = [i for i in numeric if any(re.fullmatch(r'\d{5,}', row[i]) for row in body)]
    row_number = iter(range(len(found)))

    def row(r):
        at, column = next(row_number), iter(range(10**6))

        def cell(c):
            i, (attributes, text) = next(column), (c[2], c[3])
            if i in numeric:
                attributes = with_class(attributes, 'num')
            elif kind := kind_of_text(plain(text)):
                attributes = with_class(attributes, kind)
            if i in large and at >= heads:
                text = separated(text)
            if i in numeric and at >= heads:
                text = re.sub(r'(?<![\w.-])-(?=\d)', '−', text)
            return f'<{c[1]}{attributes}>{text}</{c[1]}>'
        return CELL.sub(cell, r[0])

    wide = ' wide' if found and len(found[0]) > 7 else ''
    box = f'<div class="table-scroll scrolls{wide}" role="region" aria-label="Table" tabindex="0">'
    return f'{box}{ROW.sub(row, m[0])}</div>'


# ------------------------------------------------------------------ figures

def png_size(data: bytes) -> tuple[int, int]:
    "(width in pixels, dots per inch or 0) of a PNG file"
    width, at = int.from_bytes(data[16:20], 'big'), data.find(b'pHYs')
    dots = round(int.from_bytes(data[at + 4:at + 8], 'big')*.0254) if at > 0 else 0
    return width, dots


def figure(m) -> str:    # match of PICTURE
    "A figure at the width that it was drawn for: half of its pixels where it has twice the resolution"
    width, dots = png_size(base64.b64decode(m[2][:4096] + '='*(-len(m[2][:4096]) % 4)))
    size = f'data-blunt="{width}"' if dots < SHARP else f'width="{width//2}"'
    return f'<img {size} {m[1]}src="data:image/png;base64,{m[2]}"'


def scrolling_figures(text: str) -> str:
    "Figures that would be too small to read on a phone keep a width that can be read, and scroll"
    def box(m):
        width = re.search(r' width="(\d+)"| data-blunt="(\d+)"', m[0])
        least = min(int(width[1] or width[2]), 640) if width else LEAST.get(m[1], 0)
        if least < 420:
            return m[0]
        image = m[0].replace('<img', f'<img style="min-width:{least}px"', 1)
        return f'<span class="figure-scroll scrolls" tabindex="0">{image}</span>'
    return re.sub(r'<img [^>]*src="(data:image/png|images/[\w.-]+)[^>]*>', box, text)


# ------------------------------------------------------------------ all of it

def finish_page(text: str, name: str, book, problems: list) -> str:    # name: of the page, 'tiling'
    "One rendered page"
    address = book.address
    text = mathml(text, problems, f'{name}.html')
    own = rf'(/(?:edit|blob)/{address.branch}/)nbs/{re.escape(name)}\.(?:ipynb|md)'
    text = re.sub(own, lambda m: m[1] + source_of(name, book), text)
    text = CODE.sub(wrap_lines, text)
    text = PRINTED.sub(sentences, text)
    text = TABLE.sub(table, text)
    return scrolling_figures(PICTURE.sub(figure, text))


def finish(site: Path, book, problems: list):    # site: folder of the rendered pages
    "All pages and style sheets of the site"
    for file in site.rglob('*.css'):
        text = file.read_text(encoding='utf-8')
        if 'fonts.googleapis' in text:
            file.write_text(FONTS.sub('', text), encoding='utf-8')
    for file in site.glob('*.html'):
        text = file.read_text(encoding='utf-8')
        file.write_text(finish_page(text, file.stem, book, problems), encoding='utf-8')
