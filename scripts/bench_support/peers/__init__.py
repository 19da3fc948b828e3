"""`bench peers`: the same workload on qwend and on llama-server, in turns, on this machine.

Rule 1: a scenario says what is asked of a server and what is measured; it does not know which
server answers. A server knows how to be asked; it does not know why.
Rule 2: both are asked with the same token ids, the same sampler and the same seeds.
"""
