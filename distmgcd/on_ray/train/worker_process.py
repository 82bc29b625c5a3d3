"""What runs in every worker process: the training function, and what others ask of it while it runs."""

import base64
import fcntl
import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
import ray.train
from ray.train.torch import get_device

from distmgcd.config import make_config
from distmgcd.errors import UserError
from distmgcd.on_ray.cluster.metrics import RayMetrics
from distmgcd.on_ray.internals import pickled
from distmgcd.on_ray.train.mailbox import RayHeartbeats, RayMailbox
from distmgcd.runs import strict_json
from distmgcd.runs.read_log import UpdateRecord
from distmgcd.runs.run_folder import Run
from distmgcd.training.callbacks import Callback, ShowRecords, is_from_callback
from distmgcd.training.divergence import Diverged
from distmgcd.workers.stop import Request, Stopped

_LOOK_EVERY = 0.5  # seconds
_PREEMPTION_EVERY = 5.0
_SIOCGIFADDR = 0x8915  # of Linux: asks for an interface's address

_asked_to_stop = threading.Event()  # by Ray's controller, before it makes the group anew
_training = threading.Event()


def train_worker(settings: dict[str, Any]) -> str:
    """Returns what happened as JSON, because Ray keeps the return value in its own records."""
    _training.set()
    mailbox = RayMailbox(settings["mailbox"])
    try:
        return strict_json.dumps(_train(settings, mailbox))
    except Diverged as event:  # every rank sees it at the same update; a restart would only see it again
        return strict_json.dumps({"diverged": str(event)})
    except Stopped as event:
        return strict_json.dumps({"stopped": event.update})
    except UserError as error:  # perhaps of this rank alone, while the others wait: the driver ends them
        mailbox.put("mistake", str(error))
        return strict_json.dumps({})
    except BaseException as error:
        if is_from_callback(error):  # it would only raise again: the driver ends the run
            what = f"A callback has failed ({type(error).__name__})."
            mailbox.put("failed", {"what": what, "traceback": traceback.format_exc()})
            return strict_json.dumps({})
        mailbox.put(f"traceback/{os.environ['RANK']}", traceback.format_exc())
        raise
    finally:
        _training.clear()


def _train(settings: dict[str, Any], mailbox: RayMailbox) -> dict[str, Any]:
    from distmgcd.training.loop import train  # torch is imported in the worker, not while the driver plans
    from distmgcd.workers.collectives import ProcessGroupWorker
    from distmgcd.workers.control import GroupControl
    from distmgcd.workers.watchdog import Watchdog

    run, config, is_first = Run.open(settings["run"]), make_config(settings["config"]), os.environ["RANK"] == "0"
    progress, callbacks, worker_failures = Progress(), [RayMetrics(settings["label"])], []
    if is_first:
        worker_failures = mailbox.take("worker_failures") or []
        # Where the driver cannot read the log as it grows, Ray forwards what a worker prints.
        printing = [] if run.store.is_local else [ShowRecords(_print)]
        callbacks += [progress, *printing, *unpack_callbacks(settings["callbacks"])]
    requests = Requests(mailbox, progress, on_cluster=settings["on_cluster"])
    control = GroupControl(requests)
    worker = ProcessGroupWorker(get_device(), control)
    watchdog = Watchdog(
        control.activity,
        RayHeartbeats(mailbox, f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"),
        rank=worker.rank,
        world_size=worker.world_size,
        limit=config.watch.max_seconds_stuck,
        on_stuck=lambda verdict: _leave(mailbox, worker.rank, verdict),
    )
    watchdog.start()
    try:
        return train(config, worker, run, callbacks, worker_failures=worker_failures)
    finally:
        watchdog.end()


def meet_where_ray_does() -> None:
    """Let gloo talk over the network that Ray talks over.

    Left alone it takes the address of the host's name, which is one of the loopback on many a machine (127.0.1.1 in
    Debian's /etc/hosts), and then no other node finds it.
    """
    if found := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", found)


def interface_of(address: str) -> str | None:
    """The name of this machine's network interface with an IPv4 address; None if none has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, name.encode().ljust(40, b"\0"))
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


def is_training() -> bool:
    return _training.is_set()


def ask_to_stop() -> None:
    """All workers will stop at the same update; called in one or more of them."""
    _asked_to_stop.set()


class Progress(Callback):
    """How far the run is, for a person: "120/2000" updates."""

    text: str | None = None

    def on_log(self, record: UpdateRecord) -> None:
        self.text = f"{record['update']}/{record['num_updates']}"


class Requests:
    """What this worker is asked for, looked up now and then by threads of its own, which post its progress, too."""

    def __init__(self, mailbox: RayMailbox, progress: Progress, *, on_cluster: bool):
        """on_cluster: nodes may be taken away, with a notice."""
        self._mailbox, self._progress, self._posted = mailbox, progress, None
        self._stop, self._save = False, False
        for target in (self._look, self._look_for_preemption) if on_cluster else (self._look,):
            threading.Thread(target=target, daemon=True, name=target.__name__).start()

    def __call__(self) -> Request:
        if self._stop or _asked_to_stop.is_set():
            return Request.STOP
        save, self._save = self._save, False  # once
        return Request.SAVE if save else Request.CONTINUE

    def _look(self) -> None:
        while not self._stop:
            with suppress(Exception):  # the head of the cluster may be slow to answer now and then
                self._stop = bool(self._mailbox.get("stop"))
                if (text := self._progress.text) != self._posted:
                    self._posted = text
                    self._mailbox.put("progress", text)
            time.sleep(_LOOK_EVERY)

    def _look_for_preemption(self) -> None:  # a collective of Ray's own: every worker asks as often as the others
        while ray.train.get_preemption_info() is None:
            time.sleep(_PREEMPTION_EVERY)
        self._save = True


def _leave(mailbox: RayMailbox, rank: int, verdict: str) -> None:
    """End this worker, so that Ray makes the group anew: a thread that waits for others cannot be interrupted."""
    mailbox.put(f"verdict/{rank}", verdict)
    os._exit(1)


def _print(record: dict[str, Any]) -> None:
    print(strict_json.dumps(record), flush=True)


def pack_callbacks(callbacks: Sequence[Callback]) -> str:
    """Raises UserError for one that cannot be pickled."""
    for callback in callbacks:
        try:
            pickled(callback)
        except Exception as error:  # whatever its own methods raise
            raise UserError(
                f"The callback {type(callback).__name__} cannot be pickled for the process of a worker "
                f"({_in_short(error)}); open files, locks and connections in its on_start instead."
            ) from error
    return base64.b64encode(pickled(list(callbacks))).decode()


def unpack_callbacks(packed: str) -> list[Callback]:
    """Raises UserError where this process does not find their classes."""
    try:
        return pickle.loads(base64.b64decode(packed))
    except Exception as error:
        raise UserError(
            f"The callbacks cannot be unpickled in the process of a worker ({_in_short(error)}); define them in the "
            "script itself, or in a module that every node can import."
        ) from error


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")
