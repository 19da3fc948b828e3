"""llama.cpp as a backend: the only place that imports llama_cpp."""
