"""Samples of every method of a comparison below each other, and held-out images above them: samples.png."""

import io
from typing import Any

import torch
from torch import Tensor

from distmgcd.comparison.comparison_plan import Plan
from distmgcd.comparison.score_run import Runs, drawn
from distmgcd.evaluation.pictures.strip import Row, Strip, save_strips
from distmgcd.models.assemble import open_held_out_images
from distmgcd.models.sampling import as_floats
from distmgcd.runs.store import Store

NUM_PICTURES = 16
_SEED = 1  # as of the first draw that is measured


def write_sheet(plan: Plan, methods: dict[str, Any], runs: Runs, store: Store) -> None:
    """The first samples, not chosen ones, of each method's first final run that did not diverge."""
    strips: list[Strip] = []
    for name, outcome in methods.items():
        final = next((final for final in outcome["finals"] if "diverged" not in final), None)
        if final is None:
            continue
        chosen = outcome["chosen"]
        config = plan.final(plan.variants[name], chosen["knobs"], seed=final["seed"])
        if not strips:
            held_out = open_held_out_images(config)
            strips.append(_strip(held_out.name, as_floats(held_out.images[:NUM_PICTURES])))
        trained = runs.load(config)
        if outcome["judged"] == "bank":
            strips.append(_strip(f"{name}: persistent chains", trained.bank[:NUM_PICTURES]))
        else:
            pictures = drawn(trained, plan.sampling[chosen["way_number"]], NUM_PICTURES, seed=_SEED)
            strips.append(_strip(f"{name}: fresh samples, {chosen['way']}", pictures))
    if strips:
        page = io.BytesIO()
        save_strips(strips, page)
        store.write("samples.png", page.getvalue())


def _strip(title: str, pictures: Tensor) -> Strip:
    blank, num = [""] * len(pictures), len(pictures)
    row = Row("", torch.as_tensor(pictures), blank, blank, [False] * num, last_is_aside=False)
    return Strip(title, [row])
