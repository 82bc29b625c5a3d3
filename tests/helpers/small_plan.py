"""A plan whose comparison takes seconds."""

from tiny_runs import TINY

PLAN = {
    "base": str(TINY),
    "updates": 6,
    "num_trials": 2,
    "seeds": [1, 2],
    "tuning_seed": 7,
    "validation": 0.25,
    "tuning": {"samples": 9, "draws": 1},
    "test": {"samples": 10, "draws": 2},
    "sampling": [{"times": 1}, {"times": 2, "start": "noise"}],
    "space": {"langevin.step_size": {"uniform": [0.5, 1.5]}},
    "variants": {
        "multigrid": {},
        "single": {"settings": {"start.kind": "single", "grids.sizes": [8]}},
        "persistent": {"settings": {"start.kind": "persistent", "grids.sizes": [8]}},
        "bank": {"settings": {"start.kind": "persistent", "grids.sizes": [8]}, "judged": "bank"},
    },
}
