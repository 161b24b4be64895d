"""Searches for tables that no formula gives: the level, or the width, of every layer.

found = search(LevelProblem(layers, target=0.8), accuracy_of, folder, LevelSearch(), seed=0)
"""

from secateur.search.channels import ChannelDecision, ChannelProblem, Work
from secateur.search.levels import LevelDecision, LevelProblem
from secateur.search.log import Rollout
from secateur.search.problem import Problem
from secateur.search.run import Found, check_learner, search

__all__ = [
    "ChannelDecision",
    "ChannelProblem",
    "Found",
    "LevelDecision",
    "LevelProblem",
    "Problem",
    "Rollout",
    "Work",
    "check_learner",
    "search",
]
