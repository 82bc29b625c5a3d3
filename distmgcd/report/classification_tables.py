"""What a user sees of the experiments with features and energies: errors per method, AUROC per grid."""

from typing import Any

from rich.markup import escape  # names of data have brackets: FILE [test]
from rich.table import Table

_TITLES = {"svm": "L2-SVM on the features", "convnet": "a small ConvNet on the feature maps"}
CAVEAT = (
    "1: every other image has the higher energy; 0.5: no telling; below: the model finds them likelier. Energies "
    "follow low-level statistics, and smooth images get low ones whatever they show (arXiv 1810.09136): this is no "
    "test of meaning."
)


def tables_of_errors(record: dict[str, Any]) -> list[Table | str]:
    """Of a record as distmgcd.evaluation.classification.experiment writes it."""
    identity, methods = record["identity"], record["methods"]
    shown: list[Table | str] = []
    for classifier, title in _TITLES.items():
        of = {name: found["errors"][classifier] for name, found in methods.items() if classifier in found["errors"]}
        sizes = sorted({int(size) for errors in of.values() for size in errors})
        if not of:
            continue
        table = Table(title=f"Error in %, {title}; labels:", title_justify="left")
        table.add_column("")
        for size in sizes:
            table.add_column(str(size), justify="right")
        for name, errors in of.items():
            table.add_row(
                escape(_label(name, methods[name]["about"])), *(_error(errors.get(str(size))) for size in sizes)
            )
        shown.append(table)
    shown.append(
        f"Mean ± standard deviation over label subsets ({identity['subsets']}) of {identity['data']}; "
        f"{identity['num_scored']} images of {identity['held_out']} scored."
    )
    if cut_short := sum(_cut_short(found) for found in methods.values()):
        shown.append(f"{cut_short} fits of the SVM ended before they had converged.")
    return shown


def table_of_ood(record: dict[str, Any]) -> list[Table | str]:
    """Of a record as distmgcd.evaluation.ood writes it."""
    against = record["against"]
    columns = list(next(iter(against.values()))["auroc"])
    title = f"AUROC of the energy; held out: {record['identity']['held_out'].replace(' random images of', ' of')}"
    table = Table(title=escape(title), title_justify="left")
    for column in ("", "images", *(name if name == "sum" else f"{name}x{name}" for name in columns)):
        table.add_column(column, justify="right" if column else "left")
    for name, found in against.items():
        table.add_row(escape(name), str(found["num"]), *(f"{found['auroc'][column]:.3f}" for column in columns))
    return [table, CAVEAT]


def _label(name: str, about: dict[str, Any]) -> str:
    """ "digits (multigrid 2-4-8)" for a run, whose name may say little."""
    if "start.kind" not in about:
        return name
    return f"{name} ({about['start.kind']} {'-'.join(map(str, about['grids']))})"


def _error(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"{100 * found['mean']:.2f} ± {100 * found['deviation']:.2f}"


def _cut_short(found: dict[str, Any]) -> int:
    return sum(each["fits_cut_short"] for of in found["errors"].get("svm", {}).values() for each in of["chosen"])
