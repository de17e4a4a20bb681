// What a selection comes to among the runs there are. Pure.

import { FIGURES } from "./sample_filter.js";
import type { Selection, Sort } from "./selection.js";
import type { Output, PhaseSummary, Run, RunsAnswer } from "./types.js";

/** What the selection comes to among the runs that exist. */
export interface Chosen {
  run: Run;
  phase: PhaseSummary | null;
  output: Output | null;
}

/** Find the chosen run, phase and output; where the choice does not exist, `shown` or the first that does. */
export function choose(selection: Selection, runs: readonly Run[], shown = ""): Chosen | null {
  const newest = [...runs].sort((a, b) => (b.updated ?? 0) - (a.updated ?? 0))[0];
  const named = (wanted: string): Run | undefined => runs.find(({ name }) => name === wanted);
  const run = named(selection.run) ?? named(shown) ?? newest;
  if (run === undefined) return null;
  const phase = run.phases.find(({ name }) => name === selection.phase) ?? run.phases[0] ?? null;
  const output = run.outputs.find(({ name }) => name === selection.output) ?? run.outputs[0] ?? null;
  return { run, phase, output };
}

export const isMulticlass = (output: Output | null): boolean =>
  output?.task === "multiclass" || output?.task === "binary";

/** Of so many labels it is counted which are wrong together; their pairs grow with the square. */
export const hasPairs = (output: Output): boolean => output.task === "multilabel" && output.classes <= 1000;

/** Words that change whenever a run has grown or changed; the live toggle compares them. */
export const fingerprint = (answer: RunsAnswer | null): string =>
  JSON.stringify(
    answer?.runs.map((run) => [
      run.name,
      run.updated,
      run.health,
      run.phases.map((phase) => [phase.name, phase.batches]),
    ]),
  );

/** What the routes sort by, as docs/http-api.md lists it; batches also by every metric of the run. */
export const BATCH_SORTS = ["step", "epoch", "size", "loss", "error_rate", "confidence"];
export const CLASS_SORTS = ["class", "support", "precision", "recall", "f1"];
export const PAIR_SORTS = ["count", "share", "back"];
export const SPIKE_SORTS = ["step", "loss", "ratio", "error_rate"];
export const SAMPLE_SORTS = ["target", "predicted", "confidence", "target_score", "loss", "error"];
export const RANGE_SORTS = ["step", ...SAMPLE_SORTS];
/** Also by what is known of the ids, where each id is shown once. */
export const ID_SORTS = [...RANGE_SORTS, ...FIGURES];

/** The chosen order, or the first one where the table has no such column: orders outlive a change of run or tab. */
export const usable = (sort: Sort, columns: readonly string[], first: Sort): Sort =>
  columns.includes(sort.column) ? sort : first;
