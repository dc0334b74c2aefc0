"""How often a rule pages while nothing is wrong, and how soon after something is: by simulation, seeded and pure.

result = simulate("iid_60", ["two_key_a"], years=1.0, seed=1)["two_key_a"]
result.false_pages_per_model_year, result.minutes_in_alarm_share
"""

from detectors.simulation.result import Result
from detectors.simulation.rules import RULES, Rule
from detectors.simulation.runner import simulate
from detectors.simulation.scenarios import SCENARIOS, Scenario, Shift

__all__ = ["RULES", "SCENARIOS", "Result", "Rule", "Scenario", "Shift", "simulate"]
