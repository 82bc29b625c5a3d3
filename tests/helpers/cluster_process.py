"""A Ray cluster of several nodes on this machine, in a process of its own, which it ends with.

Each line of its input is "add", for a node with one CPU, "remove", for taking away the newest in an instant, or
"drain", for the notice that the newest will be taken away in 15 s; it answers each with a line. Its first line of
output is the address of the cluster and that of its dashboard.
"""

import os
import sys
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster  # noqa: E402

from distmgcd.on_ray.cluster.connect import free_port  # noqa: E402


def main() -> None:
    port = free_port()
    answers = os.dup(1)
    os.dup2(2, 1)  # what Ray prints is no answer
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": port}
    )
    nodes = []
    os.write(answers, f"{cluster.address} http://127.0.0.1:{port}\n".encode())
    try:
        for line in sys.stdin:
            if line.strip() == "add":
                nodes.append(cluster.add_node(num_cpus=1))
            elif line.strip() == "drain":
                drain(cluster.address, nodes[-1].node_id)
            else:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            os.write(answers, b"done\n")
    finally:
        cluster.shutdown()


def drain(address: str, node_id: str) -> None:
    """As the autoscaler of a cluster does when the cloud is about to take back a machine."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + 15.0) * 1000)
    accepted, why_not = GcsClient(address).drain_node(node_id, reason, "the cloud wants it back", deadline_ms)
    assert accepted, why_not


if __name__ == "__main__":
    main()
