"""Distiller: schedules in YAML, and command lines of compress_classifier.py."""

from secateur.recipe.importers.distiller.command import DistillerCommand
from secateur.recipe.importers.distiller.schedule import DistillerSchedule

__all__ = ["DistillerCommand", "DistillerSchedule"]
