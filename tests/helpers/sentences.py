"""What a user is told of a mistake."""


def assert_one_sentence(err: str) -> None:
    """One line, which ends as a sentence or with a command, and no traceback."""
    assert err.startswith("distmgcd: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert err.rstrip().endswith(".") or "run: pip install" in err
