"""Whether every trial of a sweep will have a config: checked before any of them starts; mistakes name file and line."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from distmgcd.config.document import Document, Place
from distmgcd.errors import UserError
from distmgcd.sweep.domains import Choice, Domain, PerGrid
from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.space import ONE_OF, Parameters, draw, endless_domains, grid_points, inner, random_point

# What population-based training may change while a trial runs; anything else would be another network or other data.
MUTABLE = ("langevin.num_steps", "langevin.step_size", "langevin.temperature", "langevin.clamp") + (
    "learning.learning_rate",
    "data.noise",
)
_MANY = 10_000  # points of a grid that is thought to be meant
_LOOKED_AT = 200  # random points that are tried out where the search will choose its own


def check(sweep: Sweep, document: Document) -> None:
    """Raises UserError for a search or scheduler that does not suit the space, and for a point that makes no config."""
    if sweep.search == "grid":
        _check_grid(sweep, document)
    if sweep.scheduler.kind == "asha" and sweep.budget.evaluations <= sweep.scheduler.grace:
        raise document.error(
            ("budget", "evaluations"),
            "asha stops trials at their evaluations, so there must be more than the grace of "
            f"{sweep.scheduler.grace}, but evaluations is {sweep.budget.evaluations}.",
        )
    if sweep.scheduler.kind == "pbt":
        _check_population(sweep, document)
    finest: set[int] = set()
    for parameters, place in _points(sweep):
        try:
            finest.add(sweep.config_of(parameters).image_size)
        except UserError as error:
            raise document.error(place or _blamed(str(error), sweep), error) from None
    if sweep.objective == "fd" and len(finest) > 1:
        raise document.error(
            ("objective",),
            "fd compares pictures of the finest grid, so all schedules must end with the same one, but they end with "
            f"{' and '.join(map(str, sorted(finest)))}; leave some of them out, or take swd at sizes that all have.",
        )


def _check_grid(sweep: Sweep, document: Document) -> None:
    if endless := endless_domains(sweep.space):
        raise document.error(
            ("space", endless[0]),
            f"search: grid tries every value, but {endless[0]} has no end of them; write {{grid: [...]}}, or "
            "search: random.",
        )
    if len(list(islice(grid_points(sweep.space), _MANY + 1))) > _MANY:
        raise document.error(("space",), f"search: grid would try more than {_MANY} points; take fewer values.")


def _check_population(sweep: Sweep, document: Document) -> None:
    if sweep.space.one_of:
        raise document.error(("space", ONE_OF), "pbt changes trials that run, so it knows no one_of.")
    if fixed := [path for path in sweep.space.common if path not in MUTABLE]:
        raise document.error(
            ("space", fixed[0]),
            f"pbt changes trials that run, and {fixed[0]} cannot change; take {', '.join(MUTABLE)}.",
        )
    if sweep.search != "random":
        raise document.error(("search",), f"pbt draws its population by search: random, but search is {sweep.search}.")
    if sweep.budget.evaluations <= sweep.scheduler.every:
        raise document.error(
            ("budget", "evaluations"),
            f"pbt looks at its population every {sweep.scheduler.every} evaluations, so there must be more than "
            f"{sweep.scheduler.every}, but evaluations is {sweep.budget.evaluations}.",
        )


def _points(sweep: Sweep) -> Iterator[tuple[Parameters, Place]]:
    """Points to try out, with the place that is to blame if it alone differs from one that was good."""
    space, seed = sweep.space, sweep.seed
    number = sweep.num_trials if sweep.search == "random" else _LOOKED_AT
    for n in range(len(space.one_of)):
        yield _with(sweep, {ONE_OF: n}), ("space", ONE_OF, n)
    for n, branch in enumerate(space.branches()):
        for path, domain in branch.items():
            if not isinstance(domain, Domain | PerGrid):
                continue
            where = ("space", path) if path in space.common else ("space", ONE_OF, n, path)
            for position, value in enumerate(inner(domain).examples()):
                form = next(iter(inner(domain).form()))
                inside = (form, position) if isinstance(domain, Choice) else ()
                yield _with(sweep, {ONE_OF: n, path: value}), (*where, *inside)
    if sweep.search == "grid":
        yield from ((parameters, ()) for parameters in grid_points(space))
    else:
        yield from ((random_point(space, seed=seed, number=n), ()) for n in range(1, number + 1))


def _with(sweep: Sweep, given: dict[str, Any]) -> Parameters:
    """The first trial's point, but for some draws."""

    def choose(name: str, domain: Domain) -> Any:
        path = name.partition("[")[0]
        return given[path] if path in given else domain.examples()[0]

    return draw(sweep.space, choose)


def _blamed(sentence: str, sweep: Sweep) -> Place:
    """The line of the parameter that a sentence about a config begins with."""
    named = [path for path in sweep.space.common if path in sentence]
    return ("space", min(named, key=sentence.index)) if named else ("space",)
