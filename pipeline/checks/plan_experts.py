"""What models of experts would take that are too large for the engine here, and which engines are made for them."""

import math

from pipeline.checks.plan import limits, rollout_of
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.models.accelerators import GIB, Accelerator, Rates
from pipeline.models.memory import GATHERED_LAYERS, TRAINED_BYTES
from pipeline.models.sources import split_source
from pipeline.models.speed import BFLOAT16, SERVED_SHARE, Costs, update_seconds, writing_seconds

ELSEWHERE = "prime-rl, verl or slime"
"""Open trainers that divide experts among GPUs."""
PUBLISHED_COSTS = {
    "deepseek-ai/DeepSeek-V3-Base": Costs(
        parameters=671e9,
        active=37e9,
        cache=BFLOAT16 * 61 * (512 + 64),  # latent attention keeps one compressed vector and one of positions a layer
        attention=2 * 61 * 128 * (192 + 128),
        largest_layer=257 * 3 * 7168 * 2048 + 0.19e9,  # 256 experts and a shared one, and attention
        layers=61,
        heads=128,
    )
}
"""By the config.json of each, and its report (arXiv 2412.19437, section 4.2)."""
PAPERS_HOURS = 101_000
"""H800 hours that R1-Zero took (DeepSeek-R1, v2, appendix)."""


def what_it_takes(source: str, profile: Profile, gpu: Accelerator, gpus: int, rates: Rates) -> str | None:
    """Sentences about a model whose layers are not known here; None where its costs are not published either."""
    scheme, path = split_source(source)
    costs = PUBLISHED_COSTS.get(path) if scheme == "hub" else None
    if costs is None:
        return None
    room = rates.room * gpu.size
    states = TRAINED_BYTES * costs.parameters
    layer = (GATHERED_LAYERS * BFLOAT16 + BFLOAT16 + 4) * costs.largest_layer
    server = server_size(costs, gpu)
    name, section = next(iter(profile.stages.of(RLStage).items()))
    hours = hours_apart_from_memory(costs, section, gpu, gpus, server, rates)
    lines = [
        f"{source} has {costs.parameters / 1e9:.0f} billion weights, {costs.active / 1e9:.0f} billion of which a token "
        "uses. This engine does not train it:",
        f"- weights, gradients and optimizer take {states / 1e12:.1f} TB, which {math.ceil(states / room)} × "
        f"{gpu.name} hold, and a reference {4 * costs.parameters / 1e12:.1f} TB more;",
        f"- but a layer's experts are gathered whole: {layer / GIB:.0f} GiB at a time on each GPU, whatever their "
        f"number, where {gpu.name} has {gpu.gib:g}. Experts have to be divided among GPUs (expert parallelism);",
        f"- a server of it takes {server} × {gpu.name} ({BFLOAT16 * costs.parameters / 1e12:.1f} TB of weights).",
    ]
    if hours is None:
        lines.append(f"{gpus} × {gpu.name} hold no such server.")
    else:
        lines.append(
            f"With experts divided, {name} would take some {hours:,.0f} h on {gpus} × {gpu.name}, or "
            f"{hours * gpus:,.0f} GPU hours; the paper's R1-Zero took {PAPERS_HOURS:,} on 512 H800."
        )
    return "\n".join([*lines, f"Use {ELSEWHERE} for models of this size. The students of the profile train here."])


def server_size(costs: Costs, gpu: Accelerator) -> int:
    """GPUs of the smallest server that holds the model with half of its memory left for the cache, a power of two."""
    size = 1
    while 0.5 * SERVED_SHARE * size * gpu.size < BFLOAT16 * costs.parameters:
        size *= 2
    return size


def hours_apart_from_memory(
    costs: Costs, section: RLStage, gpu: Accelerator, gpus: int, server: int, rates: Rates
) -> float | None:
    """Hours of an RL stage in which all GPUs first write a rollout and then update on it; None without a server."""
    if gpus < server:
        return None
    seconds = 0.0
    for steps, longest in limits(section):
        work = rollout_of(section, rates, longest)
        write = writing_seconds(costs, gpu, rates, work, gpus // server, server)
        operations, _ = update_seconds(costs, gpu, rates, work, gpus, gpus)
        seconds += steps / work.steps * (write + operations)
    return seconds / 3600
