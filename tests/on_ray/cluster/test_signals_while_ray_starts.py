"""As it starts, Ray takes SIGTERM for itself and would end the command with status 15 and no word."""

import os
import signal
import sys

import pytest

from distmgcd.on_ray.cluster import connect
from distmgcd.workers.stop import StopSignals


def ray_that_is_killed_as_it_starts(*_: object, **__: object) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as ray.init does
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_while_ray_starts_is_the_commands_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "_start", ray_that_is_killed_as_it_starts)
    signals = StopSignals()
    with signals:
        ours = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), connect.connected(num_cpus=1, log_to_driver=False):
            pass
        assert signal.getsignal(signal.SIGTERM) == ours
    assert signals.status == 143
