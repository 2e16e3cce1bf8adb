"""Runs a dataset against a real server: `interlock eval evals/datasets/assistant.yaml`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import LangGraphError

from .conversation import hold
from .dataset import Case, Dataset, DatasetInvalid, load
from .outcome import Outcome
from .report import CaseResult, Report, Trial, below_accepted, compare, read_baseline, write_baseline
from .scorers import score_all
from .serving import ServerFailed, served

PASSED, WORSE, NOT_RUN = 0, 1, 2
_TIMEOUTS = (10.0, 300.0, 300.0, 300.0)
"""Seconds to connect, read, write and get a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    dataset: Path
    url: str | None
    """A server that runs; None: one is started for `config`."""
    config: Path
    model: str | None
    cases: tuple[str, ...]
    """Ids of those to run; none: all."""
    trials: int | None
    retries: int
    concurrency: int
    baseline: Path | None
    accept: bool
    fail_on_flaky: bool
    as_json: bool
    output: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run, and how often."""

    dataset: Dataset
    cases: tuple[Case, ...]
    trials: int
    retries: int
    """Further trials of a case that fell below its accepted score."""
    concurrency: int


def main(options: Options) -> int:
    """Run a dataset, print its report, and accept its scores where that is asked for.

    Returns:
        0 when nothing got worse, 1 when something did, 2 when the dataset could not be run.
    """
    try:
        dataset = _with_model(load(options.dataset), options.model)
        plan = Plan(
            dataset=dataset,
            cases=_chosen(dataset, options.cases),
            trials=options.trials or dataset.trials,
            retries=options.retries,
            concurrency=options.concurrency,
        )
        baseline = options.baseline or baseline_path(options.dataset, dataset, model=options.model)
        accepted = read_baseline(baseline)
        with nullcontext(options.url) if options.url else served(options.config) as url:
            started = time.perf_counter()
            results = asyncio.run(run(url, plan, accepted))
            seconds = time.perf_counter() - started
    except (DatasetInvalid, ServerFailed, httpx.HTTPError, LangGraphError) as error:
        _say(f"{type(error).__name__}: {error}", sys.stderr)
        return NOT_RUN
    report = compare(
        results,
        accepted,
        dataset=dataset.name,
        model=str(dataset.context.get("model", "the default model")),
        seconds=seconds,
        partial=bool(options.cases),
    )
    _show(report, options)
    if options.accept:
        write_baseline(baseline, results, dataset=dataset.name, model=report.model)
        _say(f"accepted in {baseline}", sys.stderr)
        return PASSED
    return WORSE if not report.passed or (options.fail_on_flaky and report.flaky) else PASSED


async def run(url: str, plan: Plan, accepted: Mapping[str, float] | None) -> list[CaseResult]:
    """Run every case of a plan and score it."""
    client = get_client(url=url, timeout=_TIMEOUTS)
    slots = asyncio.Semaphore(plan.concurrency)
    try:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(_run_case(client, plan, case, accepted, slots)) for case in plan.cases
            ]
    except ExceptionGroup as failures:
        # Not `except*`: Python 3.11.2 puts what is raised in it into a group again.
        unanswered, others = failures.split((httpx.HTTPError, LangGraphError))
        if unanswered is None or others is not None:
            raise
        raise unanswered.exceptions[0] from failures
    finally:
        await client.aclose()
    return [task.result() for task in running]


async def _run_case(
    client: LangGraphClient,
    plan: Plan,
    case: Case,
    accepted: Mapping[str, float] | None,
    slots: asyncio.Semaphore,
) -> CaseResult:
    async with slots:
        trials = [await _try(client, plan.dataset, case) for _ in range(plan.trials)]
        result = CaseResult(case.id, tuple(trials))
        for _ in range(plan.retries):
            if not below_accepted(result, accepted):
                break
            result = CaseResult(case.id, (*result.trials, await _try(client, plan.dataset, case)))
    return result


async def _try(client: LangGraphClient, dataset: Dataset, case: Case) -> Trial:
    outcome: Outcome = await hold(client, dataset, case)
    return Trial(outcome, score_all(case.expect, outcome))


def baseline_path(path: Path, dataset: Dataset, *, model: str | None) -> Path:
    """Where the accepted scores of a dataset lie: apart for each model that is asked for by name."""
    suffix = "" if model is None else "--" + re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-")
    folder = path.resolve().parent
    if folder.name == "datasets":
        return folder.parent / "baselines" / f"{dataset.name}{suffix}.json"
    return folder / f"{dataset.name}{suffix}.baseline.json"


def _with_model(dataset: Dataset, model: str | None) -> Dataset:
    return (
        dataset
        if model is None
        else dataset.model_copy(update={"context": {**dataset.context, "model": model}})
    )


def _chosen(dataset: Dataset, wanted: Sequence[str]) -> tuple[Case, ...]:
    if not wanted:
        return dataset.cases
    known = {case.id: case for case in dataset.cases}
    if unknown := [case_id for case_id in wanted if case_id not in known]:
        raise DatasetInvalid(f"{dataset.name} has no case {', '.join(unknown)}; it has {', '.join(known)}")
    return tuple(known[case_id] for case_id in wanted)


def _show(report: Report, options: Options) -> None:
    as_json = json.dumps(report.to_json(), indent=2)
    if options.output is not None:
        options.output.write_text(as_json + "\n", encoding="utf-8")
    _say(as_json if options.as_json else report.to_text(), sys.stdout)


def _say(text: str, stream: TextIO) -> None:
    print(text, file=stream)
