"""report.html: one page, whole, escaped and right, whatever came of the sweep."""

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_trials import MadeSweep, by_fd, diverged, finished, many

from distmgcd.cli.terminal import sweep_display
from distmgcd.runs.store import Store
from distmgcd.sweep import write_results as write_results_module
from distmgcd.sweep.axes import make_axis, number_text, text_of
from distmgcd.sweep.domains import Choice, Interval, IntRange, PerGrid
from distmgcd.sweep.page.figures import SYMBOLS, level_of_data
from distmgcd.sweep.page.page import page
from distmgcd.sweep.parameter_axes import objective_axis, parameter_axes
from distmgcd.sweep.space import Space
from distmgcd.sweep.sweep_results import gather
from distmgcd.sweep.trial import Trial
from distmgcd.sweep.write_results import write_results

pytest.importorskip("plotly")
VOID = {"meta", "img", "br"}


@pytest.fixture(autouse=True)
def without_the_library(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pages of a test without the 4.8 MB of plotly.js, but for the test that asks for it."""
    if "whole_page" not in request.fixturenames:
        monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")


class Page(HTMLParser):
    """Its tags, and whether each one is closed in turn."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: list[dict[str, Any]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(self.tags[-1])

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag, f"</{tag}> closes nothing"

    def handle_data(self, text):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if attributes.get("type") == "application/json":
            self.figures.append(json.loads(text))
        elif tag not in ("script", "style"):
            self.texts.append(text)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def rows(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "tr" and "data-t" in attributes]

    def marks(self, state: str) -> int:
        """Marks of this state in all pictures."""
        markers = [trace["marker"] for figure in self.figures for trace in figure["data"] if "marker" in trace]
        return sum(symbol == SYMBOLS[state][0] for marker in markers for symbol in marker["symbol"])


def coordinates(figure: dict[str, Any]) -> list[Any]:
    parts = [part for trace in figure["data"] for part in (trace, *trace.get("dimensions", ()))]
    return [value for part in parts for key in ("x", "y", "values") for value in part.get(key, ())]


def results_of(folder: Path, trials: list[Trial], sweep: MadeSweep | None = None):
    sweep = sweep or MadeSweep()
    return gather(sweep, sweep.with_configs(trials))


def page_of(folder: Path, trials: list[Trial], sweep: MadeSweep | None = None) -> Page:
    return Page(page(results_of(folder, trials, sweep)))


SWEEPS = {
    "no trial": [],
    "one that waits": [Trial(name="t", state="waiting", parameters={"langevin.num_steps": 3})],
    "one that finished": [finished("t", 0.1)],
    "one whose settings do not fit": [Trial(name="impossible", state="failed", reason="They do not fit.")],
    "all diverged": [diverged(f"t{n}", parameters={"langevin.num_steps": n + 1}) for n in range(4)],
    "no number": [finished("t", math.inf), finished("u", 0.1, parameters={"langevin.num_steps": 3})],
    "all alike": [finished(f"t{n}", 0.1) for n in range(3)],
    "30 of all kinds": many(30, num_parameters=8, seed=1),
    "200 with 40 parameters": many(200, num_parameters=40, seed=2),
}


@pytest.mark.parametrize("trials", SWEEPS.values(), ids=SWEEPS)
def test_the_page_is_whole_and_has_a_row_for_every_trial(tmp_path: Path, trials: list[Trial]):
    found = page_of(tmp_path, trials)
    assert len(found.rows()) == len(trials)
    values = [value for figure in found.figures for value in coordinates(figure)]
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    if len(trials) > 3:
        assert "parcoords" in {trace["type"] for figure in found.figures for trace in figure["data"]}


@pytest.fixture
def whole_page(tmp_path: Path) -> str:
    return page(results_of(tmp_path, SWEEPS["30 of all kinds"]))


def test_the_library_is_in_the_page_which_is_of_a_size_to_be_mailed(whole_page: str):
    assert "plotly.js v" in whole_page and len(whole_page) < 6e6
    assert whole_page.count("</script>") == whole_page.count("<script type=") + 2


def test_nothing_is_loaded_from_anywhere(tmp_path: Path):
    found = page_of(tmp_path, SWEEPS["30 of all kinds"])
    targets = [value for _, a in found.tags for key in ("src", "href") if (value := a.get(key))]
    assert all(target.startswith(("#", "data:")) for target in targets)
    css = page(results_of(tmp_path, []))
    assert "url(" not in css and "@import" not in css
    assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed", "base"}


def test_text_of_a_sweep_is_never_markup(tmp_path: Path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\ud800"
    trials = [
        finished(f"a{evil}", 0.1, parameters={evil: evil, "langevin.num_steps": 3}),
        finished("b", 0.2, parameters={evil: [evil, 1]}),
        diverged("c", reason=evil, parameters={evil: None}, run=evil),
    ]
    space = Space({evil: Choice((evil,), False)})
    found = page_of(tmp_path, trials, MadeSweep(name=evil, base_name=evil, objective=evil, space=space))
    assert [tag for tag, _ in found.tags].count("script") == len(found.figures) + 2
    assert not [tag for tag, _ in found.tags if tag == "img"] and len(found.rows()) == 3
    assert not [a for _, a in found.tags if any(key.startswith("on") for key in a)]
    assert "alert(2)>\"'&\N{REPLACEMENT CHARACTER}" in found.text
    page(results_of(tmp_path, trials)).encode()  # no lone surrogate is left
    texts = [text for figure in found.figures for trace in figure["data"] for text in trace.get("text", ())]
    assert texts and not [text for text in texts if "<" in text.replace("<br>", "")]


def test_diverged_trials_are_marked_in_every_picture_that_has_their_setting(tmp_path: Path):
    trials = [
        finished("a", 0.1),
        finished("b", 0.2, parameters={"langevin.num_steps": 20}),
        diverged("c"),
        diverged("d"),
    ]
    found = page_of(tmp_path, trials)
    pictures = 3  # over updates, against the number of steps, against their cost; they have no images/s
    assert found.marks("diverged") == 2 * pictures
    assert "2 diverged" in found.text and "Grid 8x8 diverged at update 7." in found.text


def test_the_page_says_how_it_was_measured(tmp_path: Path):
    text = page_of(tmp_path, [finished("a", 0.1), finished("b", 0.101), finished("c", 0.5)]).text
    assert "a validation part, 25 % of the train images, that no trial was trained on" in text
    assert "1000 fresh chains a draw" in text and "seeds 1 to 3" in text and "one run a trial, from seed 0" in text
    assert "1 other trial is within it of the best (b)" in text


def test_one_draw_of_samples_has_no_spread_to_tell(tmp_path: Path):
    trial = replace(finished("a", 0.1), swd_spread={"2": 0.0, "8": 0.0}, parameters={"evaluate.num_draws": 1})
    text = page_of(tmp_path, [trial, finished("b", 0.2)]).text
    assert "draws: 1, from seed 1, the same for every trial; what another draw would change is not measured" in text
    assert "within it of the best" not in text and "with an objective of 100.0." in text


def test_a_page_by_fd_names_the_features_and_shows_swd_beside(tmp_path: Path):
    run = tmp_path / "trials" / "a"
    run.mkdir(parents=True)
    trials = [by_fd("a", 7.5, run=str(run)), by_fd("b", 7.6, parameters={"langevin.num_steps": 20}), diverged("c")]
    measured = {"samples": {"2": 0.05, "8": 0.15}, "data": {"2": 0.01, "8": 0.02}}
    fd = {"samples": {"FD-Random": 7.5}, "data": {"FD-Random": 2.5}}
    words = "FD-Random, Frechet distance of 20 samples, and so on"
    (run / "result.json").write_text(json.dumps({"swd": measured, "fd": fd, "protocol": {"fd": words}}))
    found = page_of(tmp_path, trials, MadeSweep(objective="fd"))
    text = found.text
    assert "Objective: FD-Random, Frechet distance of samples at the finest grid; smaller is better." in text
    assert "with an objective of 7.5 ± 0.25." in text and f"fd: {words}." in text
    assert "1 other trial is within it of the best (b)" in text and "1000 x sliced Wasserstein distance" in text
    assert "data against itself2.5" in text  # a row of the table of Frechet distances
    results = results_of(tmp_path, trials, MadeSweep(objective="fd"))
    assert level_of_data(results) == 2.5  # a level in the picture over updates
    assert text.count("FD-Random") > 5 and "1000 x fd" not in text and "FID" not in text
    assert "FD-Random = 7.5 ± 0.25" in found.figures[0]["data"][-2]["text"][0]


def test_fd_beside_swd_is_a_column_of_its_own(tmp_path: Path):
    titles = [by_fd("a", 7.5)]
    assert page_of(tmp_path, titles).text.count("FD-Random") == 2  # the table of the best, and a column of all


def test_trials_that_do_not_compare_are_warned_of(tmp_path: Path):
    words = "a mean over other grids is another measure"
    trials = [finished("a", 0.1), replace(finished("b", 0.1), swd={"4": 0.1})]
    assert words in page_of(tmp_path, trials).text and words not in page_of(tmp_path, trials[:1]).text


def test_a_setting_per_grid_has_an_axis_for_every_grid_of_any_trial(tmp_path: Path):
    trials = [
        finished("a", 0.1, parameters={"grids.sizes": [2, 8], "langevin.step_size": [1.0, 2.0]}),
        finished("b", 0.2, parameters={"grids.sizes": [2, 4, 8], "langevin.step_size": [0.3, 0.1, 3.0]}),
        finished("c", 0.3, parameters={"grids.sizes": [4, 8], "langevin.step_size": 5.0}),
    ]
    found = {(axis.path, axis.grid): axis for axis in parameter_axes(results_of(tmp_path, trials))}
    assert list(found) == [("langevin.step_size", f"{size}x{size}") for size in (2, 4, 8)] + [("grids.sizes", "")]
    values = {grid: dict(axis.values) for (path, grid), axis in found.items() if path == "langevin.step_size"}
    assert values == {"2x2": {0: 1.0, 1: 0.3}, "4x4": {1: 0.1, 2: 5.0}, "8x8": {0: 2.0, 1: 3.0, 2: 5.0}}
    assert all(found["langevin.step_size", grid].axis.is_log for grid in values)


def test_an_axis_is_logarithmic_where_the_space_is(tmp_path: Path):
    trials = [
        finished(f"t{n}", 0.1, parameters={"learning.learning_rate": rate}) for n, rate in enumerate((0.1, 1.0, 50.0))
    ]
    for domain, is_log in (
        (Interval(0.1, 50, True), True),
        (PerGrid(Interval(0.1, 50, True)), True),
        (Interval(0.1, 50, False), False),
        (IntRange(0, 50, 1), False),
        (Choice((0.1, 1.0, 50.0), False), True),
    ):
        sweep = MadeSweep(space=Space({"learning.learning_rate": domain}))
        assert parameter_axes(results_of(tmp_path, trials, sweep))[0].axis.is_log == is_log


def test_places_on_an_axis():
    linear, log = make_axis([0, 5, 10]), make_axis([0.01, 0.1, 1.0], is_log=True)
    for axis, values in ((linear, (0, 5, 10)), (log, (0.01, 0.1, 1.0))):
        places = [axis.place(value) for value in values]
        assert 0 < places[0] < places[2] < 1 and places[1] == pytest.approx((places[0] + places[2]) / 2)


def test_what_is_no_number_has_a_slot_beside_the_numbers():
    values = [0.1, 10.0, None, "word", math.inf, [1, 2], True]
    below, above = make_axis(values), make_axis(values, slots_last=True)
    odd = values[2:]
    assert max(map(below.place, odd)) < below.place(0.1) and min(map(above.place, odd)) > above.place(10.0)
    places = [below.place(value) for value in values]
    assert len(set(places)) == len(values) and all(0 <= place <= 1 for place in places)


@pytest.mark.parametrize("values", [[1.0], [0.0], [-3.0, 4e9], [1e-9, 1e9], [33.1, 33.2], [5, 10, 20], [1e-300, 1e300]])
@pytest.mark.parametrize("is_log", [False, True])
def test_ticks_are_few_and_inside(values: list[float], is_log: bool):
    axis = make_axis(values, is_log=is_log)
    assert 1 <= len(axis.labels) <= 7
    assert all(-0.01 <= place <= 1.01 for place, _ in axis.labels)
    assert len({text for _, text in axis.labels}) == len(axis.labels)


def test_small_is_below_and_diverged_above_on_the_axis_of_the_objective(tmp_path: Path):
    axis = objective_axis(results_of(tmp_path, [finished("a", 0.1), finished("b", 0.2), diverged("c")]))
    assert axis.place(100.0) < axis.place(200.0) < axis.place("diverged")


def test_numbers_and_values_as_text():
    numbers = {20000: "20,000", 0.03: "0.03", 3e-5: "3e-5", 0.000558: "5.58e-4", 0: "0", 1e9: "1e9", -math.inf: "-inf"}
    assert {value: number_text(value) for value in numbers} == numbers
    values = [(None, "null"), (True, "true"), ([2, 0.12345], "[2, 0.123]"), ((1, "a"), "[1, a]"), (math.inf, "inf")]
    assert [text_of(value) for value, _ in values] == [text for _, text in values]


def test_without_the_library_all_but_the_page_is_written_and_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch):
    store = Store(str(tmp_path))
    trials = MadeSweep().with_configs([finished("a", 0.1)])
    write_results(store, MadeSweep(), trials)
    assert store.exists("report.html")
    for module in (write_results_module, sweep_display):
        monkeypatch.setattr(module, "can_be_written", lambda: False)
    write_results(store, MadeSweep(), trials)
    assert store.names("") == ["best.yaml", "results.parquet"]  # an old page would be taken for that of now
    words = f"pip install 'distmgcd[report]', then `distmgcd report {tmp_path}` writes it."
    assert words in sweep_display.lines_of_files(store)[-1]
    assert words in sweep_display.lines_of_result(trials, trials[0], str(tmp_path))[-1]
