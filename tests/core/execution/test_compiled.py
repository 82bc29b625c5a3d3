"""The compiled chain, by the real compiler: it takes a minute, so `make test-faults` runs it."""

import pytest
import torch
from small_models import small_energy

from distmgcd.core.energy import frozen
from distmgcd.core.execution.executors import PLAIN, Speed, TracedExecutor
from distmgcd.core.execution.warn_once import warn_once
from distmgcd.core.langevin import Langevin
from distmgcd.core.noise import Purpose, normals


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_compiled_chain_is_the_plain_one_and_keeps_up_with_the_weights(norm: str, caplog: pytest.LogCaptureFixture):
    torch.manual_seed(0)
    warn_once.cache_clear()
    energy, x = small_energy(4, norm=norm), torch.rand(6, 1, 4, 4) * 2 - 1
    executor, settings = TracedExecutor(Speed("compiled", "fp32", False)), Langevin(15, 0.5, 1e-3, "end")
    noise = list(normals(torch.arange(6), (1, 4, 4), 15, seed=1, purpose=Purpose.CHAIN))
    for _ in range(2):
        with frozen(energy):
            found, expected = (w.run_chain(energy, x, noise, settings)[0] for w in (executor, PLAIN))
        assert float((found - expected).norm() / expected.norm()) < 1e-5
        with torch.no_grad():
            for parameter in energy.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    assert not [record for record in caplog.records if record.name.startswith("distmgcd")]
