"""Train `digits` for 20,000 updates at constant rate, and plot what the run's log says of it.

    python tests/measurements/endurance.py FOLDER [key=value ...]    trains FOLDER/endurance, or goes on; then plots
    python tests/measurements/endurance.py --plot RUN                only plots the log of a run

The picture is endurance.png in the run's folder. It is no test: it takes one core about an hour and a half.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from distmgcd.config import load_config
from distmgcd.launch import start_run

CHANGES = (
    "learning.num_updates=20000",
    "learning.final_rate=1",
    "evaluate.every=1000",
    "checkpoint.every=250",
    "checkpoint.keep=4",
    "speed.execution=traced",
)
WIDTH, HEIGHT, LEFT, RIGHT, GAP = 1200, 300, 90, 20, 50
COLOURS = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
RED = "#d62728"

Record = dict[str, Any]
Point = tuple[float, float]


def main(arguments: Sequence[str]) -> None:
    if arguments[0] == "--plot":
        run = Path(arguments[1])
    else:
        run = Path(arguments[0]) / "endurance"
        config = load_config("digits", [*CHANGES, *arguments[1:]])
        start_run.debug(config, storage_path=arguments[0], name="endurance", show=print_record)
    records = [json.loads(line) for line in (run / "log" / "metrics.jsonl").read_text().splitlines()]
    plot(records).save(run / "endurance.png")
    print(f"{summary(records)}\n{run / 'endurance.png'}")


def print_record(record: Record) -> None:
    if "event" in record or "swd" in record:
        print({key: record[key] for key in ("update", "event", "swd") if key in record}, flush=True)


def roll_backs(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(update of the divergence, updates done where the run went on)."""
    found = ((re.search(r"diverged at update (\d+)", record.get("event", "")), record["update"]) for record in records)
    return [(int(match[1]), update) for match, update in found if match]


def summary(records: Sequence[Record]) -> str:
    scores = [(sum(r["swd"].values()) / len(r["swd"]), r["update"]) for r in records if "swd" in r]
    (best, at), (end, last) = min(scores), scores[-1]
    backs = ", ".join(f"{diverged} -> {to}" for diverged, to in roll_backs(records)) or "never"
    ended = [record["event"] for record in records if "clearly better" in record.get("event", "")]
    return (
        f"best SWD {best:.4f} at update {at}, last {end:.4f} at update {last}\nwent back: {backs}\n"
        f"{ended[-1] if ended else 'No earlier model was clearly better than the newest so far.'}"
    )


def plot(records: Sequence[Record]) -> Image.Image:
    """Above: the distance at every evaluation. Below: drift over noise. Red: from where to where the run went back."""
    logged = [record for record in records if "grids" in record]
    sizes, last = list(logged[0]["grids"]), max(record["update"] for record in logged)
    swd = {size: [(r["update"], 1000 * r["swd"][size]) for r in records if "swd" in r] for size in sizes}
    drift = {size: [(r["update"], r["grids"][size]["drift_to_noise"]) for r in logged] for size in sizes}
    image = Image.new("RGB", (WIDTH, 2 * (HEIGHT + GAP) + GAP), "white")
    draw, backs = ImageDraw.Draw(image), roll_backs(records)
    panel(draw, GAP, "1000 x sliced Wasserstein distance to held-out images", swd, last, backs)
    panel(draw, HEIGHT + 2 * GAP, "drift of a chain's last step / its noise", drift, last, backs)
    return image


def panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    title: str,
    curves: dict[str, list[Point]],
    last: int,
    backs: Sequence[tuple[int, int]],
) -> None:
    highest = 1.1 * max((y for points in curves.values() for _, y in points), default=1.0)

    def at(x: float, y: float) -> Point:
        return LEFT + x / last * (WIDTH - LEFT - RIGHT), top + HEIGHT * (1 - y / highest)

    draw.rectangle([at(0, highest), at(last, 0)], outline="black")
    draw.text((LEFT, top - 18), f"{title}, by update. Red: went back", fill="black")
    for tick in range(5):
        value, update = highest * tick / 4, last * tick // 4
        draw.text((10, at(0, value)[1] - 6), f"{value:.3g}", fill="black")
        draw.text((at(update, 0)[0] - 15, top + HEIGHT + 4), f"{update:,}", fill="black")
    for number, (diverged, to) in enumerate(backs):
        height = highest * (0.98 - 0.03 * (number % 8))
        draw.line([at(diverged, 0), at(diverged, height), at(to, height)], fill=RED, width=2)
    for (size, points), colour in zip(curves.items(), COLOURS, strict=False):
        draw.text((WIDTH - 70 * (1 + list(curves).index(size)), top - 18), f"{size}x{size}", fill=colour)
        for line in stretches(points):
            draw.line([at(*point) for point in line], fill=colour, width=2)
            for x, y in (at(*point) for point in line if len(points) < 100):
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)


def stretches(points: Sequence[Point]) -> list[list[Point]]:
    """Cut where the run went back, so that no line leads to the left."""
    found: list[list[Point]] = [[]]
    for point in points:
        if found[-1] and point[0] <= found[-1][-1][0]:
            found.append([])
        found[-1].append(point)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
