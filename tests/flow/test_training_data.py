"""Text of the tiny model's training: needs no torch and fetches nothing."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from tiny_moe import sources  # noqa: E402
from tiny_moe.data import (  # noqa: E402
    END,
    VOCAB,
    Document,
    read_documents,
    split,
    spread_windows,
    train_tokenizer,
    without_duplicates,
)
from tiny_moe.prose import clean_code, is_code, is_prose, prose_of_html  # noqa: E402
from tiny_moe.schedule import Schedule  # noqa: E402

PAGE = """<html><head><title>Title of the page</title></head><body>
<div class="related"><ul><li>previous page of this manual is here</li></ul></div>
<div class="body"><h1>7.2. Locks<a class="headerlink" href="#l">\u00b6</a></h1>
<p>A lock is held by one thread at a time \u2013 never by <em>two</em> of them.</p>
<div class="highlight-python3 notranslate"><div class="highlight"><pre>lock = Lock()
lock.acquire()</pre></div></div>
<dl><dt class="sig">acquire(blocking=True)</dt>
<dd><p>Waits until the lock is free, then takes it.<p>Returns whether it was\ntaken.</dd></dl>
<table><tr><td>cells of a table are not sentences of prose</td></tr></table>
<h2>See also</h2><p>Short.</p></div></body></html>"""


def documents(count: int, domain: str = "python") -> list[Document]:
    return [Document("lib", domain, f"m{i}.py", f"x{i} = {i}\n" * (40 + i)) for i in range(count)]


def test_prose_of_a_page_keeps_sentences_and_drops_code_tables_and_navigation():
    assert prose_of_html(PAGE) == (
        "Locks\n\nA lock is held by one thread at a time - never by two of them.\n\n"
        "Waits until the lock is free, then takes it.\n\nReturns whether it was taken.\n")


def test_page_without_prose_is_empty():
    assert prose_of_html("<body><h1>Index</h1><p>abc (12)</p></body>") == ""


@pytest.mark.parametrize("text, expected", [
    ("The value is copied before the call.", True), ("too few words", False),
    ("1.1. Database As Container Object", False), ("2.5. Rows are sorted before they go.", True),
    ("0x00 0x01 0x02 0x03 0x04 0x05", False)])
def test_prose_is_told_from_tables_and_contents(text, expected):
    assert is_prose(text) is expected


def test_code_is_cleaned_and_told_from_tables():
    assert clean_code("\n\tx = 1  \n\n\n\n\n\ny = 2") == "        x = 1\n\n\ny = 2\n"
    assert is_code("def f(value):\n    return value + 1\n" * 9)
    assert not is_code("table = [\n" + "    0x1234, 0x5678, 0x9abc,\n" * 99 + "]\n")
    assert not is_code("x = '" + "a" * 300 + "'\n")


def test_documents_of_a_source_leave_out_what_it_names(tmp_path):
    for path in ("a.py", "tests/b.py", "deep/tests/c.py", "data/d.py", "e.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("def function(value):\n    return value\n" * 9)
    source = sources.Source(name="s", domain="python", kind="wheel", packages=("p==1",),
                            licence="MIT", notice="n", evidence="e", root="", suffix=".py",
                            leave_out=("data/",))
    assert [d.path for d in read_documents(source, tmp_path)] == ["a.py"]


def test_duplicates_go_whole_or_by_paragraph():
    boilerplate = "This paragraph is the same on every page of the manual, word by word. " * 2
    own = "A sentence of its own that stands on one page and on that page only. " * 3
    pages = [Document("m", "english", f"{i}.html", f"{boilerplate}\n\n{own}{i}") for i in range(2)]
    first, second = without_duplicates([*pages, pages[0]])
    assert boilerplate in first.text and boilerplate not in second.text
    assert len(without_duplicates([*documents(3), *documents(3)])) == 3


def test_split_is_disjoint_complete_and_of_the_share_asked_for():
    train, held = split(documents(400), seed=1, share=0.05)
    assert not {d.name for d in train} & {d.name for d in held}
    assert sorted(d.name for d in [*train, *held]) == sorted(d.name for d in documents(400))
    size = sum(len(d.text) for d in held) / sum(len(d.text) for d in documents(400))
    assert 0.03 < size <= 0.05


def test_split_depends_on_seed_and_names_not_on_order():
    names = [{d.name for d in split(docs, seed=seed, share=0.05)[1]}
             for docs, seed in ((documents(400), 1), (documents(400)[::-1], 1),
                                (documents(400), 2))]
    assert names[0] == names[1] != names[2]


def test_split_refuses_a_share_outside_its_range():
    with pytest.raises(ValueError, match=r"share: 1\.5"):
        split(documents(4), seed=1, share=1.5)


def test_tokenizer_is_reproducible_lossless_and_splits_digits():
    texts = {"english": ["The lock is held by one thread at a time. " * 40],
             "python": ["def f(x):\n    if x:\n        return x12\n" * 40]}
    one, two = (train_tokenizer(texts, seed=1) for _ in range(2))
    assert one.to_str() == two.to_str()
    assert one.token_to_id(END) == 0 and one.get_vocab_size() <= VOCAB
    text = "def f(x):\n        return 'na\u00efve' + 128  # \u2713\n"
    assert one.decode(one.encode(text).ids) == text
    assert [t for t in one.encode("x = 128").tokens if t.isdigit()] == ["1", "2", "8"]
    assert "\u0120" * 3 in one.get_vocab()


def test_windows_are_spread_over_the_whole_text():
    tokens = np.arange(10000, dtype=np.uint16)
    windows = spread_windows(tokens, total=1000, window=100).reshape(10, 100)
    assert windows[0, 0] == 0 and windows[-1, -1] == 9999
    assert (np.diff(windows, axis=1) == 1).all()


def test_every_source_has_its_licence_on_record():
    allowed = {"PSF-2.0", "PSF-2.0, examples 0BSD", "PostgreSQL", "public domain", "BSD-3-Clause"}
    assert {s.domain for s in sources.SOURCES} == set(sources.DOMAINS)
    assert len({s.name for s in sources.SOURCES}) == len(sources.SOURCES)
    for source in sources.SOURCES:
        assert source.licence in allowed, source.name
        assert source.notice and source.evidence, source.name
        assert source.kind == "debian" or all("==" in p for p in source.packages), source.name


def wheel_source(evidence: str) -> sources.Source:
    return sources.Source(name="lib", domain="python", kind="wheel", packages=("lib==1.0",),
                          licence="MIT", notice="lib-1.0.dist-info/LICENSE", evidence=evidence,
                          root="lib", suffix=".py")


def test_source_whose_licence_file_says_otherwise_is_refused(tmp_path):
    (tmp_path / "lib").mkdir()
    with zipfile.ZipFile(tmp_path / "lib" / "lib-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("lib/a.py", "x = 1\n")
        archive.writestr("lib-1.0.dist-info/LICENSE", "Permission is hereby granted")
    root, version = sources.fetch(wheel_source("Permission is hereby granted"), tmp_path)
    assert (root / "a.py").is_file() and version == "1.0"
    with pytest.raises(sources.FetchError, match="does not say 'All rights reserved'"):
        sources.fetch(wheel_source("All rights reserved"), tmp_path)


def test_schedule_warms_up_holds_and_decays_to_zero():
    schedule = Schedule(10_000_000, decay=0.4)
    assert schedule.rate(199_999) == 0.5
    assert schedule.rate(400_000) == schedule.rate(6_000_000) == 1
    assert schedule.rate(8_000_000) == 0.5 and schedule.rate(10_000_000) == 0
    assert not schedule.is_long(8_400_000) and schedule.is_long(8_500_000)
    assert not schedule.is_done(9_999_999) and schedule.is_done(10_000_000)


def test_time_limit_only_chooses_the_total():
    timed = Schedule(None)
    seen = 0
    while timed.total is None:
        seen += 4096
        timed.fit(seen, seconds_left=3600 - seen / 5000, tokens_per_second=5000)
    assert abs(timed.total - 5000 * 3600) < 10000
    assert timed.rate(seen) == pytest.approx(1, abs=1e-3)
    fixed = Schedule(timed.total)
    assert [timed.rate(t) for t in range(0, timed.total, 99991)] == [
        fixed.rate(t) for t in range(0, timed.total, 99991)]


@pytest.mark.parametrize("values, message", [
    ({"total": 500_000}, "tokens: 500000 leave no room"),
    ({"total": None, "long": 0.8}, "long, decay: 0.8 and 0.7")])
def test_impossible_schedule_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**values)
