// Run B beside run A: what it comes to among the runs there are, and how two series stand on one axis. Pure.

import type { Query } from "./api.js";
import type { Chosen } from "./choice.js";
import { count } from "./format.js";
import type { Selection } from "./selection.js";
import type { Output, PhaseSummary, Run } from "./types.js";

export const BATCH_CHANGES = ["loss_change", "error_rate_change", "confidence_change"];
export const CLASS_CHANGES = ["support_change", "precision_change", "recall_change", "f1_change"];

const JOIN_FIGURES = ["loss", "confidence", "target_score"];
export const JOIN_SORTS = [
  "id",
  ...JOIN_FIGURES.flatMap((name) => [name, `${name}_against`, `${name}_change`]),
];

/** Run B: `start` and `stop` are those of A unless it has a range of its own. */
export interface Other {
  run: Run;
  phase: PhaseSummary | null;
  output: Output | null;
  start: number | null;
  stop: number | null;
}

/** Find run B; `null` when none is chosen, or it is not there (any more). */
export function chooseOther(selection: Selection, runs: readonly Run[], a: Chosen | null): Other | null {
  const run = runs.find(({ name }) => name === selection.runB);
  if (selection.runB === "" || run === undefined || a === null) return null;
  const called = <Item extends { name: string }>(
    items: readonly Item[],
    wanted: string,
    as: string | undefined,
  ) => items.find(({ name }) => name === (wanted === "" ? as : wanted)) ?? items[0] ?? null;
  const { ownB, startB, stopB, start, stop } = selection;
  return {
    run,
    phase: called(run.phases, selection.phaseB, a.phase?.name),
    output: called(run.outputs, selection.outputB, a.output?.name),
    start: ownB ? startB : start,
    stop: ownB ? stopB : stop,
  };
}

/** What the routes take to compare with B. */
export function againstQuery({ run, phase, output, start, stop }: Other): Query {
  return {
    against_run: run.name,
    against_phase: phase?.name,
    against_output: output?.name,
    against_start: start,
    against_stop: stop,
  };
}

const kindOf = ({ task }: Output): string => (task === "binary" ? "multiclass" : task);

/** Whether the figures of both outputs mean the same: errors, classes, labels. */
export const alike = (a: Output | null, b: Output | null): boolean =>
  a !== null && b !== null && kindOf(a) === kindOf(b);

/** B's number of each class of A, -1 without one: by name where each class of both has one of its own, as the plugin does. */
export function matchClasses(
  classes = 0,
  names: readonly string[] | null,
  others = 0,
  otherNames: readonly string[] | null,
): Int32Array {
  const placesOf = (all: readonly string[] | null, size: number): Map<string, number> | null => {
    const places = new Map(all?.slice(0, size).map((name, number) => [name, number]));
    return places.size === size && !places.has("") ? places : null;
  };
  const [mine, places] = [placesOf(names, classes), placesOf(otherNames, others)];
  return Int32Array.from({ length: classes }, (_, number) =>
    mine && places ? (places.get(names?.[number] ?? "") ?? -1) : number < others ? number : -1,
  );
}

/** The kind and the number in a name that Keras gave: `conv2d_3` is the fourth `Conv2D` of the process. */
function kindOfLayer(name: string): { kind: string; number: number } {
  const [, kind = name, number = "-1"] = /^([a-z][a-z0-9_]*?)(?:_([0-9]+))?$/.exec(name) ?? [];
  return { kind, number: Number(number) };
}

/**
 * The layer among others that is one of mine: by name, else by its place among those of its kind, where both have as
 * many of it and none by the same name. Keras counts on from model to model, unless layers are named: what is `dense`
 * in the first one of a process is `dense_2` in the next.
 */
export function matchLayer(name: string, mine: readonly string[], others: readonly string[]): string | null {
  if (others.includes(name)) return name;
  const { kind } = kindOfLayer(name);
  const ofKind = (all: readonly string[]): string[] =>
    all
      .filter((one) => kindOfLayer(one).kind === kind)
      .sort((one, other) => kindOfLayer(one).number - kindOfLayer(other).number);
  const [here, there] = [ofKind(mine), ofKind(others)];
  if (here.length !== there.length || here.some((one) => there.includes(one))) return null;
  return there[here.indexOf(name)] ?? null;
}

const samePhase = (a: Chosen, b: Other): boolean =>
  a.run.name === b.run.name && a.phase?.name === b.phase?.name && a.output?.name === b.output?.name;

/** A batch against itself has no difference: the table is compared only with other batches. */
export const pairable = (a: Chosen, b: Other): boolean =>
  !(a.run.name === b.run.name && a.phase?.name === b.phase?.name);

