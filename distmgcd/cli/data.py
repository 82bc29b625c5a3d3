"""data import and data show: images into Parquet, and what is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from distmgcd.cli.common import app, say, writable
from distmgcd.errors import UserError

if TYPE_CHECKING:
    from distmgcd.data.cache_folder import Entry

data_app = typer.Typer(help="Bring images into Parquet, and look at them.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("import")
def data_import(
    source: Annotated[
        str, typer.Argument(help="A folder of images, Parquet, sklearn:digits, or torchvision:NAME?root=DIR.")
    ],
    dest: Annotated[str, typer.Argument(help="The Parquet file to write.")],
    image_size: Annotated[
        int | None, typer.Option(help="Crop the centre square and resize to so many pixels per side.")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="1 makes all images grey, 3 makes all colour.")] = None,
    layout: Annotated[Literal["png", "raw"], typer.Option(help="png or raw (uint8).")] = "png",
    background: Annotated[
        str, typer.Option(help="The colour behind transparent images: black, white, #rrggbb.")
    ] = "black",
    max_corrupt: Annotated[float, typer.Option(help="Largest fraction of images that may not decode.")] = 0.001,
) -> None:
    """Write any source of images to one Parquet file."""
    from distmgcd.data import import_images

    report = import_images(
        source,
        dest,
        image_size=image_size,
        channels=channels,
        layout=layout,
        background=background,
        max_corrupt=max_corrupt,
    )
    splits = ", ".join(f"{count} {split}" for split, count in report.splits.items())
    typer.echo(f"{report.num_images} images ({splits}), {report.num_bytes / 2**20:.1f} MiB: {report.path}")
    for line in (*report.notes, *(f"skipped {skipped}" for skipped in report.skipped)):
        say(line)


@data_app.command("show")
def data_show(
    path: Annotated[str, typer.Argument(help="Whatever `data import` takes.")],
    out: Annotated[Path | None, typer.Option(help="Also write a contact sheet of examples to this PNG.")] = None,
    look_at_all: Annotated[
        bool, typer.Option("--all", help="Look at every image, not at 64: finds all damage, and copies between splits.")
    ] = False,
) -> None:
    """Say what is in a data set: splits, sizes, channels, labels, damage, copies, transparency."""
    from distmgcd.data import describe
    from distmgcd.data.description import NUM_SAMPLES

    found = describe(path, num_samples=None if look_at_all else NUM_SAMPLES)
    labels = (
        "none"
        if found.labels is None
        else ", ".join(f"{_class_name(found, label)}: {count}" for label, count in found.labels.items())
    )
    splits = ", ".join(f"{count} {split}" for split, count in found.splits.items())
    lines = {
        "images": f"{found.num_rows} ({splits}; {found.split_origin})",
        "stored as": found.layout + ("" if found.num_bytes is None else f", {found.num_bytes / 2**20:.1f} MiB"),
        "sizes": ", ".join(f"{width}x{height}: {count}" for (width, height), count in found.image_sizes.items())
        + f" of {found.num_sampled} looked at",
        "channels": ", ".join(f"{channels}: {count}" for channels, count in found.channels.items()),
        "labels": labels,
        "corrupt": f"{len(found.corrupt)} of {found.num_sampled} looked at"
        + "".join(f"; {skipped}" for skipped in found.corrupt),
    }
    for title, text in lines.items():
        say(f"{title + ':':<11}{text}")
    for note in found.notes:
        say(f"{'note:':<11}{note}")
    if out:
        from distmgcd.evaluation.pictures.sheet import save_examples

        if not found.examples:
            raise UserError(f"--out has nothing to show, for no image of {path!r} that was looked at can be decoded.")
        with writable(out):
            save_examples(found.examples, out)
        typer.echo(f"{'examples:':<11}{out}")


@data_app.command("cache")
def data_cache(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ENTRY", help="Only entries whose names begin so.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Only entries that were last used so long ago.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is listed, but for what a process has open.")
    ] = False,
) -> None:
    """List the decoded images that this machine keeps, or delete some, which are decoded again when they are needed."""
    from distmgcd.cli.terminal.run_display import lines_of_cache, size_in_words
    from distmgcd.data.cache_folder import chosen, default_cache_dir, entries

    if delete and not names and older_than is None:
        raise UserError(
            "--delete must be told what to delete; name entries as `distmgcd data cache` lists them, or give "
            "--older-than DAYS, 0 for all that are not in use."
        )
    folder = default_cache_dir()
    found = chosen(entries(folder), names or [], older_than=older_than)
    if delete:
        _delete(folder, found)
        return
    for line in lines_of_cache(found) if found else []:
        typer.echo(line)
    typer.echo(f"{len(found)} entries, {size_in_words(sum(entry.num_bytes for entry in found))}, in {folder}")


def _delete(folder: Path, found: "Sequence[Entry]") -> None:
    from distmgcd.cli.terminal.run_display import size_in_words
    from distmgcd.data.cache_folder import delete

    freed = 0
    for entry in found:
        gone = delete(folder, entry.name)
        freed += entry.num_bytes if gone else 0
        typer.echo(f"{'deleted' if gone else 'kept, for it is in use:'} {entry.short_name}  {entry.in_words}")
    typer.echo(f"{size_in_words(freed)} are free again in {folder}")


def _class_name(found: Any, label: int) -> str:
    return found.classes[label] if found.classes else str(label)
