"""Rows of a GRPO batch laid end to end, so that a forward pass costs their real tokens and nothing else.

A micro-batch becomes one sequence of N tokens without padding:

    [prefix of prompt 1][prefix of prompt 2] …  [row 1][row 2] …

A prefix is a prompt without its last token, computed once for all rows that share it. A row is the prompt's last token
and the completion without its last token, so that each of its positions predicts one completion token: the language
model head runs on the tail of the sequence and on nothing else, and an end token never costs a forward pass.

Linear layers see the N tokens as they are. Attention gathers them into a few padded blocks of similar length
(`pipeline.training.packed.attention`); position ids are those of the unpacked rows.
"""

from dataclasses import dataclass, field

import torch

BLOCK_FILL = 0.75
"""Rows of an attention block are at least this share of its longest row; shorter ones start the next block."""
BLOCK_TOKENS = 1024
"""A block with fewer tokens accepts shorter rows too: another call would cost more than the padding."""


@dataclass(slots=True)
class Row:
    """One completion with all that the loss needs."""

    prompt_ids: list[int]
    completion_ids: list[int]
    advantage: float
    sampler_logprobs: list[float] | None
    """Log-probability of each completion token as the rollout engine reported it."""
    truncated: bool
    group: int
    """Rows of the same number share their prompt."""
    masked: bool = False
    """Counts in the loss's normaliser and contributes nothing (a truncated completion under `mask_truncated`)."""
    old_logprobs: torch.Tensor | None = None
    """(completion,) log-probabilities under the policy at the time of the rollout; None where the step is on-policy."""
    experts: torch.Tensor | None = None
    """(prompt and completion tokens but the last, layers, experts of a token) that the engine's routers chose."""

    @property
    def loss_tokens(self) -> int:
        return 0 if self.masked else len(self.completion_ids)


@dataclass(slots=True)
class Block:
    """Sequences attended to in one call: queries (rows, length), keys the same plus a shared prefix if there is one."""

    offset: int
    """First slot of the block in the padded order."""
    rows: int
    length: int
    prefix_of: torch.Tensor | None = None
    """(rows,) for rows behind a shared prefix: the row of the prefix block that holds it."""
    mask: torch.Tensor | None = None
    """(rows, 1, length, prefix length + length) additive mask; None: plain causal."""


