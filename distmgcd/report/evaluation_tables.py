"""Tables of what was measured: distances, long chains, inpainting, classification errors, AUROC of energies."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

Row = tuple[str, str, str]


def tables_of(record: dict[str, Any]) -> list[Table | str]:
    """Of a record as distmgcd.evaluation.record writes it."""
    identity, results = record["identity"], record["results"]
    title = (
        f"Update {identity['update']} of {identity['run']}, weights {identity['weights']}: {identity['num']} samples "
        f"(seed {identity['seed']}) against as many held-out images; distances of fewer images are larger"
    )
    shown: list[Table | str] = []
    if rows := list(rows_of(results)):
        shown.append(_table(title, ("", "samples", "data"), rows))
    if "chains" in results:
        shown.append(_table_of_chains(results["chains"]))
    not_finite = max((m["samples_not_finite"] or 0 for m in record["measured"].values()), default=0)
    if not_finite:
        shown.append(f"{not_finite} of the samples are not finite; where they are not, they count as black.")
    return shown


def rows_of(results: dict[str, Any]) -> Iterator[Row]:
    """(what, of samples, of data) of every metric but chains, as words."""
    for name, of in _ROWS.items():
        if name in results:
            yield from of(results[name])


def what_is_new(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the results of this command alone, for its file may hold earlier ones beside them."""
    return {**record, **{key: {k: record[key][k] for k in record["new"]} for key in ("results", "measured")}}


def line_of_file(record: dict[str, Any]) -> str:
    """Where the numbers lie, and which others lie there from before."""
    earlier = [key for key in record["results"] if key not in record["new"]]
    return f"numbers        {record['file']}" + (f" (and {', '.join(earlier)} of before)" if earlier else "")


def _swd(found: dict[str, Any]) -> Iterator[Row]:
    for size, value in found["samples"].items():
        yield f"1000 x SWD at {size}x{size}", f"{1000 * value:.1f}", f"{1000 * found['data'][size]:.1f}"


def _fd(found: dict[str, Any]) -> Iterator[Row]:
    yield found["name"], f"{found['samples']:.4g}", f"{found['data']:.4g}"


def _kd(found: dict[str, Any]) -> Iterator[Row]:
    yield f"1000 x {found['name']}", _spread(found, "samples", 1000), _spread(found, "data", 1000)


def _is(found: dict[str, Any]) -> Iterator[Row]:
    yield found["name"], _spread(found, "samples"), _spread(found, "data")


def _pr(found: dict[str, Any]) -> Iterator[Row]:
    for what in ("precision", "recall"):
        samples, data = (f"{found[who][what]:.3f}" for who in ("samples", "data"))
        yield f"{what} ({found['protocol']['features']})", samples, data


def _nn(found: dict[str, Any]) -> Iterator[Row]:
    for space in ("pixels", "features"):
        of = found[space]
        yield f"nearest training image, {space}", f"{of['median']:.4g}", f"{of['median_of_held_out']:.4g} (held out)"
        yield f"memorisation ratio, {space}", f"{of['ratio']:.3f}", "1"
        yield f"share very near to one, {space}", f"{of['share_very_near']:.3f}", "0.01"


def _diversity(found: dict[str, Any]) -> Iterator[Row]:
    for space in ("pixels", "features"):
        samples, data, ratio = (found[key][space] for key in ("samples", "data", "ratio"))
        yield f"diversity, {space}", f"{samples:.4g} (x {ratio:.3f})", f"{data:.4g}"


_ROWS = {"swd": _swd, "fd": _fd, "kd": _kd, "is": _is, "pr": _pr, "nn": _nn, "diversity": _diversity}


def _spread(found: dict[str, Any], who: str, factor: float = 1.0) -> str:
    return f"{factor * found[who]:.4g} ± {factor * found[f'{who}_deviation']:.2g}"


def _table_of_chains(found: dict[str, Any]) -> Table:
    rows = [
        (
            f"{size}x{size}",
            steps,
            _number(at["energy"]),
            _number(grid["energy_of_held_out"]),
            _number(at["drift_rms"] / grid["noise"] if at["drift_rms"] and grid["noise"] else None),
            f"{100 * at['saturation']:.0f} %",
            _number(at["acceptance"]),
            _number(at["swd"] and 1000 * at["swd"]),
            _number(1000 * grid["swd_of_data"]),
        )
        for size, grid in found["grids"].items()
        for steps, at in grid["steps"].items()
    ]
    columns = (
        "",
        "steps",
        "energy",
        "of data",
        "drift/\nnoise",
        "satu-\nrated",
        "accep-\nted",
        "1000\nSWD",
        "of\ndata",
    )
    title = "Longer chains, each grid's going on by itself from where samples are taken"
    if "num" in found:  # an older version did not say
        title += f": {found['num']} chains against as many held-out images; distances of fewer images are larger"
    return _table(title, columns, rows)


def table_of_inpainting(record: dict[str, Any]) -> Table:
    """Of a record as distmgcd.evaluation.inpainting.inpaint_run writes it, with all the masks that it holds."""
    identity, rows = record["identity"], []
    for mask, found in record["results"].items():
        for number, (fill, score) in enumerate(found["fills"].items()):
            named = f"{mask}, {100 * found['hidden']:.0f} %" if number == 0 else ""
            error = f"{score['error']:.3f} ± {score['error_deviation']:.3f}"
            rows.append((named, _filler(fill, record, mask), error, _number(score["psnr"])))
    title = (
        f"Hidden pixels of {escape(identity['images'])} filled by update {identity['update']} of {identity['run']}, "
        f"weights {identity['weights']}, seed {identity['seed']}; error of pixels in [0, 1], its deviation over images"
    )
    table = _table(title, ("hidden", "filled by", "error", "PSNR, dB"), rows)
    table.columns[1].justify = "left"
    return table


def _filler(fill: str, record: dict[str, Any], mask: str) -> str:
    protocol = record["results"][mask]["protocol"]
    if fill == "run":
        return f"{record['identity']['run']} ({protocol['trained'].partition(':')[0]})"
    if fill in protocol and fill.startswith("against"):
        return f"{protocol[fill]['run']} ({protocol[fill]['trained'].partition(':')[0]})"
    return {"mean": "the mean of the known pixels", "biharmonic": "biharmonic equation"}[fill]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


_TITLES = {"svm": "L2-SVM on the features", "convnet": "a small ConvNet on the feature maps"}
CAVEAT = (
    "1: every other image has the higher energy; 0.5: no telling; below: the model finds them likelier. Energies "
    "follow low-level statistics, and smooth images get low ones whatever they show (arXiv 1810.09136): this is no "
    "test of meaning."
)


def tables_of_errors(record: dict[str, Any]) -> list[Table | str]:
    """Of a record as distmgcd.evaluation.classification.classify_run writes it."""
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
