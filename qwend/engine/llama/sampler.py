"""llama.cpp's sampler chain for one sequence.

Order as in llama.cpp's own tools: bias, penalties, top-k, top-p, min-p, temperature, draw. A
greedy choice without bias or penalties is the largest logit and needs no chain at all.
"""

from __future__ import annotations

import math
from typing import Any

import llama_cpp
import numpy as np

from qwend.engine.request import SamplingParams
from qwend.errors import EngineBug, ModelError

# What the model must never choose: llama.cpp takes minus infinity as "remove this candidate".
NEVER = -math.inf


class LlamaSampler:
    """The chain of one sequence; `close` frees it."""

    def __init__(
        self,
        context: Any,
        vocab_size: int,
        params: SamplingParams,
        prompt: tuple[int, ...],
        forbidden: tuple[int, ...] = (),
    ) -> None:
        """forbidden: tokens that must never be chosen."""
        self._context = context
        self._vocab_size = vocab_size
        self._chain = None
        bias = [*params.logit_bias, *((token, NEVER) for token in forbidden)]
        if not params.greedy or bias or params.repeat_penalty != 1.0:
            self._chain = self._build(params, bias)
            if params.repeat_penalty != 1.0:
                for token in prompt[-params.repeat_last_n :] if params.repeat_last_n else ():
                    llama_cpp.llama_sampler_accept(self._chain, token)

    def sample(self, output: int) -> int:
        """Raises: ModelError if the logits are not numbers (weights overwritten under us)."""
        logits = llama_cpp.llama_get_logits_ith(self._context, output)
        if not logits:
            raise EngineBug(f"row {output} of the last batch has no logits")
        if self._chain is None:
            token = int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())
        else:
            token = llama_cpp.llama_sampler_sample(self._chain, self._context, output)
        if math.isnan(logits[token]):
            raise ModelError("the model answers with numbers that are none: its file has changed")
        return token

    def close(self) -> None:
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _build(self, params: SamplingParams, bias: list[tuple[int, float]]) -> Any:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for link in self._links(params, bias):
            # A NULL sampler in a chain is a segmentation fault at the first token.
            if not link:
                raise EngineBug("llama.cpp made no sampler")
            llama_cpp.llama_sampler_chain_add(chain, link)
        return chain

    def _links(self, params: SamplingParams, bias: list[tuple[int, float]]) -> list[Any]:
        links = []
        if bias:
            entries = (llama_cpp.llama_logit_bias * len(bias))(*bias)
            links.append(
                llama_cpp.llama_sampler_init_logit_bias(self._vocab_size, len(bias), entries)
            )
        if params.repeat_penalty != 1.0:
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
