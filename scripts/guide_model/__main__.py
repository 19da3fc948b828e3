"""Run by scripts/train-guide-model as `python -m guide_model`."""

from .main import main

main()
