"""The space that a sweep searches, and ways to take points from it.

A point is {dotted path: value}, the parameters of one trial. `draw` goes through the space in a fixed order and asks
a function for every value, so that random, grid and model-based search differ in this function alone; what the space
holds after a schedule was chosen depends on that schedule.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from distmgcd.sweep.domains import Choice, Domain, PerGrid

SIZES = "grids.sizes"
ONE_OF = "one_of"

Parameters = dict[str, Any]
Choose = Callable[[str, Domain], Any]  # (the name of a draw, its domain): a value


@dataclass(frozen=True)
class Space:
    common: Mapping[str, Domain | PerGrid]  # {dotted path: what it may be}
    one_of: tuple[Mapping[str, Any], ...] = ()  # settings that go together, one bundle a trial; domains or plain values
    sizes: tuple[int, ...] = field(default=(), kw_only=True)  # the grids of a trial that chooses none

    def branches(self) -> list[dict[str, Any]]:
        """What a trial may choose from, for every bundle; grids first, for they say how many values per_grid needs."""
        merged = [{**bundle, **self.common} for bundle in self.one_of or ({},)]
        return [dict(sorted(branch.items(), key=lambda item: item[0] != SIZES)) for branch in merged]


def draw(space: Space, choose: Choose) -> Parameters:
    """One point. Draws are named by path, and for one grid of several "langevin.step_size[16]"."""
    branches = space.branches()
    which = choose(ONE_OF, Choice(tuple(range(len(branches))), each=False)) if space.one_of else 0
    parameters: Parameters = {}
    for path, domain in branches[which].items():
        if isinstance(domain, PerGrid):
            sizes = parameters.get(SIZES, space.sizes)
            parameters[path] = [choose(f"{path}[{size}]", domain.domain) for size in sizes]
        else:
            parameters[path] = choose(path, domain) if isinstance(domain, Domain) else domain
    return parameters


def random_point(space: Space, *, seed: int, number: int) -> Parameters:
    """A function of the sweep's seed, the trial's number (from 1) and the name of each draw; nothing else.

    Domains written grid take each of their values in turn.
    """
    turn = number - 1

    def choose(name: str, domain: Domain) -> Any:
        nonlocal turn
        if isinstance(domain, Choice) and domain.each:
            turn, position = divmod(turn, len(domain.options))
            return domain.options[position]
        return domain.sample(Random(f"{seed}/{number}/{name}"))

    return draw(space, choose)


def grid_points(space: Space) -> Iterator[Parameters]:
    """Every point of a space whose domains can all be listed; the last parameter changes fastest."""
    positions: list[int] = []
    while True:
        lengths: list[int] = []

        def choose(_: str, domain: Domain, lengths: list[int] = lengths) -> Any:
            if len(lengths) == len(positions):
                positions.append(0)
            values = domain.values() or []  # of a domain that can be listed: there is at least one
            lengths.append(len(values))
            return values[positions[len(lengths) - 1]]

        yield draw(space, choose)
        while positions and positions[-1] + 1 == lengths[len(positions) - 1]:
            positions.pop()
        if not positions:
            return
        positions[-1] += 1


def endless_domains(space: Space) -> list[str]:
    """The paths that cannot be listed."""
    return [
        path
        for branch in space.branches()
        for path, domain in branch.items()
        if isinstance(domain, Domain | PerGrid) and inner(domain).values() is None
    ]


def moved(space: Space, parameters: Parameters, rng: Random, *, resample: float) -> Parameters:
    """The next try of population-based training: every value a step away, or drawn anew with this probability."""

    def move(value: Any, domain: Domain) -> Any:
        return domain.sample(rng) if rng.random() < resample else domain.moved(value, rng)

    return {
        path: [move(value, domain.domain) for value in parameters[path]]
        if isinstance(domain, PerGrid)
        else move(parameters[path], domain)
        for path, domain in space.common.items()
    }


def parameters_of(space: Space, settings: Mapping[str, Any]) -> Parameters:
    """The point that a config was made of, from its settings {dotted path: value}.

    With one_of, what only other bundles set comes along; it says nothing but what the config has anyway.
    """
    return {path: settings[path] for path in dict.fromkeys(p for branch in space.branches() for p in branch)}


def words(space: Space) -> dict[str, str]:
    """{dotted path: what it may be, for a reader}."""
    said = {path: domain.words() for path, domain in space.common.items()}
    for bundle in space.one_of:
        for path, domain in bundle.items():
            text = domain.words() if isinstance(domain, Domain | PerGrid) else str(domain)
            said[path] = f"{said[path]}; or {text}" if path in said else text
    return said


def inner(domain: Domain | PerGrid) -> Domain:
    return domain.domain if isinstance(domain, PerGrid) else domain
