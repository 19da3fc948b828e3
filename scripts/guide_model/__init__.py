"""Training of the built-in guide model: facts, corpus, tokenizer, network, GGUF, evaluation.

Entry: scripts/train-guide-model. Nothing here is shipped in the package; what is shipped is the
file that it writes, qwend/models/guide.gguf.
"""
