// What the reader has chosen, and how it is written into the page's address. Pure.

import { EACH, LEARNING, NO_FILTER, readBox, readSpan, type SampleFilter } from "./sample_filter.js";
import type { Outcome, UnitFigure } from "./types.js";

export const TABS = ["batches", "classes", "samples", "layers"] as const;
export const CELLS = ["count", "row", "column"] as const;
export const ORDERS = ["index", "name", "support", "errors", "clustered"] as const;
export const JOINTS = ["all", "both_correct", "only_a", "only_b", "both_wrong"] as const;
export const AXES = ["auto", "step", "share"] as const;
export const UNIT_FIGURES = ["mean", "zero_fraction", "saturated_fraction"] as const satisfies UnitFigure[];
export const UNIT_ORDERS = ["index", "mean", "zeros"] as const;
export const OUTCOMES = ["all", "correct", "wrong", "confidently_wrong"] as const;

export type Tab = (typeof TABS)[number];
export type Cells = (typeof CELLS)[number];
export type Order = (typeof ORDERS)[number];
export type UnitOrder = (typeof UNIT_ORDERS)[number];

/** A column and its direction, `-loss` in the address. */
export interface Sort {
  column: string;
  descending: boolean;
}

/** One sample: `417.7` in the address. */
export interface SamplePlace {
  step: number;
  sample: number;
}

/** Part of the confusion matrix: first row, first column, classes along an edge; `12.5_40_20` in the address. */
export interface MatrixPart {
  row: number;
  column: number;
  size: number;
}

export interface Selection extends SampleFilter {
  tab: Tab;
  run: string;
  phase: string;
  output: string;
  /** Run B to compare with, "" for none; its phase and output are those of A unless named. */
  runB: string;
  phaseB: string;
  outputB: string;
  /** B has the range `startB` to `stopB` instead of that of A. */
  ownB: boolean;
  startB: number | null;
  stopB: number | null;
  /** The axis of two curves: steps, or the share of each range that is done. */
  axis: (typeof AXES)[number];
  /** How the samples came out that both runs saw; `together`: they are shown in place of those of A. */
  joint: (typeof JOINTS)[number];
  together: boolean;
  joinSort: Sort;
  /** The confusion matrix shows A less B. */
  delta: boolean;
  /** Range of steps, `stop` exclusive; `null` is open, so that "all" grows with the run. */
  start: number | null;
  stop: number | null;
  /** Step of the chosen batch. */
  batch: number | null;
  sample: SamplePlace | null;
  target: number | null;
  predicted: number | null;
  outcome: Outcome;
  layer: string;
  cells: Cells;
  order: Order;
  log: boolean;
  diagonal: boolean;
  /** What is seen of the matrix; `null` is all of it. */
  part: MatrixPart | null;
  /** From which score on a sample is called positive; `null` is the usual one half. */
  threshold: number | null;
  /** Which value of a regression of several. */
  value: number | null;
  /** Panels that are folded up, and so ask for nothing; `trend.calibration` in the address. */
  folded: string;
  logLoss: boolean;
  /** The timeline shows the range alone. */
  zoom: boolean;
  /** Histograms show also the values that hardly any batch has. */
  allValues: boolean;
  /** The data map beside the samples. */
  map: boolean;
  unitFigure: UnitFigure;
  unitOrder: UnitOrder;
  /** Units are listed that were dead in so many summarised batches, the last ones of the range. */
  last: number;
  batchSort: Sort;
  spikeSort: Sort;
  sampleSort: Sort;
  classSort: Sort;
  pairSort: Sort;
}

export const INITIAL: Readonly<Selection> = {
  tab: "batches",
  run: "",
  phase: "",
  output: "",
  runB: "",
  phaseB: "",
  outputB: "",
  ownB: false,
  startB: null,
  stopB: null,
  axis: "auto",
  joint: "all",
  together: true,
  joinSort: { column: "loss_change", descending: true },
  delta: true,
  start: null,
  stop: null,
  batch: null,
  sample: null,
  target: null,
  predicted: null,
  outcome: "all",
  layer: "",
  cells: "row",
  order: "index",
  log: false,
  diagonal: true,
  part: null,
  threshold: null,
  value: null,
  folded: "",
  logLoss: false,
  zoom: false,
  allValues: false,
  map: true,
  ...NO_FILTER,
  unitFigure: "mean",
  unitOrder: "index",
  last: 20,
  batchSort: { column: "step", descending: false },
  spikeSort: { column: "ratio", descending: true },
  sampleSort: { column: "loss", descending: true },
  classSort: { column: "recall", descending: false },
  pairSort: { column: "count", descending: true },
};

