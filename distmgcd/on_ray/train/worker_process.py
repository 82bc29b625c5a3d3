"""What runs in every worker process: the training function, and what others ask of it while it runs."""

import fcntl
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.train
from ray.train.torch import get_device

from distmgcd.config import make_config
from distmgcd.errors import UserError
from distmgcd.on_ray.cluster.metrics import Meter
from distmgcd.on_ray.train.mailbox import RayHeartbeats, RayMailbox
from distmgcd.runs import strict_json
from distmgcd.runs.run_folder import Run
from distmgcd.training.divergence import Diverged
from distmgcd.workers.stop import Request, Stopped

_LOOK_EVERY = 0.5  # seconds
_PREEMPTION_EVERY = 5.0
_SIOCGIFADDR = 0x8915  # of Linux: asks for an interface's address

_asked_to_stop = threading.Event()  # by Ray's controller, before it makes the group anew
_training = threading.Event()


def train_worker(settings: dict[str, Any]) -> str:
    """Returns what happened as JSON, because Ray keeps the return value in its own books."""
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
    except BaseException:
        mailbox.put(f"traceback/{os.environ['RANK']}", traceback.format_exc())
        raise
    finally:
        _training.clear()


def _train(settings: dict[str, Any], mailbox: RayMailbox) -> dict[str, Any]:
    from distmgcd.training.loop import train  # torch is imported in the worker, not while the driver plans
    from distmgcd.workers.collectives import ProcessGroupWorker
    from distmgcd.workers.watchdog import Watchdog

    run, config = Run.open(settings["run"]), make_config(settings["config"])
    meter = Meter(settings["label"], int(os.environ["RANK"]))
    worker = ProcessGroupWorker(
        get_device(),
        show=None if run.store.is_local else _print,
        requested=_requests(mailbox, settings["on_cluster"], meter),
        worker_failures=mailbox.take("worker_failures") or () if os.environ["RANK"] == "0" else (),
        meter=meter,
    )
    watchdog = Watchdog(
        worker.activity,
        RayHeartbeats(mailbox, f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"),
        rank=worker.rank,
        world_size=worker.world_size,
        limit=config.watch.max_seconds_stuck,
        on_stuck=lambda verdict: _leave(mailbox, worker.rank, verdict),
    )
    watchdog.start()
    try:
        return train(config, worker, run)
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


def _requests(mailbox: RayMailbox, on_cluster: bool, meter: Meter) -> Callable[[], Request]:
    """What this worker is asked for, looked up now and then by a thread of its own; rank 0's says how far it is."""
    found = {"stop": False, "save": False}
    says_how_far, said = os.environ["RANK"] == "0", None

    def look() -> None:
        nonlocal said
        while not found["stop"]:
            with suppress(Exception):  # the head of the cluster may be slow to answer now and then
                found["stop"] = bool(mailbox.get("stop"))
                if says_how_far and meter.progress != said:
                    said = meter.progress
                    mailbox.put("progress", said)
            time.sleep(_LOOK_EVERY)

    def look_for_preemption() -> None:  # a collective of Ray's own: every worker asks as often as the others
        while ray.train.get_preemption_info() is None:
            time.sleep(_PREEMPTION_EVERY)
        found["save"] = True

    for target in (look, look_for_preemption) if on_cluster else (look,):
        threading.Thread(target=target, daemon=True, name=target.__name__).start()

    def requested() -> Request:
        if found["stop"] or _asked_to_stop.is_set():
            return Request.STOP
        save, found["save"] = found["save"], False  # once
        return Request.SAVE if save else Request.CONTINUE

    return requested


def _leave(mailbox: RayMailbox, rank: int, verdict: str) -> None:
    """End this worker, so that Ray makes the group anew: no thread that waits for another worker can be told to."""
    mailbox.put(f"verdict/{rank}", verdict)
    os._exit(1)


def _print(record: dict[str, Any]) -> None:
    """Where the driver cannot read the log as it grows, Ray forwards what a worker prints."""
    print(strict_json.dumps(record), flush=True)
