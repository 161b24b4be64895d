"""PocketFlow: its command lines."""

from secateur.recipe.importers.pocketflow.command import PocketFlowCommand

__all__ = ["PocketFlowCommand"]