/** What is to be known of this comparison, a sentence each. */
export function notesOf(selection: Selection, a: Chosen, b: Other): string[] {
  const notes: string[] = [];
  const [wanted, output] = [selection.phaseB || a.phase?.name, selection.outputB || a.output?.name];
  if (b.phase === null || b.phase.batches === 0) notes.push("Run B has no batches.");
  else if (wanted !== b.phase.name)
    notes.push(`Run B has no phase “${wanted}”; its “${b.phase.name}” is shown.`);
  if (b.output !== null && a.output !== null) {
    if (output !== b.output.name)
      notes.push(`Run B has no output “${output}”; its “${b.output.name}” is shown.`);
    if (!alike(a.output, b.output))
      notes.push(
        `A is ${a.output.task} and B ${b.output.task}: losses and layers can be compared, classes and errors cannot.`,
      );
    else if (a.output.classes !== b.output.classes)
      notes.push(
        `A has ${count(a.output.classes)} and B ${count(b.output.classes)} classes: those that match are compared.`,
      );
  }
  if (samePhase(a, b) && selection.start === b.start && selection.stop === b.stop)
    notes.push("A and B are the same batches: choose another run, phase or range.");
  return notes;
}

/** The range that stands to reason when B is the run of A: what was before A's range, else what comes after it. */
export function restOf({
  start,
  stop,
}: Pick<Selection, "start" | "stop">): Pick<Selection, "startB" | "stopB"> {
  if (start !== null && start > 0) return { startB: null, stopB: start };
  return { startB: stop, stopB: null };
}

// ---- one axis for two series

export type AxisKind = "step" | "share";
export interface Span {
  first: number;
  last: number;
}

/** A share is told in parts of so many, so that a brush has whole numbers. */
export const PARTS = 10_000;

/** By step where both have mostly the same steps, else by the share of the range that is done. */
export function axisFor(wanted: "auto" | AxisKind, a: Span, b: Span): AxisKind {
  if (wanted !== "auto") return wanted;
  const shared = Math.min(a.last, b.last) - Math.max(a.first, b.first) + 1;
  const longer = Math.max(a.last - a.first, b.last - b.first) + 1;
  return shared * 2 > longer ? "step" : "share";
}

/** Where a step stands on the axis. */
export function placeOn(axis: AxisKind, step: number, { first, last }: Span): number {
  if (axis === "step") return step;
  return last === first ? 0 : ((step - first) / (last - first)) * PARTS;
}

/** The step at a place of the axis. */
export function stepOn(axis: AxisKind, x: number, { first, last }: Span): number {
  return axis === "step" ? x : first + (x / PARTS) * (last - first);
}

export interface Aligned {
  /** All places, ascending. */
  xs: number[];
  /** Index among them of each point of A and of B. */
  a: number[];
  b: number[];
}

/** Merge the points of two series, each ascending. */
export function align(a: ArrayLike<number>, b: ArrayLike<number>): Aligned {
  const xs: number[] = [];
  const places: { a: number[]; b: number[] } = { a: [], b: [] };
  let [at, other] = [0, 0];
  while (at < a.length || other < b.length) {
    const x = Math.min(a[at] ?? Number.POSITIVE_INFINITY, b[other] ?? Number.POSITIVE_INFINITY);
    if (a[at] === x) {
      places.a.push(xs.length);
      at += 1;
    }
    if (b[other] === x) {
      places.b.push(xs.length);
      other += 1;
    }
    xs.push(x);
  }
  return { xs, ...places };
}

/** Values at their places among `length`; `undefined`, no gap, where only the other series has a point. */
export function spread(
  values: ArrayLike<number>,
  places: readonly number[],
  length: number,
): (number | undefined)[] {
  const all: (number | undefined)[] = new Array(length).fill(undefined);
  for (const [index, place] of places.entries()) all[place] = values[index];
  return all;
}

/** The nearest of ascending steps. */
export function nearest(steps: ArrayLike<number>, wanted: number): number | null {
  let best: number | null = null;
  for (let index = 0; index < steps.length; index += 1) {
    const step = steps[index] as number;
    if (best === null || Math.abs(step - wanted) < Math.abs(best - wanted)) best = step;
  }
  return best;
}

// ---- differences

export type Better = "higher" | "lower" | null;

/** A less B; `null` where one is missing or there is no difference to tell. */
export function difference(a: number | null | undefined, b: number | null | undefined): number | null {
  if (a === null || a === undefined || b === null || b === undefined) return null;
  const change = a - b;
  return Number.isNaN(change) ? null : change;
}

/** Whether a change is for the better: "" where there is none, or neither way is better. */
export function verdict(change: number, better: Better): "better" | "worse" | "" {
  if (better === null || change === 0) return "";
  return change > 0 === (better === "higher") ? "better" : "worse";
}
