"""llama.cpp's sampler chain for one sequence, on as few candidates as give the same answer.

Order as in llama.cpp's own tools: bias, penalties, top-k, top-p, min-p, temperature, draw. Given
the whole vocabulary the chain takes 0.75 ms a token at 151,936 tokens, most of it for making the
list of candidates; the k largest logits are found in 0.1 ms (both: two x86-64 cores, November
2026), and top-k forgets all others anyway. A greedy choice is the largest logit and needs no chain.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.request import SamplingParams
from qwend.errors import EngineBug, ModelError

# What the model must never choose: llama.cpp takes minus infinity as "remove this candidate".
NEVER = -math.inf
# Logits are first compared in groups of this many: few enough groups to sort, and groups small
# enough that hardly more than the wanted logits reach the bound.
GROUP = 128

_Logits = npt.NDArray[np.float32]
# struct llama_token_data, llama.h: id, logit, probability.
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaSampler:
    """The chain of one sequence; `close` frees it."""

    def __init__(
        self,
        context: Any,
        vocab_size: int,
        params: SamplingParams,
        prompt: tuple[int, ...],
        forbidden: tuple[int, ...] = (),
        answer: tuple[int, ...] = (),
    ) -> None:
        """forbidden: tokens that must never be chosen. answer: those that were chosen already."""
        self._context = context
        self._vocab_size = vocab_size
        self._params = params
        bias = [(token, value) for token, value in params.logit_bias if token < vocab_size]
        bias += [(token, NEVER) for token in forbidden]
        self._biased = np.array([token for token, _ in bias], dtype=np.intp)
        self._bias = np.array([value for _, value in bias], dtype=np.float32)
        self._penalizes = params.repeat_penalty != 1.0 and params.repeat_last_n > 0
        self._chain = None
        if not params.greedy or self._penalizes:
            self._chain = self._build(params)
        if self._penalizes:
            for token in (prompt + answer)[-params.repeat_last_n :]:
                llama_cpp.llama_sampler_accept(self._chain, token)
        if not params.greedy and answer:
            self._draw(len(answer))

    def sample(self, output: int) -> int:
        """Raises: ModelError if the logits are not numbers (weights overwritten under us)."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, output)
        if not pointer:
            raise EngineBug(f"row {output} of the last batch has no logits")
        # Changed in place: the row is ours until the next decode overwrites it.
        return self._choose(np.ctypeslib.as_array(pointer, (self._vocab_size,)))

    def sample_kept(self, logits: _Logits) -> int:
        """The same from a row of logits that the backend has kept, and that serves once."""
        return self._choose(logits)

    def _choose(self, logits: _Logits) -> int:
        if self._biased.size:
            np.add.at(logits, self._biased, self._bias)
        token = int(logits.argmax()) if self._chain is None else self._sample_chain(logits)
        if math.isnan(logits[token]):
            raise ModelError("the model answers with numbers that are none: its file has changed")
        return token

    def close(self) -> None:
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _sample_chain(self, logits: _Logits) -> int:
        # Penalties change the order of the logits, so they must see all of them.
        whole = self._penalizes or self._params.top_k == 0
        ids = np.arange(len(logits)) if whole else largest(logits, self._params.top_k)
        candidates = np.zeros(len(ids), dtype=_CANDIDATE)
        candidates["id"] = ids
        candidates["logit"] = logits[ids]
        array = llama_cpp.llama_token_data_array(
            data=candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=len(candidates),
            selected=-1,
            sorted=False,
        )
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise EngineBug("llama.cpp's samplers chose nothing")
        token = int(array.data[array.selected].id)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _draw(self, count: int) -> None:
        """Use up as many random numbers as tokens have been chosen: each takes one, also where
        only one candidate is left (llama-sampler.cpp, llama_sampler_dist_apply)."""
        last = llama_cpp.llama_sampler_chain_n(self._chain) - 1
        draw = llama_cpp.llama_sampler_chain_get(self._chain, last)
        candidate = llama_cpp.llama_token_data(id=0, logit=0.0, p=0.0)
        array = llama_cpp.llama_token_data_array(
            data=ctypes.pointer(candidate), size=1, selected=-1, sorted=False
        )
        for _ in range(count):
            llama_cpp.llama_sampler_apply(draw, ctypes.byref(array))

    def _build(self, params: SamplingParams) -> Any:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for link in self._links(params):
            # A NULL sampler in a chain is a segmentation fault at the first token.
            if not link:
                raise EngineBug("llama.cpp made no sampler")
            llama_cpp.llama_sampler_chain_add(chain, link)
        return chain

    def _links(self, params: SamplingParams) -> list[Any]:
        links = []
        if self._penalizes:
            links.append(
                llama_cpp.llama_sampler_init_penalties(
                    self._vocab_size, params.repeat_last_n, params.repeat_penalty, 0.0, 0.0
                )
            )
        if params.greedy:
            return [*links, llama_cpp.llama_sampler_init_greedy()]
        if params.top_k > 0:
            links.append(llama_cpp.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1.0:
            links.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0.0:
            links.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
        links.append(llama_cpp.llama_sampler_init_temp(params.temperature))
        return [*links, llama_cpp.llama_sampler_init_dist(params.seed)]


def largest(logits: _Logits, count: int) -> npt.NDArray[np.intp]:
    """Ids of the `count` largest logits, ascending, and of a few more.

    The maxima of groups are logits, so the `count`-th largest of them is a bound that at least
    `count` logits reach; all that reach it are returned. A group is every `groups`-th logit: the
    comparison then runs along the memory, which is ten times as fast.
    """
    groups = len(logits) // GROUP
    if count >= groups:
        return np.arange(len(logits))
    maxima = logits[: groups * GROUP].reshape(GROUP, groups).max(axis=0)
    bound = np.partition(maxima, groups - count)[groups - count]
    # A NaN compares false with everything and would vanish: keep it, `sample` reports it.
    return np.flatnonzero(~(logits < bound))
