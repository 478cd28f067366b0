"""A page of HTML that needs nothing else: the document, and what stands on it. Pure.

No script, no request: the content security policy allows nothing but the page's own style, by its digest. What is given
is HTML already, so whoever gives names of others escapes them. Where a figure is rounded, `<data value>` has all its
digits.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import chain, repeat


def document(title: str, body: str, *, mark: str) -> str:
    """The page; `mark` is a comment by which it is known again."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        f'{beginning(mark)}<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>{body}</main>\n"
        "</body>\n</html>\n"
    )


def beginning(mark: str) -> str:
    """How a page with that mark begins."""
    return f'<!doctype html>\n{mark}\n<html lang="en">\n'


def exact(value: object, shown: str, name: str = "") -> str:
    """A figure as it reads, with all its digits for programs."""
    named = f' class="{name}"' if name else ""
    return f'<data{named} value="{value}">{escape(shown)}</data>'


def tiles(drawn: Iterable[tuple[str, str, str]]) -> str:
    """Large figures: name, value, and a note below it."""
    parts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{note}</dd></div>" for name, value, note in drawn)
    return f'<dl class="tiles">{parts}</dl>'


def figure(name: str, legend: str, most: str, chart: str, ends: tuple[str, str]) -> str:
    """A chart with its name, legend, highest value and ends."""
    return (
        f'<figure><figcaption><h2>{name}</h2><span class="legend">{legend}</span></figcaption>'
        f'<p class="most">{most}</p>{chart}<p class="ends"><span>{ends[0]}</span><span>{ends[1]}</span></p></figure>'
    )


def table(
    name: str, headers: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str, more: str = "", words: int = 1
) -> str:
    """Cells are HTML; the first one of a row is its name, and so many are words, the others numbers."""
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(map(_cell, cells, _classes(words - 1)))}</tr>'
        for first, *cells in rows
    )
    if not body:
        return f"<section><h2>{name}</h2><p>{empty}</p></section>"
    head = "".join(
        f'<th scope="col"{kind}>{header}</th>' for header, kind in zip(headers, _classes(words), strict=False)
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    rest = f"<p>{more}</p>" if more else ""
    # Who cannot point may scroll a wide table by the keyboard.
    scrolled = f'<div class="wide" tabindex="0" role="region" aria-label="{name}">{table}</div>'
    return f"<section><h2>{name}</h2>{scrolled}{rest}</section>"


def _cell(content: str, kind: str) -> str:
    return f"<td{kind}>{content}</td>"


def _classes(words: int) -> Iterator[str]:
    return chain(repeat(' class="word"', words), repeat(""))


_STYLE = """
:root{--back:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#5b6676;--rule:#e1e5eb;--blue:#2f6fde;--red:#d1453b;
--amber:#a86500;--green:#1d8348;--violet:#8b4fd6;--rail:#edf0f4}
@media(prefers-color-scheme:dark){:root{--back:#0f141b;--card:#171e28;--ink:#e6eaf0;--soft:#9aa6b5;--rule:#2a3442;
--blue:#6ea3ff;--red:#ff7a70;--amber:#f0b040;--green:#58c98b;--violet:#c39bff;
--rail:#232c38}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:26px;line-height:1.2;margin:0}h2{font-size:15px;margin:0}
header p,section>p,.tiles dd+dd,.legend,.most,.ends{color:var(--soft)}header p{margin:4px 0 20px}
header h2{font-size:19px;margin-top:36px}header h2+p{margin-bottom:10px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 12px}
.tiles div,figure,section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:14px 16px}
.tiles dt{color:var(--soft);font-size:13px}.tiles dd{margin:0;font-size:24px;font-weight:650}
.tiles dd+dd{font-size:12px;font-weight:400}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px;margin-bottom:12px}
.grid section{margin:0}figure{margin:0}figcaption{display:flex;justify-content:space-between;gap:8px}
.legend,.most,.ends{font-size:12px}.most{margin:6px 0 2px}
.ends{display:flex;justify-content:space-between;margin:4px 0 0}
.legend i{display:inline-block;width:9px;height:9px;border-radius:3px;margin:0 4px 0 8px;background:var(--blue)}
.legend .key-top{background:var(--red)}.legend .key1{background:var(--violet)}
.chart{display:block;width:100%;height:130px;border-bottom:1px solid var(--rule)}
.low{fill:var(--blue)}.top{fill:var(--red)}.hit{fill:transparent}g:hover .low,g:hover .top{opacity:.7}
.line{fill:none;stroke:var(--blue);stroke-width:2.5;vector-effect:non-scaling-stroke;stroke-linecap:round;
stroke-linejoin:round}
.line1{stroke:var(--violet)}
section{margin-bottom:12px}section>p{margin:6px 0 0}
.wide{overflow-x:auto;margin:8px -16px -6px;padding:0 16px 6px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 14px 7px 0;text-align:right;white-space:nowrap;border-top:1px solid var(--rule)}
.word,th:first-child{text-align:left}th:first-child{font-weight:550;max-width:340px;overflow:hidden;text-overflow:ellipsis}
thead th{color:var(--soft);font-size:12px;font-weight:500;border-top:0}
tr>:last-child{padding-right:0}
.share{display:block;width:100%;min-width:70px;height:4px;margin-top:3px}.rail{fill:var(--rail)}
.tall{min-width:100px;height:8px}.noise{fill:var(--ink);opacity:.6}
.badge{display:inline-block;min-width:76px;text-align:center;font-size:12px;border-radius:999px;padding:0 8px;
margin-right:6px;border:1px solid currentColor;color:var(--soft)}
.badge.quiet{color:var(--green)}.badge.critical{color:var(--red)}.badge.warning{color:var(--amber)}
.badge.info{color:var(--blue)}
@media(max-width:600px){th:first-child,td:last-child{white-space:normal}}
@media print{body{background:#fff}section,figure{break-inside:avoid}}
"""
