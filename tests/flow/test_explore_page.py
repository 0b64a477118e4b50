"""The page of ``stmoe explore`` in a real browser: no error, no network, controls that work."""

import json
import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from stmoe_golden.trace import save
from stmoe_sim.energy import technology
from stmoe_sim.explore import run as runs
from stmoe_sim.explore import workers
from stmoe_sim.explore.evaluate import code_digest
from stmoe_sim.explore.sweep import load_sweep
from stmoe_sim.report.explore import _script, render_sweep, summary
from support.synthetic import synthetic

BROWSERS = "chromium-headless-shell", "chromium", "google-chrome"
SWEEP = """
name = "page"
[set]
trace.file = "t.npz"
trace.tokens = 6
trace.warmup = 2
[grid]
config.slots = [6, 20, 1]
regime.bandwidth_scale = [0.05, 0.25]
policy.name = ["on-demand", "ewma", "linear", "ours", "oracle"]
"""
PLOTS = "pareto", "regimes", "stalls", "coverage", "recall", "timeline"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page, and the lines that it is of."""
    home = tmp_path_factory.mktemp("page")
    save(synthetic(layers=3, experts=16, top_k=2, tokens=60, sequences=3), home / "t.npz")
    (home / "sweep.toml").write_text(SWEEP)
    sweep, prices = load_sweep(home / "sweep.toml", code_digest()), technology("7nm")
    here = runs.bench(sweep, prices)
    with pytest.MonkeyPatch.context() as patch:  # in this process
        patch.setattr(runs, "local", lambda todo, bench, jobs: (
            workers.evaluate(bench, batch) for batch in todo))
        lines = runs.run(sweep, home / "out", prices)
    file = home / "report.html"
    file.write_text(render_sweep(summary(sweep, lines), lines, sweep, here))
    return file, lines


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no browser: install Debian's package chromium-headless-shell (or chromium)")
    with sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        running = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield running
        running.close()


@pytest.fixture
def opened(browser):
    """Open a page offline; the page, and a list of everything that it should not have done."""
    contexts = []

    def at(file):
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:"))
                or wrong.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_function("document.querySelectorAll('.plot .main-svg').length >= 6")
        return page, wrong
    yield at
    for context in contexts:
        context.close()


def _drawn(page, plot):
    return page.evaluate("id => document.getElementById(id).data", plot)


def test_it_loads_without_errors_and_without_network(made, opened):
    file, lines = made
    page, wrong = opened(file)
    assert not wrong
    for plot in PLOTS:
        assert page.locator(f"#{plot} .main-svg").count() >= 1 and _drawn(page, plot), plot
    marks = _drawn(page, "pareto")
    known = [line for line in lines if line["error"] is None and not line["oracle"]]
    assert sum(len(trace["x"]) for trace in marks if trace["mode"] == "markers") == len(known) == 16
    causes = _drawn(page, "stalls")
    assert len(causes) == 7 and len(causes[0]["y"]) == 5  # on the best machine, the oracle too
    assert page.locator("#failed tr").count() == 1 + 10
    assert "slots must be an integer from 2" in page.locator("#failed").inner_text()


def test_filters_and_axes(made, opened):
    file, _ = made
    page, wrong = opened(file)
    page.select_option("#x", "energy_mj")
    page.select_option("#y", "coverage")
    assert "energy per token" in page.locator("#pareto .xtitle").text_content()
    assert "coverage" in page.locator("#pareto .ytitle").text_content()
    axis = "document.getElementById('pareto').layout.xaxis.type"
    assert page.evaluate(axis) == "log"
    page.uncheck("#logx")
    assert page.evaluate(axis) == "linear"
    names = [trace["name"] for trace in _drawn(page, "pareto")]
    assert "linear" in names and "oracle" not in names
    page.uncheck("[id='policy-linear']")
    page.check("[id='policy-oracle']")
    names = [trace["name"] for trace in _drawn(page, "pareto")]
    assert "linear" not in names and "oracle" in names
    page.select_option("[id='filter-config.slots']", "20")
    marks = [trace for trace in _drawn(page, "pareto") if trace["mode"] == "markers"]
    assert sum(len(trace["x"]) for trace in marks) == 8
    assert not wrong


def test_the_front_is_one(made, opened):
    file, lines = made
    page, _ = opened(file)
    front = next(trace for trace in _drawn(page, "pareto") if trace["name"] == "Pareto front")
    found = set(zip(front["x"], front["y"], strict=True))
    good = {(float(f"{line['sram_mm2']:.6g}"), float(f"{line['speedup']:.6g}")) for line in lines
            if line["error"] is None and not line["oracle"]}
    assert found == {(x, y) for x, y in good if not any(
        (u, v) != (x, y) and u <= x and v >= y for u, v in good)}


def test_the_regime_map_follows_its_limit(made, opened):
    file, lines = made
    page, wrong = opened(file)

    def kinds(percent):
        page.locator("#pays").fill(str(percent))
        return {trace["name"].partition(" (")[0]: len(trace["x"])
                for trace in _drawn(page, "regimes")}
    for percent in (1, 12, 30):
        expected = dict.fromkeys(("both pay", "prefetch pays", "retention pays", "neither pays"), 0)
        for slots in (6, 20):
            for scale in (0.05, 0.25):
                speed = {line["policy.name"]: line["speedup"] for line in lines
                         if line["config.slots"] == slots
                         and line["regime.bandwidth_scale"] == scale}
                kept = max(1, speed["ewma"])
                best = max(kept, speed["linear"], speed["ours"])
                retention, prefetch = 1 - 1 / kept >= percent / 100, (
                    1 - kept / best >= percent / 100)
                expected["both pay" if retention and prefetch else "retention pays" if retention
                         else "prefetch pays" if prefetch else "neither pays"] += 1
        assert kinds(percent) == expected
    assert not wrong


def test_points_are_chosen_by_clicks(made, opened):
    file, _ = made
    page, wrong = opened(file)
    rows = page.locator("#chosen tr")
    page.click("#clear")
    assert rows.count() == 1 and not _drawn(page, "coverage")
    page.locator("#pareto").scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate("""() => {
        const plot = document.getElementById("pareto"), box = plot.getBoundingClientRect();
        const { xaxis, yaxis } = plot._fullLayout, trace = plot.data.find(t => t.name === "ours");
        return [box.x + xaxis._offset + xaxis.d2p(trace.x[0]),
                box.y + yaxis._offset + yaxis.d2p(trace.y[0])];
    }"""))
    page.wait_for_function("document.querySelectorAll('#chosen tr').length === 2")
    assert "ours" in rows.nth(1).inner_text() and len(_drawn(page, "coverage")) == 1
    page.locator("#all tr").nth(1).click()
    assert rows.count() == 3
    page.click("#best")
    assert rows.count() == 6
    assert not wrong


def test_tables_sort_and_find(made, opened):
    file, _ = made
    page, wrong = opened(file)
    page.fill("#find", "policy.name=ours config.slots=6")
    assert page.locator("#all tr").count() == 1 + 2
    page.fill("#find", "")
    head = page.locator("#all th", has_text="speed-up")
    column = page.evaluate("[...document.querySelectorAll('#all th')].findIndex("
                           "th => th.textContent === 'speed-up')")
    for descending in (False, True):
        head.click()
        found = [float(text) for text in page.locator(
            f"#all td:nth-child({column + 1})").all_inner_texts()]
        assert found == sorted(found, reverse=descending) and len(found) == 16
    assert not wrong


def test_a_token_is_drawn_and_handed_out(made, opened, tmp_path):
    file, _ = made
    page, wrong = opened(file)
    tokens = page.evaluate("Object.keys(DATA.tokens)")
    assert len(tokens) == 5
    for name in tokens:
        page.select_option("#token", name)
        spans = sum(len(trace["x"]) for trace in _drawn(page, "timeline"))
        assert spans == page.evaluate("id => DATA.tokens[id].spans.length", name) >= 3 + 6
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "token.json")
    trace = json.loads((tmp_path / "token.json").read_text())
    layers = [one for one in trace["traceEvents"] if one["ph"] == "X" and one["tid"] == 0]
    assert [one["name"] for one in layers] == ["layer 0", "layer 1", "layer 2"]
    assert waiting.value.suggested_filename == f"token-{tokens[-1]}.json"
    assert not wrong


@pytest.mark.parametrize("broken", [
    '<img src="https://example.org/x.png">', "<script>undefinedThing()</script>",
    '<script>console.warn("odd")</script>'])
def test_what_it_should_not_do_is_noticed(made, opened, tmp_path, broken):
    file = tmp_path / "broken.html"
    file.write_text(made[0].read_text().replace("</body>", f"{broken}</body>"))
    page, wrong = opened(file)
    page.wait_for_timeout(300)
    assert wrong


def test_data_does_not_end_its_script():
    assert "</" not in _script({"trace": "</script><b>"})
