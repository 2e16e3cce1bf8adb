"""Compares scores with those that were accepted last, and says what got worse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .outcome import Outcome
from .scorers import Score

Verdict = Literal["ok", "better", "worse", "new", "failing", "missing"]
"""ok: as accepted. better, worse: than accepted. new: passes and was never accepted. failing: was never
accepted and does not pass. missing: accepted once and no longer in the dataset."""

BAD: frozenset[Verdict] = frozenset({"worse", "failing", "missing"})
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a case."""

    outcome: Outcome
    scores: tuple[Score, ...]

    @property
    def value(self) -> float:
        """Mean of the scores."""
        return sum(score.value for score in self.scores) / len(self.scores)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """All trials of a case."""

    case_id: str
    trials: tuple[Trial, ...]

    @property
    def value(self) -> float:
        """Mean over the trials."""
        return sum(trial.value for trial in self.trials) / len(self.trials)

    @property
    def best(self) -> float:
        """The best trial: what the case can still reach."""
        return max(trial.value for trial in self.trials)

    @property
    def flaky(self) -> bool:
        """Whether the trials disagree."""
        return len({trial.value for trial in self.trials}) > 1

    @property
    def reasons(self) -> list[str]:
        """What fell short in the worst trial."""
        worst = min(self.trials, key=lambda trial: trial.value)
        return [f"{score.scorer}: {score.reason}" for score in worst.scores if score.value < 1]


@dataclass(frozen=True, slots=True)
class Line:
    """One case in the report."""

    case_id: str
    verdict: Verdict
    value: float | None
    accepted: float | None
    flaky: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of a dataset against the accepted ones."""

    dataset: str
    model: str
    lines: tuple[Line, ...]
    seconds: float
    first_token_s: float | None
    """The median over the cases."""
    tokens: int

    @property
    def passed(self) -> bool:
        """Whether nothing got worse."""
        return not any(line.verdict in BAD for line in self.lines)

    @property
    def flaky(self) -> list[str]:
        """Cases whose trials disagree."""
        return [line.case_id for line in self.lines if line.flaky]

    @property
    def value(self) -> float:
        """Mean over the cases that ran."""
        values = [line.value for line in self.lines if line.value is not None]
        return sum(values) / len(values) if values else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "passed": self.passed,
            "score": round(self.value, 4),
            "seconds": round(self.seconds, 3),
            "first_token_s": None if self.first_token_s is None else round(self.first_token_s, 3),
            "tokens": self.tokens,
            "flaky": self.flaky,
            "cases": [
                {
                    "id": line.case_id,
                    "verdict": line.verdict,
                    "score": line.value,
                    "accepted": line.accepted,
                    "flaky": line.flaky,
                    "reasons": list(line.reasons),
                }
                for line in self.lines
            ],
        }

    def to_text(self) -> str:
        """What a person reads: the cases that need attention first."""
        ordered = sorted(self.lines, key=lambda line: (line.verdict not in BAD, not line.flaky))
        rows = [text for line in ordered for text in _rows(line)]
        passing = sum(line.value == 1 for line in self.lines)
        ran = sum(line.value is not None for line in self.lines)
        first = "" if self.first_token_s is None else f", first token after {self.first_token_s:.2f} s"
        summary = (
            f"{self.dataset} on {self.model}: {passing} of {ran} cases pass, score {self.value:.3f}; "
            f"{self.seconds:.1f} s, {self.tokens} tokens{first}"
        )
        return "\n".join([*rows, "", summary, "no regression" if self.passed else "REGRESSION"])


def compare(
    results: Sequence[CaseResult],
    accepted: Mapping[str, float] | None,
    *,
    dataset: str,
    model: str,
    seconds: float,
    partial: bool = False,
) -> Report:
    """Judge results against the accepted scores.

    A case is worse only if no trial reached its accepted score; one whose trials disagree is flaky.

    Args:
        results: one for each case that ran.
        accepted: by case id; None when nothing was accepted yet.
        dataset: its name.
        model: the model that answered.
        seconds: how long everything took.
        partial: only some cases were run, so none is missing.
    """
    outcomes = [trial.outcome for result in results for trial in result.trials]
    firsts = sorted(o.first_token_s for o in outcomes if o.first_token_s is not None)
    return Report(
        dataset=dataset,
        model=model,
        lines=_lines(results, accepted or {}, partial=partial),
        seconds=seconds,
        first_token_s=firsts[len(firsts) // 2] if firsts else None,
        tokens=sum(o.tokens for o in outcomes),
    )


def below_accepted(result: CaseResult, accepted: Mapping[str, float] | None) -> bool:
    """Whether a case needs another trial before it is called worse."""
    return result.best < (accepted or {}).get(result.case_id, 1.0) - _TOLERANCE


def read_baseline(path: Path) -> dict[str, float] | None:
    """Accepted scores by case id; None when there are none yet."""
    if not path.exists():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


def write_baseline(path: Path, results: Sequence[CaseResult], *, dataset: str, model: str) -> None:
    """Accept the scores of these results."""
    cases = {result.case_id: round(result.value, 4) for result in sorted(results, key=lambda r: r.case_id)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"dataset": dataset, "model": model, "cases": cases}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _lines(
    results: Sequence[CaseResult], accepted: Mapping[str, float], *, partial: bool
) -> tuple[Line, ...]:
    ran = [
        Line(
            result.case_id,
            _verdict(result, accepted.get(result.case_id)),
            result.value,
            accepted.get(result.case_id),
            result.flaky,
            tuple(result.reasons),
        )
        for result in results
    ]
    if partial:
        return tuple(ran)
    gone = "it was accepted and is no longer in the dataset; accept the scores again"
    missing = accepted.keys() - {result.case_id for result in results}
    return (
        *ran,
        *(Line(i, "missing", None, accepted[i], flaky=False, reasons=(gone,)) for i in sorted(missing)),
    )


def _verdict(result: CaseResult, accepted: float | None) -> Verdict:
    if accepted is None:
        return "new" if result.best >= 1 - _TOLERANCE else "failing"
    if result.best < accepted - _TOLERANCE:
        return "worse"
    return "better" if result.value > accepted + _TOLERANCE else "ok"


def _rows(line: Line) -> list[str]:
    value = "  -  " if line.value is None else f"{line.value:.3f}"
    was = "" if line.accepted in (None, line.value) else f" (accepted {line.accepted:.3f})"
    flaky = " flaky" if line.flaky else ""
    head = f"{line.verdict:<8} {value}  {line.case_id}{was}{flaky}"
    shown = line.reasons if line.verdict in BAD or line.flaky or (line.value or 0) < 1 else ()
    return [head, *(f"               {reason}" for reason in shown)]
