"""The pictures of a report, as SVG that the page's own style colours: light and dark, and no library at view time.

A trial is known by its rank in data-t, in every picture and in the table, so that the page can light it up in all.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from distmgcd.sweep.axes import Axis
from distmgcd.sweep.page.markup import Markup, element, join

LEFT, RIGHT, TOP, BOTTOM = 80, 16, 30, 48  # pixels around what is drawn
_LETTER = 5.8  # pixels of width, about
_AXIS_GAP = 112  # between two axes of parallel coordinates, at least
_PARALLEL_HEIGHT = 380
_ASIDE = 6.0  # between marks that fall on one place


class Mark(NamedTuple):
    """A trial in a picture, at values of its axes."""

    trial: int  # its rank
    state: str
    x: Any
    y: Any


class Line(NamedTuple):
    """A trial on its way: values of both axes, and how good it is, from 0 (best) to 8; None without result."""

    trial: int
    points: Sequence[tuple[Any, Any]]
    shade: int | None


class Frame(NamedTuple):
    """Two axes in a rectangle."""

    title: str
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    width: int = 400
    height: int = 290

    def at(self, x: Any, y: Any) -> tuple[float, float]:
        """Pixels of a point given by values."""
        return self.across(self.x.place(x)), self.down(self.y.place(y))

    def across(self, place: float) -> float:
        return LEFT + place * (self.width - LEFT - RIGHT)

    def down(self, place: float) -> float:
        return self.height - BOTTOM - place * (self.height - TOP - BOTTOM)


def scatter(frame: Frame, marks: Sequence[Mark], *, front: Sequence[tuple[Any, Any]] = ()) -> Markup:
    """A mark a trial, the best on top. front: values between which a staircase runs, along x."""
    stairs = element("polyline", class_="front", points=_points(_stairs(frame, front))) if len(front) > 1 else None
    return _svg(frame, _grid(frame), stairs, *_marks(frame, marks))


def lines(
    frame: Frame, ways: Sequence[Line], ends: Sequence[Mark], *, level: tuple[float, str] | None = None
) -> Markup:
    """A line a trial, the best on top, and a mark where it ends. level: of y, and what stands there."""
    drawn = [_line(line.trial, [frame.at(*point) for point in line.points], line.shade) for line in reversed(ways)]
    return _svg(frame, _grid(frame), _level(frame, *level) if level else None, *drawn, *_marks(frame, ends))


def parallel(axes: Sequence[tuple[str, str, Axis]], rows: Sequence[Line]) -> Markup:
    """Axes side by side, each (title, second line, axis); a line a trial through them.

    points of a row: (number of an axis, value), the axes that the trial has. A line breaks where it lacks one.
    """
    gap = max(_AXIS_GAP, 880 // max(1, len(axes) - 1))
    frame = Frame("", _NO_AXIS, _NO_AXIS, "", "", LEFT + gap * (len(axes) - 1) + 110, _PARALLEL_HEIGHT)
    drawn = [
        _line(
            row.trial, [(LEFT + gap * axis, frame.down(axes[axis][2].place(value))) for axis, value in run], row.shade
        )
        for row in reversed(rows)
        for run in _runs(row.points)
    ]
    uprights = [_upright(frame, LEFT + gap * number, *axis) for number, axis in enumerate(axes)]
    return _svg(frame._replace(title="Parallel coordinates"), *drawn, *uprights, title=False)


def symbol(state: str) -> Markup:
    """A mark by itself, for a legend."""
    return element(
        "svg", element("use", class_=f"m {state}", href=f"#m-{state}", x=8, y=8), class_="key", width=16, height=16
    )


def definitions() -> Markup:
    """The shapes of marks, once a page; each state has its own, told apart without colour."""
    shapes = {
        "finished": element("circle", r=4.5),
        "pruned": element("circle", r=4.0),
        "running": element("path", d="M0-5.5 5.5 0 0 5.5-5.5 0Z"),
        "stopped": element("path", d="M-4.5-4.5H4.5V4.5H-4.5Z"),
        "waiting": element("path", d="M-4 0H4"),
        "diverged": element("path", d="M-4-4 4 4M-4 4 4-4"),
        "failed": element("path", d="M0-5 5 4H-5Z"),
    }
    marks = [element("g", shape, id=f"m-{state}") for state, shape in shapes.items()]
    return element("svg", element("defs", *marks), width=0, height=0, class_="definitions", aria_hidden="true")


_NO_AXIS = Axis(False, 0.0, 1.0, (0.0, 1.0), {}, ())


def _svg(frame: Frame, *content: Markup | None, title: bool = True) -> Markup:
    heading = element("text", frame.title, class_="title", x=LEFT - 74, y=16) if title else None
    size = {"width": frame.width, "height": frame.height, "viewBox": f"0 0 {frame.width} {frame.height}"}
    return element("svg", heading, *content, class_="chart", role="img", aria_label=frame.title, **size)


def _grid(frame: Frame) -> Markup:
    """Ticks, their labels and the titles of both axes."""
    left, right, top, bottom = (*map(frame.across, (0.0, 1.0)), *map(frame.down, (1.0, 0.0)))
    parts = [element("rect", class_="plot", x=left, y=top, width=right - left, height=bottom - top)]
    for place, text in _apart(frame.y.labels, 13.0 / (bottom - top)):
        y = frame.down(place)
        parts.append(element("line", class_="rule", x1=left, x2=right, y1=y, y2=y))
        parts.append(_label(text, 9, x=left - 6, y=y + 4, text_anchor="end"))
    room = _room_across(frame)
    for place, text in _apart(frame.x.labels, min(room, _widest(frame.x) + 8) / (right - left)):
        x = frame.across(place)
        parts.append(element("line", class_="rule", x1=x, x2=x, y1=top, y2=bottom))
        parts.append(_label(text, int(room / _LETTER), x=x, y=bottom + 16, text_anchor="middle"))
    middle = (top + bottom) / 2
    parts.append(
        element(
            "text",
            _titled(frame.x_title, frame.x),
            class_="name",
            x=(left + right) / 2,
            y=bottom + 38,
            text_anchor="middle",
        )
    )
    turned = {"transform": f"translate(12 {middle:.0f}) rotate(-90)", "text_anchor": "middle"}
    parts.append(element("text", _titled(frame.y_title, frame.y), class_="name", **turned))
    return join(*parts)


def _titled(title: str, axis: Axis) -> str:
    return f"{title} (log)" if axis.is_log else title


def _room_across(frame: Frame) -> float:
    """Pixels that a label below may be wide: up to the next, but not less than a short word."""
    places = [place for place, _ in frame.x.labels]
    nearest = min((b - a for a, b in zip(places, places[1:], strict=False)), default=1.0)
    return max(44.0, nearest * (frame.width - LEFT - RIGHT) - 6)


def _widest(axis: Axis) -> float:
    return max((len(text) for _, text in axis.labels), default=0) * _LETTER


def _apart(labels: Sequence[tuple[float, str]], gap: float) -> Iterator[tuple[float, str]]:
    """The labels that do not run into the one before."""
    last = -1.0
    for place, text in labels:
        if place - last >= gap:
            yield place, text
            last = place


def _label(text: str, most: int, **attributes: object) -> Markup:
    """A text of at most so many letters; the whole one shows up under the mouse."""
    if len(text) <= most:
        return element("text", text, class_="tick", **attributes)
    return element("text", f"{text[: most - 1]}…", element("title", text), class_="tick", **attributes)


def _marks(frame: Frame, marks: Sequence[Mark]) -> Iterator[Markup]:
    taken: Counter[tuple[int, int]] = Counter()
    for mark in reversed(marks):
        x, y = frame.at(mark.x, mark.y)
        taken[place := (round(x), round(y))] += 1
        x += _ASIDE * min(taken[place] - 1, 4)  # none hides another
        if mark.trial == 0 and mark.state in ("finished", "pruned", "running", "stopped"):
            yield element("circle", class_="ring", cx=x, cy=y, r=8)
        yield element("use", class_=f"m {mark.state}", href=f"#m-{mark.state}", x=x, y=y, data_t=mark.trial)


def _line(trial: int, points: Sequence[tuple[float, float]], shade: int | None) -> Markup:
    return element(
        "polyline", class_="w none" if shade is None else f"w s{shade}", points=_points(points), data_t=trial
    )


def _level(frame: Frame, value: float, text: str) -> Markup:
    y, left, right = frame.down(frame.y.place(value)), frame.across(0.0), frame.across(1.0)
    rule = element("line", class_="front", x1=left, x2=right, y1=y, y2=y)
    return join(rule, element("text", text, class_="tick", x=left + 6, y=y - 5))


def _stairs(frame: Frame, front: Sequence[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """What can be had at a cost is what the cheaper one gives until the next."""
    corners = [frame.at(*front[0])]
    for point in front[1:]:
        x, y = frame.at(*point)
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _runs(points: Sequence[tuple[int, Any]]) -> list[list[tuple[int, Any]]]:
    """Cut wherever an axis is missing."""
    runs: list[list[tuple[int, Any]]] = []
    for point in points:
        if runs and point[0] == runs[-1][-1][0] + 1:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _upright(frame: Frame, x: float, title: str, below: str, axis: Axis) -> Markup:
    top, bottom = frame.down(1.0), frame.down(0.0)
    labels = [
        _label(text, 14, x=x + 6, y=frame.down(place) + 4) for place, text in _apart(axis.labels, 13.0 / (bottom - top))
    ]
    return join(
        element("line", class_="upright", x1=x, x2=x, y1=top, y2=bottom),
        *labels,
        element("text", title, class_="name", x=x, y=bottom + 20, text_anchor="middle"),
        element("text", below, class_="tick", x=x, y=bottom + 35, text_anchor="middle"),
    )