@dataclass(slots=True)
class PackedBatch:
    """A micro-batch in packed form. N tokens, S of them scored, M slots in the padded order of attention."""

    input_ids: torch.Tensor
    """(1, N)"""
    position_ids: torch.Tensor
    """(1, N)"""
    labels: torch.Tensor
    """(S,) the token that each scored position predicts."""
    next_ids: torch.Tensor
    """(1, N) the token behind each position in its text, and the last of them the one that it predicts."""
    first_scored: int
    """Positions `first_scored` … N are scored, in the order of the rows."""
    to_slots: torch.Tensor
    """(M,) packed position of each slot; padding slots repeat position 0."""
    from_slots: torch.Tensor
    """(N,) slot of each packed position."""
    blocks: list[Block] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Completion tokens of each row."""
    prefix_lengths: list[int] = field(default_factory=list)
    """Tokens of each prefix."""
    prefix_of_row: list[int] = field(default_factory=list)
    """The number of each row's prefix."""
    experts: torch.Tensor | None = None
    """(N, layers, experts of a token) that the rollout engine's routers chose; None where a row does not have them."""

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[1]

    def further(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(D,) the scored positions, counted from the first of them, that two tokens of their row follow, and (D,) the
        second of these."""
        last = torch.tensor([length for length in self.lengths if length]).cumsum(0) - 1
        inside = torch.ones(len(self.labels), dtype=torch.bool)
        inside[last] = False
        places = inside.nonzero()[:, 0].to(self.labels.device)
        return places, self.labels[places + 1]

    def segments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) the number of the prefix or row that a position is of, prefixes first, and (rows, these) 1 where a row's
        text has it in it."""
        device, sizes = self.labels.device, torch.tensor([*self.prefix_lengths, *self.lengths])
        rows, first = torch.arange(len(self.lengths)), len(self.prefix_lengths)
        members = torch.zeros(len(self.lengths), len(sizes))
        members[rows, torch.tensor(self.prefix_of_row)] = members[rows, first + rows] = 1
        return torch.arange(len(sizes)).repeat_interleave(sizes).to(device), members.to(device)

    def unpack(self, flat: torch.Tensor) -> torch.Tensor:
        """(S,) values of the scored positions as (rows, longest completion), zero where a row has ended."""
        lengths = torch.tensor(self.lengths, device=flat.device)
        mask = torch.arange(max(self.lengths), device=flat.device)[None, :] < lengths[:, None]
        return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def pack(rows: list[Row], share_prompts: bool, device: torch.device) -> PackedBatch:
    """Lay out `rows`. With `share_prompts` rows of one group hold their prompt's prefix in common."""
    owner: dict[int, int] = {}  # group (or row, when nothing is shared) -> number of its prefix
    prefixes: list[list[int]] = []
    experts: list[torch.Tensor | None] = []
    prefix_of_row = []
    next_ids: list[int] = []
    for i, row in enumerate(rows):
        key = row.group if share_prompts else i
        if key not in owner:
            owner[key] = len(prefixes)
            prefixes.append(row.prompt_ids[:-1])
            next_ids += row.prompt_ids[1:]
            experts.append(None if row.experts is None else row.experts[: len(row.prompt_ids) - 1])
        prefix_of_row.append(owner[key])

    ids = [token for prefix in prefixes for token in prefix]
    positions = [p for prefix in prefixes for p in range(len(prefix))]
    first_scored = len(ids)
    for row in rows:
        ids.append(row.prompt_ids[-1])
        ids += row.completion_ids[:-1]
        next_ids += row.completion_ids
        experts.append(None if row.experts is None else row.experts[len(row.prompt_ids) - 1 :])
        positions += range(len(row.prompt_ids) - 1, len(row.prompt_ids) - 1 + len(row.completion_ids))

    prefix_starts = _starts([len(p) for p in prefixes], 0)
    row_starts = _starts([len(row.completion_ids) for row in rows], first_scored)
    layout = _Layout()
    shared = len(prefixes) < len(rows)
    if shared:
        kept = sorted((i for i, p in enumerate(prefixes) if p), key=lambda i: -len(prefixes[i]))
        layout.add_prefixes([(prefix_starts[i], len(prefixes[i])) for i in kept])
        place = {i: n for n, i in enumerate(kept)}
        for block in _blocks_of(rows, lambda r: len(r.completion_ids)):
            layout.add_rows(
                [(row_starts[i], len(rows[i].completion_ids)) for i in block],
                [place.get(prefix_of_row[i]) for i in block],
                [len(prefixes[prefix_of_row[i]]) for i in block],
            )
    else:
        for block in _blocks_of(rows, lambda r: len(r.prompt_ids) - 1 + len(r.completion_ids)):
            layout.add_whole(
                [[(prefix_starts[i], len(prefixes[i])), (row_starts[i], len(rows[i].completion_ids))] for i in block]
            )
    to_slots, from_slots = layout.indices(len(ids))
    return PackedBatch(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        labels=torch.tensor([token for row in rows for token in row.completion_ids], device=device),
        next_ids=torch.tensor([next_ids], device=device),
        first_scored=first_scored,
        to_slots=to_slots.to(device),
        from_slots=from_slots.to(device),
        blocks=[layout.to(block, device) for block in layout.blocks],
        lengths=[len(row.completion_ids) for row in rows],
        prefix_lengths=[len(prefix) for prefix in prefixes],
        prefix_of_row=prefix_of_row,
        experts=None if any(each is None for each in experts) else torch.cat(experts).to(device),
    )


def plan_microbatches(rows: list[Row], max_tokens: int, share_prompts: bool) -> list[list[Row]]:
    """Split `rows` so that no micro-batch has over `max_tokens` packed tokens, a longer single row excepted.

    Groups stay together where they fit, because a shared prefix is only shared inside a micro-batch.
    """
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    pieces = [piece for group in groups.values() for piece in _fitting(group, max_tokens, share_prompts)]
    pieces.sort(key=lambda piece: -packed_tokens(piece, share_prompts))
    batches: list[list[Row]] = []
    loads: list[int] = []
    for piece in pieces:  # first fit, largest first
        cost = packed_tokens(piece, share_prompts)
        spot = next((i for i, load in enumerate(loads) if load + cost <= max_tokens), None)
        if spot is None:
            batches.append([])
            loads.append(0)
            spot = len(batches) - 1
        batches[spot] += piece
        loads[spot] += cost
    return batches


def shortest(rows: list[Row]) -> Row:
    """The row that costs the least."""
    return min(rows, key=lambda row: len(row.prompt_ids) + len(row.completion_ids))


def packed_tokens(rows: list[Row], share_prompts: bool) -> int:
    """Tokens that a forward pass over `rows` computes."""
    prompts = (
        {row.group: len(row.prompt_ids) - 1 for row in rows}.values()
        if share_prompts
        else (len(row.prompt_ids) - 1 for row in rows)
    )
    return sum(prompts) + sum(len(row.completion_ids) for row in rows)


def _fitting(group: list[Row], max_tokens: int, share_prompts: bool) -> list[list[Row]]:
    pieces: list[list[Row]] = [[]]
    for row in sorted(group, key=lambda r: -len(r.completion_ids)):
        if pieces[-1] and packed_tokens([*pieces[-1], row], share_prompts) > max_tokens:
            pieces.append([])
        pieces[-1].append(row)
    return pieces


def _starts(lengths: list[int], first: int) -> list[int]:
    starts = []
    for length in lengths:
        starts.append(first)
        first += length
    return starts


def _blocks_of(rows: list[Row], length) -> list[list[int]]:
    """Row numbers by falling length, cut where padding would pass `1 - BLOCK_FILL`."""
    order = sorted(range(len(rows)), key=lambda i: -length(rows[i]))
    blocks: list[list[int]] = []
    for i in order:
        top = length(rows[blocks[-1][0]]) if blocks else 0
        if not blocks or (length(rows[i]) < BLOCK_FILL * top and len(blocks[-1]) * top >= BLOCK_TOKENS):
            blocks.append([])
        blocks[-1].append(i)
    return blocks


class _Layout:
    """Collects blocks and the two index maps between packed positions and padded slots."""

    def __init__(self):
        self.blocks: list[Block] = []
        self._slots: list[int] = []
        self._pairs: list[tuple[int, int, int]] = []  # packed start, slot start, length
        self._prefix_lengths: list[int] = []

    def add_prefixes(self, spans: list[tuple[int, int]]) -> None:
        if spans:
            self._prefix_lengths = [length for _, length in spans]
            self._add([[span] for span in spans])

    def add_whole(self, spans: list[list[tuple[int, int]]]) -> None:
        self._add(spans)

    def add_rows(self, spans: list[tuple[int, int]], prefix: list[int | None], prefix_lengths: list[int]) -> None:
        block = self._add([[span] for span in spans])
        if not self._prefix_lengths:
            return
        width = max(self._prefix_lengths)
        allowed_prefix = torch.arange(width)[None, :] < torch.tensor(prefix_lengths)[:, None]
        causal = torch.ones(block.length, block.length, dtype=torch.bool).tril()
        allowed = torch.cat(
            [
                allowed_prefix[:, None, :].expand(-1, block.length, -1),
                causal[None].expand(block.rows, -1, -1),
            ],
            dim=2,
        )
        block.prefix_of = torch.tensor([p or 0 for p in prefix])
        block.mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))[:, None]

    def _add(self, rows: list[list[tuple[int, int]]]) -> Block:
        length = max(sum(size for _, size in spans) for spans in rows)
        block = Block(offset=len(self._slots), rows=len(rows), length=length)
        for spans in rows:
            slot = len(self._slots)
            for start, size in spans:
                self._pairs.append((start, len(self._slots), size))
                self._slots += range(start, start + size)
            self._slots += [0] * (length - (len(self._slots) - slot))
        self.blocks.append(block)
        return block

    def indices(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        from_slots = torch.empty(tokens, dtype=torch.long)
        for start, slot, size in self._pairs:
            from_slots[start : start + size] = torch.arange(slot, slot + size)
        return torch.tensor(self._slots), from_slots

    @staticmethod
    def to(block: Block, device: torch.device) -> Block:
        for name in ("prefix_of", "mask"):
            value = getattr(block, name)
            if value is not None:
                setattr(block, name, value.to(device))
        return block