export const writeSort = (sort: Sort): string => (sort.descending ? "-" : "") + sort.column;

const readSort = (text: string): Sort | undefined =>
  /^-?[^-]/.test(text) ? { column: text.replace(/^-/, ""), descending: text.startsWith("-") } : undefined;

const readStep = (text: string): number | undefined =>
  /^\d{1,15}$/.test(text) ? Number.parseInt(text, 10) : undefined;

const readShare = (text: string): number | undefined =>
  /^(0(\.\d{1,6})?|1(\.0{1,6})?)$/.test(text) ? Number(text) : undefined;

function readPlace(text: string): SamplePlace | undefined {
  const [step, sample] = text.split(".").map(readStep);
  return step === undefined || sample === undefined ? undefined : { step, sample };
}

function readPart(text: string): MatrixPart | undefined {
  const found = /^(\d{1,9}(?:\.\d{1,3})?)_(\d{1,9}(?:\.\d{1,3})?)_(\d{1,9}(?:\.\d{1,3})?)$/.exec(text);
  const [row, column, size] = (found ?? []).slice(1).map(Number);
  return row === undefined || column === undefined || !size ? undefined : { row, column, size };
}

const writePart = ({ row, column, size }: MatrixPart): string =>
  [row, column, size].map((value) => Number(value.toFixed(2))).join("_");

const readText = (text: string): string => text;
const readFlag = (text: string): boolean | undefined =>
  text === "1" ? true : text === "0" ? false : undefined;
const oneOf =
  <Value extends string>(values: readonly Value[]) =>
  (text: string): Value | undefined =>
    values.find((value) => value === text);

type Readers = { [Key in keyof Selection]: (text: string) => Selection[Key] | undefined };

const READ: Readers = {
  tab: oneOf(TABS),
  run: readText,
  phase: readText,
  output: readText,
  runB: readText,
  phaseB: readText,
  outputB: readText,
  ownB: readFlag,
  startB: readStep,
  stopB: readStep,
  axis: oneOf(AXES),
  joint: oneOf(JOINTS),
  together: readFlag,
  joinSort: readSort,
  delta: readFlag,
  start: readStep,
  stop: readStep,
  batch: readStep,
  sample: readPlace,
  target: readStep,
  predicted: readStep,
  outcome: oneOf(OUTCOMES),
  layer: readText,
  cells: oneOf(CELLS),
  order: oneOf(ORDERS),
  log: readFlag,
  diagonal: readFlag,
  part: readPart,
  threshold: readShare,
  value: readStep,
  folded: (text) => (/^[a-z.]{1,200}$/.test(text) ? text : undefined),
  logLoss: readFlag,
  zoom: readFlag,
  allValues: readFlag,
  map: readFlag,
  confidence: readSpan,
  loss: readSpan,
  id: readText,
  idPart: readText,
  each: oneOf(EACH),
  learning: oneOf(LEARNING),
  box: readBox,
  unitFigure: oneOf(UNIT_FIGURES),
  unitOrder: oneOf(UNIT_ORDERS),
  last: (text) => readStep(text) || undefined,
  batchSort: readSort,
  spikeSort: readSort,
  sampleSort: readSort,
  classSort: readSort,
  pairSort: readSort,
};

const isList = (value: object): value is readonly (number | null)[] => Array.isArray(value);

function write(value: Selection[keyof Selection]): string {
  if (value === null) return "";
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value !== "object") return String(value);
  if ("size" in value) return writePart(value);
  if (isList(value)) return value.map((end) => end ?? "").join("~");
  return "column" in value ? writeSort(value) : `${value.step}.${value.sample}`;
}

const KEYS = Object.keys(INITIAL) as (keyof Selection)[];

/** The keys of the address that differ from the initial selection. */
export function toAddress(selection: Selection): Record<string, string> {
  const pairs = KEYS.map((key) => [key, write(selection[key])] as const);
  return Object.fromEntries(pairs.filter(([key, text]) => text !== write(INITIAL[key])));
}

/** Read a selection; keys that are missing or make no sense stay as at first. */
export function fromAddress(pairs: Readonly<Record<string, string>>): Selection {
  const selection = { ...INITIAL };
  for (const key of KEYS) {
    const text = pairs[key];
    const value = text === undefined ? undefined : READ[key](text);
    if (value !== undefined) Object.assign(selection, { [key]: value });
  }
  return selection;
}
