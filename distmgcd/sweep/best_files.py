"""What comes of a sweep: a config file that trains with the best settings, and the best trials' samples."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from distmgcd.config import Config, to_yaml
from distmgcd.runs.store import Store
from distmgcd.sweep import ranking
from distmgcd.sweep.axes import number_text
from distmgcd.sweep.objective import objective_in_words
from distmgcd.sweep.sweep_results import SweepResults
from distmgcd.sweep.trial import Trial

BEST_FILE, SHEETS_FILE = "best.yaml", "best_samples.png"

_WIDEST = 480  # pixels of one sheet beside the others
_MARGIN, _LINE = 12, 18
_PAGE, _TEXT = (38, 46, 70), (225, 225, 225)  # a blue, so that the edges of grey pictures show


def write_best(store: Store, results: SweepResults) -> None:
    """best.yaml: a trial's settings on all training images, for what it kept back for the choice is learned from now.

    There is none where no trial has a result. Raises OSError.
    """
    best = results.best
    if best is None:
        store.delete(BEST_FILE)
        return
    config = results.sweep.preset_of({**best.parameters, "data.validation": 0.0})
    store.write(BEST_FILE, (_header(results, best, config) + to_yaml(config)).encode("utf-8", "replace"))


def _header(results: SweepResults, best: Trial, config: Config) -> str:
    sweep, counted = results.sweep, ranking.counts(results.trials)
    tried = ", ".join(f"{number} {state}" for state, number in counted.items())
    tried_config = best.config or config  # a trial with a result has one
    validation = tried_config.data.validation
    lines = [
        f"{best.name}, the best of {len(results.trials)} trials ({tried}) of the sweep {sweep.name} of "
        f"{sweep.base_name}.",
        f"{objective_in_words(sweep.objective, results.trials)}: {ranking.with_spread(best, sweep.objective)}"
        + (" (deviation over draws of samples)." if ranking.spread_of(best, sweep.objective) else "."),
        *([] if best.state == "finished" else [f"No trial came to its end; this one was {best.state}."]),
        length_in_words(best, tried_config, config),
        *(["Its settings changed while it trained; these are the last of them."] if moved(best) else []),
        *(f"{title}: {text}." for title, text in results.protocol.items()),
        "It was chosen by this very number: on other images expect it to be a little worse.",
        *(["Here all training images are learned from: data.validation is 0."] if validation else []),
    ]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def length_in_words(best: Trial, tried: Config, config: Config) -> str:
    """How long the trial trained, and how long a run of best.yaml does."""
    here, there = config.learning, tried.learning
    trial = f"The trial trained for {number_text(best.updates)} updates, {there.warmup_updates} of them warming up"
    if (here.num_updates, here.warmup_updates) == (best.updates, there.warmup_updates):
        return f"{trial}, and so does this file."
    return (
        f"{trial}; this file trains for {number_text(here.num_updates)}, {here.warmup_updates} of them warming up, "
        "for which its settings have not been tried."
    )


def moved(trial: Trial) -> bool:
    """Whether it went on from another trial (population-based training), as another run."""
    return "." in trial.run.rpartition("/")[2]


def write_sheets(store: Store, results: SweepResults) -> None:
    """best_samples.png; none where no trial has a sheet. Raises OSError."""
    sheets = [
        (trial, Image.open(io.BytesIO(results.sheets[trial.name])).convert("RGB"))
        for trial in results.trials
        if trial.name in results.sheets
    ]
    if not sheets:
        store.delete(SHEETS_FILE)
        return
    store.write(SHEETS_FILE, _side_by_side(sheets, results))


def _side_by_side(sheets: Sequence[tuple[Trial, Image.Image]], results: SweepResults) -> bytes:
    """Each sheet under its trial's name and objective, at most so wide."""
    for _, sheet in sheets:
        sheet.thumbnail((_WIDEST, _WIDEST * 4))
    width = max(sheet.width for _, sheet in sheets)
    height = max(sheet.height for _, sheet in sheets)
    page = Image.new("RGB", (_MARGIN + len(sheets) * (width + _MARGIN), height + 2 * _LINE + 2 * _MARGIN), _PAGE)
    draw = ImageDraw.Draw(page)
    for column, (trial, sheet) in enumerate(sheets):
        left = _MARGIN + column * (width + _MARGIN)
        title = f"{column + 1}. {trial.name}" + ("" if trial.state == "finished" else f" ({trial.state})")
        lines = (title, f"{results.label} {ranking.with_spread(trial, results.sweep.objective)}")
        for number, line in enumerate(lines):
            draw.text((left, _MARGIN // 2 + number * _LINE), line, fill=_TEXT, font=ImageFont.load_default(14))
        page.paste(sheet, (left, 2 * _LINE + _MARGIN))
    content = io.BytesIO()
    page.save(content, format="PNG")
    return content.getvalue()
